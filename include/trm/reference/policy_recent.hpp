// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/reference/policy_methods.hpp>

/// \file
/// Oracle of the surrogates of surrogate_quadratic, surrogate_gated and surrogate_tapered, and of penalties by sequence. As reference/policy.hpp; not for
/// production.

TRM_NAMESPACE_BEGIN
namespace reference {

inline terms surrogate(spo const& s, token const& t, pair const& l, decisions& decide) {
    double const r = std::exp(l.x), A = t.advantage, d = std::expm1(l.x);
    bool const beyond = A != 0 && decide.below(s.eps, A > 0 ? d : -d);
    return {-r * A + std::fabs(A) * d * d / (2 * s.eps), l.clamped ? 0 : -r * (A - std::fabs(A) * d / s.eps), beyond};
}
inline terms surrogate(drpo const& s, token const& t, pair const& l, decisions& decide) {
    double const r = std::exp(l.x), A = t.advantage;
    double const shift = std::exp(std::fmin(l.target, 0)) - std::exp(std::fmin(l.behaviour, 0));
    bool const beyond = A != 0 && decide.below(s.delta, A > 0 ? shift : -shift);
    return {-r * A + std::fabs(A) * shift * std::expm1(l.x) / (2 * s.delta),
            l.clamped ? 0 : -r * (A - std::fabs(A) * shift / s.delta), beyond};
}
inline terms surrogate(up_grpo const& s, token const& t, pair const& l, decisions& decide) {
    double const A = t.advantage;
    if (A > 0) return {-A, -A, false};
    return surrogate(ppo_clip{s.eps_low, 0, s.dual_clip}, t, l, decide);
}
inline terms surrogate(delight const& d, token const& t, pair const&, decisions&) {
    double const gate = 1 / (1 + std::exp(t.advantage * t.logp / d.eta));
    return {-gate * t.advantage * t.logp, -gate * t.advantage, false};
}
inline terms surrogate(topr_token const& p, token const& t, pair const& l, decisions& decide) {
    bool const negative = t.advantage < 0;
    cispo const bounds{negative ? p.negative_lower : p.positive_lower, negative ? p.negative_upper : p.positive_upper};
    return surrogate(bounds, t, l, decide);
}
template <std::derived_from<topr_geometric> S>
std::vector<terms> surrogates(S const& p, sequence const& s, decisions&) {
    double const w = mean_ratio(p, s).value;
    return scores(p, s, [&](bool negative) {
        return std::fmin(std::fmax(w, negative ? p.negative_lower : p.positive_lower),
                         negative ? p.negative_upper : p.positive_upper);
    });
}

/// A penalty's term of a token; `shared` is what its slope owes to the terms of the whole sequence.
struct penalty_term {
    terms own;
    double shared = 0;
};
template <class P>
std::vector<penalty_term> penalties(P const& p, sequence const& s) {
    std::vector<penalty_term> all;
    for (token const& t : s.tokens) all.push_back({penalty(p, t)});
    return all;
}
template <class D>
std::vector<penalty_term> penalties(reference_kl<D, kl_gradient::importance_of_sequence> const& p, sequence const& s) {
    std::vector<penalty_term> all;
    auto const y = [&](token const& t) { return pair_of(t, p.over, t.clamps.penalty); };
    auto const seen = [&](token const& t) { return p.tokens == sees::all_tokens || t.passes; };
    reference_kl<D> const plain{p.estimator, 1, {}, p.tokens, p.input_clamp, p.output_clamp};
    double sum_y = 0, sum = 0, n = 0;
    for (token const& t : s.tokens) {
        all.push_back({penalty(plain, t)});
        if (!seen(t)) continue;
        sum_y += y(t).x;
        sum += all.back().own.value;
        n += 1;
    }
    if (n == 0) return all;
    n += s.mean_epsilon;
    clamp_range const clamp = s.tokens[0].clamps.surrogate_sequence;
    double const ratio = std::exp(clamp(sum_y / n));
    for (std::size_t i = 0; i < all.size(); ++i) {
        token const& t = s.tokens[i];
        all[i].own.value *= p.beta * ratio;
        all[i].own.slope *= p.beta * ratio;
        if (seen(t) && clamp.contains(sum_y / n) && !y(t).clamped) all[i].shared = p.beta * ratio / n * sum;
    }
    return all;
}

}  // namespace reference
TRM_NAMESPACE_END
