// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogates.hpp>
#include <trm/reference/policy.hpp>

#include <concepts>

/// \file
/// Oracle of the surrogates of surrogate_clip, surrogate_soft, surrogate_sequence and surrogate_trajectory: as
/// reference/policy.hpp. Not for production.

TRM_NAMESPACE_BEGIN
namespace reference {

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
    return n > 0 ? sum_kept(s, f) / n : 0.0;
}
template <class S>
double mean_ratio(S const& policy, sequence const& s) {
    return std::exp(mean_kept(s, [&](token const& t) { return pair_of(t, policy.over).x; }));
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
    double const ratio = mean_ratio(policy, s);
    double const slope = mean_kept(s, [&](token const& t) { return clipped_term(policy, ratio, t.advantage, decide).slope; });
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        terms const own = clipped_term(policy, ratio, t.advantage, decide);
        out.push_back({own.value, pair_of(t, policy.over).clamped ? 0 : ratio * slope, own.clipped});
    }
    return out;
}
template <std::derived_from<gspo_token> S>
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions& decide) {
    double const ratio = mean_ratio(policy, s);
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        terms const own = clipped_term(policy, ratio, t.advantage, decide);
        out.push_back({own.value, pair_of(t, policy.over).clamped ? 0 : ratio * own.slope, own.clipped});
    }
    return out;
}
template <std::derived_from<gmpo> S>
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions& decide) {
    auto const z = [&](token const& t) {
        double const x = pair_of(t, policy.over).x, A = t.advantage;
        if (A > 0) return decide.below(policy.eps_high, x) ? policy.eps_high : x;
        if (A < 0) return decide.below(x, -policy.eps_low) ? -policy.eps_low : x;
        return 0.0;
    };
    double const ratio = std::exp(mean_kept(s, z));
    double const advantage = mean_kept(s, [](token const& t) { return t.advantage; });
    std::vector<terms> out;
    for (token const& t : s.tokens) {
        pair const l = pair_of(t, policy.over);
        bool const clipped = z(t) != l.x && t.advantage != 0;
        bool const moves = t.advantage != 0 && !clipped && !l.clamped;
        out.push_back({-ratio * t.advantage, moves ? -ratio * advantage : 0, clipped});
    }
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
double log_product(S const& policy, sequence const& s, double lowest, double highest) {
    double const x = sum_kept(s, [&](token const& t) { return pair_of(t, policy.over).x; });
    return std::fmin(std::fmax(x, lowest), highest);
}
template <std::derived_from<vespo> S>
std::vector<terms> surrogates(S const& v, sequence const& s, decisions&) {
    double const x = log_product(v, s, std::log(1e-8), s.tokens.empty() ? 20 : s.tokens[0].limit);
    return scores(v, s, [&](bool negative) {
        double const k = negative ? v.k_negative : v.k_positive, lambda = negative ? v.lambda_negative : v.lambda_positive;
        return std::exp(k * x - lambda * std::expm1(x));
    });
}
template <std::derived_from<topr> S>
std::vector<terms> surrogates(S const& p, sequence const& s, decisions&) {
    double const limit = s.tokens.empty() ? 20 : s.tokens[0].limit, w = std::exp(log_product(p, s, -limit, limit));
    return scores(p, s, [&](bool negative) {
        return std::fmin(std::fmax(w, negative ? p.negative_lower : p.positive_lower),
                         negative ? p.negative_upper : p.positive_upper);
    });
}

}  // namespace reference
TRM_NAMESPACE_END
