// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/diagnose.hpp>
#include <trm/pipeline/passes.hpp>
#include <trm/pipeline/select.hpp>
#include <trm/pipeline/totals.hpp>
#include <trm/pipeline/validate.hpp>

/// \file
/// The phases of a loss over a batch, the same for policies chosen by types and at run time: measure, count, apply, and all of
/// them in one call.

TRM_NAMESPACE_BEGIN
namespace detail {

template <class Core>
[[nodiscard]] constexpr std::int64_t sum_columns(Core const& core) noexcept {
    return totals_view::fixed_columns + core.sum_width();
}
[[nodiscard]] inline sequence_total total_of(totals_view const& all, std::int64_t sequence) noexcept {
    double const* row = all.sums_of(sequence);
    return {row[totals_view::tokens], row[totals_view::finite], row[totals_view::passing],
            row + totals_view::fixed_columns, all.maxima_of(sequence)};
}
template <class Core>
[[nodiscard]] sequence_total total_of(run_tally<Core> const& t) noexcept {
    return {static_cast<double>(t.tokens), static_cast<double>(t.finite), static_cast<double>(t.passing), t.sums,
            t.maxima};
}
template <class S>
[[nodiscard]] std::int64_t selected_tokens(batch_view<S> const& b, token_run run) noexcept {
    return b.loss_mask.empty() ? run.size : simd::count_nonzero(b.loss_mask.data() + run.begin, run.size);
}

/// The runs of a group, with the advantages of their sequences.
template <class Core, class S>
void begin_group(batch_view<S> const& batch, std::int64_t first, int n, run_work<Core>* work) noexcept {
    for (int i = 0; i < n; ++i) {
        work[i].where = batch.layout.run(first + i);
        work[i].advantage = advantage_of(batch, work[i].where);
        work[i].decided = kept_so_far(0);
    }
}

/// What the batch's `rejected` stream decided, by reason, over the loss_mask tokens of a run. Counted before anything is written:
/// outputs may be the memory of `rejected` and of loss_mask.
template <class Core>
struct rejected_counts {
    std::int64_t n[Core::criteria_capacity + 1];
    int criteria;  ///< 0: there is no such stream
    void add_to(run_tally<Core>& tally) const noexcept {
        for (int k = 0; k < criteria; ++k) tally.rejected[k] += n[k];
    }
};
template <class Core, class S>
[[nodiscard]] rejected_counts<Core> count_rejected(Core const& core, batch_view<S> const& b, token_run run) noexcept {
    rejected_counts<Core> counted;
    counted.criteria = b.rejected.empty() ? 0 : core.criteria();
    if (counted.criteria == 0) return counted;
    std::fill_n(counted.n, counted.criteria, 0);
    for (std::int64_t t = run.begin; t < run.begin + run.size; ++t) {
        auto const at = static_cast<std::size_t>(t);
        if (b.rejected[at] == 0 || (!b.loss_mask.empty() && b.loss_mask[at] == 0)) continue;
        for (int k = 0; k < counted.criteria; ++k) counted.n[k] += b.rejected[at] >> k & 1;
    }
    return counted;
}

/// Phase 1: statistics of every sequence from the runs that this batch has of it.
template <class T, class Call, class S, class Executor>
void measure(Call const& call, batch_view<S> const& batch, totals_view const& totals, Executor&& execute) {
    using Core = typename Call::core_type;
    totals.clear();
    auto const io = pointers_of(batch, outputs<T>{});
    auto const group = [&](std::int64_t first, int n) {
        run_work<Core> work[group_runs];
        begin_group(batch, first, n, work);
        measure_runs(call, io, work, n);
        for (int i = 0; i < n; ++i) {
            run_tally<Core> const& t = work[i].tally;
            double* sums = totals.sums_of(work[i].where.sequence);
            double* maxima = totals.maxima_of(work[i].where.sequence);
            sums[totals_view::tokens] += static_cast<double>(t.tokens);
            sums[totals_view::finite] += static_cast<double>(t.finite);
            sums[totals_view::passing] += static_cast<double>(t.passing);
            if (call.options.diagnose) {
                sums[totals_view::x] += t.x;
                sums[totals_view::logp] += t.logp;
            }
            for (int k = 0; k < call.core.sum_width(); ++k) sums[totals_view::fixed_columns + k] += t.sums[k];
            for (int k = 0; k < call.core.max_width(); ++k) maxima[k] = (std::max)(maxima[k], t.maxima[k]);
        }
    };
    std::int64_t const runs = batch.layout.runs();
    if (batch.layout.is_segments())
        return for_groups(batch.layout, 0, runs, group);  // runs share rows: one after another
    for_blocks(runs, execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
        for_groups(batch.layout, begin, end, group);
    });
}

