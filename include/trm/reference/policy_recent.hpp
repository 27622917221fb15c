// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/reference/policy_methods.hpp>

/// \file
/// Oracle of the surrogates of surrogate_quadratic, surrogate_gated and surrogate_tapered. As reference/policy.hpp; not for
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

}  // namespace reference
TRM_NAMESPACE_END
