// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/status.hpp>
#include <trm/policy/bounds_in_order.hpp>
#include <trm/policy/criterion.hpp>

#include <cmath>
#include <limits>

/// \file
/// Which tokens may still teach. A mask is a conjunction of criteria; each looks at one divergence, per token or
/// through a statistic of the whole sequence. Statistics use the original loss_mask (passing_sequence_mask: all tokens that pass
/// the token criteria), so the order of criteria never matters. Masks are stop-gradients.

TRM_NAMESPACE_BEGIN

/// Kept when lower <= D <= upper: both ends belong to the band.
struct band {
    double lower = -std::numeric_limits<double>::infinity();
    double upper = std::numeric_limits<double>::infinity();

    constexpr band() noexcept = default;
    constexpr band(double low, double high) noexcept : lower(low), upper(high) {}
    /// One number is refused: it could be either end.
    template <detail::number T>
    constexpr band(T) noexcept {
        static_assert(sizeof(T) == 0,
                      "trm: one number is not a band: say at_most(x), at_least(x) or within(lower, upper)");
    }

    [[nodiscard]] constexpr bool contains(double d) const noexcept { return lower <= d && d <= upper; }
    [[nodiscard]] constexpr bool ok() const noexcept { return !is_nan(lower) && !is_nan(upper) && lower <= upper; }
};
[[nodiscard]] constexpr band at_most(double upper) noexcept {
    return {-std::numeric_limits<double>::infinity(), upper};
}
[[nodiscard]] constexpr band at_least(double lower) noexcept {
    return {lower, std::numeric_limits<double>::infinity()};
}
[[nodiscard]] constexpr band within(double lower, double upper) noexcept TRM_REFUSES_REVERSED_BOUNDS {
    detail::check_order(lower, upper);
    return {lower, upper};
}

/// Statistics of a divergence over the tokens of a sequence.
namespace stat {
struct sum_t {
    static constexpr char const* name = "sum";
};
struct mean_t {
    static constexpr char const* name = "mean";
};
struct max_t {
    static constexpr char const* name = "max";
};
struct min_t {
    static constexpr char const* name = "min";
};
inline constexpr sum_t sum{};  ///< of an empty sequence: 0
inline constexpr mean_t mean{};  ///< of an empty sequence: 0
inline constexpr max_t max{};  ///< of an empty sequence: -infinity
inline constexpr min_t min{};  ///< of an empty sequence: +infinity
}  // namespace stat
template <class S>
inline constexpr bool is_statistic = std::is_same_v<S, stat::sum_t> || std::is_same_v<S, stat::mean_t> ||
                                     std::is_same_v<S, stat::max_t> || std::is_same_v<S, stat::min_t>;

/// Keep each token on its own: lower <= D_t <= upper. It bounds no sequence-level error. verl (`token_k1`, k2, k3; no
/// default, its documentation suggests 1.5 to 3 for k2 and 0.001 to 0.1 for k3), slime (r in [0.5, 2], mis.yaml), SkyRL
/// (`token_mask`, no default), AReaL (r <= 5). As a weight of 0 outside the band instead: IcePop, see `zero_outside`.
template <class D>
struct token_mask {
    static_assert(divergence_policy<D>,
                  "trm: token_mask takes a divergence, then a band, for example token_mask{k3{}, at_most(0.1)}");
    D divergence;
    band keep;

    static constexpr char const* name = "";
    static constexpr auto form = criterion_form::measured;
    static constexpr bool is_sequence = false;
    static constexpr int sums = 0, maxima = 0;
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : status{errc::bad_threshold, -1, -1, "token_mask"};
    }
    template <class V, bool P>
    TRM_INLINE typename V::mask test(token<V, P> const& t) const noexcept {
        V const d = divergence_of(divergence, t);
        return (simd::broadcast<V>(keep.lower) <= d) & (d <= simd::broadcast<V>(keep.upper));
    }
};
template <class D>
token_mask(D, band) -> token_mask<D>;
template <class A, class B>
    requires(!(divergence_policy<A> && std::convertible_to<B, band>))
token_mask(A, B) -> token_mask<detail::mistaken<A, B>>;

