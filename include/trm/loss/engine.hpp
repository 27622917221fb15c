// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/conclude.hpp>
#include <trm/loss/partials.hpp>
#include <trm/loss/passes.hpp>
#include <trm/policy/selection_input.hpp>

#include <algorithm>
#include <cmath>
#include <new>

TRM_NAMESPACE_BEGIN

namespace detail {

/// Runs the phases of a loss over a batch; the same code for policies chosen at compile time and at run time.
template <class Core, class Arch>
struct engine : passes<Core, Arch> {
    using base = passes<Core, Arch>;
    using base::aggregate;
    using base::apply_run;
    using base::core;
    using base::max_width;
    using base::measure_run;
    using base::options;
    using base::overwrites_input;
    using base::pointers;
    using base::replays;
    using base::scalars_of;
    using base::sum_width;
    using base::undo;

    /// Phase 1: statistics of every sequence from the runs that this batch has of it.
    template <class T, class S, class Executor>
    void measure(batch_view<S> const& batch, sequence_statistics const& stats, Executor&& execute) const {
        stats.clear();
        auto const io = pointers(batch, outputs<T>{});
        auto const one = [&](std::int64_t i) {
            token_run const run = batch.layout.run(i);
            run_tally<Core> tally;
            measure_run(io, run, scalars_of(batch, run, 0.0), tally);
            double* sums = stats.sums.data() + run.sequence * sum_width();
            double* maxima = stats.maxima.data() + run.sequence * max_width();
            sums[0] += static_cast<double>(tally.tokens);
            sums[1] += static_cast<double>(tally.finite);
            sums[2] += static_cast<double>(tally.passing);
            sums[3] += tally.x;
            sums[4] += tally.logp;
            for (int k = 0; k < core.sum_width(); ++k) sums[sequence_statistics::fixed_sums + k] += tally.sums[k];
            for (int k = 0; k < core.max_width(); ++k) maxima[k] = std::max(maxima[k], tally.maxima[k]);
        };
        if (batch.layout.is_segments()) {  // runs share rows: in order, on one thread
            for (std::int64_t i = 0; i < batch.layout.runs(); ++i) one(i);
        } else {
            blocks(batch.layout.runs(), execute, [&](std::int64_t, std::int64_t i, bool) { one(i); });
        }
    }

    /// Phase 2: what denominators are made of. prompt_tokens (one per prompt id, may be empty) receives what prompt_mean
    /// divides by.
    template <class S>
    [[nodiscard]] counts count(batch_view<S> const& batch, sequence_statistics const& stats,
                               std::span<double> prompt_tokens) const noexcept {
        counts n;
        for (double& p : prompt_tokens) p = 0;
        for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
            token_run const run = batch.layout.run(i);
            auto const tokens = static_cast<double>(selected_tokens(batch, run));
            double const* sums = stats.sums.data() + run.sequence * sum_width();
            if (tokens == 0 || sums[0] == 0) continue;
            double const share = tokens / sums[0];
            bool const keep = verdict_of(sums, stats.maxima.data() + run.sequence * max_width()).keep && sums[2] > 0;
            double const kept = keep ? sums[2] * share : 0.0;
            n.merge({tokens, kept, share, keep ? share : 0.0});
            core.count_weights(sums + sequence_statistics::fixed_sums, sums[1], sums[2], keep, share,
                               options.log_ratio_clamp, n);
            if (!prompt_tokens.empty())
                prompt_tokens[static_cast<std::size_t>(batch.group_of[static_cast<std::size_t>(run.sequence)])] +=
                    aggregate.divide_by.which == denominator::kind::kept ? kept : tokens;
        }
        return n;
    }

