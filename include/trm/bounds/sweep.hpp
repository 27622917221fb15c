// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/certificate.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// \file
/// What a sequence mask removes, and what it buys: the trade behind choosing a threshold.
///
/// With M the mask, L_M = E[M (R-b) sum_t (rho_t - 1)] the surrogate that is left and S as in `direct_estimate`,
///   J(pi) - J(mu) - L_M = E[M (R-b) S] + E[(1-M)(R-b)(prod rho - 1)].
/// The first term is the error of what is kept, at most (max R - min R)/2 E[M |S|]; the second is what the mask gives
/// up. A smaller threshold shrinks the first and grows the second.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// The statistic of a sequence that a mask compares with its threshold; kept when it is at most the threshold.
/// KL is exact where given and k3 elsewhere; `geometric` is |mean log-ratio|, the geometric mean ratio's distance from 1.
enum class mask_statistic : std::uint8_t { max_kl, mean_kl, max_k2, max_tv, mean_k3, geometric };

[[nodiscard]] inline double statistic_of(const sequence_record& r, mask_statistic m) noexcept {
    switch (m) {
        case mask_statistic::max_kl:
            return r.max_kl;
        case mask_statistic::mean_kl:
            return r.mean_kl();
        case mask_statistic::max_k2:
            return r.max_k2;
        case mask_statistic::max_tv:
            return r.max_tv;
        case mask_statistic::mean_k3:
            return r.tokens > 0 ? (std::max)(r.first_order - r.log_ratio, 0.0) / static_cast<double>(r.tokens) : 0.0;
        case mask_statistic::geometric:
            return r.tokens > 0 ? std::fabs(r.log_ratio) / static_cast<double>(r.tokens) : 0.0;
    }
    return r.max_kl;
}

/// One threshold. Means are over all sequences, rejected or not, as the loss divides.
struct sweep_row {
    double threshold = 0.0;
    double kept_sequences = 0.0;  ///< fraction, by weight
    double kept_tokens = 0.0;  ///< fraction of sampled tokens, by weight
    estimate kept_error{};  ///< (max R - min R)/2 E[M |S|]: worst case over rewards on what is kept
    estimate removed{};  ///< E[(1-M)(R-b) sum_t (rho_t - 1)]: surrogate mass given up; 0 without rewards
    estimate masked_error{};  ///< J(pi) - J(mu) - L_M for the rewards that came; 0 without rewards
    double kept_ess = 0.0;  ///< effective sample size of prod rho among the kept, as a fraction of them
    std::optional<double> premise{};  ///< the Unified bound at horizon T, were every context within the threshold
};

struct sweep_options {
    reward_range reward{};
    std::optional<double> baseline{};  ///< b; default mid-range. The surrogate mass depends on it, the error does not
    bootstrap_options bootstrap{};
    std::int64_t horizon = 0;  ///< for `premise`; 0: the longest seen
    constants form = constants::centred;
};

namespace detail {

struct sweep_sums {
    double sequences = 0.0, kept_absolute = 0.0, removed = 0.0, removed_improvement = 0.0, kept_observed = 0.0;

    void add(const sweep_sums& o, double times) noexcept {
        sequences += times * o.sequences;
        kept_absolute += times * o.kept_absolute;
        removed += times * o.removed;
        removed_improvement += times * o.removed_improvement;
        kept_observed += times * o.kept_observed;
    }
    [[nodiscard]] double error(reward_range r) const noexcept {
        return scaled({r, constants::centred}, 0.5 * kept_absolute / sequences);
    }
    [[nodiscard]] double given_up() const noexcept { return removed / sequences; }
    [[nodiscard]] double masked() const noexcept { return (kept_observed + removed_improvement) / sequences; }
};

}  // namespace detail

