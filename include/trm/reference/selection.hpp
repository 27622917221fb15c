// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogate_covariance.hpp>
#include <trm/reference/policy.hpp>

#include <algorithm>
#include <concepts>

/// \file
/// Oracle of the criteria that compare tokens or sequences with each other. As reference/policy.hpp; not for production.

TRM_NAMESPACE_BEGIN
namespace reference {

template <class D>
std::vector<double> divergences(D const& d, sequence const& s) {
    std::vector<double> all;
    for (token const& t : s.tokens) all.push_back(divergence_at(d, t));
    return all;
}
/// Rejects the tokens of sequence i for which f(token) holds.
template <class F>
void reject_if(flags& f, std::size_t i, sequence const& s, F&& reject) {
    for (std::size_t t = 0; t < s.tokens.size(); ++t) f[i][t] = f[i][t] || reject(s.tokens[t]);
}
inline constexpr auto every_token = [](token const&) { return true; };

/// A statistic outside the band; of a sequence with a token that is not finite it is in no band.
template <class D, class Stat>
bool violates(D const& d, Stat stat, band keep, sequence const& s, decisions& decide) {
    if (s.tokens.empty()) return false;
    auto const v = statistic(stat, divergences(d, s));
    return !decide.inside(keep, v.value, v.size) || !s.nonfinite.empty();
}

template <class D>
flags rejected(prefix_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        double end = infinity;  // position of the first violation
        for (std::int64_t p : batch[i].nonfinite_position) end = std::fmin(end, static_cast<double>(p));
        for (token const& t : batch[i].tokens)
            if (!decide.inside(m.keep, divergence_at(m.divergence, t)))
                end = std::fmin(end, static_cast<double>(t.position));
        reject_if(f, i, batch[i], [&](token const& t) { return static_cast<double>(t.position) >= end; });
    }
    return f;
}

template <class D, class Stat>
flags rejected(group_mask<D, Stat> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (sequence const& bad : batch)
        if (violates(m.divergence, m.statistic, m.keep, bad, decide))
            for (std::size_t i = 0; i < batch.size(); ++i)
                if (batch[i].group == bad.group) reference::reject_if(f, i, batch[i], every_token);
    return f;
}

template <class D, class Stat>
flags rejected(signed_sequence_mask<D, Stat> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i)
        if (violates(m.divergence, m.statistic, m.keep, batch[i], decide))
            reject_if(f, i, batch[i], [&](token const& t) {
                return m.sign == advantage_sign::negative ? t.advantage < 0 : t.advantage > 0;
            });
    return f;
}

template <class D>
flags rejected(quantile_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        auto d = divergences(m.divergence, batch[i]);
        if (d.empty()) continue;
        std::sort(d.begin(), d.end());
        double rank = 1;  // the smallest rank that covers a share of q
        while (rank < m.q * static_cast<double>(d.size())) ++rank;
        if (!decide.inside(m.keep, d[static_cast<std::size_t>(rank) - 1]) || !batch[i].nonfinite.empty())
            reference::reject_if(f, i, batch[i], every_token);
    }
    return f;
}

template <class D>
flags rejected(top_mean_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        auto d = divergences(m.divergence, batch[i]);
        if (d.empty()) continue;
        std::sort(d.rbegin(), d.rend());
        if (std::ssize(d) > m.m) d.resize(static_cast<std::size_t>(m.m));
        auto const v = statistic(stat::mean, d);
        if (!decide.inside(m.keep, v.value, v.size) || !batch[i].nonfinite.empty())
            reference::reject_if(f, i, batch[i], every_token);
    }
    return f;
}

/// A token of the batch, where its flag is, and what it is compared by.
struct ranked {
    token const* of;
    std::size_t sequence, index;
    double value;
};
template <class F>
std::vector<ranked> in_batch_order(std::vector<sequence> const& batch, F&& value) {
    std::vector<ranked> all;
    for (std::size_t i = 0; i < batch.size(); ++i)
        for (std::size_t t = 0; t < batch[i].tokens.size(); ++t)
            all.push_back({&batch[i].tokens[t], i, t, value(batch[i].tokens[t])});
    std::sort(all.begin(), all.end(), [](ranked const& a, ranked const& b) { return a.of->at < b.of->at; });
    return all;
}

