// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate.hpp>

#include <cmath>

/// \file
/// Surrogates whose ratio belongs to the whole sequence. They first `measure` sums over the tokens that pass every token
/// criterion (as trainers do that apply rejection before the loss) or, with `ratios`, over all, then derive `constants`,
/// then give the term of each token. Terms are per token, so that every aggregation applies: sequence losses of papers,
/// which have one term per sequence, are these with seq_mean_token_mean. A weight w_t multiplies the term of its token. Where
/// the ratio is shared and differentiated (gspo, gmpo, sapo_sequence), every token moves the terms of all others: its slope
/// holds their weights, and not its own twice. This is what automatic differentiation gives in trainers that multiply weights
/// in after the ratio (slime, TRL, AReaL, NeMo-RL).
/// Accuracy of slopes: the sums over n tokens are taken in the arithmetic within 64 registers and in double beyond, so that
/// a mean of x has an error of at most 70 mean |x| u, and a ratio s as many times u relative to s; sum_t w_t A_t that of
/// its terms' absolute values. Nothing else cancels.

TRM_NAMESPACE_BEGIN
namespace detail {

/// *sum += x and sum[1] += 1, over the tokens whose mean the policy takes.
template <class V, bool P>
TRM_INLINE void measure_mean(sees ratios, token<V, P> const& t, log_ratio<V> const& l, V* sum) noexcept {
    auto which = t.keep;
    if (ratios == sees::all_tokens) which = t.active;
    add_where(which, l.value, sum);
    add_where(which, simd::broadcast<V>(1), sum + 1);
}
/// *sum += w A where A > 0, sum[1] += w A where A < 0, over the tokens whose terms count.
template <class V, bool P>
TRM_INLINE void measure_signed_advantages(token<V, P> const& t, V* sum) noexcept {
    V const weighted = t.weight * t.advantage;
    add_where(t.keep & (t.advantage > zero<V>()), weighted, sum);
    add_where(t.keep & (t.advantage < zero<V>()), weighted, sum + 1);
}

/// s = exp(x), x the clamped mean of sums {x, tokens}, over n: the tokens and what trainers add to them.
struct sequence_mean {
    double n, x, s;
    bool moves;  ///< the clamp does not act, so that s depends on the tokens
    sequence_mean(double const* sum, double epsilon, clamp_range clamp) noexcept
        : n(sum[1] + epsilon), x(clamp(sum[0] / n)), s(std::exp(x)), moves(clamp.contains(sum[0] / n)) {}
};

/// PPO's clip of one ratio s for tokens of either sign of A: the ratio that the value uses, and whether it is flat in s.
struct clipped_ratio {
    double used;
    bool clipped, flat;
};
[[nodiscard]] constexpr clipped_ratio clip_for_positive(double s, double eps_high) noexcept {
    bool const c = s > 1 + eps_high;
    return {c ? 1 + eps_high : s, c, c};
}
[[nodiscard]] constexpr clipped_ratio clip_for_negative(double s, double eps_low, double dual_clip) noexcept {
    bool const c = s < 1 - eps_low, capped = dual_clip > 0 && s > dual_clip;
    return {capped ? dual_clip : c ? 1 - eps_low : s, c, c || capped};
}
[[nodiscard]] constexpr status check_clip(double eps_low, double eps_high, double dual_clip,
                                          char const* name) noexcept {
    bool const ok = eps_low >= 0 && eps_high > -1 && (dual_clip == 0 || dual_clip > 1);
    return ok ? status{} : status{errc::bad_threshold, -1, -1, name};
}

/// Value and clip flags from constants {ratio for A >= 0, ratio for A < 0, ., flags}: flag bits 0 (A > 0) and 1 (A < 0).
template <class V, bool P>
TRM_INLINE surrogate_terms<V> clipped_sequence_value(token<V, P> const& t, sequence_constants const& k,
                                                     int flags) noexcept {
    V const nought = zero<V>(), one = simd::broadcast<V>(1);
    auto const positive = t.advantage > nought, negative = t.advantage < nought;
    V const used = select(negative, simd::broadcast<V>(k.c[1]), simd::broadcast<V>(k.c[0]));
    V const high = (flags & 1) != 0 ? one : nought, low = (flags & 2) != 0 ? one : nought;
    return {simd::negated_product(used, t.advantage), nought,
            (positive & (high > nought)) | (negative & (low > nought))};
}

/// The same where all tokens of the sequence share the gradient k.c[2].
template <class V, bool P>
TRM_INLINE surrogate_terms<V> shared_gradient_terms(token<V, P> const& t, log_ratio<V> const& l,
                                                    sequence_constants const& k, int flags) noexcept {
    auto terms = clipped_sequence_value(t, k, flags);
    terms.slope = zero_unless(l.unclamped, simd::broadcast<V>(k.c[2]));
    return terms;
}

}  // namespace detail

