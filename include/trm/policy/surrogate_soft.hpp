// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate.hpp>

/// \file
/// Surrogates of one token that pull back softly instead of clipping.

TRM_NAMESPACE_BEGIN

/// -A (4 / tau) sigma(tau (r - 1)), tau = tau_positive for A > 0, else tau_negative. Slope -4 A r s (1 - s), s the
/// sigmoid; 0 where the log-ratio clamp acts. At r = 1 the gradient is that of r A, and it fades on either side over 1/tau.
/// SAPO, arXiv 2511.20347. TRL, verl, SkyRL, AReaL, Liger: taus 1 and 1.05; verl and SkyRL use it with
/// seq_mean_token_mean only. 2 transcendentals. 0 < tau <= 80. With z = tau |r - 1| value and slope have (8 + |x| + 6 z +
/// tau r |x|) u; where z > 80 for r > 1, a slope of less than 1e-34 |A| r is 0.
struct sapo {
    double tau_positive = 1.0;
    double tau_negative = 1.05;

    static constexpr char const* name = "sapo";
    static void fields(auto f) {
        f("tau_positive", &sapo::tau_positive);
        f("tau_negative", &sapo::tau_negative);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = tau_positive > 0 && tau_positive <= 80 && tau_negative > 0 && tau_negative <= 80;
        return ok ? status{} : status{errc::bad_threshold, -1, -1, "sapo"};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const zero = detail::zero<V>(), one = simd::broadcast<V>(1), largest = simd::broadcast<V>(80);
        auto const positive = t.advantage > zero;
        V const tau = select(positive, simd::broadcast<V>(tau_positive), simd::broadcast<V>(tau_negative));
        V const four_over_tau =
            select(positive, simd::broadcast<V>(4 / tau_positive), simd::broadcast<V>(4 / tau_negative));
        V const z = tau * l.expm1;
        V const decay = zero_unless(z < largest, simd::exp(-(simd::min)(z, largest)));  // e^-z, 0 beyond 80
        V const gate = one / (one + decay);
        V const value = simd::negated_product(gate * four_over_tau, t.advantage);
        V const slope = simd::negated_product(gate * (gate * decay) * l.exp, simd::broadcast<V>(4) * t.advantage);
        return {value, zero_unless(l.unclamped, slope), detail::nowhere<V>()};
    }
};

/// -(A logp - beta x^2 / 2): REINFORCE with a quadratic pull towards the behaviour policy. Slope -A + beta x, without the
/// pull where the log-ratio clamp acts; error 3 (|A| + beta |x|) u. The least-squares objective of arXiv 2405.19107 (DRO)
/// has this gradient. verl `dro`: beta has no default; kl_tau of prime-rl is the same pull (squared_log_ratio, without the
/// 1/2) beside r A. 0 transcendentals.
struct dro {
    double beta;

    static constexpr char const* name = "dro";
    static constexpr bool acts_without_advantage = true;
    static void fields(auto f) { f("beta", &dro::beta, true); }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return beta >= 0 && is_finite(beta) ? status{} : status{errc::bad_threshold, -1, -1, "dro"};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const pull = simd::broadcast<V>(beta) * l.value;
        return {fma(pull, l.value * simd::broadcast<V>(0.5), simd::negated_product(t.advantage, t.logp)),
                zero_unless(l.unclamped, pull) - t.advantage, detail::nowhere<V>()};
    }
};

TRM_NAMESPACE_END
