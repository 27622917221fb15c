// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/diagnose.hpp>
#include <trm/pipeline/passes.hpp>
#include <trm/pipeline/totals.hpp>

/// \file
/// The phases of a loss over a batch, the same for policies chosen by types and at run time: measure, count, apply.

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

/// f(first run, work, how many) for consecutive runs in [begin, end) that make a group.
template <class Core, class S, class F>
void for_groups(batch_view<S> const& batch, std::int64_t begin, std::int64_t end, F&& f) {
    run_work<Core> work[group_runs];
    while (begin < end) {
        int n = 0;
        for (std::int64_t tokens = 0; n < group_runs && begin + n < end; ++n) {
            work[n].where = batch.layout.run(begin + n);
            tokens += work[n].where.size;
            if (n > 0 && tokens > group_tokens) break;
            work[n].advantage = advantage_of(batch, work[n].where);
            keep_so_far(work[n].decided);
        }
        f(begin, static_cast<run_work<Core>*>(work), n);
        begin += n;
    }
}

/// Which bits do any of n words have?
[[nodiscard]] inline std::uint16_t bits_of_any(std::uint16_t const* words, std::int64_t n) noexcept {
    std::uint16_t bits = 0;
    for (std::int64_t i = 0; i < n; ++i) bits |= words[i];
    return bits;
}
/// Words that have this bit, of those that `selected` does not leave out. In blocks, which compilers turn into vectors at any -O.
[[nodiscard]] inline std::int64_t count_with_bit(std::uint16_t const* words, std::uint8_t const* selected,
                                                 std::int64_t n, int bit) noexcept {
    constexpr std::int64_t block = 64;
    std::int64_t total = 0;
    for (std::int64_t at = 0; at < n; at += block) {
        std::uint16_t has[block] = {};
        std::int64_t const size = (std::min)(block, n - at);
        std::copy_n(words + at, size, has);
        for (std::uint16_t& h : has) h = h >> bit & 1;
        if (selected != nullptr)
            for (std::int64_t i = 0; i < size; ++i) has[i] = selected[at + i] != 0 ? has[i] : std::uint16_t{0};
        std::uint16_t sum = 0;
        for (std::uint16_t h : has) sum = static_cast<std::uint16_t>(sum + h);
        total += sum;
    }
    return total;
}

/// What was rejected beforehand, by reason, over the loss_mask tokens of a run. Counted before anything is written: outputs may be
/// the memory of the selection and of loss_mask.
template <class Core>
struct rejected_counts {
    std::int64_t n[Core::criteria_capacity + 1];
};
/// Of a group of runs, in the memory of `counted`; null if nothing was rejected.
template <class Core, class S>
[[nodiscard]] rejected_counts<Core> const* count_rejected(batch_view<S> const& b, selection_view const& chosen,
                                                          Core const& core, run_work<Core> const* work, int runs,
                                                          rejected_counts<Core>* counted) noexcept {
    if (chosen.reasons.empty()) return nullptr;
    for (int i = 0; i < runs; ++i) {
        token_run const& run = work[i].where;
        std::uint16_t const* const reasons = chosen.reasons.data() + run.begin;
        std::uint8_t const* const selected = b.loss_mask.empty() ? nullptr : b.loss_mask.data() + run.begin;
        std::uint16_t const any = bits_of_any(reasons, run.size);
        for (int k = 0; k < core.criteria(); ++k)
            counted[i].n[k] = (any >> k & 1) != 0 ? count_with_bit(reasons, selected, run.size, k) : 0;
    }
    return counted;
}

/// Adds a group of runs, once they have been applied, to the loss; `describe(run)` adds one to the diagnostics. `before`: what
/// count_rejected gives.
template <class Core, class F>
void add_group(Core const& core, run_work<Core>* work, rejected_counts<Core> const* before, int runs, partial& part,
               F const& describe) noexcept {
    double loss = part.loss;  // not in memory, where each addition would wait for the one before to arrive
    for (int i = 0; i < runs; ++i) {
        for (int k = 0; before != nullptr && k < core.criteria(); ++k) work[i].tally.rejected[k] += before[i].n[k];
        loss += work[i].decided.scale * (work[i].tally.objective + work[i].tally.regulariser);
        describe(work[i]);
    }
    part.loss = loss;
}

