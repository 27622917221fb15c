// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/sweep.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

/// \file
/// Thresholds from a target: the largest threshold of a sequence mask that keeps the error on what is kept below a target,
/// and what it costs. Chosen on one half of the prompt groups and checked on the other, because the limit of a threshold
/// that was picked for its limit is too low. With 16 groups in a half, 4 to 16
/// sequences each, the true error is above the other half's 95% limit in 8 to 22% of runs where `least_kept` holds, and in up to
/// half of them where it does not (tests/bounds_threshold_test.cpp): few groups make rough limits.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// The two halves of the groups of `e`, by a shuffle that `seed` fixes; sequences go where their group goes. With an odd
/// number of groups the second has one more.
template <class Evidence = evidence>
[[nodiscard]] std::pair<Evidence, Evidence> split_groups(const std::type_identity_t<Evidence>& e, std::uint64_t seed) {
    std::vector<std::size_t> order(e.groups.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    detail::splitmix rng{seed};
    for (std::size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[rng.below(static_cast<std::uint32_t>(i))]);
    std::vector<char> first(e.groups.size(), 0);
    for (std::size_t i = 0; i < order.size() / 2; ++i) first[order[i]] = 1;

    std::pair<Evidence, Evidence> out;
    const auto half = [&](std::size_t row) -> Evidence& { return first[row] != 0 ? out.first : out.second; };
    for (Evidence* part : {&out.first, &out.second}) {
        part->truncate = e.truncate;
        part->grid = e.grid;
        part->grids_differ = e.grids_differ;
    }
    const std::vector<std::size_t> rows = detail::rows_of(e);
    const bool rewarded = e.has_rewards();
    for (std::size_t i = 0; i < rows.size(); ++i) {
        Evidence& part = half(rows[i]);
        const sequence_record& r = e.sequences[i];
        part.sequences.push_back(r);
        part.tokens += r.tokens;
        if (rewarded) ++part.rewarded;
    }
    for (std::size_t g = 0; g < e.groups.size(); ++g) half(g).groups.push_back(e.groups[g]);
    for (Evidence* part : {&out.first, &out.second}) {  // all tokens of a batch have exact divergences, or none has
        part->exact_kl_tokens = e.has_exact_kl() ? part->tokens : 0;
        part->exact_tv_tokens = e.has_exact_tv() ? part->tokens : 0;
    }
    return out;
}

struct threshold_options {
    sweep_options sweep{};
    double least_ess = 0.3;  ///< of prod rho among the kept: below it an error is not believed, however small
    /// Effective sample size of prod rho among the kept, as a number: with fewer the interval of a mean says little.
    double least_kept = 16.0;
    std::uint64_t seed = 20251223;  ///< of the split
};

/// A threshold for one statistic. `chosen` is its row on the half it was chosen on, `checked` on the other half: only the
/// latter's limit is worth its level.
struct threshold_choice {
    mask_statistic statistic = mask_statistic::max_kl;
    sweep_row chosen{}, checked{};
    bool found = false;  ///< some threshold met the target on the first half
    bool holds = false;  ///< the upper limit of the error on the second half meets it too, and is in good order
};

namespace detail {

[[nodiscard]] inline bool meets(const sweep_row& row, std::size_t sequences, double target,
                                const threshold_options& o) noexcept {
    const double kept = row.kept_ess * row.kept_sequences * static_cast<double>(sequences);
    return row.kept_sequences > 0.0 && row.kept_ess >= o.least_ess && kept >= o.least_kept && row.kept_error.range &&
           row.kept_error.range->high <= target;
}

template <class Evidence>
[[nodiscard]] sweep_row row_at(const Evidence& e, mask_statistic m, double threshold, const sweep_options& o) {
    return sweep<Evidence>(e, m, std::span(&threshold, 1), o).front();
}

}  // namespace detail

/// The largest threshold on `m` whose error on what is kept, (max R - min R)/2 E[M |S|], has an upper limit of at most
/// `target` on `choose`, among (up to 64, evenly spaced in rank) values that occur there; then the same threshold on
/// `check`. Costs at most 65 times a `mask_row`.
template <class Evidence = evidence>
[[nodiscard]] threshold_choice choose_threshold(const std::type_identity_t<Evidence>& choose,
                                                const std::type_identity_t<Evidence>& check, mask_statistic m,
                                                double target, const threshold_options& o = {}) {
    constexpr std::size_t most = 64;
    threshold_choice out;
    out.statistic = m;
    std::vector<double> values;
    for (const sequence_record& r : choose.sequences) values.push_back(statistic_of(r, m));
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    const std::size_t candidates = detail::known(target) ? (std::min)(values.size(), most) : 0;
    for (std::size_t i = candidates; i > 0 && !out.found; --i) {
        out.chosen = detail::row_at<Evidence>(choose, m, values[values.size() * i / candidates - 1], o.sweep);
        out.found = detail::meets(out.chosen, choose.sequences.size(), target, o);
    }
    if (!out.found) return out;
    out.checked = detail::row_at<Evidence>(check, m, out.chosen.threshold, o.sweep);
    out.holds = detail::meets(out.checked, check.sequences.size(), target, o);
    return out;
}

}  // namespace bounds
TRM_NAMESPACE_END
