// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask_signed.hpp>
#include <trm/policy/penalty_kl_sequence.hpp>
#include <trm/policy/surrogates.hpp>
#include <trm/reference/policy.hpp>

#include <concepts>

/// \file
/// Oracle of the policies that trainers added to the basic ones: signed masks, surrogates of surrogate_clip, surrogate_soft,
/// surrogate_sequence and surrogate_trajectory, KL with a choice of gradient. As reference/policy.hpp; not for production.

TRM_NAMESPACE_BEGIN
namespace reference {

// --- divergences and masks -------------------------------------------------------------------------------------------

inline double divergence(probability_change const&, token const&, pair const& l) {
    return std::exp(std::fmin(l.target, 0)) - std::exp(std::fmin(l.behaviour, 0));
}
inline double divergence(ratio_change const&, token const&, pair const& l) { return std::fabs(std::expm1(l.x)); }
inline double divergence(target_probability const&, token const&, pair const& l) {
    return std::exp(std::fmin(l.target, 0));
}
inline double divergence(behaviour_probability const&, token const&, pair const& l) {
    return std::exp(std::fmin(l.behaviour, 0));
}
inline double divergence(ratio_either_way const&, token const&, pair const& l) { return std::exp(std::fabs(l.x)); }
inline double divergence(jensen_shannon const&, token const&, pair const& l) {
    long double const half = std::sinh(static_cast<long double>(l.x) / 2);
    return static_cast<double>(std::log1p(half * half) / 2);
}
inline double divergence(k3_reversed const&, token const&, pair const& l) { return k3_of(-l.x); }

template <class D>
flags rejected(advantage_signed<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i)
        for (std::size_t t = 0; t < batch[i].tokens.size(); ++t) {
            token const& tok = batch[i].tokens[t];
            double const x = pair_of(tok, m.divergence.over, tok.clamps.mask).x, A = tok.advantage;
            bool const sinks = A < 0 || (A == 0 && m.zero == zero_advantage::as_negative);
            if ((A > 0 && x > 0) || (sinks && x < 0))
                f[i][t] = !decide.inside(A > 0 ? m.positive : m.negative, divergence_at(m.divergence, tok));
        }
    return f;
}

template <class D>
flags rejected(likely_signed<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = rejected(advantage_signed<D>{m.divergence, m.positive, m.negative, m.zero}, batch, decide);
    for (std::size_t i = 0; i < batch.size(); ++i)
        for (std::size_t t = 0; t < batch[i].tokens.size(); ++t) {
            token const& tok = batch[i].tokens[t];
            double const mu = std::exp(std::fmin(pair_of(tok, m.divergence.over, tok.clamps.mask).behaviour, 0));
            f[i][t] = f[i][t] && !decide.below(mu, tok.advantage > 0 ? m.least_positive : m.least_negative);
        }
    return f;
}

// --- surrogates ------------------------------------------------------------------------------------------------------

inline terms surrogate(cispo const& c, token const& t, pair const& l, decisions& decide) {
    double const r = std::exp(l.x), A = t.advantage;
    bool const low = decide.below(r, c.lower), high = decide.below(c.upper, r);
    double const w = low ? c.lower : high ? c.upper : r;
    return {-w * A * t.logp, -w * A, low || high};
}
inline terms surrogate(reference_gap const&, token const& t, pair const& l, decisions&) {
    double const value = -(t.ref - t.logp) * std::exp(l.x);
    return {value, l.clamped ? 0 : value, l.clamped};
}
inline terms surrogate(sapo const& s, token const& t, pair const& l, decisions&) {
    double const r = std::exp(l.x), A = t.advantage, tau = A > 0 ? s.tau_positive : s.tau_negative;
    double const z = tau * std::expm1(l.x), gate = 1 / (1 + std::exp(-z)), rest = 1 / (1 + std::exp(z));
    return {-A * gate * 4 / tau, l.clamped ? 0 : -4 * A * r * gate * rest, false};
}
inline terms surrogate(dro const& d, token const& t, pair const& l, decisions&) {
    return {-(t.advantage * t.logp - d.beta / 2 * l.x * l.x), -t.advantage + (l.clamped ? 0 : d.beta * l.x), false};
}
inline terms surrogate(kl_cov const& k, token const& t, pair const& l, decisions&) {
    double const r = std::exp(l.x), c = t.marked ? k.coefficient : 0;
    return {-r * t.advantage + c * std::fabs(l.x), l.clamped ? 0 : -r * t.advantage + c * slope(abs_log_ratio{}, l.x),
            false};
}