/// Phase 2: what denominators are made of. `add_prompt(sequence, tokens)` is told what prompt_mean divides by.
template <class Call, class S, class F>
[[nodiscard]] counts count(Call const& call, batch_view<S> const& batch, totals_view const& totals, F&& add_prompt) {
    counts n;
    counts const none;
    double const limit = call.options.log_ratio_clamp;
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        token_run const run = batch.layout.run(i);
        auto const tokens = static_cast<double>(selected_tokens(batch, run));
        sequence_total const whole = total_of(totals, run.sequence);
        if (tokens == 0 || whole.tokens == 0) continue;
        double const share = tokens / whole.tokens;
        bool const keep = decide(call.core, call.aggregate, limit, 1.0, whole, none, {}).keep && whole.passing > 0;
        double const kept = keep ? whole.passing * share : 0.0;
        n.tokens += tokens;
        n.kept_tokens += kept;
        n.sequences += share;
        n.kept_sequences += keep ? share : 0.0;
        call.core.count_weights(whole.sums, whole.finite, whole.passing, keep, share, limit, n);
        add_prompt(run.sequence, call.aggregate.divide_by.which == denominator::kind::kept ? kept : tokens);
    }
    return n;
}

/// Phase 3: loss, gradient and outputs from totals and counts that cover the whole batch. `prompt(sequence)`: what prompt_mean
/// knows of its prompt.
template <class Call, class S, class T, class F, class Executor>
[[nodiscard]] result apply(Call const& call, batch_view<S> const& batch, totals_view const& totals, counts const& n,
                           F const& prompt, outputs<T> const& out, Executor&& execute) {
    using Core = typename Call::core_type;
    auto const io = pointers_of(batch, out);
    double const limit = call.options.log_ratio_clamp;
    partials parts;
    for_blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
        partial& part = parts.begin(block);
        for (std::int64_t i = begin; i < end; ++i) {
            run_work<Core> work;
            begin_group(batch, i, 1, &work);
            std::int64_t const sequence = work.where.sequence;
            sequence_total const whole = total_of(totals, sequence);
            work.decided = decide(call.core, call.aggregate, limit, out.loss_scale, whole, n, prompt(sequence));
            rejected_counts<Core> const before = count_rejected(call.core, batch, work.where);
            apply_runs(call, io, &work, 1);
            before.add_to(work.tally);
            part.loss += work.decided.scale * (work.tally.objective + work.tally.regulariser);
            double const* row = totals.sums_of(sequence);
            if (call.options.diagnose)
                describe_run(call.core, limit, part.diagnostics, work.tally, work.decided, whole, row[totals_view::x],
                             row[totals_view::logp]);
        }
    });
    return combine(parts, batch.layout.runs());
}

/// Token and sequence counts that do not depend on the mask; only what the aggregation divides by.
template <class S>
[[nodiscard]] counts count_all(aggregation const& aggregate, batch_view<S> const& batch) noexcept {
    counts n;
    if (aggregate.divide_by.which != denominator::kind::all || aggregate.which == aggregation::kind::token_sum)
        return n;
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        auto const tokens = selected_tokens(batch, batch.layout.run(i));
        n.tokens += static_cast<double>(tokens);
        n.sequences += tokens > 0;
    }
    return n;
}

