// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate_trajectory.hpp>

/// \file
/// What trainers make of `topr`: clip(w, lower, upper) with bounds by the sign of A, w not the product of the sequence's ratios
/// but their geometric mean or the token's own.

TRM_NAMESPACE_BEGIN

/// -sg(clip(r, lower, upper)) A logp, bounds by the sign of A. Slope -clip(r, lower, upper) A, (4 + |x|) u, also where the
/// log-ratio clamp acts; `clipped`: r outside. Token-level TOPR: Trinity-RFT; ROLL with [0, 1] by the sign of the score and
/// not of A. 1 transcendental.
struct topr_token : detail::bounds_by_sign {
    using bounds_by_sign::bounds_by_sign;
    static constexpr char const* name = "topr_token";
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept { return check(name); }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        auto const negative = t.advantage < detail::zero<V>();
        V const lo = select(negative, simd::broadcast<V>(negative_lower), simd::broadcast<V>(positive_lower));
        V const hi = select(negative, simd::broadcast<V>(negative_upper), simd::broadcast<V>(positive_upper));
        V const slope = simd::negated_product(simd::clamp(l.exp, lo, hi), t.advantage);
        return {slope * t.logp, slope, (l.exp < lo) | (l.exp > hi)};
    }
};

/// -sg(clip(s, lower, upper)) A logp, s = exp(mean_t x) over the tokens that pass every token criterion, bounds by the sign of
/// A. Slope -clip(s, lower, upper) A. verl #6986 (open): [1, 1] for A >= 0 and [0, 1] for A < 0, with seq_mean_token_mean.
struct topr_geometric : detail::trajectory_score, detail::bounds_by_sign {
    using bounds_by_sign::bounds_by_sign;
    static constexpr char const* name = "topr_geometric";
    static constexpr int sums = 2;
    [[nodiscard]] constexpr status validate() const noexcept { return check(name); }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::measure_mean(sees::kept_tokens, t, l, sum);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        return clipped(sum[1] > 0 ? detail::sequence_mean(sum, epsilon, clamp).s : 1.0);
    }
};

TRM_NAMESPACE_END