    /// Phase 3: loss, gradient and outputs from statistics and counts that cover the whole batch.
    template <class S, class T, class Executor>
    [[nodiscard]] result apply(batch_view<S> const& batch, sequence_statistics const& stats, counts const& n,
                               std::span<double const> prompt_tokens, outputs<T> const& out, Executor&& execute) const {
        auto const io = pointers(batch, out);
        double const mean_weight = n.weight_units > 0 ? n.weight_sum / n.weight_units : 1.0;
        double const weight_factor = mean_weight > 1e-8 ? 1 / mean_weight : 1.0;
        double const prompts = static_cast<double>(
            std::count_if(prompt_tokens.begin(), prompt_tokens.end(), [](double p) { return p > 0; }));
        partials parts;
        blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t i, bool first) {
            token_run const run = batch.layout.run(i);
            double const* sums = stats.sums.data() + run.sequence * sum_width();
            double const* maxima = stats.maxima.data() + run.sequence * max_width();
            sequence_verdict const verdict = verdict_of(sums, maxima);
            double prompt = 0;
            if (!prompt_tokens.empty())
                prompt =
                    prompt_tokens[static_cast<std::size_t>(batch.group_of[static_cast<std::size_t>(run.sequence)])];
            double const kept = verdict.keep ? sums[2] : 0.0;
            run_scalars scalars = scalars_of(batch, run, 0.0);
            scalars.scale = out.loss_scale * scale_of(n, sums[0], kept, prompt, prompts);
            scalars.verdict = verdict;
            double const* own = sums + sequence_statistics::fixed_sums;
            scalars.weight_factor = weight_factor;
            scalars.weight = core.sequence_weight_of(own, sums[1], sums[2], options.log_ratio_clamp, weight_factor);
            scalars.constants = core.constants_of(own, sums[1], options.log_ratio_clamp, scalars.weight, weight_factor);
            rejected_counts const before = count_rejected(batch, run);
            run_tally<Core> tally;
            apply_run(io, run, scalars, tally);
            before.add_to(tally);
            conclude(core, options, parts.at(block, first), tally, verdict, scalars.scale, sums[0], sums[1], sums[2],
                     sums[3], sums[4]);
        });
        return combine(parts, batch.layout.runs());
    }

    /// All phases. Where denominators are known in advance each sequence is finished while it is in cache: one optimistic
    /// pass that writes the gradient while statistics are gathered, undone on rejection.
    template <class S, class T, class Executor>
    [[nodiscard]] result run(batch_view<S> batch, outputs<T> const& out, Executor&& execute, workspace& scratch) const {
        using kind = aggregation::kind;
        if (status const s = number_groups(batch, scratch); !s.ok()) return {s, 0, {}};
        if (wants_selection(batch)) return run_selected(batch, out, execute, scratch);
        bool const needs_counts =
            aggregate.divide_by.which == denominator::kind::kept && aggregate.which != kind::token_sum;
        if (needs_counts || core.normalises() || aggregate.which == kind::prompt_mean || batch.layout.is_segments())
            return run_in_phases(batch, out, execute, scratch);

        counts const n = count_all(batch);
        auto const io = pointers(batch, out);
        bool const can_undo = !out.accumulate && !(replays(io) && overwrites_input(io));
        partials parts;
        bool const by_length = aggregate.which == kind::seq_mean_token_mean;
        double const shared_scale = by_length ? 0.0 : out.loss_scale * scale_of(n, 0, 0, 0, 0);
        blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t i, bool first) {
            token_run const where = batch.layout.run(i);
            double scale = shared_scale;
            if (by_length) {
                auto const tokens = static_cast<double>(selected_tokens(batch, where));
                scale = out.loss_scale * scale_of(n, tokens, 0, 0, 0);
            }
            run_scalars scalars = scalars_of(batch, where, scale);
            rejected_counts const before = count_rejected(batch, where);
            run_tally<Core> tally;
            sequence_verdict verdict;
            bool const measure_first = core.two_pass() || (core.has_sequence_criteria() && !can_undo);
            if (measure_first) {
                measure_run(io, where, scalars, tally);
                verdict = scalars.verdict = verdict_of(tally);
                auto const finite = static_cast<double>(tally.finite), passing = static_cast<double>(tally.passing);
                scalars.weight = core.sequence_weight_of(tally.sums, finite, passing, scalars.limit, 1.0);
                scalars.constants = core.constants_of(tally.sums, finite, scalars.limit, scalars.weight, 1.0);
                apply_run(io, where, scalars, tally);
            } else {
                apply_run(io, where, scalars, tally);
                verdict = verdict_of(tally);
                if (!verdict.keep) undo(io, where, scalars, verdict, tally);
            }
            before.add_to(tally);
            conclude(core, options, parts.at(block, first), tally, verdict, scalars.scale,
                     static_cast<double>(tally.tokens), static_cast<double>(tally.finite),
                     static_cast<double>(tally.passing), tally.x, tally.logp);
        });
        return combine(parts, batch.layout.runs());
    }

    /// Rejections that compare tokens with each other, one mask of reasons per token, and marks. False: out of memory.
    template <class T, class S>
    [[nodiscard]] bool select(batch_view<S> const& batch, std::span<std::uint16_t> rejected,
                              std::span<std::uint8_t> marks, workspace& scratch) const {
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        selection_input in;
        in.layout = batch.layout;
        in.group_of = batch.group_of;
        std::size_t const sequences = in.sequences(), groups = in.groups();
        std::size_t channels = 1, own = 0;
        auto const ask = [&](auto const& c, int) {
            channels = std::max(channels, static_cast<std::size_t>(c.channels));
            if constexpr (requires { c.scratch; }) own = std::max(own, c.scratch.total(extent, sequences, groups));
        };
        core.each_selection(ask);
        core.each_marker([&](auto const& m) { ask(m, 0); });
        std::size_t const marked_bytes = marks.empty() ? 0 : extent * sizeof(std::uint16_t);
        std::size_t const bytes = (channels + 1) * extent * sizeof(double) + marked_bytes + extent + own;
        std::byte* const memory = scratch.reserve(workspace::purpose::selection, bytes + sizeof(double));
        if (memory == nullptr) return false;
        auto* const numbers = reinterpret_cast<double*>(memory);
        std::span<double> const scores{numbers, channels * extent}, advantages{numbers + channels * extent, extent};
        auto* const rest = memory + (channels + 1) * extent * sizeof(double);
        std::span<std::uint16_t> const marked{reinterpret_cast<std::uint16_t*>(rest), marks.empty() ? 0 : extent};
        std::span<std::uint8_t> const active{reinterpret_cast<std::uint8_t*>(rest + marked_bytes), extent};
        in = {batch.layout, batch.group_of, scores,          active,
              advantages,   extent,         batch.loss_mask, selection_memory(rest + marked_bytes + extent)};
        std::fill(active.begin(), active.end(), std::uint8_t{0});  // padding between rows stays inactive
        auto const io = pointers(batch, outputs<T>{});
        auto const work = [&](auto const& criterion, std::span<std::uint16_t> reasons, std::uint16_t bit) {
            auto const& scored = scores_of(criterion);
            for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
                token_run const run = batch.layout.run(i);
                score_tokens<simd::vec<T, Arch>>(core, io, run, scalars_of(batch, run, 0.0), scored, scores.data(),
                                                 advantages.data(), active.data(), extent);
            }
            criterion.select(in, {reasons, bit});
        };
        if (!rejected.empty()) {
            std::fill(rejected.begin(), rejected.end(), std::uint16_t{0});
            core.each_selection(
                [&](auto const& c, int bit) { work(c, rejected, static_cast<std::uint16_t>(1u << bit)); });
        }
        if (!marks.empty()) {
            core.each_marker([&](auto const& m) {
                std::fill(marked.begin(), marked.end(), std::uint16_t{0});
                work(m, marked, 1);
                for (std::size_t t = 0; t < extent; ++t) marks[t] = static_cast<std::uint8_t>(marked[t]);
            });
        }
        return true;
    }
    template <class S>
    [[nodiscard]] bool wants_selection(batch_view<S> const& batch) const noexcept {
        return (core.has_selections() && batch.rejected.empty()) || (core.has_marker() && batch.marks.empty());
    }

    /// Replaces prompt ids, whatever they are, by places in a table of at most as many entries as there are sequences, in the
    /// memory of `scratch`, if the loss looks at them.
    template <class S>
    [[nodiscard]] status number_groups(batch_view<S>& batch, workspace& scratch) const noexcept {
        auto const n = static_cast<std::size_t>(batch.layout.sequences());
        if (!this->wants_groups() || n == 0) return {};
        constexpr std::size_t each = sizeof(std::int64_t) + sizeof(std::int32_t);
        std::byte* const memory = scratch.reserve(workspace::purpose::groups, n * each);
        if (memory == nullptr) return {errc::out_of_memory, -1, -1, "group_of"};
        std::span const keys(reinterpret_cast<std::int64_t*>(memory), n);
        std::span const places(reinterpret_cast<std::int32_t*>(memory + n * sizeof(std::int64_t)), n);
        for (std::size_t i = 0; i < n; ++i)
            keys[i] = static_cast<std::int64_t>(batch.group_of[i]) << 32 | static_cast<std::int64_t>(i);
        std::sort(keys.begin(), keys.end());
        std::int32_t place = -1;
        for (std::size_t k = 0; k < n; ++k) {
            place += k == 0 || keys[k] >> 32 != keys[k - 1] >> 32;
            places[static_cast<std::size_t>(keys[k] & 0xffffffff)] = place;
        }
        batch.group_of = places;
        return {};
    }

