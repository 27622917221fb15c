// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/divergence_probability.hpp>
#include <trm/policy/token.hpp>

#include <concepts>

/// \file
/// Divergences of one sampled token. x = log target - log behaviour (nats), clamped to the loss's log_ratio_clamp, r = e^x;
/// divergence_probability.hpp has those that are functions of the two probabilities instead. Each functor
/// returns the value; those that also serve as KL penalties have `slope`, the derivative with respect to x. All are finite for
/// finite log-probabilities. Rounding x itself costs |x| 6e-8 (float) in r, besides what is stated. k1, k2, k3: J.
/// Schulman, "Approximating KL divergence", 2020 (joschu.net/blog/kl-approx.html).

TRM_NAMESPACE_BEGIN

/// -x. Unbiased for KL(behaviour || target) under behaviour samples; any sign. Slope -1. Exact. 0 transcendentals.
struct k1 {
    static constexpr char const* name = "k1";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return -l.value;
    }
    template <class V>
    TRM_INLINE V slope(log_ratio<V> const&) const noexcept {
        return V(typename V::value_type(-1));
    }
};

/// x^2 / 2 >= 0, symmetric in x: the paper's sampled-token stand-in for the maximum criterion. Slope x. Error 1 ulp. 0
/// transcendentals.
struct k2 {
    static constexpr char const* name = "k2";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return (l.value * l.value) * V(typename V::value_type(0.5));
    }
    template <class V>
    TRM_INLINE V slope(log_ratio<V> const& l) const noexcept {
        return l.value;
    }
};

/// r - 1 - x >= 0, unbiased for KL(behaviour || target): the mean criterion. Slope r - 1. Relative error 1.3e-6 (float)
/// for any |x| <= 80. 1 transcendental, shared with r.
struct k3 {
    static constexpr char const* name = "k3";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return l.k3;
    }
    template <class V>
    TRM_INLINE V slope(log_ratio<V> const& l) const noexcept {
        return l.expm1;
    }
    /// D - D' = -x, of which the difference of the two would leave little.
    template <class V>
    TRM_INLINE V value_minus_slope(log_ratio<V> const& l) const noexcept {
        return -l.value;
    }
};

/// |x|. Slope sign(x), 0 at 0. Exact. 0 transcendentals.
struct abs_log_ratio {
    static constexpr char const* name = "abs_log_ratio";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return abs(l.value);
    }
    template <class V>
    TRM_INLINE V slope(log_ratio<V> const& l) const noexcept {
        V const zero(typename V::value_type(0)), one(typename V::value_type(1));
        return select(l.value > zero, one, select(l.value < zero, -one, zero));
    }
};

/// r = e^x itself, for bands on the ratio. Relative error 1.5e-7 (float). 1 transcendental.
struct ratio {
    static constexpr char const* name = "ratio";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return l.exp;
    }
};

/// |r - 1| >= 0: its mean under behaviour samples is twice the total variation. Relative error as r - 1. VACO's divergence, see
/// `away_sequence_mask`. 1 transcendental.
struct ratio_change {
    static constexpr char const* name = "ratio_change";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return abs(l.expm1);
    }
};

/// e^|x| = max(r, 1 / r) >= 1. Its sequence mean is NeMo-RL's `seq_logprob_error_threshold`. 1 transcendental.
struct ratio_either_way {
    static constexpr char const* name = "ratio_either_way";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        V const one(typename V::value_type(1));
        return select(l.exp < one, one / l.exp, l.exp);
    }
};

/// 1 / r - 1 + x = k3(-x) >= 0: AReaL's `kl_k3`. Under behaviour samples its mean is not KL(behaviour || target); `k3` is.
/// 2 transcendentals.
struct k3_reversed {
    static constexpr char const* name = "k3_reversed";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_exp = false;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        return simd::exp_k3(-l.value).k3;
    }
};

