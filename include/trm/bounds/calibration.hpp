// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/paper.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

/// \file
/// Thresholds from a target: the largest delta or eps whose bound stays at or below it.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// The largest double x in [0, top] with bound(x) <= target, for a non-decreasing `bound`; 0 if none but 0 (or not even
/// 0) qualifies. Bisects on the representation, so the answer is the last representable one; at most 64 evaluations.
template <class Bound>
[[nodiscard]] double largest_argument(Bound&& bound, double target, double top) noexcept {
    if (!detail::known(target) || !detail::known(top)) return 0.0;
    if (bound(top) <= target) return top;
    std::uint64_t low = 0;
    std::uint64_t high = std::bit_cast<std::uint64_t>(top);
    while (high - low > 1) {
        const std::uint64_t middle = low + (high - low) / 2;
        (bound(std::bit_cast<double>(middle)) <= target ? low : high) = middle;
    }
    return std::bit_cast<double>(low);
}

/// The largest delta (nats) at which the Unified bound is <= target. `d` fixes the horizon and whatever else is known;
/// its own delta is ignored. Beyond delta = 2 Pinsker's inequality says nothing, so the answer is at most 2: a target
/// met there is met by every delta.
[[nodiscard]] inline double largest_delta(divergences d, double target, scale s = {}) noexcept {
    return largest_argument(
        [&](double x) {
            d.delta = x;
            return unified(d, s);
        },
        target, 2.0);
}

/// The largest eps in [0, 1] at which the Unified bound is <= target; `d.eps` is ignored.
[[nodiscard]] inline double largest_eps(divergences d, double target, scale s = {}) noexcept {
    return largest_argument(
        [&](double x) {
            d.eps = x;
            return unified(d, s);
        },
        target, 1.0);
}

/// One row of the table behind choosing a threshold.
struct calibration_row {
    std::int64_t horizon = 0;
    double delta = 0.0;  ///< largest delta by the Unified bound
    double classical_delta = 0.0;  ///< the same by the classical bound alone: what T^2 costs
    double eps = 0.0;  ///< largest eps by the Unified bound (TV only)
};

/// rows[i] for horizons[i]; writes min(sizes) rows and returns how many.
inline std::size_t calibrate(std::span<const std::int64_t> horizons, double target, std::span<calibration_row> rows,
                             scale s = {}) noexcept {
    const std::size_t n = (std::min)(horizons.size(), rows.size());
    for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t t = horizons[i];
        divergences d{};
        d.horizon = t;
        rows[i] = {t, largest_delta(d, target, s),
                   largest_argument([&](double x) { return classical(t, x, s); }, target, 2.0),
                   largest_eps(d, target, s)};
    }
    return n;
}

}  // namespace bounds
TRM_NAMESPACE_END
