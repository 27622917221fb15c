// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>
#include <trm/policy/selection_sequence.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

/// \file
/// Criteria that compare the tokens of a sequence, or the sequences of a prompt, with each other. They are worked out before
/// the other phases: the tokens of a sequence get their scores, `select` or `violates` then says which are rejected. They see
/// what one process has of the batch; ranks that share a sequence or a prompt group call the loss's `select` on what they
/// gathered.

TRM_NAMESPACE_BEGIN

namespace detail {

/// Value of the statistic over the active tokens of a sequence, and how many they are. Slots i, i + 8, ... are summed apart,
/// which the compiler can do in registers.
template <class Stat>
[[nodiscard]] double statistic_of_sequence(selection_sequence const& s, std::int64_t& n) noexcept {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    constexpr bool least = std::is_same_v<Stat, stat::min_t>, largest = std::is_same_v<Stat, stat::max_t>;
    constexpr std::size_t lanes = 8;
    double lane[lanes];
    for (double& l : lane) l = least ? infinity : largest ? -infinity : 0;
    double const* const scores = s.scores.data();
    std::uint8_t const* const active = s.active.data();
    auto const join = [](double a, double d) {
        if constexpr (least) return d < a ? d : a;
        else if constexpr (largest) return d > a ? d : a;
        else return a + d;
    };
    auto const add = [&](std::size_t i, std::size_t k) {
        constexpr double nothing = least ? infinity : largest ? -infinity : 0;
        auto const bits_of = [](double d) { return std::bit_cast<std::uint64_t>(d); };
        // g++ 12 would make a branch of ?:
        std::uint64_t const chosen = std::uint64_t{0} - (active[i + k] != 0);
        lane[k] =
            join(lane[k], std::bit_cast<double>((bits_of(scores[i + k]) & chosen) | (bits_of(nothing) & ~chosen)));
    };
    std::size_t i = 0;
    for (; i + lanes <= s.size(); i += lanes)
        for (std::size_t k = 0; k < lanes; ++k) add(i, k);
    for (std::size_t k = 0; i + k < s.size(); ++k) add(i, k);
    n = 0;
    for (std::size_t k = 0; k < s.size(); ++k) n += active[k];
    double value = lane[0];
    for (std::size_t k = 1; k < lanes; ++k) value = join(value, lane[k]);
    if constexpr (std::is_same_v<Stat, stat::mean_t>) return n > 0 ? value / static_cast<double>(n) : 0.0;
    return value;
}
/// Has the sequence tokens, and a statistic outside the band?
template <class Stat>
[[nodiscard]] bool violates_band(selection_sequence const& s, band keep) noexcept {
    std::int64_t n = 0;
    double const value = statistic_of_sequence<Stat>(s, n);
    return n > 0 && !(keep.contains(value) && !s.has_nonfinite());
}
/// First slot before `end` that is active and outside the band, or `end`.
[[nodiscard]] inline std::size_t first_outside(selection_sequence const& s, band keep, std::size_t end) noexcept {
    auto const is_outside = [&](std::size_t i) {
        auto const inside = unsigned{keep.lower <= s.scores[i]} & unsigned{s.scores[i] <= keep.upper};
        return s.active[i] & (inside ^ 1u);
    };
    constexpr std::size_t step = 64;  // without a branch
    std::size_t at = 0;
    for (; at + step <= end; at += step) {
        unsigned outside = 0;
        for (std::size_t i = at; i < at + step; ++i) outside |= is_outside(i);
        if (outside != 0) break;
    }
    while (at < end && is_outside(at) == 0) ++at;
    return at;
}
/// The scores of the active slots, in order.
[[nodiscard]] inline std::span<double> active_scores(selection_sequence const& s) noexcept {
    auto memory = s.memory;
    auto const values = memory.take<double>(s.size());
    std::size_t n = 0;
    s.for_each_active([&](std::size_t i) { values[n++] = s.scores[i]; });
    return values.first(n);
}
[[nodiscard]] constexpr status bad(char const* what) noexcept { return {errc::bad_threshold, -1, -1, what}; }

}  // namespace detail

