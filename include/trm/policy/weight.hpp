// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>

/// \file
/// Stop-gradient importance weights. They multiply the surrogate's value and slope, never a penalty.

TRM_NAMESPACE_BEGIN

/// What happens to a weight w outside [lower, upper]: it is replaced by `below` or `above`. The bounds belong to the band.
struct weight_bound {
    double lower = -1.0;
    double upper = std::numeric_limits<double>::infinity();
    double below = 0.0;
    double above = 0.0;

    [[nodiscard]] constexpr bool ok() const noexcept {
        return !is_nan(lower) && !is_nan(upper) && !is_nan(below) && !is_nan(above) && lower <= upper;
    }
    [[nodiscard]] constexpr double operator()(double w) const noexcept {
        return w < lower ? below : w > upper ? above : w;
    }
};
/// min(w, c): truncated importance sampling (TIS).
[[nodiscard]] constexpr weight_bound truncate_above(double c) noexcept { return {-1.0, c, 0.0, c}; }
/// min(max(w, lower), upper).
[[nodiscard]] constexpr weight_bound clamp_to(double lower, double upper) noexcept {
    return {lower, upper, lower, upper};
}
/// w inside the band, 0 outside (IcePop, MIS).
[[nodiscard]] constexpr weight_bound zero_outside(double lower, double upper) noexcept {
    return {lower, upper, 0.0, 0.0};
}
inline constexpr weight_bound unbounded{};

/// Weight 1.
struct no_weight {
    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr bool reads_ratio = false;
    static constexpr int sums = 0;
    [[nodiscard]] constexpr status validate() const noexcept { return {}; }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const&, double) const noexcept {
        return V(typename V::value_type(1));
    }
};

/// r_t of each token, bounded. `over_ratio<Kind, token_weight>` changes the pair of policies.
struct token_weight {
    weight_bound bound = unbounded;

    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr int sums = 0;
    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() ? status{} : status{errc::bad_threshold, -1, -1, "token_weight"};
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l, double) const noexcept {
        V const w = l.exp;
        return select(w < simd::broadcast<V>(bound.lower), simd::broadcast<V>(bound.below),
                      select(w > simd::broadcast<V>(bound.upper), simd::broadcast<V>(bound.above), w));
    }
};

/// One weight for the whole sequence: the product of its ratios (stat::sum) or their geometric mean (stat::mean),
/// bounded: w = bound(exp(clamp(statistic of x))). Tokens are clamped before they are summed.
template <class Stat>
struct sequence_weight {
    Stat statistic;
    weight_bound bound = unbounded;

    static_assert(std::is_same_v<Stat, stat::sum_t> || std::is_same_v<Stat, stat::mean_t>,
                  "trm: a sequence weight is a product (stat::sum) or a geometric mean (stat::mean)");
    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr int sums = 1;
    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() ? status{} : status{errc::bad_threshold, -1, -1, "sequence_weight"};
    }
    [[nodiscard]] double sequence_value(double sum, double tokens, double limit) const noexcept {
        double x = sum;
        if constexpr (std::is_same_v<Stat, stat::mean_t>) x = tokens > 0 ? sum / tokens : 0.0;
        x = x < -limit ? -limit : x > limit ? limit : x;
        return bound(std::exp(x));
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const&, double of_sequence) const noexcept {
        return simd::broadcast<V>(of_sequence);
    }
};
template <class S>
sequence_weight(S) -> sequence_weight<S>;
template <class S>
sequence_weight(S, weight_bound) -> sequence_weight<S>;

template <class W>
concept weight_policy = requires(W w) {
    { w.over } -> std::convertible_to<ratio_kind>;
    { W::sums } -> std::convertible_to<int>;
    { w.validate() } -> std::same_as<status>;
};

TRM_NAMESPACE_END