/// s = exp(mean_t x), n tokens: term -A_t clip_ppo(s), with PPO's clip (and dual clip, 0 = none) by the sign of A_t. The
/// gradient flows through the mean: every token of the sequence has slope -(s / n) sum_t w_t A_t, over those t whose term
/// is not flat in s, w_t their weights; with advantages of either sign that is two sums. GSPO, arXiv 2507.18071; slime,
/// TRL, OpenRLHF, AReaL, NeMo-RL, Liger. Clip ranges are two orders below PPO's: 3e-4 and 4e-4 in the paper, the default
/// here; trainers' own defaults are PPO's 0.2. `ratios`: the mean is over the tokens that pass every token criterion (AReaL,
/// verl's decoupled mode), or over all loss_mask tokens (slime, SkyRL), which then have that slope too, rejected or not: rows
/// of a backward pass must not be skipped by `keep`. Where the clamp of log-ratios acts on a token, it has no gradient; where
/// that of the mean acts, no token has one (here and in the next two).
struct gspo {
    double eps_low = 3e-4;
    double eps_high = 4e-4;
    double dual_clip = 0.0;
    sees ratios = sees::kept_tokens;  ///< the tokens whose mean s is

    static constexpr char const* name = "gspo";
    static void fields(auto f) {
        f("eps_low", &gspo::eps_low);
        f("eps_high", &gspo::eps_high);
        f("dual_clip", &gspo::dual_clip);
        f("ratios", &gspo::ratios);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 4;
    static constexpr bool shares_gradient = true;
    /// Rejected tokens are in the mean, and move it.
    [[nodiscard]] constexpr bool moves_rejected() const noexcept { return ratios == sees::all_tokens; }
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return detail::check_clip(eps_low, eps_high, dual_clip, "gspo");
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::measure_mean(ratios, t, l, sum);
        detail::measure_signed_advantages(t, sum + 2);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        if (!(sum[1] > 0)) return {};
        detail::sequence_mean const m(sum, epsilon, clamp);
        auto const up = detail::clip_for_positive(m.s, eps_high);
        auto const down = detail::clip_for_negative(m.s, eps_low, dual_clip);
        double const advantage = (m.moves && !up.flat ? sum[2] : 0.0) + (m.moves && !down.flat ? sum[3] : 0.0);
        return {{up.used, down.used, -m.s * advantage / m.n, (up.clipped ? 1.0 : 0.0) + (down.clipped ? 2.0 : 0.0)}};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l,
                                             sequence_constants const& k) const noexcept {
        return detail::shared_gradient_terms(t, l, k, static_cast<int>(k.c[3]));
    }
};

/// The value of `gspo`, but each token carries its own gradient: slope -A_t s where the clip leaves it, that is
/// s_t = sg(s) exp(logp - sg logp). Equal to gspo when A is constant within the sequence. GSPO-token, arXiv 2507.18071 section
/// 4.3; verl (whose `gspo` this is, always with seq_mean_token_mean), SkyRL, TRL (experimental). verl and SkyRL cap log s_t at
/// 10 from above only, and no x before: `log_ratio_clamp.surrogate = no_clamp`, `surrogate_sequence = {-80, 10}`.
struct gspo_token {
    double eps_low = 3e-4;
    double eps_high = 4e-4;
    double dual_clip = 0.0;
    sees ratios = sees::kept_tokens;  ///< the tokens whose mean s is