/// Keep whole sequences: lower <= statistic_t(D_t) <= upper. With max of the exact KL (`given`) or of k2 this is Trust
/// Region Masking (arXiv 2512.23075); the mean of k3 is its average criterion. verl (`seq_{sum,mean,max}_k*`, off by
/// default; its presets: mean k3 <= 0.01, geometric band 0.999 to 1.001, product band 0.5 to 2), slime, OpenRLHF
/// (geometric, 0.5 to 5), NeMo-RL (geometric, 0.999 to 1.002; mean e^|x|), SkyRL (geometric 0.99 to 1.01, product 0.5 to
/// 2), AReaL.
template <class D, class Stat>
struct sequence_mask {
    static_assert(divergence_policy<D> && is_statistic<Stat>,
                  "trm: sequence_mask takes a divergence, a statistic and a band, for example "
                  "sequence_mask{k2{}, stat::max, at_most(0.05)}");
    D divergence;
    Stat statistic;
    band keep;

    static constexpr char const* name = "";
    static constexpr auto form = criterion_form::measured;
    static constexpr bool is_sequence = true;
    static constexpr bool adds = std::is_same_v<Stat, stat::sum_t> || std::is_same_v<Stat, stat::mean_t>;
    static constexpr int sums = adds ? 1 : 0, maxima = adds ? 0 : 1;
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : status{errc::bad_threshold, -1, -1, "sequence_mask"};
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, V* sum, V* max) const noexcept {
        measure_where(t.active, t, sum, max);
    }
    template <class V, bool P>
    TRM_INLINE void measure_where(typename V::mask which, token<V, P> const& t, V* sum, V* max) const noexcept {
        V d = divergence_of(divergence, t);
        if constexpr (adds) {
            detail::add_where(which, d, sum);
        } else {
            if constexpr (std::is_same_v<Stat, stat::min_t>) d = -d;
            *max = max_where(which, *max, d);
        }
    }
    /// The statistic from merged sums and maxima (min is stored as the maximum of -D).
    [[nodiscard]] double value(double const* sum, double const* max, double tokens) const noexcept {
        if constexpr (std::is_same_v<Stat, stat::sum_t>) return *sum;
        if constexpr (std::is_same_v<Stat, stat::mean_t>) return tokens > 0 ? *sum / tokens : 0.0;
        if constexpr (std::is_same_v<Stat, stat::max_t>) return *max;
        if constexpr (std::is_same_v<Stat, stat::min_t>) return -*max;
    }
    /// Does the extremum of a part of the sequence already decide against the whole?
    [[nodiscard]] bool certainly_rejects(double max) const noexcept {
        if constexpr (std::is_same_v<Stat, stat::max_t>) return max > keep.upper;
        if constexpr (std::is_same_v<Stat, stat::min_t>) return -max < keep.lower;
        return false;
    }
};
template <class D, class S>
sequence_mask(D, S, band) -> sequence_mask<D, S>;
template <class A, class B>
sequence_mask(A, B) -> sequence_mask<detail::mistaken<A, B>, void>;
template <class A, class B, class C>
    requires(!(divergence_policy<A> && is_statistic<B> && std::convertible_to<C, band>))
sequence_mask(A, B, C) -> sequence_mask<detail::mistaken<A, B, C>, void>;

/// `sequence_mask` over the tokens that pass every token criterion of the mask, not over the original loss_mask: the last stage
/// of a pipeline whose stages see what earlier ones left. A sequence without such a token is not judged. SkyRL's
/// `sequence_mask_metric` after its token mask.
template <class D, class Stat>
struct passing_sequence_mask : sequence_mask<D, Stat> {
    static constexpr char const* name = "passing";
    static constexpr auto form = criterion_form::around;
    static constexpr bool of_passing = true;
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, V* sum, V* max) const noexcept {
        this->measure_where(t.keep, t, sum, max);
    }
};
template <class D, class S>
[[nodiscard]] constexpr passing_sequence_mask<D, S> over_passing(sequence_mask<D, S> m) noexcept {
    return {m};
}

/// Geometric-mean ratio band: keep iff lower <= exp(mean x) <= upper. Stated on the ratio current / rollout itself, unlike
/// verl's `seq_mean_k1`, whose band is on its inverse.
[[nodiscard]] inline auto geometric_ratio_within(double lower, double upper) noexcept TRM_REFUSES_REVERSED_BOUNDS {
    detail::check_order(lower, upper);
    return sequence_mask{k1{}, stat::mean, within(-std::log(upper), -std::log(lower))};
}
/// Product-ratio band: keep iff lower <= prod r <= upper.
[[nodiscard]] inline auto product_ratio_within(double lower, double upper) noexcept TRM_REFUSES_REVERSED_BOUNDS {
    detail::check_order(lower, upper);
    return sequence_mask{k1{}, stat::sum, within(-std::log(upper), -std::log(lower))};
}

TRM_NAMESPACE_END
