// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/partials.hpp>

#include <cstddef>
#include <new>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Sequences are cut into at most this many blocks; the cut depends on their number alone, so that neither threads nor
/// layout change a bit of the result.
inline constexpr std::int64_t max_blocks = 128;

struct partial {
    double loss = 0;
    struct diagnostics diagnostics;
};
/// One partial per block, in memory that is not touched before the block is.
struct partials {
    alignas(partial) std::byte memory[max_blocks * sizeof(partial)];

    [[nodiscard]] partial& at(std::int64_t block, bool first) noexcept {
        void* const place = memory + block * static_cast<std::int64_t>(sizeof(partial));
        return first ? *::new (place) partial : *std::launder(static_cast<partial*>(place));
    }
};
constexpr std::int64_t runs_per_block(std::int64_t runs) noexcept { return (runs + max_blocks - 1) / max_blocks; }
constexpr std::int64_t block_count(std::int64_t runs) noexcept {
    return runs == 0 ? 0 : (runs + runs_per_block(runs) - 1) / runs_per_block(runs);
}

/// f(block, run, is it the block's first run) for every run.
template <class Executor, class F>
void blocks(std::int64_t runs, Executor&& execute, F&& f) {
    if (runs == 0) return;
    execute(block_count(runs), [&](std::int64_t block) {
        std::int64_t const begin = block * runs_per_block(runs), end = std::min(runs, begin + runs_per_block(runs));
        for (std::int64_t i = begin; i < end; ++i) f(block, i, i == begin);
    });
}
[[nodiscard]] inline result combine(partials& parts, std::int64_t runs) noexcept {
    result r;
    for (std::int64_t b = 0; b < block_count(runs); ++b) {
        partial const& part = parts.at(b, false);
        r.loss += part.loss;
        r.diagnostics.merge(part.diagnostics);
    }
    return r;
}

}  // namespace detail
TRM_NAMESPACE_END
