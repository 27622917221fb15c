// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

/// \file
/// What every error bound shares: the reward range, the choice of constants, and checks that survive -ffast-math.
///
/// Source of the bounds: Li, Liu, Xu, Tong, Li, Liu, Wang, "Trust Region Masking for Long-Horizon LLM Reinforcement
/// Learning", arXiv 2512.23075. The centred constants and the second-moment and direct estimates are trm's own.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// `paper`: |R| <= max(|min|, |max|) enters every bound, leading factor 4 (R in [0,1]).
/// `centred`: given the context, the future ratio has mean 1, so a constant may be subtracted from R; the mid-range
/// halves |R| and the leading factor becomes 2 (max - min). It is never larger, and attained at T = 2.
enum class constants : std::uint8_t { paper, centred };

/// Rewards R(x, y) lie in [min, max]; the paper takes [0, 1].
struct reward_range {
    double min = 0.0;
    double max = 1.0;
};

/// How a bound on token divergences becomes a bound on J(pi) - J(mu) - L.
struct scale {
    reward_range reward{};
    constants form = constants::centred;
};

namespace detail {

[[nodiscard]] inline bool finite(double x) noexcept { return is_finite(x); }

inline constexpr double largest = (std::numeric_limits<double>::max)();

/// A known divergence: finite and not negative. Anything else counts as unknown, which can only loosen a bound.
[[nodiscard]] inline bool known(double x) noexcept { return finite(x) && x >= 0.0; }

[[nodiscard]] inline double or_largest(double x) noexcept { return known(x) ? x : largest; }

/// min(1, x), and 1 where x is unknown.
[[nodiscard]] inline double capped(double x) noexcept { return known(x) && x < 1.0 ? x : 1.0; }

/// Pinsker: TV <= min(1, sqrt(KL / 2)).
[[nodiscard]] inline double pinsker(double kl) noexcept { return known(kl) ? capped(std::sqrt(0.5 * kl)) : 1.0; }

[[nodiscard]] inline bool usable(reward_range r) noexcept { return finite(r.min) && finite(r.max) && r.min <= r.max; }

}  // namespace detail

/// max - min; the largest finite double when the range is not one (non-finite, or min > max).
[[nodiscard]] inline double width(reward_range r) noexcept {
    return detail::usable(r) ? (std::min)(r.max - r.min, detail::largest) : detail::largest;
}

/// Half the leading factor: 2 max|R| for the paper, max - min when centred. The bounds read `2 * lead(s) * sum(...)`.
[[nodiscard]] inline double lead(scale s) noexcept {
    if (!detail::usable(s.reward)) return detail::largest;
    const double magnitude = (std::max)(std::fabs(s.reward.min), std::fabs(s.reward.max));
    return s.form == constants::paper ? 2.0 * magnitude : s.reward.max - s.reward.min;
}

namespace detail {
/// lead(s) * sum, or the largest finite double where either is unusable.
[[nodiscard]] inline double scaled(scale s, double sum) noexcept {
    return usable(s.reward) ? or_largest(lead(s) * sum) : largest;
}
}  // namespace detail

/// A bound at least as large as the reward range says nothing.
[[nodiscard]] inline bool vacuous(double bound, reward_range r) noexcept {
    return !detail::known(bound) || bound >= width(r);
}

}  // namespace bounds
TRM_NAMESPACE_END
