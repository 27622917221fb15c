// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/blocks.hpp>
#include <trm/bounds/trajectories.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// \file
/// What a certificate needs to remember of a batch: one record per sequence and, per prompt group, sums per position.
/// Both are sums and lists, so batches, threads and ranks combine by `merge`.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// Sums over sequences for one position t (weights included). The members are doubles and nothing else: a vector of
/// these is all-reduced by summing.
struct position_sums {
    double magnitude = 0.0;   ///< |rho_t - 1|
    double square = 0.0;      ///< (rho_t - 1)^2
    double future_kl = 0.0;   ///< sum_{j>t} KL_j, exact where given and k3 elsewhere
    double product_tv = 0.0;  ///< |rho_t - 1| sum_{j>t} TV_j, exact TV only
    double tv = 0.0;          ///< TV_t, exact only

    void add(const position_sums& o, double times = 1.0) noexcept {
        magnitude += times * o.magnitude;
        square += times * o.square;
        future_kl += times * o.future_kl;
        product_tv += times * o.product_tv;
        tv += times * o.tv;
    }
};

/// One sequence. The sum over its sampled tokens is meant throughout; nats.
struct sequence_record {
    std::int64_t group = -1;
    std::int64_t horizon = 0;  ///< 0 where the batch does not say
    std::int64_t tokens = 0;   ///< sampled tokens
    std::int64_t length = 0;   ///< all tokens
    double weight = 1.0;
    double reward = 0.0;
    double log_ratio = 0.0;    ///< sum_t log rho_t
    double first_order = 0.0;  ///< sum_t (rho_t - 1)
    double excess = 0.0;       ///< S = prod rho - 1 - sum_t (rho_t - 1) = k3(sum_t log rho_t) - sum_t k3(log rho_t)
    double kl = 0.0;           ///< sum_t KL_t, exact where given and k3 elsewhere
    double max_kl = 0.0;       ///< largest of the same
    double max_tv = 0.0;       ///< exact TV only
    double max_k2 = 0.0;       ///< max_t (log rho_t)^2 / 2
    bool saturated = false;    ///< a log-ratio, or their sum, was held at +-300

    [[nodiscard]] double mean_kl() const noexcept { return tokens > 0 ? kl / static_cast<double>(tokens) : 0.0; }
};

/// Per-position and per-block sums of one prompt group; positions past the longest response are absent, that is zero.
struct group_sums {
    std::int64_t group = -1;
    double sequences = 0.0;  ///< sum of weights
    std::vector<position_sums> at{};
    std::vector<block_level> levels{};  ///< one per block length of the grid, see `block_level_of`
};

/// Batches seen so far. Allocates as groups and positions appear (std::bad_alloc may leave it half added to); adding is
/// linear in tokens. `groups` is kept sorted by id; groups of their own (negative id) come first, in order of arrival.
struct evidence {
    std::vector<sequence_record> sequences{};
    std::vector<group_sums> groups{};
    std::int64_t truncate = 0;  ///< look at the first so many positions only; 0: all
    block_grid grid{};  ///< block lengths; set before the first `add`
    bool grids_differ = false;  ///< evidence with another grid was merged: there are no block sums any more
    std::int64_t tokens = 0;  ///< sampled tokens used
    std::int64_t exact_kl_tokens = 0;  ///< of these, with exact KL
    std::int64_t exact_tv_tokens = 0;
    std::int64_t excluded = 0;  ///< sequences left out: something in them was not finite
    std::int64_t rewarded = 0;  ///< sequences that came with a reward

    [[nodiscard]] bool has_exact_kl() const noexcept { return tokens > 0 && exact_kl_tokens == tokens; }
    [[nodiscard]] bool has_exact_tv() const noexcept { return tokens > 0 && exact_tv_tokens == tokens; }
    [[nodiscard]] bool has_rewards() const noexcept {
        return !sequences.empty() && rewarded == static_cast<std::int64_t>(sequences.size());
    }

    /// Adds a batch. On misuse nothing is added and the status says what is wrong. A sequence with a non-finite
    /// log-ratio, KL or TV at a sampled token, or a non-finite reward, or a weight that is not positive, is left out
    /// and counted in `excluded`. Exact KL below 0 and TV outside [0, 1] are rounding and are clamped.
    template <storage_type F>
    [[nodiscard]] status add(const trajectories<F>& batch);

    /// Everything `other` has seen. Totals do not depend on the order of merging beyond double rounding; groups split
    /// between ranks are joined by id. Block sums are kept only if both were made with the same grid.
    void merge(const evidence& other);

    /// The sums over all groups, one entry per position.
    [[nodiscard]] std::vector<position_sums> totals() const {
        std::vector<position_sums> sum;
        for (const group_sums& g : groups) {
            if (sum.size() < g.at.size()) sum.resize(g.at.size());
            for (std::size_t t = 0; t < g.at.size(); ++t) sum[t].add(g.at[t]);
        }
        return sum;
    }

private:
    std::size_t row_of(std::int64_t id) {
        const auto less = [](std::int64_t a, const group_sums& g) { return a < g.group; };
        if (id < 0) id = -1;
        const auto it = std::upper_bound(groups.begin(), groups.end(), id, less);
        const auto row = static_cast<std::size_t>(it - groups.begin());
        if (id >= 0 && row > 0 && groups[row - 1].group == id) return row - 1;
        groups.insert(it, group_sums{id, 0.0, {}});
        return row;
    }
};

