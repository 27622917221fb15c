// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate_sequence.hpp>

/// \file
/// Other functions of the geometric mean of a sequence's ratios, s = exp(mean_t x), than PPO's clip. As surrogate_sequence.hpp.

TRM_NAMESPACE_BEGIN

/// SAPO of the whole sequence: term -A_t (4 / tau) sigma(tau (s - 1)), tau by the sign of A_t. The gradient flows through the
/// mean: every token has slope -(s / n) sum_t w_t A_t 4 sigma (1 - sigma). `ratios`: of the tokens that pass every token
/// criterion, or of all loss_mask tokens, which then all have that slope. TRL (`sapo` with importance_sampling_level sequence),
/// AReaL (which also averages advantages over the sequence first). Taus in (0, 80].
struct sapo_sequence {
    double tau_positive = 1.0;
    double tau_negative = 1.05;
    sees ratios = sees::kept_tokens;

    static constexpr char const* name = "sapo_sequence";
    static void fields(auto f) {
        f("tau_positive", &sapo_sequence::tau_positive);
        f("tau_negative", &sapo_sequence::tau_negative);
        f("ratios", &sapo_sequence::ratios);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 4;
    static constexpr bool shares_gradient = true;
    [[nodiscard]] constexpr bool moves_rejected() const noexcept { return ratios == sees::all_tokens; }
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = tau_positive > 0 && tau_positive <= 80 && tau_negative > 0 && tau_negative <= 80;
        return ok ? status{} : status{errc::bad_threshold, -1, -1, "sapo_sequence"};
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::measure_mean(ratios, t, l, sum);
        detail::measure_signed_advantages(t, sum + 2);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        if (!(sum[1] > 0)) return {};
        detail::sequence_mean const m(sum, epsilon, clamp);
        double const gap = std::expm1(m.x);
        auto const gate = [gap](double tau) { return 1 / (1 + std::exp(-tau * gap)); };
        auto const fall = [gap](double tau) { return 1 / (1 + std::exp(tau * gap)); };  // 1 - gate
        double const up = gate(tau_positive), down = gate(tau_negative);
        double const moved = 4 * (up * fall(tau_positive) * sum[2] + down * fall(tau_negative) * sum[3]);
        return {{4 / tau_positive * up, 4 / tau_negative * down, m.moves ? -m.s / m.n * moved : 0.0, 0}};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l,
                                             sequence_constants const& k) const noexcept {
        return detail::shared_gradient_terms(t, l, k, 0);
    }
};

/// CISPO of the whole sequence: -sg(clip(s, lower, upper)) A_t logp_t, slope -clip(s, lower, upper) A_t. `clipped`: s outside.
/// TRL: `cispo` with importance_sampling_level sequence, no lower bound. Bounds are on s itself.
struct cispo_sequence {
    double lower = 0.0;
    double upper = 5.0;
    sees ratios = sees::kept_tokens;

    static constexpr char const* name = "cispo_sequence";
    static void fields(auto f) {
        f("lower", &cispo_sequence::lower);
        f("upper", &cispo_sequence::upper);
        f("ratios", &cispo_sequence::ratios);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 2;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return lower <= upper && lower >= 0 ? status{} : status{errc::bad_threshold, -1, -1, "cispo_sequence"};
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::measure_mean(ratios, t, l, sum);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        if (!(sum[1] > 0)) return {};
        double const s = detail::sequence_mean(sum, epsilon, clamp).s;
        double const used = s < lower ? lower : s > upper ? upper : s;
        return {{used, 0, 0, used == s ? 0.0 : 1.0}};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const&,
                                             sequence_constants const& k) const noexcept {
        V const slope = simd::negated_product(simd::broadcast<V>(k.c[0]), t.advantage);
        auto const everywhere = V::mask::everywhere();
        return {slope * t.logp, slope, k.c[3] > 0 ? everywhere : !everywhere};
    }
};

TRM_NAMESPACE_END
