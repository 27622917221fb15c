// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/policy/mask.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

/// \file
/// Criteria that compare tokens, or sequences, with each other. They are worked out before the kernel runs: every token gets
/// its scores, `select` then writes rejection bits. They see what one process has of the batch; ranks that share a prompt
/// group or a budget call `select` on gathered scores instead. Selections allocate; nothing else does.

TRM_NAMESPACE_BEGIN

/// The batch as a selection sees it. Tokens are addressed by their place in the batch's streams.
struct selection_input {
    layout_view layout;
    std::span<std::int32_t const> group_of;
    std::span<double const> scores;  ///< channel-major: channel c of token t is scores[c * extent + t]
    std::span<std::uint8_t const> active;  ///< 1 where loss_mask selects a finite token
    std::span<double const> advantages;  ///< per token
    std::size_t extent = 0;
    std::span<std::uint8_t const> loss_mask{};

    [[nodiscard]] bool is_active(std::size_t token) const noexcept { return active[token] != 0; }
    /// Selected by loss_mask, but not finite: no statistic of its sequence is in any band.
    [[nodiscard]] bool is_nonfinite(std::size_t token) const noexcept {
        return active[token] == 0 && (loss_mask.empty() || loss_mask[token] != 0);
    }
    /// f(token) for every slot of run i, in order.
    template <class F>
    void for_each_slot(std::int64_t run, F&& f) const {
        token_run const r = layout.run(run);
        for (std::int64_t t = r.begin; t < r.begin + r.size; ++t) f(static_cast<std::size_t>(t));
    }
    /// f(token) for every active token of run i, in order.
    template <class F>
    void for_each(std::int64_t run, F&& f) const {
        for_each_slot(run, [&](std::size_t t) {
            if (is_active(t)) f(t);
        });
    }
    template <class F>
    void for_each(F&& f) const {
        for (std::int64_t i = 0; i < layout.runs(); ++i) for_each(i, f);
    }
};

/// Where a selection writes: or `bit` into the reasons of what it rejects.
struct selection_output {
    std::span<std::uint16_t> reasons;
    std::uint16_t bit = 0;
    void reject(std::size_t token) const noexcept { reasons[token] = static_cast<std::uint16_t>(reasons[token] | bit); }
};

namespace detail {

/// Value of the statistic over the tokens of each sequence, runs merged in order; n = finite tokens.
template <class Stat>
struct statistic_of_sequence {
    double sum = 0, extreme = std::is_same_v<Stat, stat::min_t> ? INFINITY : -INFINITY;
    std::int64_t n = 0;
    bool finite = true;
    void add(double d) noexcept {
        sum += d;
        if constexpr (std::is_same_v<Stat, stat::min_t>) extreme = d < extreme ? d : extreme;
        if constexpr (std::is_same_v<Stat, stat::max_t>) extreme = d > extreme ? d : extreme;
        ++n;
    }
    [[nodiscard]] double value() const noexcept {
        if constexpr (std::is_same_v<Stat, stat::sum_t>) return sum;
        if constexpr (std::is_same_v<Stat, stat::mean_t>) return n > 0 ? sum / static_cast<double>(n) : 0.0;
        return extreme;
    }
    [[nodiscard]] bool violates(band keep) const noexcept { return n > 0 && !(finite && keep.contains(value())); }
};
template <class Stat>
[[nodiscard]] std::vector<statistic_of_sequence<Stat>> statistics_of(selection_input const& in) {
    std::vector<statistic_of_sequence<Stat>> all(static_cast<std::size_t>(in.layout.sequences()));
    for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
        auto& s = all[static_cast<std::size_t>(in.layout.run(i).sequence)];
        in.for_each_slot(i, [&](std::size_t t) {
            if (in.is_active(t)) s.add(in.scores[t]);
            if (in.is_nonfinite(t)) s.finite = false;
        });
    }
    return all;
}
[[nodiscard]] constexpr status bad(char const* what) noexcept { return {errc::bad_threshold, -1, -1, what}; }

}  // namespace detail

/// Keep each sequence up to its first violation: tokens before the first t with D_t outside the band or not finite. What
/// follows a rejected token was sampled from a context that the current policy may never reach. In none of the ten
/// trainers.
template <divergence_policy D>
struct prefix_mask : detail::scored_by<D> {
    band keep;
    constexpr prefix_mask(D d = {}, band b = {}) noexcept : detail::scored_by<D>{d}, keep(b) {}
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("prefix_mask");
    }
    void select(selection_input const& in, selection_output out) const {
        std::vector<bool> violated(static_cast<std::size_t>(in.layout.sequences()));
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const s = static_cast<std::size_t>(in.layout.run(i).sequence);
            in.for_each_slot(i, [&](std::size_t t) {
                bool const active = in.is_active(t);
                if (in.is_nonfinite(t) || (active && !keep.contains(in.scores[t]))) violated[s] = true;
                if (active && violated[s]) out.reject(t);
            });
        }
    }
};