/// Phase 1: statistics of every sequence from the runs that this batch has of it.
template <class T, class Call, class S, class Executor>
void measure(Call const& call, batch_view<S> const& batch, selection_view const& chosen, totals_view const& totals,
             Executor&& execute) {
    using Core = typename Call::core_type;
    totals.clear();
    auto const io = pointers_of(call, batch, chosen, outputs<T>{});
    auto const group = [&](std::int64_t, run_work<Core>* work, int n) {
        measure_runs(call, io, true, work, n);
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
        return for_groups<Core>(batch, 0, runs, group);  // runs share rows: one after another
    for_blocks(runs, execute,
               [&](std::int64_t, std::int64_t begin, std::int64_t end) { for_groups<Core>(batch, begin, end, group); });
}

/// Phase 2: what denominators are made of. `add_prompt(sequence, tokens)` is told what prompt_mean divides by.
template <class Call, class S, class F>
[[nodiscard]] counts count(Call const& call, batch_view<S> const& batch, totals_view const& totals, F&& add_prompt) {
    counts n;
    log_ratio_clamps const& clamps = call.options.log_ratio_clamp;
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        token_run const run = batch.layout.run(i);
        auto const tokens = static_cast<double>(selected_tokens(batch, run));
        sequence_total const whole = total_of(totals, run.sequence);
        if (tokens == 0 || whole.tokens == 0) continue;
        double const share = tokens / whole.tokens;
        bool const keep = verdict_of(call.core, call.options, whole).keep && whole.passing > 0;
        double const kept = keep ? whole.passing * share : 0.0;
        n.tokens += tokens;
        n.kept_tokens += kept;
        n.sequences += share;
        n.kept_sequences += keep ? share : 0.0;
        call.core.count_weights(whole.sums, whole.finite, whole.passing, keep, share, clamps.weight_sequence, n);
        add_prompt(run.sequence, call.aggregate.divide_by.which == denominator::kind::kept ? kept : tokens);
    }
    if (call.core.averages_all_rows()) n.weight_units = static_cast<double>(batch.layout.sequences());
    return n;
}

/// Phase 3: loss, gradient and outputs from totals and counts that cover the whole batch. `prompt(sequence)`: what prompt_mean
/// knows of its prompt.
template <class Call, class S, class T, class F, class Executor>
[[nodiscard]] result apply(Call const& call, batch_view<S> const& batch, selection_view const& chosen,
                           totals_view const& totals, counts const& n, F const& prompt, outputs<T> const& out,
                           Executor&& execute) {
    using Core = typename Call::core_type;
    auto const io = pointers_of(call, batch, chosen, out);
    log_ratio_clamps const& clamps = call.options.log_ratio_clamp;
    partials parts;
    for_blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
        partial& part = parts.begin(block);
        for_groups<Core>(batch, begin, end, [&](std::int64_t, run_work<Core>* work, int runs) {
            rejected_counts<Core> memory[group_runs];
            auto const* const before = count_rejected(batch, chosen, call.core, work, runs, memory);
            for (int i = 0; i < runs; ++i) {
                std::int64_t const sequence = work[i].where.sequence;
                decide(call.core, call.aggregate, call.options, out.loss_scale, total_of(totals, sequence), n,
                       prompt(sequence), work[i].decided);
            }
            apply_decided(call, io, work, runs);
            add_group(call.core, work, before, runs, part, [&](run_work<Core> const& run) {
                if (!call.options.diagnose) return;
                double const* row = totals.sums_of(run.where.sequence);
                describe_run(call.core, clamps.mask, part.diagnostics, run.tally, run.decided,
                             total_of(totals, run.where.sequence), row[totals_view::x], row[totals_view::logp]);
            });
        });
    });
    return combine(parts, batch.layout.runs(), call.options.diagnose);
}

}  // namespace detail
TRM_NAMESPACE_END