private:
    template <class S, class T, class Executor>
    [[nodiscard]] result run_selected(batch_view<S> batch, outputs<T> const& out, Executor&& execute,
                                      workspace& scratch) const {
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        if (extent == 0) return {};
        std::byte* const memory = scratch.reserve(workspace::purpose::streams, extent * 3);  // both kinds of streams
        if (memory == nullptr) return {{errc::out_of_memory, -1, -1, "selection"}, 0, {}};
        std::span<std::uint16_t> rejected;
        std::span<std::uint8_t> marks;
        auto* const reasons = reinterpret_cast<std::uint16_t*>(memory);
        if (core.has_selections() && batch.rejected.empty()) rejected = {reasons, extent};
        if (core.has_marker() && batch.marks.empty())
            marks = {reinterpret_cast<std::uint8_t*>(reasons + extent), extent};
        bool done = false;
#if TRM_EXCEPTIONS
        try {
#endif
            done = select<T>(batch, rejected, marks, scratch);
#if TRM_EXCEPTIONS
        } catch (std::bad_alloc const&) {  // of a caller's own selection
            done = false;
        }
#endif
        if (!done) return {{errc::out_of_memory, -1, -1, "selection"}, 0, {}};
        if (!rejected.empty()) batch.rejected = rejected;
        if (!marks.empty()) batch.marks = marks;
        return run(batch, out, execute, scratch);
    }

    template <class S, class T, class Executor>
    [[nodiscard]] result run_in_phases(batch_view<S> const& batch, outputs<T> const& out, Executor&& execute,
                                       workspace& scratch) const {
        auto const n = batch.layout.sequences();
        std::int64_t prompts = 0;
        if (aggregate.which == aggregation::kind::prompt_mean)
            for (std::int32_t g : batch.group_of) prompts = std::max(prompts, std::int64_t{g} + 1);
        auto const sums = static_cast<std::size_t>(n * sum_width()), maxima = static_cast<std::size_t>(n * max_width());
        auto* const memory = reinterpret_cast<double*>(scratch.reserve(
            workspace::purpose::statistics, (sums + maxima + static_cast<std::size_t>(prompts)) * sizeof(double)));
        if (memory == nullptr && n > 0) return {{errc::out_of_memory, -1, -1, "workspace"}, 0, {}};
        sequence_statistics const stats{{memory, sums}, {memory + sums, maxima}};
        std::span<double> const prompt_tokens{memory + sums + maxima, static_cast<std::size_t>(prompts)};
        measure<T>(batch, stats, execute);
        counts const total = count(batch, stats, prompt_tokens);
        return apply(batch, stats, total, prompt_tokens, out, execute);
    }

    /// What the batch's `rejected` stream decided, by reason, over the loss_mask tokens of a run. Counted before anything is
    /// written: outputs may be the memory of `rejected` and of loss_mask.
    struct rejected_counts {
        std::int64_t n[Core::criteria_capacity];
        int criteria = 0;  ///< 0: there is no such stream
        void add_to(run_tally<Core>& tally) const noexcept {
            for (int k = 0; k < criteria; ++k) tally.rejected[k] += n[k];
        }
    };
    template <class S>
    [[nodiscard]] rejected_counts count_rejected(batch_view<S> const& b, token_run run) const noexcept {
        rejected_counts counted;
        if (b.rejected.empty()) return counted;
        counted.criteria = core.criteria();
        std::fill_n(counted.n, counted.criteria, 0);
        for (std::int64_t t = run.begin; t < run.begin + run.size; ++t) {
            auto const at = static_cast<std::size_t>(t);
            if (b.rejected[at] == 0 || (!b.loss_mask.empty() && b.loss_mask[at] == 0)) continue;
            for (int k = 0; k < counted.criteria; ++k) counted.n[k] += b.rejected[at] >> k & 1;
        }
        return counted;
    }
    template <class S>
    [[nodiscard]] static std::int64_t selected_tokens(batch_view<S> const& b, token_run run) noexcept {
        return b.loss_mask.empty() ? run.size : simd::count_nonzero(b.loss_mask.data() + run.begin, run.size);
    }
    /// Token and sequence counts that do not depend on the mask; only what the aggregation divides by.
    template <class S>
    [[nodiscard]] counts count_all(batch_view<S> const& batch) const noexcept {
        counts n;
        using kind = aggregation::kind;
        if (aggregate.divide_by.which != denominator::kind::all || aggregate.which == kind::token_sum) return n;
        for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
            auto const tokens = selected_tokens(batch, batch.layout.run(i));
            n.tokens += static_cast<double>(tokens);
            n.sequences += tokens > 0;
        }
        return n;
    }
    /// 1 / denominator of the terms of one sequence, or 0 where the denominator is empty.
    [[nodiscard]] double scale_of(counts const& n, double tokens, double kept_tokens, double prompt_tokens,
                                  double prompts) const noexcept {
        using kind = aggregation::kind;
        bool const kept = aggregate.divide_by.which == denominator::kind::kept;
        bool const given = aggregate.divide_by.which == denominator::kind::given;
        double const sequences = given ? aggregate.divide_by.n : kept ? n.kept_sequences : n.sequences;
        double d = 1;
        switch (aggregate.which) {
            case kind::token_mean:
                d = given ? aggregate.divide_by.n : kept ? n.kept_tokens : n.tokens;
                break;
            case kind::token_sum:
                break;
            case kind::seq_mean_token_sum:
                d = sequences;
                break;
            case kind::seq_mean_token_mean:
                d = sequences * (kept ? kept_tokens : tokens);
                break;
            case kind::seq_mean_token_sum_norm:
                d = sequences * aggregate.length;
                break;
            case kind::prompt_mean:
                d = (given ? aggregate.divide_by.n : prompts) * prompt_tokens;
                break;
        }
        return d > 0 ? 1 / d : 0.0;
    }
    [[nodiscard]] sequence_verdict verdict_of(run_tally<Core> const& t) const noexcept {
        return verdict_of(t.sums, t.maxima, static_cast<double>(t.tokens), static_cast<double>(t.finite),
                          static_cast<double>(t.passing));
    }
    [[nodiscard]] sequence_verdict verdict_of(double const* row, double const* maxima) const noexcept {
        return verdict_of(row + sequence_statistics::fixed_sums, maxima, row[0], row[1], row[2]);
    }
    [[nodiscard]] sequence_verdict verdict_of(double const* sums, double const* maxima, double tokens, double finite,
                                              double passing) const noexcept {
        sequence_verdict v = core.decide(sums, maxima, finite, passing);
        if (core.has_sequence_criteria() && finite < tokens) {
            v.keep = false;
            v.reasons |= reason_nonfinite;
        }
        return v;
    }
};

}  // namespace detail
TRM_NAMESPACE_END
