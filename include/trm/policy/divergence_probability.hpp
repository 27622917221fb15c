// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/token.hpp>

#include <limits>

/// \file
/// Divergences of one sampled token that are functions of the probabilities p (target) and mu (behaviour) themselves, which the
/// clamp of the log-ratio does not touch. Finite for finite log-probabilities.

TRM_NAMESPACE_BEGIN
namespace detail {

/// KL between Bernoulli(a) and Bernoulli(b): a k3(y) + (1 - a) k3(log((1 - b) / (1 - a))), y = log(b.p / a.p), a sum of two
/// non-negative terms, so that close probabilities lose nothing. Beyond |y| = 2, where nothing cancels, a k3(y) is
/// b.p - a.p - a.p y, so that `expm1_y` and `k3_y` are read for |y| <= 2 only: y may be of any size, while exponentials may
/// not. Relative error 3e-6 (float), 3e-14 (double), unless a complement is at its floor; there the value is finite instead
/// of infinite. Values below 1e-35 (float) or 1e-300 (double) have that absolute error.
template <class V>
TRM_INLINE V bernoulli_kl(probability_pair<V> a, probability_pair<V> b, V y, V expm1_y, V k3_y) noexcept {
    using T = typename V::value_type;
    constexpr T limit = sizeof(T) == 4 ? T(87.3366) : T(708.3965);  // above -log of the smallest normal number
    auto const near_y = abs(y) <= V(T(2));
    V const change = select(near_y, a.p * expm1_y, b.p - a.p);
    V const first = select(near_y, a.p * k3_y, (simd::max)(fma(-a.p, y, change), V(T(0))));
    V const shift = -change / a.complement;  // (1 - b) / (1 - a) - 1
    V const inner = simd::log1p(simd::clamp(shift, V(T(-0.5)), V(T(0.5))));
    V const outer = simd::log(b.complement / a.complement);
    V const z = select(abs(shift) < V(T(0.5)), inner, simd::clamp(outer, V(-limit), V(limit)));
    return fma(a.complement, simd::exp_k3(z).k3, first);
}

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

/// |p - mu| of the sampled token's probabilities: a lower bound of the full-vocabulary total variation (data
/// processing). In [0, 1]. Absolute error 1e-7 (float). 2 transcendentals. DPPO binary TV, prime-rl.
struct binary_tv {
    static constexpr char const* name = "binary_tv";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return abs(detail::probability(l.target).p - detail::probability(l.behaviour).p);
    }
};

/// p - mu of the sampled token, with its sign, in [-1, 1]. prime-rl's `ref_kl` keeps >= -0.2 whatever the advantage.
/// 2 transcendentals.
struct probability_change {
    static constexpr char const* name = "probability_change";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return detail::probability(l.target).p - detail::probability(l.behaviour).p;
    }
};

/// p, the sampled token's probability under the target policy. No divergence: for criteria such as p >= 0.1. 1 transcendental.
struct target_probability {
    static constexpr char const* name = "target_probability";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return detail::probability(l.target).p;
    }
};

/// mu, the sampled token's probability under the behaviour policy, alike. 1 transcendental.
struct behaviour_probability {
    static constexpr char const* name = "behaviour_probability";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return detail::probability(l.behaviour).p;
    }
};

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
        return detail::bernoulli_kl(detail::probability(l.behaviour), detail::probability(l.target), y.value, y.expm1,
                                    y.k3);
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
        auto const p = detail::probability(l.target), mu = detail::probability(l.behaviour);
        auto const y = detail::ratio_of_probabilities(l);
        auto const back = simd::exp_k3(simd::clamp(-y.value, -two, two));
        return detail::bernoulli_kl(mu, p, y.value, y.expm1, y.k3) +
               detail::bernoulli_kl(p, mu, -y.value, back.expm1, back.k3);
    }
};

TRM_NAMESPACE_END
