// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>
#include <trm/policy/selection_input.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

/// \file
/// Criteria that compare tokens, or sequences, with each other. They are worked out before the kernel runs: every token gets
/// its scores, `select` then writes rejection bits. They see what one process has of the batch; ranks that share a prompt
/// group or a budget call `select` on gathered scores instead.

TRM_NAMESPACE_BEGIN

namespace detail {

/// Value of the statistic over the tokens of each sequence, runs merged in order; n = finite tokens.
template <class Stat>
struct statistic_of_sequence {
    static constexpr double infinity = std::numeric_limits<double>::infinity();
    double sum = 0, extreme = std::is_same_v<Stat, stat::min_t> ? infinity : -infinity;
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
[[nodiscard]] auto statistics_of(selection_input const& in, selection_memory& memory) noexcept {
    auto const all = memory.take<statistic_of_sequence<Stat>>(in.sequences());
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
    static constexpr char const* name = "prefix";
    static constexpr auto form = criterion_form::around;
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("prefix_mask");
    }
    static constexpr selection_bytes scratch{0, sizeof(bool), 0};
    void select(selection_input const& in, selection_output out) const noexcept {
        auto memory = in.memory;
        auto const violated = memory.take<bool>(in.sequences());
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
    static constexpr char const* name = "group";
    static constexpr auto form = criterion_form::around;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::group; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("group_mask");
    }
    static constexpr selection_bytes scratch{0, sizeof(detail::statistic_of_sequence<Stat>), sizeof(bool)};
    void select(selection_input const& in, selection_output out) const noexcept {
        auto memory = in.memory;
        auto const all = detail::statistics_of<Stat>(in, memory);
        auto const dropped = memory.take<bool>(in.groups());
        for (std::size_t i = 0; i < all.size(); ++i)
            if (all[i].violates(keep)) dropped[static_cast<std::size_t>(in.group_of[i])] = true;
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const s = static_cast<std::size_t>(in.layout.run(i).sequence);
            if (dropped[static_cast<std::size_t>(in.group_of[s])])
                in.for_each(i, [&](std::size_t t) { out.reject(t); });
        }
    }
};

enum class advantage_sign : std::uint8_t { negative, positive };
template <>
inline constexpr enum_word<advantage_sign> enum_words<advantage_sign>[] = {{"negative", advantage_sign::negative},
                                                                           {"positive", advantage_sign::positive}};
/// Drop the tokens of one advantage sign in sequences that violate the band. OPSM (DeepSeek-V3.2, arXiv 2512.02556; slime,
/// delta 1e-4; TRL, no default): A < 0 and mean k1 > delta.
template <divergence_policy D, class Stat>
struct signed_sequence_mask : detail::scored_by<D> {
    Stat statistic;
    band keep;
    advantage_sign sign;
    constexpr signed_sequence_mask(D d = {}, Stat s = {}, band b = {},
                                   advantage_sign a = advantage_sign::negative) noexcept
        : detail::scored_by<D>{d}, statistic(s), keep(b), sign(a) {}
    static constexpr char const* name = "signed";
    static constexpr auto form = criterion_form::around;
    static void fields(auto f) { f("sign", &signed_sequence_mask::sign); }
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("signed_sequence_mask");
    }
    static constexpr selection_bytes scratch{0, sizeof(detail::statistic_of_sequence<Stat>), 0};
    void select(selection_input const& in, selection_output out) const noexcept {
        auto memory = in.memory;
        auto const all = detail::statistics_of<Stat>(in, memory);
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
    static constexpr char const* name = "quantile";
    static constexpr auto form = criterion_form::banded;
    static void fields(auto f) {
        f("divergence", &quantile_mask::divergence, true);
        f("q", &quantile_mask::q, true);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() && q >= 0 && q <= 1 ? status{} : detail::bad("quantile_mask");
    }
    static constexpr selection_bytes scratch{sizeof(double), 2 * sizeof(std::size_t), 0};
    void select(selection_input const& in, selection_output out) const noexcept {
        by_sequence(in, out, keep, [&](std::span<double> d) {
            auto const rank = static_cast<std::size_t>((std::max)(1.0, std::ceil(q * static_cast<double>(d.size()))));
            std::nth_element(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(rank - 1), d.end());
            return d[rank - 1];
        });
    }
    /// Rejects the sequences whose f(divergences) is outside the band.
    template <class F>
    static void by_sequence(selection_input const& in, selection_output out, band keep, F&& f) noexcept {
        auto memory = in.memory;
        auto const end = memory.take<std::size_t>(in.sequences());  // of the sequence's tokens in `values`
        auto const rejected = memory.take<bool>(in.sequences());
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const s = static_cast<std::size_t>(in.layout.run(i).sequence);
            in.for_each_slot(i, [&](std::size_t t) {
                end[s] += in.is_active(t);
                if (in.is_nonfinite(t)) rejected[s] = true;
            });
        }
        std::size_t count = 0;
        for (std::size_t& e : end) count = std::exchange(e, count) + count;
        auto const values = memory.take<double>(count);
        for (std::int64_t i = 0; i < in.layout.runs(); ++i) {
            auto const s = static_cast<std::size_t>(in.layout.run(i).sequence);
            in.for_each(i, [&](std::size_t t) { values[end[s]++] = in.scores[t]; });
        }
        for (std::size_t s = 0, begin = 0; s < end.size(); begin = end[s++])
            if (end[s] > begin && !rejected[s]) rejected[s] = !keep.contains(f(values.subspan(begin, end[s] - begin)));
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
    static constexpr char const* name = "top_mean";
    static constexpr auto form = criterion_form::banded;
    static void fields(auto f) {
        f("divergence", &top_mean_mask::divergence, true);
        f("m", &top_mean_mask::m, true);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() && m >= 1 ? status{} : detail::bad("top_mean_mask");
    }
    static constexpr selection_bytes scratch = quantile_mask<D>::scratch;
    void select(selection_input const& in, selection_output out) const noexcept {
        quantile_mask<D>::by_sequence(in, out, keep, [&](std::span<double> d) {
            auto const k = (std::min)(static_cast<std::size_t>(m), d.size());
            std::partial_sort(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(k), d.end(),
                              [](double a, double b) { return a > b; });
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
