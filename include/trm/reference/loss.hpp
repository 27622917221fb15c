// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/options.hpp>
#include <trm/pipeline/selection.hpp>
#include <trm/reference/diagnostics.hpp>
#include <trm/reference/policy_recent.hpp>
#include <trm/reference/reads.hpp>
#include <trm/reference/selection_recent.hpp>
#include <trm/reference/weights.hpp>

#include <map>
#include <tuple>

/// \file
/// Oracle of the whole loss: plain loops over sequences, double, no phases. It takes the same loss objects as the
/// kernels, through their public members. Not for production.

TRM_NAMESPACE_BEGIN
namespace reference {

/// What a loss object must yield for a batch. Vectors cover the layout's extent.
struct evaluation {
    double loss = 0;
    double loss_size = 0;           ///< sum of the absolute terms: what rounding errors of the loss are relative to
    std::vector<double> grad;       ///< d loss / d logp
    std::vector<double> grad_size;  ///< the same without cancellation between terms
    std::vector<double> weights;
    std::vector<std::uint8_t> keep;
    std::vector<std::uint16_t> reasons;
    struct diagnostics diagnostics;
    double nearest_decision = infinity;  ///< relative distance of the closest comparison from a tie
};

/// Criteria that judge sequences by a statistic, and among them those that look at passing tokens.
template <class M>
inline constexpr bool judges_sequences = false;
template <class D, class S>
inline constexpr bool judges_sequences<sequence_mask<D, S>> = true;
template <class D, class S>
inline constexpr bool judges_sequences<passing_sequence_mask<D, S>> = true;
template <class M>
inline constexpr bool judges_passing = false;
template <class D, class S>
inline constexpr bool judges_passing<passing_sequence_mask<D, S>> = true;

/// Every sequence of the batch, its runs joined.
template <storage_type S>
std::vector<sequence> gather(batch_view<S> const& b, unsigned bits, log_ratio_clamps const& clamps,
                             selection_view const& chosen = {}) {
    std::vector<sequence> all(static_cast<std::size_t>(b.layout.sequences()));
    for (std::size_t i = 0; i < b.group_of.size() && i < all.size(); ++i) all[i].group = b.group_of[i];
    std::vector<std::int64_t> places(all.size());
    auto const read = [](auto span, std::size_t i) {
        return span.empty() ? 0.0 : static_cast<double>(to_float(span[i]));
    };
    for (std::int64_t j = 0; j < b.layout.runs(); ++j) {
        token_run const run = b.layout.run(j);
        auto const id = static_cast<std::size_t>(run.sequence);
        for (std::int64_t k = 0; k < run.size; ++k) {
            std::int64_t const position = places[id]++;
            all[id].extent = places[id];
            auto const at = static_cast<std::size_t>(run.begin + k);
            if (!b.loss_mask.empty() && b.loss_mask[at] == 0) continue;
            token t;
            t.at = at;
            t.position = position;
            t.clamps = clamps;
            t.has_proximal = !b.proximal_logp.empty();
            t.marked = !chosen.marks.empty() && chosen.marks[at] != 0;
            t.logp = read(b.logp, at);
            t.rollout = read(b.rollout_logp, at);
            t.proximal = read(b.proximal_logp, at);
            t.ref = read(b.ref_logp, at);
            t.given = read(b.given, at);
            t.advantage = b.sequence_advantages.empty() ? read(b.advantages, at) : read(b.sequence_advantages, id);
            t.factor = b.token_weights.empty() ? 1.0 : read(b.token_weights, at);
            bool finite = is_finite(t.factor);
            for (unsigned kind = 0; kind < 5; ++kind) {
                pair const l = pair_of(t, static_cast<ratio_kind>(kind), clamps.mask);
                if ((bits >> kind & 1u) != 0) finite = finite && is_finite(l.target) && is_finite(l.behaviour);
            }
            if ((bits & need::ref_logp) != 0) finite = finite && is_finite(t.ref) && is_finite(t.logp);
            if ((bits & need::given) != 0) finite = finite && is_finite(t.given);
            if ((bits & need::advantage) != 0) finite = finite && is_finite(t.advantage);
            if (finite) {
                all[id].tokens.push_back(t);
            } else {
                all[id].nonfinite.push_back(at);
                all[id].nonfinite_position.push_back(position);
            }
        }
    }
    return all;
}

/// What the terms of sequence i are divided by; 0 where that is empty. kept[i] = kept tokens of sequence i.
inline double divisor(aggregation const& a, std::vector<sequence> const& all, std::vector<double> const& kept,
                      std::size_t i, mean_epsilons const& epsilon) {
    using kind = aggregation::kind;
    bool const by_kept = a.divide_by.which == denominator::kind::kept;
    double tokens = 0, sequences = 0;
    std::map<std::int32_t, double> prompts;  // that have tokens
    for (std::size_t j = 0; j < all.size(); ++j) {
        double const n = by_kept ? kept[j] : all[j].size();
        if (n == 0) continue;
        tokens += n;
        sequences += 1;
        prompts[all[j].group] += n;
    }
    double const own = by_kept ? kept[i] : all[i].size();
    double const given = a.divide_by.n;
    bool const is_given = a.divide_by.which == denominator::kind::given;
    auto const with = [&](double n) { return n > 0 ? n + epsilon.total : 0; };
    switch (a.which) {
        case kind::token_mean:
            return with(is_given ? given : tokens);
        case kind::token_sum:
            return 1;
        case kind::seq_mean_token_sum:
            return with(is_given ? given : sequences);
        case kind::seq_mean_token_mean:
            return with(is_given ? given : sequences) * (own > 0 ? own + epsilon.sequence : 0);
        case kind::seq_mean_token_sum_norm:
            return (is_given ? given : sequences) * a.length;
        case kind::prompt_mean:
            return (is_given ? given : static_cast<double>(prompts.size())) * prompts[all[i].group];
    }
    return 0;
}

/// The specification of a loss:
/// loss = loss_scale * sum_it (keep_it (w_it l_it + p_it) + q_it) / divisor_i.
/// `chosen`: what was rejected and marked beforehand; reasons stand for all criteria that select. `all`: the batch's sequences,
/// `tolerance`: from where on a log-probability counts as positive.
template <class Loss>
evaluation evaluate(Loss const& loss, std::vector<sequence> all, std::size_t extent, double tolerance,
                    double loss_scale, selection_view const& chosen) {
    evaluation e;
    e.grad.assign(extent, 0);
    e.grad_size.assign(extent, 0);
    e.weights.assign(extent, 0);
    e.keep.assign(extent, 0);
    e.reasons.assign(extent, 0);
    for (sequence& s : all) {
        s.mean_epsilon = loss.options.mean_epsilon.surrogate;
        s.mask_epsilon = loss.options.mean_epsilon.mask;
    }
    decisions decide;
    if (chosen.marks.empty()) mark(loss.surrogate, all, decide);

    // decide: criteria of passing tokens after all others
    bool whole_sequences = false;
    std::uint16_t of_tokens = reason_nonfinite;
    int bit = 0;
    auto const apply_criterion = [&](auto const& criterion, bool late) {
        using M = std::remove_cvref_t<decltype(criterion)>;
        bool const given = selects<M> && !chosen.reasons.empty();
        if (late != judges_passing<M> || given) {
            ++bit;
            return;
        }
        if (!judges_sequences<M>) of_tokens |= static_cast<std::uint16_t>(1u << bit);
        flags const f = rejected(criterion, all, decide);
        for (std::size_t i = 0; i < all.size(); ++i) {
            bool every = !f[i].empty();
            for (std::size_t t = 0; t < f[i].size(); ++t) {
                every = every && f[i][t];
                if (f[i][t]) e.reasons[all[i].tokens[t].at] |= static_cast<std::uint16_t>(1u << bit);
            }
            if (judges_sequences<M> && every)
                for (std::size_t at : all[i].nonfinite) e.reasons[at] |= static_cast<std::uint16_t>(1u << bit);
        }
        whole_sequences = whole_sequences || judges_sequences<M>;
        ++bit;
    };
    auto const beforehand = [&](std::size_t at) { return chosen.reasons.empty() ? 0 : chosen.reasons[at]; };
    std::apply([&](auto const&... m) { (apply_criterion(m, false), ...); }, loss.mask.criteria);
    for (sequence& s : all)
        for (token& t : s.tokens) {
            t.passes = (e.reasons[t.at] & of_tokens) == 0 && beforehand(t.at) == 0;
            e.reasons[t.at] |= static_cast<std::uint16_t>(beforehand(t.at));
        }
    bit = 0;
    std::apply([&](auto const&... m) { (apply_criterion(m, true), ...); }, loss.mask.criteria);
    std::vector<double> kept;
    for (sequence& s : all) {
        for (std::size_t at : s.nonfinite) e.reasons[at] |= reason_nonfinite;
        double n = 0;
        for (token& t : s.tokens) {
            if (whole_sequences && !s.nonfinite.empty()) e.reasons[t.at] |= reason_nonfinite;
            e.keep[t.at] = t.keep = e.reasons[t.at] == 0;
            n += e.keep[t.at];
        }
        kept.push_back(n);
    }

    // apply
    double const mean = batch_mean(loss.weight, all, loss.weight.over, decide);
    for (std::size_t i = 0; i < all.size(); ++i) {
        double const by = divisor(loss.aggregate, all, kept, i, loss.options.mean_epsilon),
                     scale = by > 0 ? loss_scale / by : 0.0;
        auto const w = weights(loss.weight, all[i], loss.weight.over, mean, decide);
        for (std::size_t t = 0; t < all[i].tokens.size(); ++t) {
            token& tok = all[i].tokens[t];
            tok.weight = tok.keep ? w[t] * tok.factor : 0;
        }
        auto const l = surrogates(loss.surrogate, all[i], decide);
        // Is the sequence kept as a whole? Tokens that only criteria of tokens reject then move a mean over all tokens.
        bool whole_kept = !(whole_sequences && !all[i].nonfinite.empty());
        for (token const& t : all[i].tokens) whole_kept = whole_kept && (e.reasons[t.at] & ~of_tokens & 0xffff) == 0;
        bool moves_all = false;
        if constexpr (requires { loss.surrogate.moves_rejected(); }) moves_all = loss.surrogate.moves_rejected();
        std::vector<std::vector<penalty_term>> of_penalties;
        std::apply([&](auto const&... p) { (of_penalties.push_back(penalties(p, all[i])), ...); }, loss.penalties);
        std::vector<judged_token> judged;
        for (std::size_t t = 0; t < all[i].tokens.size(); ++t) {
            token const& tok = all[i].tokens[t];
            bool const keep = tok.keep;
            double const weight = tok.weight;
            auto const add = [&](double factor, double value, double slope) {
                e.loss += scale * factor * value;
                e.loss_size += std::fabs(scale * factor * value);
                e.grad[tok.at] += scale * factor * slope;
                e.grad_size[tok.at] += std::fabs(scale * factor * slope);
            };
            constexpr bool inside = std::derived_from<std::remove_cvref_t<decltype(loss.surrogate)>, vespo_folded>;
            add(inside ? double(keep) : weight, l[t].value, 0);
            using S1 = std::remove_cvref_t<decltype(loss.surrogate)>;
            constexpr bool shared =
                std::derived_from<S1, gspo> || std::derived_from<S1, gmpo> || std::derived_from<S1, sapo_sequence>;
            add(shared || inside ? double(keep || (moves_all && whole_kept)) : weight, 0,
                l[t].slope);  // weights are in a slope that the sequence shares
            std::size_t which = 0;
            auto const add_penalty = [&](auto const& p) {
                penalty_term const q = of_penalties[which++][t];
                if (!keep && p.tokens != sees::all_tokens) return;
                add(1, q.own.value, q.own.slope);
                add(1, 0, q.shared);
            };
            std::apply([&](auto const&... p) { (add_penalty(p), ...); }, loss.penalties);
            e.weights[tok.at] = weight;
            judged.push_back({e.reasons[tok.at], keep, l[t].clipped, weight});
        }
        bool const has_weight = !std::is_same_v<std::remove_cvref_t<decltype(loss.weight)>, no_weight>;
        describe(e.diagnostics, all[i], judged, described(loss), has_weight, tolerance);
    }
    e.nearest_decision = decide.nearest;
    return e;
}
template <class Loss, storage_type S>
evaluation evaluate(Loss const& loss, batch_view<S> const& batch, double loss_scale = 1,
                    selection_view const& chosen = {}) {
    return evaluate(loss, gather(batch, reads(loss), loss.options.log_ratio_clamp, chosen),
                    static_cast<std::size_t>(batch.layout.extent()), positive_tolerance<S>, loss_scale, chosen);
}

}  // namespace reference
TRM_NAMESPACE_END
