// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/result.hpp>

#include <algorithm>
#include <cstddef>
#include <new>

/// \file
/// How a batch is spread over an executor.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Runs are cut into at most this many blocks; the cut depends on their number alone, so that neither threads nor layout change
/// a bit of the result.
inline constexpr std::int64_t max_blocks = 128;
/// Short runs go through a pass together: what is set up once per pass then costs little, and what follows the pass for one run
/// overlaps with that of the next.
inline constexpr std::int64_t group_runs = 16, group_tokens = 2048;

struct partial {
    double loss = 0;
    struct diagnostics diagnostics;
};
/// One partial per block, in memory that is not touched before the block is.
struct partials {
    alignas(partial) std::byte memory[max_blocks * sizeof(partial)];

    [[nodiscard]] partial& begin(std::int64_t block) noexcept { return *::new (place(block)) partial; }
    [[nodiscard]] partial const& at(std::int64_t block) noexcept {
        return *std::launder(static_cast<partial*>(place(block)));
    }

private:
    [[nodiscard]] void* place(std::int64_t block) noexcept {
        return memory + block * static_cast<std::int64_t>(sizeof(partial));
    }
};
/// Where there are many runs, whole groups.
constexpr std::int64_t runs_per_block(std::int64_t runs) noexcept {
    return (std::max)((runs + max_blocks - 1) / max_blocks, (std::min)(group_runs, runs / (max_blocks / 2)));
}
constexpr std::int64_t block_count(std::int64_t runs) noexcept {
    return runs == 0 ? 0 : (runs + runs_per_block(runs) - 1) / runs_per_block(runs);
}

/// f(block, first run, end of its runs) for every block.
template <class Executor, class F>
void for_blocks(std::int64_t runs, Executor&& execute, F&& f) {
    if (runs == 0) return;
    execute(block_count(runs), [&](std::int64_t block) {
        std::int64_t const begin = block * runs_per_block(runs);
        f(block, begin, (std::min)(runs, begin + runs_per_block(runs)));
    });
}
[[nodiscard]] inline result combine(partials& parts, std::int64_t runs, bool diagnose) noexcept {
    result r;
    for (std::int64_t b = 0; b < block_count(runs); ++b) {
        partial const& part = parts.at(b);
        r.loss += part.loss;
        if (diagnose) r.diagnostics.merge(part.diagnostics);
    }
    return r;
}

}  // namespace detail
TRM_NAMESPACE_END
