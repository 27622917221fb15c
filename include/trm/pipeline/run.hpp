// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/phases.hpp>
#include <trm/pipeline/select.hpp>
#include <trm/pipeline/weigh.hpp>

/// \file
/// A loss in one call: sequence by sequence where that is possible, else in phases.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Token and sequence counts that do not depend on the mask; only what the aggregation divides by.
template <class S>
[[nodiscard]] counts count_all(aggregation const& aggregate, batch_view<S> const& batch) noexcept {
    counts n;
    if (aggregate.divide_by.which != denominator::kind::all || aggregate.which == aggregation::kind::token_sum)
        return n;
    bool const in_one_piece = batch.loss_mask.empty() || batch.layout.tokens() == batch.layout.extent();
    if (aggregate.which == aggregation::kind::token_mean && in_one_piece) {
        n.tokens = static_cast<double>(selected_tokens(batch, {0, batch.layout.tokens(), 0}));
        return n;
    }
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        auto const tokens = selected_tokens(batch, batch.layout.run(i));
        n.tokens += static_cast<double>(tokens);
        n.sequences += tokens > 0;
    }
    return n;
}

/// A call whose denominators are known in advance, so that each sequence is finished while it is in cache: by one pass that writes
/// the gradient while statistics are gathered, undone on rejection, or by two passes where the terms need the statistics.
template <class Call, class S, class T>
class sequence_runner {
    using Core = typename Call::core_type;
    Call const& call;
    batch_view<S> const& batch;
    selection_view const chosen;
    stream_pointers<storage_t<S>, T> const io;
    counts const n;
    double const loss_scale;
    bool const measure_first, by_length;

public:
    sequence_runner(Call const& c, batch_view<S> const& b, selection_view const& s, outputs<T> const& out) noexcept
        : call(c),
          batch(b),
          chosen(s),
          io(pointers_of(c, b, s, out)),
          n(count_all(c.aggregate, b)),
          loss_scale(out.loss_scale),
          measure_first(c.core.two_pass() || (c.core.has_sequence_criteria() &&
                                              (out.accumulate || (needs_second_pass(c, io) && overwrites_input(io))))),
          by_length(c.aggregate.which == aggregation::kind::seq_mean_token_mean) {}

    /// Loss, outputs and diagnostics of a group of runs.
    void run(partial& part, std::int64_t first, run_work<Core>* work, int runs) const noexcept {
        rejected_counts<Core> memory[group_runs];
        auto const* const before = count_rejected(batch, chosen, call.core, work, runs, memory);
        measure_first ? measure_then_apply(first, work, runs) : apply_then_undo(first, work, runs);
        add_group(call.core, work, before, runs, part, [&](run_work<Core> const& run) {
            if (call.options.diagnose)
                describe_run(call.core, call.options.log_ratio_clamp.mask, part.diagnostics, run.tally, run.decided,
                             total_of(run.tally), run.tally.x, run.tally.logp);
        });
    }

private:
    void measure_then_apply(std::int64_t first, run_work<Core>* work, int runs) const noexcept {
        measure_runs(call, io, false, work, runs);  // the pass that follows describes
        for (int i = 0; i < runs; ++i) {
            decide(call.core, call.aggregate, call.options, loss_scale, total_of(work[i].tally), n, {},
                   work[i].decided);
            work[i].where = batch.layout.run(first + i);
        }
        apply_decided(call, io, work, runs);
    }
    void apply_then_undo(std::int64_t first, run_work<Core>* work, int runs) const noexcept {
        double const shared = loss_scale * scale_of(call.aggregate, n, 0, 0, {}, call.options.mean_epsilon);
        for (int i = 0; i < runs; ++i) {
            double const tokens = by_length ? static_cast<double>(selected_tokens(batch, work[i].where)) : 0.0;
            work[i].decided.scale =
                by_length ? loss_scale * scale_of(call.aggregate, n, tokens, 0, {}, call.options.mean_epsilon) : shared;
        }
        apply_runs(call, io, call.numbers, work, runs);
        for (int i = 0; i < runs; ++i) {
            sequence_verdict const v = verdict_of(call.core, call.options, total_of(work[i].tally));
            work[i].decided.keep = v.keep;
            work[i].decided.reasons = v.reasons;
            if (v.keep) continue;
            token_run const where = batch.layout.run(first + i);
            work[i].where = where;
            undo_run(call, io, where, work[i]);
        }
    }
};
template <class Call, class S, class T, class Executor>
[[nodiscard]] result run_by_sequence(Call const& call, batch_view<S> const& batch, selection_view const& chosen,
                                     outputs<T> const& out, Executor&& execute) {
    sequence_runner<Call, S, T> const runner(call, batch, chosen, out);
    partials parts;
    for_blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
        partial& part = parts.begin(block);
        for_groups<typename Call::core_type>(
            batch, begin, end, [&](std::int64_t first, auto* work, int runs) { runner.run(part, first, work, runs); });
    });
    return combine(parts, batch.layout.runs(), call.options.diagnose);
}

/// All phases, one after another over the whole batch, with statistics in the memory of `scratch`. Prompts are numbered.
template <class Call, class S, class T, class Executor>
[[nodiscard]] result run_in_phases(Call const& call, batch_view<S> const& batch, selection_view const& chosen,
                                   outputs<T> const& out, Executor&& execute, workspace& scratch) {
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
    measure<T>(call, batch, chosen, totals, execute);
    counts const total = count(call, batch, totals, [&](std::int64_t sequence, double tokens) {
        if (by_prompt) prompt_of(sequence) += tokens;
    });
    auto const present =
        static_cast<double>(std::count_if(prompt_tokens, prompt_tokens + prompts, [](double p) { return p > 0; }));
    auto const prompt = [&](std::int64_t sequence) {
        return by_prompt ? prompt_share{prompt_of(sequence), present} : prompt_share{};
    };
    return apply(call, batch, chosen, totals, total, prompt, out, execute);
}

/// Everything at once. `chosen`: what the caller selected, if anything.
template <class Call, class S, class T, class Executor>
[[nodiscard]] result run(Call const& call, batch_view<S> batch, selection_view chosen, outputs<T> const& out,
                         Executor&& execute, workspace& scratch) {
    if (status const s = number_groups(call, batch, scratch); !s.ok()) return {s, 0, {}};
    if (status const s = bring_weights(call, batch, execute, scratch); !s.ok()) return {s, 0, {}};
    if (status const s = bring_selection<T>(call, batch, chosen, execute, scratch); !s.ok()) return {s, 0, {}};
    bool const needs_counts = call.aggregate.divide_by.which == denominator::kind::kept &&
                              call.aggregate.which != aggregation::kind::token_sum;
    if (needs_counts || call.core.normalises() || call.aggregate.which == aggregation::kind::prompt_mean ||
        batch.layout.is_segments())
        return run_in_phases(call, batch, chosen, out, execute, scratch);
    return run_by_sequence(call, batch, chosen, out, execute);
}

}  // namespace detail
TRM_NAMESPACE_END
