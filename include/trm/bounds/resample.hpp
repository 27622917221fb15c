// SPDX-License-Identifier: Apache-2.0
#pragma once

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
    std::vector<double> second_moment{}, worst_case{}, observed{}, improvement{}, surrogate{}, ratio_excess{};
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

/// Second-moment bound of every replicate, a block of positions at a time so that the block stays in cache.
template <class Evidence = evidence>
void resample_second_moment(const std::type_identity_t<Evidence>& e, reward_range r, const bootstrap_options& o,
                            std::span<double> out) {
    constexpr std::size_t block = 64;
    std::size_t positions = 0;
    for (const group_sums& g : e.groups) positions = (std::max)(positions, g.at.size());
    const bool with_tv = e.has_exact_tv();
    std::vector<std::uint32_t> counts(e.groups.size());
    position_sums sums[block];
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t first = 0; first < positions; first += block) {
        for (std::size_t b = 0; b < out.size(); ++b) {
            detail::draw(counts, o.seed, b);
            std::fill(sums, sums + block, position_sums{});
            double sequences = 0.0;
            for (std::size_t g = 0; g < counts.size(); ++g) {
                if (counts[g] == 0) continue;
                const double times = counts[g];
                const group_sums& from = e.groups[g];
                sequences += times * from.sequences;
                const std::size_t last = (std::min)(from.at.size(), first + block);
                for (std::size_t t = first; t < last; ++t) sums[t - first].add(from.at[t], times);
            }
            out[b] += bounds::second_moment(sums, sequences, with_tv, r);
        }
    }
}

}  // namespace detail

/// Replicates of everything at once. Cost: resamples x groups x positions; memory: resamples doubles a statistic.
/// Fewer than two groups, or no resamples, gives empty vectors: there is nothing to resample.
template <class Evidence = evidence>
[[nodiscard]] replicates resample(const std::type_identity_t<Evidence>& e, reward_range r, const bootstrap_options& o) {
    replicates out;
    if (e.groups.size() < 2 || o.resamples < 1) return out;
    const auto n = static_cast<std::size_t>(o.resamples);
    for (auto* v :
         {&out.second_moment, &out.worst_case, &out.observed, &out.improvement, &out.surrogate, &out.ratio_excess}) {
        v->resize(n);
    }
    detail::resample_second_moment(e, r, o, out.second_moment);

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
        out.observed[b] = d.observed;
        out.improvement[b] = d.improvement;
        out.surrogate[b] = d.surrogate;
        out.ratio_excess[b] = d.ratio_excess;
    }
    return out;
}

}  // namespace bounds
TRM_NAMESPACE_END