/// A sum and a mean over the tokens that pass every token criterion.
template <class F>
double sum_kept(sequence const& s, F&& f) {
    double sum = 0;
    for (token const& t : s.tokens) sum += t.keep ? f(t) : 0.0;
    return sum;
}
template <class F>
double mean_kept(sequence const& s, F&& f) {
    double const n = sum_kept(s, [](token const&) { return 1.0; });
    return n > 0 ? sum_kept(s, f) / (n + s.mean_epsilon) : 0.0;
}
/// The log-ratio that a surrogate looks at.
template <class S>
pair moved(S const& policy, token const& t) {
    return pair_of(t, policy.over, t.clamps.surrogate);
}
inline clamp_range clamp_of_sums(sequence const& s) {
    return s.tokens.empty() ? clamp_range{} : s.tokens[0].clamps.surrogate_sequence;
}
/// exp of a sum or mean, clamped: its value, and is it still where the clamp acts?
struct sequence_ratio {
    double value;
    bool clamped;
};
inline sequence_ratio ratio_of_sequence(sequence const& s, double x) {
    clamp_range const c = clamp_of_sums(s);
    return {std::exp(c(x)), !c.contains(x)};
}
/// Is the mean over the tokens that pass?
template <class S>
bool of_kept(S const& policy) {
    if constexpr (requires { policy.ratios; }) return policy.ratios == sees::kept_tokens;
    return true;
}
/// What a mean of log-ratios, over the tokens that pass or over all, divides by: how many these are, plus mean_epsilon.
template <class S>
double size_of_mean(S const& policy, sequence const& s) {
    double const kept = sum_kept(s, [](token const&) { return 1.0; });
    double const n = of_kept(policy) ? kept : static_cast<double>(s.tokens.size());
    return n > 0 ? n + s.mean_epsilon : 1;
}
/// exp of that mean.
template <class S>
sequence_ratio mean_ratio(S const& policy, sequence const& s) {
    double sum = 0;
    for (token const& t : s.tokens) sum += t.keep || !of_kept(policy) ? moved(policy, t).x : 0.0;
    return ratio_of_sequence(s, sum / size_of_mean(policy, s));
}
/// PPO's clipped term as a function of a ratio s, and its derivative with respect to s.
template <class S>
terms clipped_term(S const& c, double s, double A, decisions& decide) {
    bool const low = A < 0 && decide.below(s, 1 - c.eps_low), high = A > 0 && decide.below(1 + c.eps_high, s);
    bool const dual = c.dual_clip > 0 && A < 0 && decide.below(c.dual_clip, s);
    double const used = dual ? c.dual_clip : low ? 1 - c.eps_low : high ? 1 + c.eps_high : s;
    return {-used * A, low || high || dual ? 0 : -A, low || high};
}
template <std::derived_from<gspo> S>
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions& decide) {
    auto const [ratio, clamped] = mean_ratio(policy, s);
    double slope = 0;
    if (!clamped)
        slope =
            sum_kept(s, [&, r = ratio](
                            token const& t) { return t.weight * clipped_term(policy, r, t.advantage, decide).slope; }) /
            size_of_mean(policy, s);
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        terms const own = clipped_term(policy, ratio, t.advantage, decide);
        out.push_back({own.value, moved(policy, t).clamped ? 0 : ratio * slope, own.clipped});
    }
    return out;
}
template <std::derived_from<gspo_token> S>
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions& decide) {
    auto const [ratio, clamped] = mean_ratio(policy, s);
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        terms const own = clipped_term(policy, ratio, t.advantage, decide);
        out.push_back({own.value, clamped || moved(policy, t).clamped ? 0 : ratio * own.slope, own.clipped});
    }
    return out;
}
template <std::derived_from<gmpo> S>
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions& decide) {
    auto const z = [&](token const& t) {
        double const x = moved(policy, t).x, A = t.advantage;
        if (A > 0) return decide.below(policy.eps_high, x) ? policy.eps_high : x;
        if (A < 0) return decide.below(x, -policy.eps_low) ? -policy.eps_low : x;
        return 0.0;
    };
    auto const [ratio, clamped] = ratio_of_sequence(s, mean_kept(s, z));
    double const advantage = mean_kept(s, [](token const& t) { return t.weight * t.advantage; });
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        pair const l = moved(policy, t);
        bool const clipped = z(t) != l.x && t.advantage != 0;
        bool const moves = t.advantage != 0 && !clipped && !l.clamped && !clamped;
        out.push_back({-ratio * t.advantage, moves ? -ratio * advantage : 0, clipped});
    }
    return out;
}
template <std::derived_from<sapo_sequence> S>
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions&) {
    auto const [ratio, clamped] = mean_ratio(policy, s);
    double const r = ratio;
    auto const tau = [&](double A) { return A > 0 ? policy.tau_positive : policy.tau_negative; };
    auto const gate = [&](double A) { return 1 / (1 + std::exp(-tau(A) * (r - 1))); };
    /// 1 - gate, also where gate is nearly 1.
    auto const rest = [&](double A) { return 1 / (1 + std::exp(tau(A) * (r - 1))); };
    double const sum = sum_kept(
        s, [&](token const& t) { return t.weight * -4 * t.advantage * gate(t.advantage) * rest(t.advantage); });
    double const slope = clamped ? 0 : r * sum / size_of_mean(policy, s);
    std::vector<terms> out;
    for (token const& t : s.tokens)
        out.push_back(
            {-t.advantage * gate(t.advantage) * 4 / tau(t.advantage), moved(policy, t).clamped ? 0 : slope, false});
    return out;
}
template <std::derived_from<cispo_sequence> S>
std::vector<terms> surrogates(S const& c, sequence const& s, decisions& decide) {
    double const ratio = mean_ratio(c, s).value;
    bool const low = decide.below(ratio, c.lower), high = decide.below(c.upper, ratio);
    double const w = low ? c.lower : high ? c.upper : ratio;
    std::vector<terms> out;
    for (token const& t : s.tokens) out.push_back({-w * t.advantage * t.logp, -w * t.advantage, low || high});
    return out;
}
/// Score form: -factor(sign of A) A logp.
template <class S, class F>
std::vector<terms> scores(S const&, sequence const& s, F&& factor) {
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        double const phi = factor(t.advantage < 0);
        out.push_back({-phi * t.advantage * t.logp, -phi * t.advantage, false});
    }
    return out;
}
template <class S>
double log_product(S const& policy, sequence const& s, clamp_range clamp) {
    return clamp(sum_kept(s, [&](token const& t) { return moved(policy, t).x; }));
}
template <std::derived_from<vespo> S>
std::vector<terms> surrogates(S const& v, sequence const& s, decisions&) {
    double const lowest = std::log(1e-8);
    double const x = clamp_range(lowest, clamp_of_sums(s).upper)(sum_kept(s, [&](token const& t) {
        double const log_weight = std::fmin(std::fmax(std::log(t.weight), lowest), 20.0);
        return moved(v, t).x + (std::derived_from<S, vespo_folded> ? log_weight : 0.0);
    }));
    return scores(v, s, [&](bool negative) {
        double const k = negative ? v.k_negative : v.k_positive,
                     lambda = negative ? v.lambda_negative : v.lambda_positive;
        return std::exp(std::fmin(k * x - lambda * std::expm1(x), 80));
    });
}
template <std::derived_from<topr> S>
std::vector<terms> surrogates(S const& p, sequence const& s, decisions&) {
    double const w = std::exp(log_product(p, s, clamp_of_sums(s)));
    return scores(p, s, [&](bool negative) {
        return std::fmin(std::fmax(w, negative ? p.negative_lower : p.positive_lower),
                         negative ? p.negative_upper : p.positive_upper);
    });
}