/// Keep each sequence up to its first violation: tokens before the first t with D_t outside the band or not finite. What
/// follows a rejected token was sampled from a context that the current policy may never reach. In none of the ten
/// trainers.
template <class D>
struct prefix_mask : detail::scored_by<D> {
    band keep;
    constexpr prefix_mask(D d = {}, band b = {}) noexcept : detail::scored_by<D>{d}, keep(b) {}
    static constexpr char const* name = "prefix";
    static constexpr auto form = criterion_form::around;
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("prefix_mask");
    }
    void select(selection_sequence const& s, sequence_output out) const noexcept {
        out.reject_from(detail::first_outside(s, keep, s.first_nonfinite));
    }
};

/// Drop a whole prompt group if any of its sequences violates `lower <= statistic(D) <= upper`: group baselines then never mix
/// kept and rejected siblings. Needs group_of. In none of the ten trainers.
template <class D, class Stat>
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
    static constexpr bool drops_group = true;
    [[nodiscard]] bool violates(selection_sequence const& s) const noexcept {
        return detail::violates_band<Stat>(s, keep);
    }
};

enum class advantage_sign : std::uint8_t { negative, positive };
template <>
inline constexpr enum_word<advantage_sign> enum_words<advantage_sign>[] = {{"negative", advantage_sign::negative},
                                                                           {"positive", advantage_sign::positive}};
/// Drop the tokens of one advantage sign in sequences that violate the band. OPSM (DeepSeek-V3.2, arXiv 2512.02556; slime,
/// delta 1e-4; TRL, no default): A < 0 and mean k1 > delta.
template <class D, class Stat>
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
    static constexpr bool reads_advantages = true;
    void select(selection_sequence const& s, sequence_output out) const noexcept {
        if (!detail::violates_band<Stat>(s, keep)) return;
        out.reject_if([&](std::size_t i) {
            double const a = s.advantages[i];
            return sign == advantage_sign::negative ? a < 0 : a > 0;
        });
    }
};

/// Keep a sequence iff its q-quantile of D is in the band. The quantile is the value of rank ceil(q n), at least 1: q = 1 is
/// the maximum, and no interpolation invents values. In none of the ten trainers.
template <class D>
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
    [[nodiscard]] bool violates(selection_sequence const& s) const noexcept {
        std::size_t n = 0, below = 0, not_above = 0;  // the value of rank k is in the band iff below < k <= not_above
        for (std::size_t i = 0; i < s.size(); ++i) {
            double const d = s.scores[i];
            n += s.active[i];
            below += s.active[i] & static_cast<unsigned>(d < keep.lower);
            not_above += s.active[i] & static_cast<unsigned>(d <= keep.upper);
        }
        if (s.has_nonfinite() || n == 0) return s.has_nonfinite();
        auto const rank = static_cast<std::size_t>((std::max)(1.0, std::ceil(q * static_cast<double>(n))));
        return !(below < rank && rank <= not_above);
    }
};

/// Keep a sequence iff the mean of its m largest D (all, if it has fewer) is in the band: between mean and maximum. In none of
/// the ten trainers.
template <class D>
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
    static constexpr selection_bytes scratch{sizeof(double), 0, 0};
    [[nodiscard]] bool violates(selection_sequence const& s) const noexcept {
        auto const d = detail::active_scores(s);
        if (s.has_nonfinite() || d.empty()) return s.has_nonfinite();
        auto const k = (std::min)(static_cast<std::size_t>(m), d.size());
        std::partial_sort(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(k), d.end(),
                          [](double a, double b) { return a > b; });
        double sum = 0;
        for (std::size_t i = 0; i < k; ++i) sum += d[i];
        return !keep.contains(sum / static_cast<double>(k));
    }
};

/// Guard against any single token, on either side: keep a sequence iff lower <= r_t <= upper for all t. slime (mis.yaml),
/// and verl and prime-rl until they removed it: veto(1e-4, infinity); SkyRL's outliers: 1e-4 and 100 in its documentation,
/// off by default; AReaL's agg = max: veto(0, 5).
[[nodiscard]] inline auto veto(double lower, double upper) noexcept TRM_REFUSES_REVERSED_BOUNDS {
    detail::check_order(lower, upper);
    return sequence_mask{k1{}, stat::max, at_most(-std::log(lower))} &&
           sequence_mask{k1{}, stat::min, at_least(-std::log(upper))};
}

TRM_NAMESPACE_END
