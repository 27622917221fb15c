// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/conclude.hpp>
#include <trm/loss/kernel.hpp>
#include <trm/loss/partials.hpp>
#include <trm/loss/trim.hpp>
#include <trm/policy/selection_input.hpp>

#include <algorithm>
#include <cmath>
#include <new>

TRM_NAMESPACE_BEGIN

namespace detail {

/// Streams of fewer bytes are not prefetched.
inline constexpr std::size_t prefetch_beyond = std::size_t{1} << 20;

/// Runs the phases of a loss over a batch; the same code for policies chosen at compile time and at run time.
template <class Core, class Arch>
struct engine : checks<Core> {
    using checks<Core>::core;
    using checks<Core>::aggregate;
    using checks<Core>::options;
    using checks<Core>::sum_width;
    using checks<Core>::max_width;

    /// Phase 1: statistics of every sequence from the runs that this batch has of it.
    template <class T, class S, class Executor>
    void measure(batch_view<S> const& batch, sequence_statistics const& stats, Executor&& execute) const {
        stats.clear();
        auto const io = pointers<T>(batch, outputs<T>{});
        auto const one = [&](std::int64_t i) {
            token_run const run = batch.layout.run(i);
            run_tally<Core> tally;
            measure_run<T>(io, run, scalars_of(batch, run, 0.0), tally);
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
        auto const io = pointers<T>(batch, out);
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
            run_tally<Core> tally;
            apply_run<T>(io, run, scalars, tally);
            count_rejected(batch, run, tally);
            conclude(core, options, parts.at(block, first), tally, verdict, scalars.scale, sums[0], sums[1], sums[2],
                     sums[3], sums[4]);
        });
        return combine(parts, batch.layout.runs());
    }

