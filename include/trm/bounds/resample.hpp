// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/block_bounds.hpp>
#include <trm/bounds/bootstrap.hpp>
#include <trm/bounds/estimates.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// \file
/// Bootstrap replicates of the estimates: whole prompt groups are drawn with replacement.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// One value per replicate.
struct replicates {
    std::vector<double> second_moment{}, worst_case{}, one_sided{}, observed{}, improvement{}, surrogate{};
    std::vector<double> ratio_excess{}, first_order{};
};

namespace detail {

/// Position of each sequence's group in `e.groups`.
template <class Evidence = evidence>
[[nodiscard]] std::vector<std::size_t> rows_of(const std::type_identity_t<Evidence>& e) {
    std::vector<std::size_t> rows;
    rows.reserve(e.sequences.size());
    std::size_t own = 0;  // groups of their own come first, in the order of their sequences
    for (const sequence_record& r : e.sequences) {
        if (r.group < 0) {
            rows.push_back(own++);
            continue;
        }
        const auto at = std::lower_bound(e.groups.begin(), e.groups.end(), r.group,
                                         [](const group_sums& g, std::int64_t id) { return g.group < id; });
        rows.push_back(static_cast<std::size_t>(at - e.groups.begin()));
    }
    return rows;
}

/// Second-moment bound of every replicate, or what blocks have in its place, a tile of positions at a time so that the tile stays in cache.
template <class Groups = std::vector<group_sums>>
void resample_between(const std::type_identity_t<Groups>& groups, bool with_tv, block_forms forms, reward_range r,
                      const bootstrap_options& o, std::span<double> out) {
    constexpr std::size_t tile = 64;
    std::size_t positions = 0;
    for (const group_sums& g : groups) positions = (std::max)(positions, g.at.size());
    std::vector<std::uint32_t> counts(groups.size());
    position_sums sums[tile];
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t first = 0; first < positions; first += tile) {
        for (std::size_t b = 0; b < out.size(); ++b) {
            draw(counts, o.seed, b);
            std::fill(sums, sums + tile, position_sums{});
            double sequences = 0.0;
            for (std::size_t g = 0; g < counts.size(); ++g) {
                if (counts[g] == 0) continue;
                const double times = counts[g];
                const group_sums& from = groups[g];
                sequences += times * from.sequences;
                const std::size_t last = (std::min)(from.at.size(), first + tile);
                for (std::size_t t = first; t < last; ++t) sums[t - first].add(from.at[t], times);
            }
            out[b] += between(sums, sequences, with_tv, forms, r);
        }
    }
}

}  // namespace detail

/// Replicates of the block bound of one block length, which stays fixed: a level of the grid, shorter than the longest
/// response. Cost: resamples x groups x blocks. Empty like `resample`.
template <class Evidence = evidence>
[[nodiscard]] std::vector<double> resample_blocks(const std::type_identity_t<Evidence>& e, std::size_t level,
                                                  reward_range r, const bootstrap_options& o,
                                                  block_forms forms = block_forms::divergences) {
    std::vector<double> out;
    if (e.groups.size() < 2 || o.resamples < 1 || e.grids_differ) return out;
    std::vector<group_sums> blocks(e.groups.size());
    std::vector<double> within(e.groups.size(), 0.0);
    for (std::size_t g = 0; g < blocks.size(); ++g) {
        const group_sums& from = e.groups[g];
        blocks[g].sequences = from.sequences;
        if (from.levels.empty()) continue;
        const block_level& own = from.levels[(std::min)(level, from.levels.size() - 1)];
        blocks[g].at = detail::as_positions(own, e.grid.length(level), from.at);
        within[g] = own.within;
    }
    out.resize(static_cast<std::size_t>(o.resamples));
    detail::resample_between(blocks, e.has_exact_tv(), forms, r, o, out);
    std::vector<std::uint32_t> counts(blocks.size());
    for (std::size_t b = 0; b < out.size(); ++b) {
        detail::draw(counts, o.seed, b);
        double sum = 0.0;
        double sequences = 0.0;
        for (std::size_t g = 0; g < counts.size(); ++g) {
            sum += counts[g] * within[g];
            sequences += counts[g] * blocks[g].sequences;
        }
        out[b] += detail::scaled({r, constants::centred}, 0.5 * sum / sequences);
    }
    return out;
}

/// Replicates of everything at once. Cost: resamples x groups x positions; memory: resamples doubles a statistic.
/// Fewer than two groups, or no resamples, gives empty vectors: there is nothing to resample.
template <class Evidence = evidence>
[[nodiscard]] replicates resample(const std::type_identity_t<Evidence>& e, reward_range r, const bootstrap_options& o) {
    replicates out;
    if (e.groups.size() < 2 || o.resamples < 1) return out;
    const auto n = static_cast<std::size_t>(o.resamples);
    for (auto* v : {&out.second_moment, &out.worst_case, &out.one_sided, &out.observed, &out.improvement,
                    &out.surrogate, &out.ratio_excess, &out.first_order}) {
        v->resize(n);
    }
    detail::resample_between(e.groups, e.has_exact_tv(), block_forms::divergences, r, o, out.second_moment);

    std::vector<direct_sums> by_group(e.groups.size());
    const std::vector<std::size_t> rows = detail::rows_of(e);
    for (std::size_t i = 0; i < rows.size(); ++i) by_group[rows[i]].add(e.sequences[i], mid_range(r));
    std::vector<std::uint32_t> counts(e.groups.size());
    for (std::size_t b = 0; b < n; ++b) {
        detail::draw(counts, o.seed, b);
        direct_sums sum;
        for (std::size_t g = 0; g < counts.size(); ++g) {
            if (counts[g] > 0) sum.add(by_group[g], counts[g]);
        }
        const direct_estimate d = direct_of(sum, r);
        out.worst_case[b] = d.worst_case;
        out.one_sided[b] = d.one_sided;
        out.first_order[b] = d.first_order;
        out.observed[b] = d.observed;
        out.improvement[b] = d.improvement;
        out.surrogate[b] = d.surrogate;
        out.ratio_excess[b] = d.ratio_excess;
    }
    return out;
}

}  // namespace bounds
TRM_NAMESPACE_END