    static constexpr char const* name = "gspo_token";
    static void fields(auto f) {
        f("eps_low", &gspo_token::eps_low);
        f("eps_high", &gspo_token::eps_high);
        f("dual_clip", &gspo_token::dual_clip);
        f("ratios", &gspo_token::ratios);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 2;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return detail::check_clip(eps_low, eps_high, dual_clip, "gspo_token");
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        detail::measure_mean(ratios, t, l, sum);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        if (!(sum[1] > 0)) return {};
        detail::sequence_mean const m(sum, epsilon, clamp);
        auto const up = detail::clip_for_positive(m.s, eps_high);
        auto const down = detail::clip_for_negative(m.s, eps_low, dual_clip);
        return {{up.used, down.used, (!m.moves || up.flat ? 1.0 : 0.0) + (!m.moves || down.flat ? 2.0 : 0.0),
                 (up.clipped ? 1.0 : 0.0) + (down.clipped ? 2.0 : 0.0)}};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l,
                                             sequence_constants const& k) const noexcept {
        auto terms = detail::clipped_sequence_value(t, k, static_cast<int>(k.c[3]));
        auto const flat = detail::clipped_sequence_value(t, k, static_cast<int>(k.c[2])).clipped;
        terms.slope = select(flat | !l.unclamped, detail::zero<V>(), terms.value);
        return terms;
    }
};

/// z_t = min(x, eps_high) for A > 0, max(x, -eps_low) for A < 0, 0 for A = 0: bounds in log space. R = exp(mean_t z); term
/// -A_t R, so that seq_mean_token_mean gives the paper's -mean_i (mean_t A) R. Slope -R mean_t(w A) where z_t = x and A_t
/// is not 0, else 0, w the weights. GMPO, arXiv 2507.20673, which recommends 0.4 (the default; TRL too); verl's `geo_mean`
/// takes PPO's 0.2 and averages over all rows, empty ones included (over_count).
struct gmpo {
    double eps_low = 0.4;
    double eps_high = 0.4;

    static constexpr char const* name = "gmpo";
    static void fields(auto f) {
        f("eps_low", &gmpo::eps_low);
        f("eps_high", &gmpo::eps_high);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 3;
    static constexpr bool shares_gradient = true;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return eps_low >= 0 && eps_high >= 0 ? status{} : status{errc::bad_threshold, -1, -1, "gmpo"};
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& l, V* sum) const noexcept {
        V const zero = detail::zero<V>(), lo = simd::broadcast<V>(-eps_low), hi = simd::broadcast<V>(eps_high);
        auto const positive = t.advantage > zero, negative = t.advantage < zero;
        V const z = select(positive, (simd::min)(l.value, hi), select(negative, (simd::max)(l.value, lo), zero));
        detail::add_where(t.keep, z, sum);
        detail::add_where(t.keep, simd::broadcast<V>(1), sum + 1);
        detail::add_where(t.keep, t.weight * t.advantage, sum + 2);
    }
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        if (!(sum[1] > 0)) return {};
        detail::sequence_mean const m(sum, epsilon, clamp);
        return {{m.s, 0, m.moves ? -m.s * sum[2] / m.n : 0.0, 0}};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l,
                                             sequence_constants const& k) const noexcept {
        V const zero = detail::zero<V>(), lo = simd::broadcast<V>(-eps_low), hi = simd::broadcast<V>(eps_high);
        auto const positive = t.advantage > zero, negative = t.advantage < zero;
        auto const clipped = (positive & (l.value > hi)) | (negative & (l.value < lo));
        auto const moves = (positive | negative) & l.unclamped & !clipped;
        return {simd::negated_product(simd::broadcast<V>(k.c[0]), t.advantage),
                zero_unless(moves, simd::broadcast<V>(k.c[2])), clipped};
    }
};

TRM_NAMESPACE_END