/// The row of any mask over e.sequences, one byte each, non-zero kept. `threshold` is only copied.
template <class Evidence = evidence>
[[nodiscard]] sweep_row mask_row(const std::type_identity_t<Evidence>& e, std::span<const std::uint8_t> kept,
                                 double threshold, const sweep_options& o = {}) {
    sweep_row row;
    row.threshold = threshold;
    if (kept.size() != e.sequences.size() || kept.empty()) return row;
    const double baseline = o.baseline.value_or(mid_range(o.reward));
    const std::vector<std::size_t> rows = detail::rows_of(e);
    std::vector<detail::sweep_sums> by_group(e.groups.size());
    detail::sweep_sums all;
    direct_sums left;
    double tokens = 0.0;
    double kept_tokens = 0.0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        const sequence_record& r = e.sequences[i];
        const double gain = e.has_rewards() ? r.reward - baseline : 0.0;
        detail::sweep_sums one;
        one.sequences = 1.0;
        if (kept[i] != 0) {
            one.kept_absolute = std::fabs(r.excess);
            one.kept_observed = gain * r.excess;
            left.add(r, baseline);
            kept_tokens += r.weight * static_cast<double>(r.tokens);
        } else {
            one.removed = gain * r.first_order;
            one.removed_improvement = gain * (r.first_order + r.excess);
        }
        tokens += r.weight * static_cast<double>(r.tokens);
        by_group[rows[i]].add(one, r.weight);
        all.add(one, r.weight);
    }
    row.kept_sequences = left.sequences / all.sequences;
    row.kept_tokens = tokens > 0.0 ? kept_tokens / tokens : 0.0;
    row.kept_ess = direct_of(left, o.reward).ess;
    row.kept_error.value = all.error(o.reward);
    row.removed.value = all.given_up();
    row.masked_error.value = all.masked();
    if (e.groups.size() < 2 || o.bootstrap.resamples < 1) return row;

    const auto n = static_cast<std::size_t>(o.bootstrap.resamples);
    std::vector<double> error(n), removed(n), masked(n);
    std::vector<std::uint32_t> counts(e.groups.size());
    for (std::size_t b = 0; b < n; ++b) {
        detail::draw(counts, o.bootstrap.seed, b);
        detail::sweep_sums sum;
        for (std::size_t g = 0; g < counts.size(); ++g) sum.add(by_group[g], counts[g]);
        error[b] = sum.error(o.reward);
        removed[b] = sum.given_up();
        masked[b] = sum.masked();
    }
    const auto range = [&](std::vector<double>& v, double value) {
        return bounds::interval_of(v, value, o.bootstrap.level, interval_method::percentile);
    };
    row.kept_error.range = range(error, row.kept_error.value);
    row.removed.range = range(removed, row.removed.value);
    row.masked_error.range = range(masked, row.masked_error.value);
    return row;
}

/// A row for each threshold on `m`; NaN thresholds keep nothing.
template <class Evidence = evidence>
[[nodiscard]] std::vector<sweep_row> sweep(const std::type_identity_t<Evidence>& e, mask_statistic m,
                                           std::span<const double> thresholds, const sweep_options& o = {}) {
    std::vector<sweep_row> rows;
    std::vector<std::uint8_t> kept(e.sequences.size());
    std::int64_t longest = 0;
    for (const sequence_record& r : e.sequences) longest = (std::max)({longest, r.length, r.horizon});
    for (const double threshold : thresholds) {
        for (std::size_t i = 0; i < kept.size(); ++i) {
            kept[i] = detail::finite(threshold) && statistic_of(e.sequences[i], m) <= threshold ? 1 : 0;
        }
        rows.push_back(mask_row(e, kept, threshold, o));
        divergences d{};
        d.horizon = (std::max)(o.horizon, longest);
        if (m == mask_statistic::max_kl) d.delta = threshold;
        if (m == mask_statistic::max_tv) d.eps = threshold;
        if (const bound_table t = all_bounds(d, {o.reward, o.form}); t.binding) rows.back().premise = t.unified();
    }
    return rows;
}

/// Thresholds that keep the fractions asked for: order statistics of the statistic over e.sequences, ascending.
template <class Evidence = evidence>
[[nodiscard]] std::vector<double> thresholds_for(const std::type_identity_t<Evidence>& e, mask_statistic m,
                                                 std::span<const double> fractions) {
    std::vector<double> values;
    std::vector<double> out;
    for (const sequence_record& r : e.sequences) values.push_back(statistic_of(r, m));
    std::sort(values.begin(), values.end());
    for (const double f : fractions) {
        if (values.empty() || !detail::known(f)) continue;
        const double rank = std::ceil((std::min)(f, 1.0) * static_cast<double>(values.size()));
        out.push_back(values[static_cast<std::size_t>((std::max)(rank, 1.0)) - 1]);
    }
    return out;
}

}  // namespace bounds
TRM_NAMESPACE_END
