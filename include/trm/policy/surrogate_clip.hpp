// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate.hpp>

/// \file
/// Surrogates of one token whose ratio is cut, in score form: the ratio is a stop-gradient factor and the gradient flows
/// through logp alone. Written d/dlogp; r = e^x of the surrogate's ratio, A the advantage.

TRM_NAMESPACE_BEGIN

/// -sg(clip(r, lower, upper)) A logp. Slope -clip(r, lower, upper) A, (4 + |x|) u, also where the log-ratio clamp acts: no token is
/// without gradient. `clipped`: r outside [lower, upper]. Bounds are on r itself; `cispo_around` takes distances from 1.
/// CISPO: MiniMax-M1, arXiv 2506.13585. TRL, Liger: upper bound only, 5 (absolute); verl, slime, NeMo-RL: 1 -+ 0.2
/// (relative); SkyRL: [0, 5], the default here. Score-form DPPO is the same function with lower 0, see `dppo_score`.
struct cispo {
    double lower = 0.0;
    double upper = 5.0;

    static constexpr char const* name = "cispo";
    static void fields(auto f) {
        f("lower", &cispo::lower);
        f("upper", &cispo::upper);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return lower <= upper && lower >= 0 ? status{} : status{errc::bad_threshold, -1, -1, "cispo"};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const lo = simd::broadcast<V>(lower), hi = simd::broadcast<V>(upper);
        V const slope = simd::negated_product(simd::clamp(l.exp, lo, hi), t.advantage);
        return {slope * t.logp, slope, (l.exp < lo) | (l.exp > hi)};
    }
};
/// Bounds as distances from 1: clip(r, 1 - eps_low, 1 + eps_high). An eps_low of 1 or more means no lower bound.
[[nodiscard]] constexpr cispo cispo_around(double eps_low, double eps_high) noexcept {
    return {eps_low < 1 ? 1 - eps_low : 0.0, 1 + eps_high};
}
/// -sg(min(r, cap)) A logp over the rollout policy: the score form of DPPO (arXiv 2602.04879; verl, Stable-RL; TRL until
/// July 2026), to be combined with `dppo_tv` or `dppo_kl` of mask_signed.hpp. Caps: TRL 20; verl's and Stable-RL's
/// configurations always supply 3 although their code falls back on 20 and 10. The differentiable form (prime-rl, SkyRL) is
/// `importance_ratio`.
[[nodiscard]] constexpr auto dppo_score(double cap = 20.0) noexcept {
    return over<ratio_kind::current_over_rollout>(cispo{0.0, cap});
}

/// Expected log f under the current policy, by ratio: -(log f - sg log p) r, f the reference. Slope the same, (5 + |x|) u, 0
/// where the log-ratio clamp acts. A reverse-KL distillation term in the form of an importance ratio whose advantage is the sampled
/// log-probability gap to a teacher. prime-rl's `ref_kl` component. 1 transcendental.
struct reference_gap {
    static constexpr char const* name = "reference_gap";
    static constexpr bool acts_without_advantage = true;
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::ref_logp; }
    [[nodiscard]] constexpr status validate() const noexcept { return {}; }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const value = simd::negated_product(t.ref_logp - t.logp, l.exp);
        return {value, zero_unless(l.unclamped, value), !l.unclamped};
    }
};

TRM_NAMESPACE_END