/// Drop a whole prompt group if any of its sequences violates `lower <= statistic(D) <= upper`: group baselines then never mix
/// kept and rejected siblings. Needs group_of. In none of the ten trainers.
template <divergence_policy D, class Stat>
struct group_mask : detail::scored_by<D> {
    Stat statistic;
    band keep;
    constexpr group_mask(D d = {}, Stat s = {}, band b = {}) noexcept
        : detail::scored_by<D>{d}, statistic(s), keep(b) {}
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::group; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("group_mask");
    }
    void select(selection_input const& in, selection_output out) const {
        auto const all = detail::statistics_of<Stat>(in);
        std::int32_t groups = 0;
        for (std::int32_t g : in.group_of) groups = std::max(groups, g + 1);
        std::vector<bool> dropped(static_cast<std::size_t>(groups));
        for (std::size_t i = 0; i < all.size(); ++i)
            if (all[i].violates(keep)) dropped[static_cast<std::size_t>(in.group_of[i])] = true;
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const s = static_cast<std::size_t>(in.layout.run(i).sequence);
            if (dropped[static_cast<std::size_t>(in.group_of[s])])
                in.for_each(i, [&](std::size_t t) { out.reject(t); });
        }
    }
};

/// Drop the tokens of one advantage sign in sequences that violate the band. OPSM (DeepSeek-V3.2, arXiv 2512.02556; slime,
/// delta 1e-4; TRL, no default): A < 0 and mean k1 > delta.
enum class advantage_sign : std::uint8_t { negative, positive };
template <divergence_policy D, class Stat>
struct signed_sequence_mask : detail::scored_by<D> {
    Stat statistic;
    band keep;
    advantage_sign sign;
    constexpr signed_sequence_mask(D d = {}, Stat s = {}, band b = {},
                                   advantage_sign a = advantage_sign::negative) noexcept
        : detail::scored_by<D>{d}, statistic(s), keep(b), sign(a) {}
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("signed_sequence_mask");
    }
    void select(selection_input const& in, selection_output out) const {
        auto const all = detail::statistics_of<Stat>(in);
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const& s = all[static_cast<std::size_t>(in.layout.run(i).sequence)];
            if (!s.violates(keep)) continue;
            in.for_each(i, [&](std::size_t t) {
                double const a = in.advantages[t];
                if (sign == advantage_sign::negative ? a < 0 : a > 0) out.reject(t);
            });
        }
    }
};

/// Keep a sequence iff its q-quantile of D is in the band. The quantile is the value of rank ceil(q n), at least 1: q = 1 is
/// the maximum, and no interpolation invents values. In none of the ten trainers.
template <divergence_policy D>
struct quantile_mask : detail::scored_by<D> {
    double q;
    band keep;
    constexpr quantile_mask(D d = {}, double quantile = 1, band b = {}) noexcept
        : detail::scored_by<D>{d}, q(quantile), keep(b) {}
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() && q >= 0 && q <= 1 ? status{} : detail::bad("quantile_mask");
    }
    void select(selection_input const& in, selection_output out) const {
        by_sequence(in, out, keep, [&](std::vector<double>& d) {
            auto const rank = static_cast<std::size_t>(std::max(1.0, std::ceil(q * static_cast<double>(d.size()))));
            std::nth_element(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(rank - 1), d.end());
            return d[rank - 1];
        });
    }
    /// Rejects the sequences whose f(divergences) is outside the band.
    template <class F>
    static void by_sequence(selection_input const& in, selection_output out, band keep, F&& f) {
        std::vector<std::vector<double>> all(static_cast<std::size_t>(in.layout.sequences()));
        std::vector<bool> rejected(all.size());
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const s = static_cast<std::size_t>(in.layout.run(i).sequence);
            in.for_each_slot(i, [&](std::size_t t) {
                if (in.is_active(t)) all[s].push_back(in.scores[t]);
                if (in.is_nonfinite(t)) rejected[s] = true;
            });
        }
        for (std::size_t s = 0; s < all.size(); ++s)
            rejected[s] = rejected[s] || (!all[s].empty() && !keep.contains(f(all[s])));
        for (std::int64_t i = 0; i < in.layout.runs(); ++i)
            if (rejected[static_cast<std::size_t>(in.layout.run(i).sequence)])
                in.for_each(i, [&](std::size_t t) { out.reject(t); });
    }
};

/// Keep a sequence iff the mean of its m largest D (all, if it has fewer) is in the band: between mean and maximum. In none of
/// the ten trainers.
template <divergence_policy D>
struct top_mean_mask : detail::scored_by<D> {
    std::int64_t m;
    band keep;
    constexpr top_mean_mask(D d = {}, std::int64_t count = 1, band b = {}) noexcept
        : detail::scored_by<D>{d}, m(count), keep(b) {}
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() && m >= 1 ? status{} : detail::bad("top_mean_mask");
    }
    void select(selection_input const& in, selection_output out) const {
        quantile_mask<D>::by_sequence(in, out, keep, [&](std::vector<double>& d) {
            auto const k = std::min(static_cast<std::size_t>(m), d.size());
            std::partial_sort(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(k), d.end(), std::greater<>{});
            double sum = 0;
            for (std::size_t i = 0; i < k; ++i) sum += d[i];
            return sum / static_cast<double>(k);
        });
    }
};

/// Guard against any single token, on either side: keep a sequence iff lower <= r_t <= upper for all t. slime (mis.yaml),
/// and verl and prime-rl until they removed it: veto(1e-4, infinity); SkyRL's outliers: 1e-4 and 100 in its documentation,
/// off by default; AReaL's agg = max: veto(0, 5).
[[nodiscard]] inline auto veto(double lower, double upper) noexcept {
    return sequence_mask{k1{}, stat::max, at_most(-std::log(lower))} &&
           sequence_mask{k1{}, stat::min, at_least(-std::log(upper))};
}

TRM_NAMESPACE_END
