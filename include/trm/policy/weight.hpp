// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>

/// \file
/// Stop-gradient importance weights. They multiply the surrogate's value and slope, never a penalty.

TRM_NAMESPACE_BEGIN

/// Which tokens a policy looks at: every loss_mask token, or only those the mask keeps.
enum class sees : std::uint8_t { all_tokens, kept_tokens };

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

/// Divides a weight by its batch mean, so that the mean becomes 1: over every finite loss_mask token, or over the kept
/// ones only (self-normalised importance sampling). `after_bound` divides the bounded weight, which may then exceed its
/// bound, as in verl and slime; `before_bound` divides the raw ratio and bounds the quotient. The mean of sequence
/// weights is over sequences. Means of at most 1e-8 leave the weight alone. Needs all statistics before the loss.
enum class normalise : std::uint8_t { after_bound, before_bound };
template <class W>
struct normalised {
    W weight;
    normalise when = normalise::after_bound;
    sees tokens = sees::all_tokens;

    static constexpr ratio_kind over = W::over;
    static constexpr int sums = W::sums + 1;
    static constexpr bool is_sequence = W::sums > 0;
    [[nodiscard]] constexpr status validate() const noexcept { return weight.validate(); }
    /// What is averaged: the weight before or after its bound.
    template <class V>
    TRM_INLINE V averaged(log_ratio<V> const& l) const noexcept {
        return when == normalise::before_bound ? l.exp : weight(l, 1.0);
    }
    [[nodiscard]] double sequence_value(double sum, double n, double limit, double factor) const noexcept {
        if (when == normalise::after_bound) return weight.sequence_value(sum, n, limit) * factor;
        W raw = weight;
        raw.bound = unbounded;
        return weight.bound(raw.sequence_value(sum, n, limit) * factor);
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l, double of_sequence, double factor) const noexcept {
        V const f = simd::broadcast<V>(factor);
        if constexpr (is_sequence) return simd::broadcast<V>(of_sequence);
        if (when == normalise::after_bound) return weight(l, of_sequence) * f;
        log_ratio<V> scaled;
        scaled.exp = l.exp * f;
        return weight(scaled, of_sequence);
    }
};
template <class W>
normalised(W) -> normalised<W>;
template <class W>
normalised(W, normalise) -> normalised<W>;
template <class W>
normalised(W, normalise, sees) -> normalised<W>;
template <class W>
inline constexpr bool is_normalised = false;
template <class W>
inline constexpr bool is_normalised<normalised<W>> = true;

template <class W>
concept weight_policy = requires(W w) {
    { w.over } -> std::convertible_to<ratio_kind>;
    { W::sums } -> std::convertible_to<int>;
    { w.validate() } -> std::same_as<status>;
};

TRM_NAMESPACE_END
