// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/penalty.hpp>

/// \file
/// KL to the reference policy with a choice of gradient. An estimate D of KL(pi || ref) from the policy's own samples is
/// unbiased; its derivative is not an unbiased gradient of that KL, because the samples depend on the policy too: the derivative of
/// k1 is 1, whose expected gradient is 0, and that of k3 follows KL(ref || pi). Three repairs, the same in expectation on
/// policy: log p - log f.

TRM_NAMESPACE_BEGIN

/// How D(x), x = log ref - log p, is differentiated.
namespace kl_gradient {
/// -D'(x): the derivative of the value. kl_penalty with clamps.
struct pathwise {
    static constexpr char const* name = "pathwise";
};
/// Value D, gradient of k2: -x. Neither clamp touches the gradient. verl's `k1+`, `k3+`.
struct straight_through {
    static constexpr char const* name = "straight_through";
};
/// exp(logp - sg logp) D: value D, slope D - D'(x), which is exactly -x for k3. NeMo-RL.
struct score_function {
    static constexpr char const* name = "score_function";
};
/// r D with r = e^y differentiated: value r D, slope r (D - D'(x)); where the clamp of y acts, -r D'(x). slime, TRL and Liger
/// over the proximal policy, NeMo-RL (`use_on_policy_kl_approximation`) over the rollout policy.
template <ratio_kind Kind = ratio_kind::surrogate>
struct importance {
    static constexpr char const* name = Kind == ratio_kind::surrogate              ? "importance"
                                        : Kind == ratio_kind::current_over_rollout ? "importance_over_rollout"
                                                                                   : "";
    static constexpr ratio_kind over = Kind;
};
}  // namespace kl_gradient

namespace detail {

/// What all forms of reference_kl have in common.
template <class P>
void reference_kl_fields(auto& f) {
    f("estimator", &P::estimator, true);
    f("beta", &P::beta, true);
    f("sees", &P::tokens);
    f("input_clamp", &P::input_clamp);
    f("output_clamp", &P::output_clamp);
}
template <class P>
[[nodiscard]] constexpr status check_reference_kl(P const& p) noexcept {
    bool const ok = is_finite(p.beta) && p.input_clamp > 0 && p.output_clamp > 0;
    return ok ? status{} : status{errc::bad_threshold, -1, -1, P::name};
}

}  // namespace detail

/// beta * clamp(D(clamp(x, +-input_clamp)), +-output_clamp), D one of k1 = -x, k2 = x^2/2, k3 = e^x - 1 - x, |x|, with the
/// chosen gradient; nats. Where a clamp acts the gradient is 0, straight_through excepted. The input is also clamped to
/// the loss's penalty clamp. Trainers: input 20, output 10 in verl, SkyRL and NeMo-RL (k3); output 10 alone in slime
/// (low_var_kl), OpenRLHF and AReaL; none in TRL. With an output clamp of 10 k3 has no gradient once f / p exceeds e^2.6.
/// Accuracy of slopes: (5 + |x|) u where the slope is -D'(x) or -x. D - D' of the other estimators is a difference that is 0
/// somewhere: error 3 (1 + |x|) u for k1 and |x|, 4 (|x| + x^2 / 2) u for k2, times r, and another (9 + |x| + |y|) u of the
/// slope where it is multiplied with r. Values and slopes beyond the range of the arithmetic stop at its end.
template <class D, class Gradient = kl_gradient::pathwise>
struct reference_kl {
    D estimator;
    double beta;
    Gradient gradient{};
    static_assert(estimator_policy<D>,
                  "trm: reference_kl takes a divergence that has a slope (k1, k2, k3, abs_log_ratio), then beta, for "
                  "example reference_kl{k3{}, 0.001}");
    sees tokens = sees::all_tokens;
    double input_clamp = 20.0;
    double output_clamp = std::numeric_limits<double>::infinity();

    static constexpr char const* name = "reference_kl";
    static constexpr type_choice choice{"gradient", Gradient::name};
    static void fields(auto f) { detail::reference_kl_fields<reference_kl>(f); }
    static constexpr bool reads_ratio = requires { Gradient::over; };
    static constexpr ratio_kind over = [] {
        if constexpr (reads_ratio) {
            return Gradient::over;
        } else {
            return ratio_kind::current_over_rollout;
        }
    }();
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::ref_logp; }
    [[nodiscard]] constexpr status validate() const noexcept { return detail::check_reference_kl(*this); }
    template <class V, bool P>
    TRM_INLINE penalty_terms<V> operator()(token<V, P> const& t, penalty_clamp<V> const& clamp) const noexcept {
        log_ratio<V> l;
        V const most = simd::broadcast<V>(input_clamp);
        set_log_ratio(l, t.ref_logp, t.logp, t.active, (simd::max)(clamp.lower, -most), (simd::min)(clamp.upper, most));
        V const b = simd::broadcast<V>(beta), c = simd::broadcast<V>(output_clamp);
        V value = simd::pin(estimator(l)), slope = simd::pin(-estimator.slope(l));  // or any_loss rounds otherwise
        V const largest((std::numeric_limits<typename V::value_type>::max)());
        auto alive = l.unclamped;
        if constexpr (reads_ratio) {
            auto const& y = ratio_of(*this, t);
            slope = y.exp * select(y.unclamped, detail::value_minus_slope(estimator, l), slope);
            slope = simd::clamp(slope, -largest, largest);
            value = y.exp * value;
        } else if constexpr (std::is_same_v<Gradient, kl_gradient::score_function>) {
            slope = detail::value_minus_slope(estimator, l);
        }
        alive = alive & (abs(value) <= c);
        value = simd::clamp(value, -(simd::min)(c, largest), (simd::min)(c, largest));  // finite: beta may be 0
        if constexpr (std::is_same_v<Gradient, kl_gradient::straight_through>)
            return {b * value, b * zero_unless(t.active, t.logp - t.ref_logp)};
        return {b * value, zero_unless(alive, b * slope)};
    }
};
template <class D>
reference_kl(D, double) -> reference_kl<D>;
template <class D, class G>
reference_kl(D, double, G) -> reference_kl<D, G>;
template <class D, class G>
reference_kl(D, double, G, sees) -> reference_kl<D, G>;
template <class D, class G>
reference_kl(D, double, G, sees, double) -> reference_kl<D, G>;
template <class D, class G>
reference_kl(D, double, G, sees, double, double) -> reference_kl<D, G>;

TRM_NAMESPACE_END
