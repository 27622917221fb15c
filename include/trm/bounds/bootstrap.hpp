// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/scale.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// \file
/// Bootstrap over prompt groups. Responses to one prompt share it and are not independent; groups are.
///
/// The generator works on integers alone, so a seed gives the same resamples on every platform and compiler.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// Two ends at a stated level. `high` of a level-0.90 interval is a 95% upper limit.
struct interval {
    double low = 0.0;
    double high = 0.0;
};

/// `percentile` reads the quantiles of the replicates; `basic` reflects them about the estimate, which also corrects
/// for the bias of a non-linear statistic.
enum class interval_method : std::uint8_t { percentile, basic };

/// How intervals are made.
struct bootstrap_options {
    int resamples = 1000;
    double level = 0.90;
    std::uint64_t seed = 20251223;
};

namespace detail {

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (splitmix64).
struct splitmix {
    std::uint64_t state = 0;

    std::uint64_t operator()() noexcept {
        std::uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }
    /// Uniform on [0, n), 1 <= n < 2^32, without bias (Lemire, ACM TOMACS 29, 2019).
    std::uint32_t below(std::uint32_t n) noexcept {
        std::uint64_t product = ((*this)() >> 32) * n;
        if (static_cast<std::uint32_t>(product) < n) {
            const std::uint32_t floor = static_cast<std::uint32_t>(-n) % n;
            while (static_cast<std::uint32_t>(product) < floor) product = ((*this)() >> 32) * n;
        }
        return static_cast<std::uint32_t>(product >> 32);
    }
};

/// counts[g] = how often group g is drawn in replicate `replicate`; the counts sum to the number of groups.
inline void draw(std::span<std::uint32_t> counts, std::uint64_t seed, std::uint64_t replicate) noexcept {
    std::fill(counts.begin(), counts.end(), 0U);
    splitmix mix{seed ^ (replicate * 0xd1342543de82ef95ULL)};
    splitmix rng{mix()};
    const auto n = static_cast<std::uint32_t>(counts.size());
    for (std::uint32_t i = 0; i < n; ++i) ++counts[rng.below(n)];
}

/// Linear interpolation between order statistics of a sorted sample.
[[nodiscard]] inline double quantile(std::span<const double> sorted, double p) noexcept {
    const double x = p * static_cast<double>(sorted.size() - 1);
    const auto i = static_cast<std::size_t>(x);
    if (i + 1 >= sorted.size()) return sorted.back();
    return sorted[i] + (x - static_cast<double>(i)) * (sorted[i + 1] - sorted[i]);
}

}  // namespace detail

/// The interval from replicates of a statistic whose estimate is `value`. Sorts `replicates`, which must not be empty. A
/// level that is not a number in [0, 1] gives the whole range.
[[nodiscard]] inline interval interval_of(std::span<double> replicates, double value, double level,
                                          interval_method method) noexcept {
    std::sort(replicates.begin(), replicates.end());
    const double tail = detail::known(level) ? (std::max)(0.5 * (1.0 - level), 0.0) : 0.0;
    const interval q{detail::quantile(replicates, tail), detail::quantile(replicates, 1.0 - tail)};
    return method == interval_method::percentile ? q : interval{2.0 * value - q.high, 2.0 * value - q.low};
}

}  // namespace bounds
TRM_NAMESPACE_END
