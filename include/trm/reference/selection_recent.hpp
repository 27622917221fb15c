// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection_direction.hpp>
#include <trm/policy/selection_segment.hpp>
#include <trm/reference/selection.hpp>

#include <map>

/// \file
/// Oracle of selection_direction and selection_segment. As reference/policy.hpp; not for production.

TRM_NAMESPACE_BEGIN
namespace reference {

/// Criteria that reject tokens only where the policy gradient pushes them further away: they read advantage and log-ratio.
template <class M>
inline constexpr bool judges_direction = false;
template <class D, class S>
inline constexpr bool judges_direction<away_sequence_mask<D, S>> = true;
template <class D>
inline constexpr bool judges_direction<away_budget_mask<D>> = true;
template <class D>
inline constexpr bool judges_direction<running_budget_mask<D>> = true;

inline bool moves_away(token const& t, ratio_kind over) { return t.advantage * pair_of(t, over, t.clamps.mask).x > 0; }

template <class D, class Stat>
flags rejected(away_sequence_mask<D, Stat> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i)
        if (violates(m.divergence, m.statistic, m.keep, batch[i], decide))
            reject_if(f, i, batch[i], [&](token const& t) { return moves_away(t, m.divergence.over); });
    return f;
}

/// Largest first, token order among equals, until the mean of all that is left is below the limit.
template <class D>
flags rejected(away_budget_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (;;) {
        double sum = 0, n = 0, worst = -infinity;
        std::size_t at = 0, where = 0, token_at = 0;
        for (std::size_t i = 0; i < batch.size(); ++i)
            for (std::size_t t = 0; t < batch[i].tokens.size(); ++t) {
                token const& tok = batch[i].tokens[t];
                if (f[i][t]) continue;
                double const d = divergence_at(m.divergence, tok);
                sum += d;
                n += 1;
                if (!moves_away(tok, m.divergence.over) || d < worst || (d == worst && tok.at > token_at)) continue;
                worst = d, at = i, where = t, token_at = tok.at;
            }
        if (worst == -infinity || decide.below(sum / n, m.limit)) return f;
        f[at][where] = 1;
    }
}

/// q-quantile with linear interpolation between ranks.
inline double quantile_of(std::vector<double> v, double q) {
    std::sort(v.begin(), v.end());
    double const place = q * static_cast<double>(v.size() - 1);
    auto const below = static_cast<std::size_t>(place), above = (std::min)(below + 1, v.size() - 1);
    return v[below] + (place - static_cast<double>(below)) * (v[above] - v[below]);
}

template <class D>
flags rejected(running_budget_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        sequence const& s = batch[i];
        if (s.tokens.empty()) continue;
        double const spread = m.k * quantile_of(divergences(m.divergence, s), m.q);
        double const drift = std::fmin(std::fmax(spread, m.drift_min), 5 * m.drift_min);
        double const last = static_cast<double>(m.horizon > 0 ? m.horizon : s.extent) - 1;
        double spent = 0, granted = 0, unknown = infinity;
        for (std::int64_t p : s.nonfinite_position) unknown = std::fmin(unknown, static_cast<double>(p));
        for (std::size_t t = 0; t < s.tokens.size(); ++t) {
            auto const position = static_cast<double>(s.tokens[t].position);
            double const w = last > 0 ? 1 - (1 - m.w_min) * std::fmin(position / last, 1) : 1;
            double const z = w * divergence_at(m.divergence, s.tokens[t]);
            double const left = std::fmin(m.delta, m.delta + drift * granted - spent);
            if (moves_away(s.tokens[t], m.divergence.over))
                f[i][t] = position > unknown || decide.below(left, z, m.delta + drift * granted + spent);
            spent += z;
            granted += w;
        }
    }
    return f;
}

template <class D, class Stat>
flags rejected(segment_mask<D, Stat> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        std::map<std::int64_t, std::int64_t> by_position;  // position of what loss_mask selects -> its token, or -1
        for (std::int64_t p : batch[i].nonfinite_position) by_position[p] = -1;
        for (std::size_t t = 0; t < batch[i].tokens.size(); ++t)
            by_position[batch[i].tokens[t].position] = static_cast<std::int64_t>(t);
        for (auto at = by_position.begin(); at != by_position.end();) {
            sequence segment;
            std::vector<std::size_t> places;
            std::int64_t next = at->first, size = 0;
            for (; at != by_position.end() && at->first == next && (m.length == 0 || size < m.length);
                 ++at, ++next, ++size) {
                if (at->second < 0) {
                    segment.nonfinite.push_back(0);
                } else {
                    places.push_back(static_cast<std::size_t>(at->second));
                    segment.tokens.push_back(batch[i].tokens[places.back()]);
                }
            }
            if (violates(m.divergence, m.statistic, m.keep, segment, decide))
                for (std::size_t t : places) f[i][t] = 1;
        }
    }
    return f;
}

}  // namespace reference
TRM_NAMESPACE_END
