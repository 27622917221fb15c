// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate.hpp>

#include <type_traits>

/// \file
/// Penalties are added to the surrogate, with their gradient. Each says which tokens it sees: every loss_mask token, or
/// only those the mask keeps. Weights do not apply to them; the aggregation does. Accuracy of slopes: as in surrogate.hpp, in
/// units of u = 2^-24 (float) or 2^-53 (double).

TRM_NAMESPACE_BEGIN

/// The clamp of log-ratios in penalties, in registers.
template <class V>
struct penalty_clamp {
    V lower, upper;
    TRM_INLINE explicit penalty_clamp(clamp_range c) noexcept
        : lower(simd::broadcast<V>(c.lower)), upper(simd::broadcast<V>(c.upper)) {}
};

/// Value and derivative with respect to logp.
template <class V>
struct penalty_terms {
    V value;
    V slope;
};

/// beta * D(x), x = log ref - log current, samples taken as the current policy's: k1 = -x, k2 = x^2/2, k3 = e^x - 1 - x, or
/// |x|. Slope -beta D'(x): k1 1, k2 -x, k3 1 - e^x, abs -sign x; 0 where the clamp of x acts; (5 + |x|) u. GRPO (arXiv
/// 2402.03300).
/// Estimator, beta: verl k3, 1e-3 (off); slime k1, 0; TRL k3, 0; OpenRLHF k1, 0.01; SkyRL k3, 1e-3 (on); NeMo-RL k3, 0.01
/// (on); Liger k3, 0.04. Clamps and other gradients: `reference_kl`.
template <class D>
struct kl_penalty {
    static_assert(estimator_policy<D>,
                  "trm: kl_penalty takes a divergence that has a slope (k1, k2, k3, abs_log_ratio), then beta, for "
                  "example kl_penalty{k3{}, 0.001}");
    D estimator;
    double beta;
    sees tokens = sees::all_tokens;

    static constexpr char const* name = "kl";
    static void fields(auto f) {
        f("estimator", &kl_penalty::estimator, true);
        f("beta", &kl_penalty::beta, true);
        f("sees", &kl_penalty::tokens);
    }
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_ratio = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::ref_logp; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return is_finite(beta) ? status{} : status{errc::bad_threshold, -1, -1, "kl_penalty"};
    }
    template <class V, bool P>
    TRM_INLINE penalty_terms<V> operator()(token<V, P> const& t, penalty_clamp<V> const& clamp) const noexcept {
        log_ratio<V> l;
        set_log_ratio(l, t.ref_logp, t.logp, t.active, clamp.lower, clamp.upper);
        V const b = simd::broadcast<V>(beta);
        return {b * estimator(l), zero_unless(l.unclamped, simd::negated_product(b, estimator.slope(l)))};
    }
};
template <class D>
kl_penalty(D, double) -> kl_penalty<D>;
template <class D>
kl_penalty(D, double, sees) -> kl_penalty<D>;

/// coefficient * x^2 (no 1/2), x = log current - log rollout; slope 2 coefficient x, 4 u. prime-rl's `kl_tau`, 1e-3,
/// on all tokens.
struct squared_log_ratio {
    double coefficient;
    sees tokens = sees::all_tokens;

    static constexpr char const* name = "squared_log_ratio";
    static void fields(auto f) {
        f("coefficient", &squared_log_ratio::coefficient, true);
        f("sees", &squared_log_ratio::tokens);
    }
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    [[nodiscard]] constexpr status validate() const noexcept {
        return is_finite(coefficient) ? status{} : status{errc::bad_threshold, -1, -1, "squared_log_ratio"};
    }
    template <class V, bool P>
    TRM_INLINE penalty_terms<V> operator()(token<V, P> const& t, penalty_clamp<V> const&) const noexcept {
        auto const& l = ratio_of(*this, t);
        V const cx = simd::broadcast<V>(coefficient) * l.value;
        return {cx * l.value, zero_unless(l.unclamped, cx + cx)};
    }
};

/// Normalised weights see tokens too.
template <class P>
concept penalty_policy = !weight_policy<P> && !mask_policy<P> && requires(P p) {
    { p.tokens } -> std::convertible_to<sees>;
    { p.validate() } -> std::same_as<status>;
};

TRM_NAMESPACE_END