/// All phases where denominators are known in advance: each sequence is finished while it is in cache, by one pass that writes
/// the gradient while statistics are gathered, undone on rejection, or by two passes where the terms need the statistics.
template <class Call, class S, class T, class Executor>
[[nodiscard]] result run_by_sequence(Call const& call, batch_view<S> const& batch, outputs<T> const& out,
                                     Executor&& execute) {
    using Core = typename Call::core_type;
    counts const n = count_all(call.aggregate, batch);
    auto const io = pointers_of(batch, out);
    bool const can_undo = !out.accumulate && !(needs_second_pass(call, io) && overwrites_input(io));
    bool const measure_first = call.core.two_pass() || (call.core.has_sequence_criteria() && !can_undo);
    bool const by_length = call.aggregate.which == aggregation::kind::seq_mean_token_mean;
    double const limit = call.options.log_ratio_clamp;
    double const shared_scale = out.loss_scale * scale_of(call.aggregate, n, 0, 0, {});
    partials parts;
    auto const group = [&](partial& part, std::int64_t first, int runs) {
        run_work<Core> work[group_runs];
        rejected_counts<Core> before[group_runs];
        begin_group(batch, first, runs, work);
        auto const decide_all = [&](auto&& then) {
            for (int i = 0; i < runs; ++i)
                then(i, decide(call.core, call.aggregate, limit, out.loss_scale, total_of(work[i].tally), n, {}));
        };
        if (!batch.rejected.empty())
            for (int i = 0; i < runs; ++i) before[i] = count_rejected(call.core, batch, work[i].where);
        if (measure_first) {
            measure_runs(call, io, work, runs);
            decide_all([&](int i, decision const& d) { work[i].decided = d; });
            for (int i = 0; i < runs; ++i) work[i].where = batch.layout.run(first + i);
            for (int i = 0; i < runs; ++i) apply_runs(call, io, work + i, 1);
        } else {
            for (int i = 0; i < runs; ++i) {
                auto const tokens = by_length ? static_cast<double>(selected_tokens(batch, work[i].where)) : 0.0;
                work[i].decided.scale =
                    by_length ? out.loss_scale * scale_of(call.aggregate, n, tokens, 0, {}) : shared_scale;
            }
            apply_runs(call, io, work, runs);
            decide_all([&](int i, decision const& d) {
                work[i].decided.keep = d.keep;
                work[i].decided.reasons = d.reasons;
                if (d.keep) return;
                token_run const where = batch.layout.run(first + i);
                work[i].where = where;
                undo_run(call, io, where, work[i]);
            });
        }
        for (int i = 0; i < runs; ++i) {
            auto& [where, advantage, decided, tally] = work[i];
            if (!batch.rejected.empty()) before[i].add_to(tally);
            part.loss += decided.scale * (tally.objective + tally.regulariser);
            if (call.options.diagnose)
                describe_run(call.core, limit, part.diagnostics, tally, decided, total_of(tally), tally.x, tally.logp);
        }
    };
    for_blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
        partial& part = parts.begin(block);
        for_groups(batch.layout, begin, end, [&](std::int64_t first, int runs) { group(part, first, runs); });
    });
    return combine(parts, batch.layout.runs());
}

/// All phases, one after another over the whole batch, with statistics in the memory of `scratch`. Prompts are numbered.
template <class Call, class S, class T, class Executor>
[[nodiscard]] result run_in_phases(Call const& call, batch_view<S> const& batch, outputs<T> const& out,
                                   Executor&& execute, workspace& scratch) {
    auto const n = batch.layout.sequences();
    bool const by_prompt = call.aggregate.which == aggregation::kind::prompt_mean;
    auto const sums = static_cast<std::size_t>(n * sum_columns(call.core));
    auto const maxima = static_cast<std::size_t>(n * call.core.max_width());
    std::size_t const prompts = by_prompt ? static_cast<std::size_t>(n) : 0;
    auto* const memory = reinterpret_cast<double*>(
        scratch.reserve(workspace::purpose::statistics, (sums + maxima + prompts) * sizeof(double)));
    if (memory == nullptr && n > 0) return {{errc::out_of_memory, -1, -1, "workspace"}, 0, {}};
    totals_view const totals{memory, memory + sums, n, sum_columns(call.core), call.core.max_width()};
    double* const prompt_tokens = memory + sums + maxima;
    std::fill_n(prompt_tokens, prompts, 0.0);
    auto const prompt_of = [&](std::int64_t sequence) -> double& {
        return prompt_tokens[batch.group_of[static_cast<std::size_t>(sequence)]];
    };
    measure<T>(call, batch, totals, execute);
    counts const total = count(call, batch, totals, [&](std::int64_t sequence, double tokens) {
        if (by_prompt) prompt_of(sequence) += tokens;
    });
    auto const present =
        static_cast<double>(std::count_if(prompt_tokens, prompt_tokens + prompts, [](double p) { return p > 0; }));
    auto const prompt = [&](std::int64_t sequence) {
        return by_prompt ? prompt_share{prompt_of(sequence), present} : prompt_share{};
    };
    return apply(call, batch, totals, total, prompt, out, execute);
}

/// Everything at once.
template <class Call, class S, class T, class Executor>
[[nodiscard]] result run(Call const& call, batch_view<S> batch, outputs<T> const& out, Executor&& execute,
                         workspace& scratch) {
    if (status const s = number_groups(call, batch, scratch); !s.ok()) return {s, 0, {}};
    if (status const s = bring_selection<T>(call, batch, execute, scratch); !s.ok()) return {s, 0, {}};
    bool const needs_counts = call.aggregate.divide_by.which == denominator::kind::kept &&
                              call.aggregate.which != aggregation::kind::token_sum;
    if (needs_counts || call.core.normalises() || call.aggregate.which == aggregation::kind::prompt_mean ||
        batch.layout.is_segments())
        return run_in_phases(call, batch, out, execute, scratch);
    return run_by_sequence(call, batch, out, execute);
}

}  // namespace detail
TRM_NAMESPACE_END