namespace detail {

template <storage_type F>
[[nodiscard]] bool usable(const trajectories<F>& b, std::size_t i, std::size_t first, std::size_t last) noexcept {
    if (!b.rewards.empty() && !finite(b.rewards[i])) return false;
    if (!b.weights.empty() && !(known(b.weights[i]) && b.weights[i] > 0.0)) return false;
    for (std::size_t t = first; t < last; ++t) {
        if (!b.sampled(t)) continue;
        if (!finite(b.ratio(t))) return false;
        if (!b.kl.empty() && !finite(static_cast<double>(b.kl[t]))) return false;
        if (!b.tv.empty() && !finite(static_cast<double>(b.tv[t]))) return false;
    }
    return true;
}

}  // namespace detail

template <storage_type F>
status evidence::add(const trajectories<F>& b) {
    if (const status s = check(b); !s.ok()) return s;
    if (!grid.valid()) return {errc::bad_threshold, -1, -1, "block lengths"};
    detail::block_scratch scratch;
    for (std::size_t i = 0; i < b.size(); ++i) {
        const auto first = b.first(i);
        auto last = first + b.length(i);
        if (truncate > 0) last = (std::min)(last, first + static_cast<std::size_t>(truncate));
        if (!detail::usable(b, i, first, last)) {
            ++excluded;
            continue;
        }
        sequence_record r;
        r.group = b.groups.empty() ? -1 : b.groups[i];
        r.horizon = b.horizons.empty() ? 0 : b.horizons[i];
        if (truncate > 0) r.horizon = (std::min)(r.horizon, truncate);
        r.length = static_cast<std::int64_t>(last - first);
        r.weight = b.weights.empty() ? 1.0 : b.weights[i];
        r.reward = b.rewards.empty() ? 0.0 : b.rewards[i];
        if (!b.rewards.empty()) ++rewarded;

        group_sums& g = groups[row_of(r.group)];
        if (g.at.size() < last - first) g.at.resize(last - first);
        g.sequences += r.weight;
        scratch.resize(last - first);
        double future_tv = 0.0;
        double k3_sum = 0.0;
        for (std::size_t t = last; t-- > first;) {  // backwards, so that what lies ahead is a running sum
            position_sums& p = g.at[t - first];
            p.future_kl += r.weight * r.kl;
            scratch.tv_after[t - first] = future_tv;
            if (!b.sampled(t)) continue;
            const double raw = b.ratio(t);
            const double x = std::clamp(raw, -detail::log_limit, detail::log_limit);
            r.saturated = r.saturated || x != raw;
            const auto [step, k3] = detail::step_of(x);
            const double kl = b.kl.empty() ? k3 : (std::max)(static_cast<double>(b.kl[t]), 0.0);
            const double tv = b.tv.empty() ? 0.0 : std::clamp(static_cast<double>(b.tv[t]), 0.0, 1.0);
            p.magnitude += r.weight * std::fabs(step);
            p.square += r.weight * (step * step);
            p.product_tv += r.weight * std::fabs(step) * future_tv;
            p.tv += r.weight * tv;
            future_tv += tv;
            k3_sum += k3;
            scratch.tokens[t - first] = {x, k3};
            scratch.step[t - first] = step;
            r.kl += kl;
            r.log_ratio += x;
            r.first_order += step;
            r.max_kl = (std::max)(r.max_kl, kl);
            r.max_tv = (std::max)(r.max_tv, tv);
            r.max_k2 = (std::max)(r.max_k2, 0.5 * x * x);
            ++r.tokens;
        }
        const double bounded = std::clamp(r.log_ratio, -detail::log_limit, detail::log_limit);
        r.saturated = r.saturated || bounded != r.log_ratio;
        if (!grids_differ) r.saturated = scratch.add_to(g.levels, grid, r.weight) || r.saturated;
        r.excess = detail::k3(bounded) + (bounded - r.log_ratio) - k3_sum;
        tokens += r.tokens;
        exact_kl_tokens += b.kl.empty() ? 0 : r.tokens;
        exact_tv_tokens += b.tv.empty() ? 0 : r.tokens;
        sequences.push_back(r);
    }
    return {};
}

inline void evidence::merge(const evidence& o) {
    if (groups.empty() && sequences.empty() && !grids_differ) grid = o.grid;
    if (!o.groups.empty() && (o.grids_differ || !(grid == o.grid))) grids_differ = true;
    for (const sequence_record& r : o.sequences) sequences.push_back(r);
    for (const group_sums& from : o.groups) {
        group_sums& into = groups[row_of(from.group)];
        if (into.at.size() < from.at.size()) into.at.resize(from.at.size());
        into.sequences += from.sequences;
        for (std::size_t t = 0; t < from.at.size(); ++t) into.at[t].add(from.at[t]);
        if (!grids_differ) detail::merge_levels(into.levels, from.levels);
    }
    for (group_sums& g : groups) {
        if (grids_differ) g.levels.clear();
    }
    tokens += o.tokens;
    exact_kl_tokens += o.exact_kl_tokens;
    exact_tv_tokens += o.exact_tv_tokens;
    excluded += o.excluded;
    rewarded += o.rewarded;
}

}  // namespace bounds
TRM_NAMESPACE_END
