// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate_trajectory.hpp>

/// \file
/// What trainers make of `topr`: clip(w, lower, upper) with bounds by the sign of A, w not the product of the sequence's ratios
/// but their geometric mean or the token's own.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Bounds by the sign of A, and the factors for both.
struct tapered {
    double positive_lower = 1.0;
    double positive_upper = 1.0;
    double negative_lower = 0.0;
    double negative_upper = 1.0;

    [[nodiscard]] constexpr status check(char const* what) const noexcept {
        bool const ok = 0 <= positive_lower && positive_lower <= positive_upper && 0 <= negative_lower &&
                        negative_lower <= negative_upper;
        return ok ? status{} : status{errc::bad_threshold, -1, -1, what};
    }
};

}  // namespace detail

/// -sg(clip(r, lower, upper)) A logp, bounds by the sign of A. Slope -clip(r, lower, upper) A, (4 + |x|) u, also where the
/// log-ratio clamp acts; `clipped`: r outside. Token-level TOPR: Trinity-RFT; ROLL with [0, 1] by the sign of the score and
/// not of A. 1 transcendental.
struct topr_token {
    double positive_lower = 1.0;
    double positive_upper = 1.0;
    double negative_lower = 0.0;
    double negative_upper = 1.0;

    static constexpr char const* name = "topr_token";
    static void fields(auto f) {
        f("positive_lower", &topr_token::positive_lower);
        f("positive_upper", &topr_token::positive_upper);
        f("negative_lower", &topr_token::negative_lower);
        f("negative_upper", &topr_token::negative_upper);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return detail::tapered{positive_lower, positive_upper, negative_lower, negative_upper}.check("topr_token");
    }
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
struct topr_geometric : detail::trajectory_score {
    double positive_lower = 1.0;
    double positive_upper = 1.0;
    double negative_lower = 0.0;
    double negative_upper = 1.0;

    constexpr topr_geometric() = default;
    constexpr topr_geometric(double pos_lower, double pos_upper, double neg_lower, double neg_upper) noexcept
        : positive_lower(pos_lower), positive_upper(pos_upper), negative_lower(neg_lower), negative_upper(neg_upper) {}
    static constexpr char const* name = "topr_geometric";
    static void fields(auto f) {
        f("positive_lower", &topr_geometric::positive_lower);
        f("positive_upper", &topr_geometric::positive_upper);
        f("negative_lower", &topr_geometric::negative_lower);
        f("negative_upper", &topr_geometric::negative_upper);
    }
    static constexpr int sums = 2;
    [[nodiscard]] constexpr status validate() const noexcept {
        return detail::tapered{positive_lower, positive_upper, negative_lower, negative_upper}.check("topr_geometric");
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::add_where(t.keep, l.value, sum);
        detail::add_where(t.keep, simd::broadcast<V>(1), sum + 1);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double, clamp_range clamp) const noexcept {
        double const s = sum[1] > 0 ? std::exp(clamp(sum[0] / sum[1])) : 1.0;
        auto const clip = [s](double lo, double hi) { return s < lo ? lo : s > hi ? hi : s; };
        return {{clip(positive_lower, positive_upper), clip(negative_lower, negative_upper), 0, 0}};
    }
};

TRM_NAMESPACE_END