template <class D>
flags rejected(budget_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    auto rest = in_batch_order(batch, [&](token const& t) { return divergence_at(m.divergence, t); });
    while (rest.size() > 1) {
        double sum = 0;
        for (ranked const& r : rest) sum += r.value;
        if (decide.below(sum / static_cast<double>(rest.size()), m.limit)) break;
        auto const worst = std::max_element(rest.begin(), rest.end(),
                                            [](ranked const& a, ranked const& b) { return a.value < b.value; });
        f[worst->sequence][worst->index] = 1;
        rest.erase(worst);
    }
    return f;
}

template <class D>
flags rejected(top_share_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    auto const all = in_batch_order(batch, [&](token const& t) { return divergence_at(m.divergence, t); });
    std::vector<double> d;
    for (ranked const& r : all) d.push_back(r.value);
    std::sort(d.begin(), d.end());
    if (d.empty()) return f;
    double const place = (1 - m.share) * static_cast<double>(d.size() - 1);
    auto const below = static_cast<std::size_t>(place + 1e-9), above = (std::min)(below + 1, d.size() - 1);
    double const part = std::fmax(place - static_cast<double>(below), 0);
    double const least = d[below] + (part < 1e-9 ? 0 : part) * (d[above] - d[below]);
    for (ranked const& r : all) f[r.sequence][r.index] = r.value != least && decide.below(r.value, least);
    return f;
}

inline flags rejected(clip_cov const& c, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    auto all = reference::in_batch_order(batch, [](token const&) { return 0.0; });
    double const n = static_cast<double>(all.size());
    double A = 0, logp = 0;
    for (ranked const& r : all) A += r.of->advantage / n, logp += r.of->logp / n;
    std::vector<ranked> candidates;
    for (ranked const& r : all) {
        double const cov = (r.of->advantage - A) * (r.of->logp - logp),
                     ratio = std::exp(pair_of(*r.of, c.over, r.of->clamps.mask).x);
        bool const up = r.of->advantage > 0 && decide.below(1 + c.eps_high, ratio);
        bool const down = r.of->advantage < 0 && decide.below(ratio, 1 - c.eps_low);
        if (!up && !down && decide.below(c.lower, cov) && decide.below(cov, c.upper)) candidates.push_back(r);
    }
    std::uint64_t state = c.seed;
    double const wanted = std::fmax(std::floor(c.fraction * n), 1);
    for (std::size_t k = 0; static_cast<double>(k) < wanted && k < candidates.size(); ++k) {
        std::uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        std::swap(candidates[k], candidates[k + (z ^ (z >> 31)) % (candidates.size() - k)]);
        f[candidates[k].sequence][candidates[k].index] = 1;
    }
    return f;
}

/// The marks of kl_cov where the caller brings none: the largest covariances of advantage and log-probability.
template <class S>
void mark(S const&, std::vector<sequence>&, decisions&) {}
template <std::derived_from<kl_cov> S>
void mark(S const& k, std::vector<sequence>& batch, decisions& decide) {
    auto all = in_batch_order(batch, [](token const&) { return 0.0; });
    double const n = static_cast<double>(all.size());
    double A = 0, logp = 0;
    for (ranked const& r : all) A += r.of->advantage / n, logp += r.of->logp / n;
    for (ranked& r : all) r.value = (r.of->advantage - A) * (r.of->logp - logp);
    std::sort(all.begin(), all.end(), [](ranked const& a, ranked const& b) {
        return a.value != b.value ? a.value > b.value : a.of->at < b.of->at;
    });
    auto const wanted = static_cast<std::size_t>(std::fmax(std::floor(k.fraction * n), 1));
    for (std::size_t i = 0; i < wanted && i < all.size(); ++i)
        batch[all[i].sequence].tokens[all[i].index].marked = true;
    if (wanted < all.size()) (void)decide.below(all[wanted].value, all[wanted - 1].value);
}

inline flags rejected(length_neutral_mask const& m, std::vector<sequence> const& batch, decisions& decide) {
    auto const future = [&](std::int64_t position) {  // divergence that the rest of the response can still collect
        double const left = std::fmax(static_cast<double>(m.horizon - 1 - position), 0);
        if (left == 0) return 0.0;
        return std::fmin(1.0, std::fmin(left * m.eps, std::sqrt(left * m.delta / 2)));
    };
    double budget = 0;
    for (std::int64_t t = 0; t < m.horizon; ++t) budget += future(t);
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        double w = 0;
        for (token const& t : batch[i].tokens)
            w += std::fabs(std::expm1(pair_of(t, m.over, t.clamps.mask).x)) * future(t.position);
        if (decide.below(m.threshold * budget, w) || !batch[i].nonfinite.empty())
            reference::reject_if(f, i, batch[i], every_token);
    }
    return f;
}

}  // namespace reference
TRM_NAMESPACE_END
