// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/batch_bounds.hpp>
#include <trm/bounds/resample.hpp>
#include <trm/bounds/rung.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

/// \file
/// How far the surrogate may be off, by which argument, and how far that argument can be trusted.

TRM_NAMESPACE_BEGIN
namespace bounds {

struct certificate_options {
    reward_range reward{};
    constants form = constants::centred;  ///< of the paper's bounds; trm's own have one form
    bootstrap_options bootstrap{};
    double least_ess = 0.3;
    double largest_tail_share = 0.25;
    double health_level = 0.99;  ///< of the interval of E[prod rho] - 1 that must contain 0: 1 false alarm in 100
    double least_block_ess = 0.5;  ///< of the products of a block length; largest_tail_share holds for them too
    bool refined = false;  ///< the one-sided direct estimate and the fourth form of the block bound join the ladder
    std::int64_t horizon = 0;    ///< most tokens a response may have; 0: the longest seen
    std::optional<double> surrogate_gain{};  ///< L to certify; absent: estimated from the rewards, if any
    std::optional<divergences> exact{};      ///< divergences over all contexts, if somebody knows them
};

struct certificate {
    static constexpr std::size_t capacity = 4 + 2 * bound_count;

    std::array<rung, capacity> ladder{};  ///< tightest argument first
    std::size_t rungs = 0;
    std::optional<std::size_t> headline{};   ///< the rung to quote
    std::optional<std::size_t> guarantee{};  ///< the smallest exact rung
    std::optional<std::size_t> binding{};    ///< the smallest of the paper's bounds, exact before plug-in

    direct_health health{};
    estimate one_sided{};                     ///< the direct estimate without prod rho's tail; see README.md
    std::vector<block_row> blocks{};          ///< the block bound and its health at every length of the grid
    std::optional<std::size_t> block_used{};  ///< the longest of them in good order: the one on the ladder
    batch_divergences inputs{};    ///< what the plug-in rungs were fed with
    estimate surrogate{};          ///< L, with b at mid-range; meaningful if has_rewards
    estimate observed_error{};     ///< direct, for the rewards that came
    estimate improvement{};        ///< direct, J(pi) - J(mu)
    std::optional<double> gain{};  ///< what the headline was compared with: the lower limit of L
    bool certified = false;        ///< gain > upper limit of the headline; worth what the headline's kind is worth
    bool has_rewards = false;

    std::int64_t sequences = 0, groups = 0, tokens = 0, excluded = 0;
    std::int64_t rewards_outside = 0;  ///< rewards not in the range: nothing is certified while there are any
    certificate_options options{};