// --- KL to the reference ---------------------------------------------------------------------------------------------

/// D - D': the slope of exp(logp - sg logp) D at r = 1. That of k3 has lost its exponentials.
inline double score_slope(k1 const&, double x) { return 1 - x; }
inline double score_slope(k2 const&, double x) { return x * x / 2 - x; }
inline double score_slope(k3 const&, double x) { return -x; }
inline double score_slope(abs_log_ratio const&, double x) { return std::fabs(x) - (x > 0) + (x < 0); }

template <class D, class G>
    requires(!std::is_same_v<G, kl_gradient::importance_of_sequence>)
terms penalty(reference_kl<D, G> const& p, token const& t) {
    clamp_range const clamp = t.clamps.penalty;
    pair const l = pair_of(t.ref, t.logp,
                           clamp_range{std::fmax(clamp.lower, -p.input_clamp), std::fmin(clamp.upper, p.input_clamp)});
    double value = divergence(p.estimator, t, l), change = -slope(p.estimator, l.x);
    if constexpr (std::is_same_v<G, kl_gradient::straight_through>) {
        change = t.logp - t.ref;
    } else if constexpr (std::is_same_v<G, kl_gradient::score_function>) {
        change = score_slope(p.estimator, l.x);
    } else if constexpr (!std::is_same_v<G, kl_gradient::pathwise>) {
        pair const y = pair_of(t, p.over, clamp);
        change = std::exp(y.x) * (y.clamped ? change : score_slope(p.estimator, l.x));
        value *= std::exp(y.x);
    }
    bool const dead =
        (l.clamped || std::fabs(value) > p.output_clamp) && !std::is_same_v<G, kl_gradient::straight_through>;
    value = std::fmax(-p.output_clamp, std::fmin(value, p.output_clamp));
    return {p.beta * value, dead ? 0 : p.beta * change, dead};
}

}  // namespace reference
TRM_NAMESPACE_END
