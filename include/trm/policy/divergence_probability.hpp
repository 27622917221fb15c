// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/token.hpp>

/// \file
/// Divergences of one sampled token that are functions of the probabilities p (target) and mu (behaviour) themselves, which the
/// clamp of the log-ratio does not touch. Finite for finite log-probabilities.

TRM_NAMESPACE_BEGIN

/// |p - mu| of the sampled token's probabilities: a lower bound of the full-vocabulary total variation (data
/// processing). In [0, 1]. Absolute error 1e-7 (float). 2 transcendentals. DPPO binary TV, prime-rl.
struct binary_tv {
    static constexpr char const* name = "binary_tv";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return abs(simd::probability(l.target).p - simd::probability(l.behaviour).p);
    }
};

/// p - mu of the sampled token, with its sign, in [-1, 1]. prime-rl's `ref_kl` keeps >= -0.2 whatever the advantage.
/// 2 transcendentals.
struct probability_change {
    static constexpr char const* name = "probability_change";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return simd::probability(l.target).p - simd::probability(l.behaviour).p;
    }
};

/// p, the sampled token's probability under the target policy. No divergence: for criteria such as p >= 0.1. 1 transcendental.
struct target_probability {
    static constexpr char const* name = "target_probability";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return simd::probability(l.target).p;
    }
};

/// mu, the sampled token's probability under the behaviour policy, alike. 1 transcendental.
struct behaviour_probability {
    static constexpr char const* name = "behaviour_probability";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return simd::probability(l.behaviour).p;
    }
};

namespace detail {

/// y = log p - log mu of the two probabilities as they are: no clamp, log-probabilities above 0 taken as 0. e^y - 1 and k3(y)
/// hold for |y| <= 2.
template <class V>
struct probability_ratio {
    V value, expm1, k3;
};
template <class V>
TRM_INLINE probability_ratio<V> ratio_of_probabilities(log_ratio<V> const& l) noexcept {
    V const zero(typename V::value_type(0)), two(typename V::value_type(2));
    if (all(l.unclamped & (l.target <= zero) & (l.behaviour <= zero))) [[likely]]
        return {l.value, l.expm1, l.k3};
    V const y = (simd::min)(l.target, zero) - (simd::min)(l.behaviour, zero);
    auto const e = simd::exp_k3(simd::clamp(y, -two, two));
    return {y, e.expm1, e.k3};
}

}  // namespace detail

/// Bernoulli KL(mu || p) = mu log(mu / p) + (1 - mu) log((1 - mu) / (1 - p)), 1 - p taken as -expm1(log p): a lower
/// bound of KL(behaviour || target). A function of the two probabilities alone, whatever the clamp of the log-ratio;
/// log-probabilities above 0 count as 0. >= 0; finite, since 1 - p is kept above the smallest normal number (so p = 1 costs
/// 87 (1 - mu) in float, 708 (1 - mu) in double). Relative error 3e-6 (float) where no complement is that small. 6
/// transcendentals. DPPO binary KL.
struct binary_kl {
    static constexpr char const* name = "binary_kl";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        auto const y = detail::ratio_of_probabilities(l);
        return simd::bernoulli_kl(simd::probability(l.behaviour), simd::probability(l.target), y.value, y.expm1, y.k3);
    }
};

/// Bernoulli KL(mu || p) + KL(p || mu), as `binary_kl` a function of the probabilities alone: large when either is near 0
/// or 1 and the other is not. KPop (ringtech.notion.site/kpop; proposed for verl, prime-rl, AReaL). 9 transcendentals.
struct bidirectional_binary_kl {
    static constexpr char const* name = "bidirectional_binary_kl";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        V const two(typename V::value_type(2));
        auto const p = simd::probability(l.target), mu = simd::probability(l.behaviour);
        auto const y = detail::ratio_of_probabilities(l);
        auto const back = simd::exp_k3(simd::clamp(-y.value, -two, two));
        return simd::bernoulli_kl(mu, p, y.value, y.expm1, y.k3) +
               simd::bernoulli_kl(p, mu, -y.value, back.expm1, back.k3);
    }
};

TRM_NAMESPACE_END
