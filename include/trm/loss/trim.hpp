// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/tally.hpp>

#include <algorithm>
#include <type_traits>

TRM_NAMESPACE_BEGIN
namespace detail {

/// A run of a batch with loss_mask, without the masked tokens at its ends (prompts, padding), by 64 of them, whatever the
/// width of a register.
template <class S, class T>
[[nodiscard]] token_run trimmed(stream_pointers<S, T> const& io, token_run run) noexcept {
    constexpr std::int64_t step = 64;
    for (; run.size >= step && simd::count_nonzero(io.mask + run.begin, step) == 0; run.size -= step) run.begin += step;
    while (run.size >= step && simd::count_nonzero(io.mask + run.begin + run.size - step, step) == 0) run.size -= step;
    return run;
}

/// What masked tokens get.
template <class S, class T>
void clear_outputs(stream_pointers<S, T> const& io, std::int64_t begin, std::int64_t end) noexcept {
    auto const clear = [&](auto* to) {
        if (to != nullptr) std::fill(to + begin, to + end, std::remove_pointer_t<decltype(to)>(0));
    };
    if (!io.accumulate) clear(io.grad);
    clear(io.weights);
    clear(io.keep);
    clear(io.reasons);
}

}  // namespace detail
TRM_NAMESPACE_END
