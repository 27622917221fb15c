// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate_sequence.hpp>

/// \file
/// Score-form surrogates whose stop-gradient factor is a function of the product of the sequence's ratios:
/// -phi(w; sign A_t) A_t logp, w = exp(sum_t x) over the tokens that pass every token criterion. The product shrinks or grows
/// with length, unlike the geometric means of surrogate_sequence.hpp. Slopes are as accurate as log w, whose error is at most
/// 70 sum |x| u: relative to phi that times |d log phi / d log w|, which is |k - lambda w| for vespo and 1 for topr between
/// its bounds.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What both have: the sum, and the term from constants {factor for A >= 0, factor for A < 0}.
struct trajectory_score {
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 1;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        add_where(t.keep, l.value, sum);
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const&,
                                             sequence_constants const& k) const noexcept {
        V const factor = select(t.advantage < zero<V>(), simd::broadcast<V>(k.c[1]), simd::broadcast<V>(k.c[0]));
        V const slope = simd::negated_product(factor, t.advantage);
        return {slope * t.logp, slope, nowhere<V>()};
    }
};

/// Bounds of a factor by the sign of A, for those that clip it: `topr` and what trainers make of it.
struct bounds_by_sign {
    double positive_lower = 1.0;
    double positive_upper = 1.0;
    double negative_lower = 0.0;
    double negative_upper = 1.0;

    constexpr bounds_by_sign() = default;
    constexpr bounds_by_sign(double pos_lower, double pos_upper, double neg_lower, double neg_upper) noexcept
        : positive_lower(pos_lower), positive_upper(pos_upper), negative_lower(neg_lower), negative_upper(neg_upper) {}
    static void fields(auto f) {
        f("positive_lower", &bounds_by_sign::positive_lower);
        f("positive_upper", &bounds_by_sign::positive_upper);
        f("negative_lower", &bounds_by_sign::negative_lower);
        f("negative_upper", &bounds_by_sign::negative_upper);
    }
    [[nodiscard]] constexpr status check(char const* what) const noexcept {
        bool const ok = 0 <= positive_lower && positive_lower <= positive_upper && 0 <= negative_lower &&
                        negative_lower <= negative_upper;
        return ok ? status{} : status{errc::bad_threshold, -1, -1, what};
    }
    /// The factor w of a sequence, clipped for tokens of either sign.
    [[nodiscard]] constexpr sequence_constants clipped(double w) const noexcept {
        auto const clip = [w](double lo, double hi) { return w < lo ? lo : w > hi ? hi : w; };
        return {{clip(positive_lower, positive_upper), clip(negative_lower, negative_upper), 0, 0}};
    }
};

}  // namespace detail

/// phi(w) = exp(lambda + k log w - lambda w) = e^{lambda (1 - w)} w^k, with (k, lambda) by the sign of A; log w clamped to
/// [log 1e-8, the upper clamp of sums], log phi to at most 80. phi(1) = 1; phi is largest at w = k / lambda and falls off on
/// both sides. VESPO, arXiv 2602.10693; TRL, Liger: (2, 3) for A >= 0 and (3, 2) for A < 0, the defaults. A weight multiplies
/// phi; TRL folds it into w: `vespo_folded`.
struct vespo : detail::trajectory_score {
    double k_positive = 2.0;
    double lambda_positive = 3.0;
    double k_negative = 3.0;
    double lambda_negative = 2.0;

    constexpr vespo() = default;
    constexpr vespo(double k_pos, double lambda_pos, double k_neg, double lambda_neg) noexcept
        : k_positive(k_pos), lambda_positive(lambda_pos), k_negative(k_neg), lambda_negative(lambda_neg) {}
    static constexpr char const* name = "vespo";
    static void fields(auto f) {
        f("k_positive", &vespo::k_positive);
        f("lambda_positive", &vespo::lambda_positive);
        f("k_negative", &vespo::k_negative);
        f("lambda_negative", &vespo::lambda_negative);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = k_positive >= 0 && k_negative >= 0 && lambda_positive >= 1e-4 && lambda_negative >= 1e-4;
        return ok && is_finite(k_positive + lambda_positive + k_negative + lambda_negative)
                   ? status{}
                   : status{errc::bad_threshold, -1, -1, "vespo"};
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double, clamp_range clamp) const noexcept {
        constexpr double lowest = -18.420680743952367;  // log 1e-8
        double const x = clamp_range(lowest, clamp.upper)(sum[0]), gap = std::expm1(x);
        auto const phi = [&](double k, double lambda) {
            double const log_phi = k * x - lambda * gap;
            return std::exp(log_phi > 80 ? 80 : log_phi);  // finite in float
        };
        return {{phi(k_positive, lambda_positive), phi(k_negative, lambda_negative), 0, 0}};
    }
};

/// `vespo` with importance weights inside w: log w = sum_t (x_t + clamp(log w_t, log 1e-8, 20)), w_t the weight policy's,
/// bounded, times the batch's token_weights; nothing multiplies phi. A weight of 0 counts as 1e-8, which brings the
/// sequence's phi close to 0. TRL, with its token modes; sequence weights and normalised ones are refused.
struct vespo_folded : vespo {
    using vespo::vespo;
    static constexpr char const* name = "vespo_folded";
    static constexpr int sums = 2;
    static constexpr bool folds_weight = true;
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::add_where(t.keep, l.value, sum);
        V const least = simd::broadcast<V>(1e-8), most = simd::broadcast<V>(485165195.40979);  // e^20
        detail::add_where(t.keep, log(simd::clamp(t.weight, least, most)), sum + 1);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        double const x = sum[0] + sum[1];
        return vespo::constants(&x, epsilon, clamp);
    }
};

/// phi(w) = clip(w, lower, upper), with bounds by the sign of A. The defaults are the canonical method: [1, 1] for A >= 0,
/// plain supervised weight; [0, 1] for A < 0, so that what the policy has already unlearnt is not pushed further. Tapered
/// Off-Policy REINFORCE, arXiv 2503.14286; in none of the ten trainers of the catalogue.
struct topr : detail::trajectory_score, detail::bounds_by_sign {
    using bounds_by_sign::bounds_by_sign;
    static constexpr char const* name = "topr";
    [[nodiscard]] constexpr status validate() const noexcept { return check(name); }
    [[nodiscard]] sequence_constants constants(double const* sum, double, clamp_range clamp) const noexcept {
        return clipped(std::exp(clamp(sum[0])));
    }
};

TRM_NAMESPACE_END