    [[nodiscard]] const rung* head() const noexcept { return headline ? &ladder[*headline] : nullptr; }
    [[nodiscard]] const rung* find(rung_name n, claim k) const noexcept {
        for (std::size_t i = 0; i < rungs; ++i) {
            if (ladder[i].name == n && ladder[i].kind == k) return &ladder[i];
        }
        return nullptr;
    }
    /// The first rung of that name, whatever its kind.
    [[nodiscard]] const rung* find(rung_name n) const noexcept {
        for (std::size_t i = 0; i < rungs; ++i) {
            if (ladder[i].name == n) return &ladder[i];
        }
        return nullptr;
    }
};

namespace detail {

inline void push(certificate& c, rung r) noexcept {
    if (r.range) r.range->low = (std::max)(r.range->low, 0.0);
    r.vacuous = vacuous(r.upper(), c.options.reward);
    c.ladder[c.rungs++] = r;
}

/// The block bound of the longest block length in good order. At w = T it is the direct estimate and has its interval.
inline void push_blocks(certificate& c, const evidence& e, const rung& direct) {
    const certificate_options& o = c.options;
    c.blocks = block_bounds(e, o.reward, {o.least_block_ess, o.largest_tail_share});
    if (!c.blocks.empty()) c.blocks.back().good = c.blocks.back().good && c.health.good;
    c.block_used = longest_good(c.blocks);
    if (!c.block_used) return;
    const block_row& row = c.blocks[*c.block_used];
    rung r{rung_name::blocks,
           claim::estimated,
           rung_status::no_interval,
           o.refined ? row.refined : row.value,
           direct.range,
           true,
           row.length};
    if (*c.block_used + 1 < c.blocks.size()) {
        const block_forms forms = o.refined ? block_forms::refined : block_forms::divergences;
        std::vector<double> again = resample_blocks(e, *c.block_used, o.reward, o.bootstrap, forms);
        r.range.reset();
        if (!again.empty()) r.range = interval_of(again, r.value, o.bootstrap.level, interval_method::basic);
    }
    if (r.range) r.state = rung_status::ok;
    push(c, r);
}

/// The paper's bounds that apply, smallest first.
inline void push_paper(certificate& c, const bound_table& table, claim kind, rung_status state) noexcept {
    const std::size_t first = c.rungs;
    for (std::size_t i = 0; i < bound_count; ++i) {
        if (!table.value[i]) continue;
        const auto name = static_cast<rung_name>(i + static_cast<std::size_t>(rung_name::classical));
        push(c, {name, kind, state, *table.value[i], std::nullopt, true, 0});
        for (std::size_t k = c.rungs - 1; k > first && c.ladder[k].value < c.ladder[k - 1].value; --k) {
            std::swap(c.ladder[k], c.ladder[k - 1]);
        }
    }
    if (c.rungs > first && !c.binding) c.binding = first;
    if (c.rungs > first && kind == claim::exact) c.guarantee = first;
}

/// The first estimated rung in good order, unless an exact bound is at least as small; failing both, a plug-in.
inline void choose_headline(certificate& c) noexcept {
    for (std::size_t i = 0; i < c.rungs && !c.headline; ++i) {
        if (c.ladder[i].kind == claim::estimated && c.ladder[i].state == rung_status::ok) c.headline = i;
    }
    if (c.guarantee && (!c.headline || c.ladder[*c.guarantee].value <= c.head()->upper())) c.headline = c.guarantee;
    for (std::size_t i = 0; i < c.rungs && !c.headline; ++i) {
        if (c.ladder[i].state != rung_status::unhealthy) c.headline = i;
    }
}

}  // namespace detail

/// The certificate of everything in `e`. The ladder: the direct estimate, the block bound of the longest block length in
/// good order, the second-moment bound, the paper's bounds from `options.exact`, the paper's bounds with the batch's
/// maxima. The headline is the first estimate in good order, or the smallest exact bound where that is no larger than
/// the estimate's upper limit. Intervals: percentile for means, basic for the block and second-moment bounds, whose
/// minima and roots bias them. Allocates; linear in groups x positions x resamples. An empty `e` with `options.exact` given is fine. (A template so that only those who call it pay for
/// compiling it; so are the next.)
template <class Evidence = evidence>
[[nodiscard]] certificate certify(const std::type_identity_t<Evidence>& e, const certificate_options& options = {}) {
    certificate c;
    c.options = options;
    const reward_range r = options.reward;
    c.sequences = static_cast<std::int64_t>(e.sequences.size());
    c.groups = static_cast<std::int64_t>(e.groups.size());
    c.tokens = e.tokens;
    c.excluded = e.excluded;
    c.has_rewards = e.has_rewards();

    if (!e.sequences.empty()) {
        replicates again = resample(e, r, options.bootstrap);
        const auto with_range = [&](double value, std::vector<double>& v, interval_method m) {
            estimate out{value, std::nullopt};
            if (!v.empty()) out.range = bounds::interval_of(v, value, options.bootstrap.level, m);
            return out;
        };
        const direct_estimate d = direct(e.sequences, r);
        c.surrogate = with_range(d.surrogate, again.surrogate, interval_method::percentile);
        c.observed_error = with_range(d.observed, again.observed, interval_method::percentile);
        c.improvement = with_range(d.improvement, again.improvement, interval_method::percentile);
        c.health.ess = d.ess;
        c.health.tail_share = d.tail_share;
        c.health.ratio_excess.value = d.ratio_excess;
        if (!again.ratio_excess.empty()) {
            c.health.ratio_excess.range = bounds::interval_of(again.ratio_excess, d.ratio_excess, options.health_level,
                                                              interval_method::percentile);
        }
        for (const sequence_record& s : e.sequences) c.health.saturated = c.health.saturated || s.saturated;
        const auto& centre = c.health.ratio_excess.range;
        c.health.one_sided_share = d.one_sided_share;
        c.health.first_order.value = d.first_order;
        if (!again.first_order.empty()) {
            c.health.first_order.range =
                interval_of(again.first_order, d.first_order, options.health_level, interval_method::percentile);
        }
        const auto& steps = c.health.first_order.range;
        c.health.one_sided_good = d.one_sided_share <= options.largest_tail_share && !c.health.saturated && steps &&
                                  steps->low <= 0.0 && steps->high >= 0.0;
        c.health.good = d.ess >= options.least_ess && d.tail_share <= options.largest_tail_share &&
                        !c.health.saturated && centre && centre->low <= 0.0 && centre->high >= 0.0;

        const auto worst = with_range(d.worst_case, again.worst_case, interval_method::percentile);
        const auto state = !c.health.good && worst.range ? rung_status::unhealthy : rung_status::ok;
        detail::push(c, {rung_name::direct, claim::estimated, worst.range ? state : rung_status::no_interval,
                         worst.value, worst.range, true, 0});
        const rung whole = c.ladder[0];
        c.one_sided = with_range(d.one_sided, again.one_sided, interval_method::percentile);
        if (options.refined) {
            const auto fine = c.health.one_sided_good ? rung_status::ok : rung_status::unhealthy;
            detail::push(c,
                         {rung_name::one_sided, claim::estimated, c.one_sided.range ? fine : rung_status::no_interval,
                          c.one_sided.value, c.one_sided.range, true, 0});
        }
        detail::push_blocks(c, e, whole);

        auto second = with_range(second_moment(e, r), again.second_moment, interval_method::basic);
        detail::push(
            c, {rung_name::second_moment, claim::estimated, second.range ? rung_status::ok : rung_status::no_interval,
                second.value, second.range, true, 0});
    }
    if (options.exact) {
        detail::push_paper(c, all_bounds(*options.exact, {r, options.form}), claim::exact, rung_status::ok);
    }
    if (!e.sequences.empty()) {
        c.inputs = measure(e, options.horizon);
        if (!c.health.good) c.inputs.seq_tv.reset();
        detail::push_paper(c, batch_bounds(e, c.inputs, {r, options.form}), claim::plug_in,
                           c.inputs.from_sampled_tokens ? rung_status::detector : rung_status::batch_max);
    }
    detail::choose_headline(c);

    if (options.surrogate_gain) {
        c.gain = options.surrogate_gain;
    } else if (c.has_rewards) {
        c.gain = c.surrogate.lower();
    }
    if (c.has_rewards) {
        for (const sequence_record& q : e.sequences) c.rewards_outside += q.reward < r.min || q.reward > r.max ? 1 : 0;
    }
    if (c.options.exact) c.options.exact->mean_tv = {};  // the caller's memory, not ours to keep
    c.certified = c.rewards_outside == 0 && c.head() != nullptr && c.gain && detail::finite(*c.gain) &&
                  *c.gain > c.head()->upper();
    return c;
}

}  // namespace bounds
TRM_NAMESPACE_END
