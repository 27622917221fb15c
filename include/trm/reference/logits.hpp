// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

/// \file
/// Oracle of the logits layer: one row, scalar, double, several passes, nothing clever. -inf is probability zero. Not for
/// production: it allocates.

TRM_NAMESPACE_BEGIN
namespace reference {

/// log(sum exp(z)); -inf for a row of -inf.
inline double logsumexp(std::span<double const> z) {
    double top = -std::numeric_limits<double>::infinity();
    for (double v : z) top = v > top ? v : top;
    if (top == -std::numeric_limits<double>::infinity()) return top;
    double sum = 0;
    for (double v : z) sum += std::exp(v - top);
    return top + std::log(sum);
}

/// log p = z - logsumexp(z).
inline std::vector<double> log_softmax(std::span<double const> z) {
    double const lse = reference::logsumexp(z);
    std::vector<double> out(z.begin(), z.end());
    for (double& v : out) v -= lse;
    return out;
}

/// -sum p log p over the support.
inline double entropy(std::span<double const> z) {
    double h = 0;
    for (double lp : reference::log_softmax(z))
        if (std::exp(lp) > 0) h -= std::exp(lp) * lp;
    return h;
}

/// KL(a || b) of softmax(a) and softmax(b); +inf if a has support where b has none.
inline double kl(std::span<double const> a, std::span<double const> b) {
    std::vector<double> const la = reference::log_softmax(a), lb = reference::log_softmax(b);
    double sum = 0;
    for (std::size_t i = 0; i < la.size(); ++i)
        if (la[i] > -std::numeric_limits<double>::infinity()) sum += std::exp(la[i]) * (la[i] - lb[i]);
    return sum;
}

/// Total variation: half the sum of |p - q|.
inline double tv(std::span<double const> a, std::span<double const> b) {
    std::vector<double> const la = reference::log_softmax(a), lb = reference::log_softmax(b);
    double sum = 0;
    for (std::size_t i = 0; i < la.size(); ++i) sum += std::fabs(std::exp(la[i]) - std::exp(lb[i]));
    return sum / 2;
}

/// d/dlogits of d_logp log p(target) + d_entropy H, z = logits / temperature:
/// (d_logp (1[v = target] - p_v) - d_entropy p_v (log p_v + H)) / temperature.
inline std::vector<double> logits_gradient(std::span<double const> z, std::size_t target, double d_logp,
                                           double d_entropy, double temperature) {
    std::vector<double> g = reference::log_softmax(z);
    double const h = reference::entropy(z);
    for (std::size_t v = 0; v < g.size(); ++v) {
        double const lp = g[v], p = std::exp(lp);
        double const dh = p > 0 ? -p * (lp + h) : 0;
        g[v] = (d_logp * ((v == target ? 1.0 : 0.0) - p) + d_entropy * dh) / temperature;
    }
    return g;
}

/// d/dlogits of sum_v upstream_v log p_v, z = logits / temperature.
inline std::vector<double> scores_gradient(std::span<double const> z, std::span<double const> upstream,
                                           double temperature) {
    std::vector<double> g = reference::log_softmax(z);
    double sum = 0;
    for (double u : upstream) sum += u;
    for (std::size_t v = 0; v < g.size(); ++v) g[v] = (upstream[v] - sum * std::exp(g[v])) / temperature;
    return g;
}

/// The parts m_v = w(p_v / q_v) q_v of exact score centering, `mu` and `pi` scaled logits; where q is 0, w is that of an
/// infinite ratio. `weight(r)`: of a sampled token.
template <class W>
std::vector<double> centering_parts(std::span<double const> mu, std::span<double const> pi, W&& weight) {
    std::vector<double> const lq = reference::log_softmax(mu), lp = reference::log_softmax(pi);
    std::vector<double> m;
    for (std::size_t v = 0; v < lq.size(); ++v)
        m.push_back(std::exp(lq[v]) > 0 ? weight(std::exp(lp[v] - lq[v])) * std::exp(lq[v]) : 0.0);
    return m;
}

}  // namespace reference
TRM_NAMESPACE_END