/// log cosh(x / 2) >= 0, symmetric, about x^2 / 8 near 0: half the k3 estimate of KL(target || m) plus half that of
/// KL(behaviour || m), m the mean of the two probabilities. A two-point stand-in for the Jensen-Shannon divergence; its token
/// mean is NeMo-RL's metric `js_divergence_error`. Computed as log1p(sinh(x / 2)^2) / 2. Relative error 4e-7 (float). 2
/// transcendentals.
struct jensen_shannon {
    static constexpr char const* name = "jensen_shannon";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        using T = typename V::value_type;
        return log1p(simd::pin(l.expm1 * (l.expm1 / l.exp) * V(T(0.25)))) * V(T(0.5));
    }
};

/// The batch's own `given` stream: exact full-vocabulary KL or TV, top-k bounds, anything. 0 transcendentals.
struct given {
    static constexpr char const* name = "given";
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    static constexpr bool reads_ratio = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::given; }
};

namespace detail {
/// D - D' as the estimator has it, else as it is written.
template <class D, class V>
TRM_INLINE V value_minus_slope(D const& d, log_ratio<V> const& l) noexcept {
    if constexpr (requires { d.value_minus_slope(l); }) {
        return simd::pin(d.value_minus_slope(l));
    } else {
        return simd::pin(simd::pin(d(l)) - simd::pin(d.slope(l)));
    }
}
}  // namespace detail

/// The same divergence, weight or surrogate over another pair of policies:
/// `trm::over<ratio_kind::proximal_over_rollout>(k3{})`. Penalties have no choice: each says what it compares.
template <ratio_kind Kind, class Policy>
struct over_ratio : Policy {
    static constexpr ratio_kind over = Kind;
};
/// The policy without `over`.
template <class Policy>
struct without_over {
    using type = Policy;
};
template <ratio_kind Kind, class Policy>
struct without_over<over_ratio<Kind, Policy>> : without_over<Policy> {};

template <ratio_kind Kind, class Policy>
    requires(!requires(Policy p) { p.tokens; })
[[nodiscard]] constexpr over_ratio<Kind, Policy> over(Policy p) noexcept {
    return {p};
}

/// Surrogates, weights and penalties look at a pair of policies too, but have parameters to validate.
template <class D>
concept divergence_policy = std::copyable<D> && !requires(D d) { d.validate(); } && requires(D d) {
    { d.over } -> std::convertible_to<ratio_kind>;
};
namespace detail {
struct some_register;
}
/// A divergence that also serves as a KL penalty: it has `slope`, a template that returns its parameter. (Named and not
/// called: no register has to be instantiated for it.)
template <class D>
concept estimator_policy = requires { &D::template slope<detail::some_register>; };
template <class D>
struct is_estimator : std::bool_constant<estimator_policy<D>> {};

/// What a policy reads: its ratio, unless it says that it reads none, and its streams. A constant when the policy's
/// members are static.
template <class P>
[[nodiscard]] constexpr unsigned needs_of(P const& p) noexcept {
    unsigned bits = 0;
    if constexpr (requires { P::reads_ratio; }) {
        bits |= p.reads_ratio ? need::ratio(p.over) : 0;
    } else if constexpr (requires { p.over; }) {
        bits |= need::ratio(p.over);
    }
    if constexpr (requires { p.needs(); }) bits |= p.needs();
    return bits;
}

/// The log-ratio whose e^x the policy reads, as a bit, if it reads that.
template <class P>
[[nodiscard]] constexpr unsigned exp_needs_of(P const& p) noexcept {
    return reads_exp<P> ? needs_of(p) & need::any_ratio : 0u;
}

/// Whoever asks a policy calls this first. There is nothing to prepare, but for a divergence that is chosen at run time.
template <class D, class V, bool P>
TRM_INLINE void set_divergence(D const&, token<V, P>&) noexcept {}
/// Value of a divergence at a token.
template <class D, class V, bool P>
TRM_INLINE V divergence_of(D const& d, token<V, P> const& t) noexcept {
    if constexpr (std::derived_from<D, given>) {
        return t.given;
    } else {
        return d(ratio_of(d, t));
    }
}

TRM_NAMESPACE_END