    /// All phases. Where denominators are known in advance each sequence is finished while it is in cache: one optimistic
    /// pass that writes the gradient while statistics are gathered, undone on rejection.
    template <class S, class T, class Executor>
    [[nodiscard]] result run(batch_view<S> const& batch, outputs<T> const& out, Executor&& execute,
                             workspace& scratch) const {
        using kind = aggregation::kind;
        if (wants_selection(batch)) return run_selected(batch, out, execute, scratch);
        bool const needs_counts =
            aggregate.divide_by.which == denominator::kind::kept && aggregate.which != kind::token_sum;
        if (needs_counts || core.normalises() || aggregate.which == kind::prompt_mean || batch.layout.is_segments())
            return run_in_phases(batch, out, execute, scratch);

        counts const n = count_all(batch);
        auto const io = pointers<T>(batch, out);
        bool const can_undo = !out.accumulate && !(replays(io) && overwrites_input(io));
        partials parts;
        blocks(batch.layout.runs(), execute, [&](std::int64_t block, std::int64_t i, bool first) {
            token_run const where = batch.layout.run(i);
            double const tokens =
                aggregate.which == kind::seq_mean_token_mean ? static_cast<double>(selected_tokens(batch, where)) : 0.0;
            run_scalars scalars = scalars_of(batch, where, out.loss_scale * scale_of(n, tokens, 0, 0, 0));
            run_tally<Core> tally;
            sequence_verdict verdict;
            bool const measure_first = core.two_pass() || (core.has_sequence_criteria() && !can_undo);
            if (measure_first) {
                measure_run<T>(io, where, scalars, tally);
                verdict = scalars.verdict = verdict_of(tally);
                auto const finite = static_cast<double>(tally.finite), passing = static_cast<double>(tally.passing);
                scalars.weight = core.sequence_weight_of(tally.sums, finite, passing, scalars.limit, 1.0);
                scalars.constants = core.constants_of(tally.sums, finite, scalars.limit, scalars.weight, 1.0);
                apply_run<T>(io, where, scalars, tally);
            } else {
                apply_run<T>(io, where, scalars, tally);
                verdict = verdict_of(tally);
                if (!verdict.keep) undo(io, where, scalars, verdict, tally);
            }
            count_rejected(batch, where, tally);
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
        double* const memory = scratch.reserve(workspace::purpose::selection, bytes / sizeof(double) + 1);
        if (memory == nullptr) return false;
        std::span<double> const scores{memory, channels * extent}, advantages{memory + channels * extent, extent};
        auto* const rest = reinterpret_cast<std::byte*>(memory + (channels + 1) * extent);
        std::span<std::uint16_t> const marked{reinterpret_cast<std::uint16_t*>(rest), marks.empty() ? 0 : extent};
        std::span<std::uint8_t> const active{reinterpret_cast<std::uint8_t*>(rest + marked_bytes), extent};
        in = {batch.layout, batch.group_of, scores,          active,
              advantages,   extent,         batch.loss_mask, selection_memory(rest + marked_bytes + extent)};
        std::fill(active.begin(), active.end(), std::uint8_t{0});  // padding between rows stays inactive
        auto const io = pointers<T>(batch, outputs<T>{});
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

private:
    template <class S, class T, class Executor>
    [[nodiscard]] result run_selected(batch_view<S> batch, outputs<T> const& out, Executor&& execute,
                                      workspace& scratch) const {
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        if (extent == 0) return {};
        double* const memory =
            scratch.reserve(workspace::purpose::streams, extent * 3 / sizeof(double) + 1);  // both kinds of streams
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
        double* memory =
            scratch.reserve(workspace::purpose::statistics, sums + maxima + static_cast<std::size_t>(prompts));
        if (memory == nullptr && n > 0) return {{errc::out_of_memory, -1, -1, "workspace"}, 0, {}};
        sequence_statistics const stats{{memory, sums}, {memory + sums, maxima}};
        std::span<double> const prompt_tokens{memory + sums + maxima, static_cast<std::size_t>(prompts)};
        measure<T>(batch, stats, execute);
        counts const total = count(batch, stats, prompt_tokens);
        return apply(batch, stats, total, prompt_tokens, out, execute);
    }

    template <class T, class S>
    [[nodiscard]] static stream_pointers<storage_t<S>, T> pointers(batch_view<S> const& b,
                                                                   outputs<T> const& out) noexcept {
        using U = storage_t<S>;
        auto const raw = [](std::span<S const> s) {
            return s.empty() ? nullptr : reinterpret_cast<U const*>(s.data());
        };
        auto const data = [](auto s) { return s.empty() ? nullptr : s.data(); };
        return {raw(b.logp),        raw(b.rollout_logp), raw(b.proximal_logp),  raw(b.ref_logp),
                data(b.advantages), data(b.given),       data(b.token_weights), data(b.loss_mask),
                data(b.rejected),   data(b.marks),       data(out.grad),        data(out.weights),
                data(out.keep),     data(out.reasons),   out.accumulate,        b.logp.size_bytes() >= prefetch_beyond};
    }
    template <class S>
    [[nodiscard]] run_scalars scalars_of(batch_view<S> const& batch, token_run run, double scale) const noexcept {
        run_scalars s;
        s.scale = scale;
        s.limit = options.log_ratio_clamp;
        s.diagnose = options.diagnose;
        if (!batch.sequence_advantages.empty())
            s.advantage = static_cast<double>(batch.sequence_advantages[static_cast<std::size_t>(run.sequence)]);
        return s;
    }
    /// Statistics only. Policies chosen at run time, whose kernels are large, take them in the general pass.
    template <class T, class S>
    void measure_run(stream_pointers<S, T> const& io, token_run run, run_scalars const& scalars,
                     run_tally<Core>& tally) const noexcept {
        token_run const inner = trimmed(io, run);
        if constexpr (Core::block == 1) {
            run_tokens<simd::vec<T, Arch>, pass_kind::measure, true>(core, io, inner, scalars, tally);
        } else {
            run_scalars only = scalars;
            only.apply = false;
            general_pass(io, inner, only, tally);
        }
    }
    template <class T, class S>
    void apply_run(stream_pointers<S, T> const& io, token_run run, run_scalars const& scalars,
                   run_tally<Core>& tally) const noexcept {
        using V = simd::vec<T, Arch>;
        token_run const inner = trimmed(io, run);
        clear_outputs(io, run.begin, inner.begin);
        clear_outputs(io, inner.begin + inner.size, run.begin + run.size);
        if constexpr (Core::block == 1) {
            bool const absent =
                io.weights == nullptr && io.reasons == nullptr && io.rejected == nullptr && io.token_weight == nullptr;
            if (absent && scalars.verdict.keep)
                return io.proximal != nullptr ? run_tokens<V, pass_kind::plain, true>(core, io, inner, scalars, tally)
                                              : run_tokens<V, pass_kind::plain, false>(core, io, inner, scalars, tally);
        }
        general_pass(io, inner, scalars, tally);
    }
    template <class T, class S>
    void general_pass(stream_pointers<S, T> const& io, token_run run, run_scalars const& scalars,
                      run_tally<Core>& tally) const noexcept {
        using V = simd::vec<T, Arch>;
        if constexpr (Core::block > 1)
            if (io.proximal == nullptr) return run_tokens<V, pass_kind::general, false>(core, io, run, scalars, tally);
        run_tokens<V, pass_kind::general, true>(core, io, run, scalars, tally);
    }
    /// Must a rejected sequence be computed again, instead of filled with zeros?
    template <class S, class T>
    [[nodiscard]] bool replays(stream_pointers<S, T> const& io) const noexcept {
        return io.keep != nullptr || io.reasons != nullptr || io.weights != nullptr || core.penalises_all();
    }
    template <class S, class T>
    [[nodiscard]] static bool overwrites_input(stream_pointers<S, T> const& io) noexcept {
        void const* const inputs[] = {io.logp,  io.rollout, io.proximal,     io.ref,  io.advantage,
                                      io.given, io.marks,   io.token_weight, io.mask, io.rejected};
        void const* const outputs[] = {io.grad, io.weights, io.keep, io.reasons};
        for (void const* in : inputs)
            for (void const* to : outputs)
                if (in != nullptr && in == to) return true;
        return false;
    }
    /// A sequence that the optimistic pass wrote turns out to be rejected.
    template <class S, class T>
    void undo(stream_pointers<S, T> const& io, token_run where, run_scalars scalars, sequence_verdict verdict,
              run_tally<Core>& tally) const noexcept {
        if (replays(io)) {
            scalars.verdict = verdict;
            apply_run<T>(io, where, scalars, tally);
        } else {
            tally.objective = 0;
            if (io.grad != nullptr) std::fill_n(io.grad + where.begin, where.size, T(0));
        }
    }

    /// Books what the batch's `rejected` stream decided, by reason, over loss_mask tokens.
    template <class S>
    static void count_rejected(batch_view<S> const& b, token_run run, run_tally<Core>& tally) noexcept {
        if (b.rejected.empty()) return;
        for (std::int64_t t = run.begin; t < run.begin + run.size; ++t) {
            auto const at = static_cast<std::size_t>(t);
            if (b.rejected[at] == 0 || (!b.loss_mask.empty() && b.loss_mask[at] == 0)) continue;
            for (int k = 0; k < max_criteria; ++k) tally.rejected[k] += b.rejected[at] >> k & 1;
        }
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
