// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/stages.hpp>
#include <trm/pipeline/tile_reader.hpp>
#include <trm/pipeline/tile_writers.hpp>

/// \file
/// The pass over runs of tokens for policies chosen at run time: the steps of `fused_pass`, each a loop over a tile. The same
/// functions of a register, in the same order, so the same bits.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Runs longer than a tile go through it tile by tile, as the first of its runs; short ones share it.
template <class V, class Core, class S>
class tile_pass {
    using T = typename V::value_type;
    using tally_lanes = lane_tally<V, Core>;
    Core const& core;
    stream_pointers<S, T> const& io;  // of the whole call, not copied for every run
    T* grad;  ///< null once the gradient will be zeros
    log_ratio_clamps const clamps;
    double const widest;
    bool const applies, measures, diagnose, splits, counts_passing;
    tile<V> tokens;
    tile_reader<V, S> reader;
    // of each run in the tile
    tally_lanes lanes[tile<V>::most_runs];
    token_counts<Core> counted[tile<V>::most_runs];
    run_registers<V> now[tile<V>::most_runs];
    decision const* decided[tile<V>::most_runs];

public:
    TRM_INLINE tile_pass(Core const& policies, stream_pointers<S, T> const& streams, call_numbers const& call,
                         bool apply) noexcept
        : core(policies),
          io(streams),
          grad(streams.grad),
          clamps(call.clamps),
          widest(call.widest),
          applies(apply),
          measures(!apply || !(core.two_pass() || call.measured)),  // else a pass before this one has
          diagnose(call.diagnose),
          splits(can_split(core, streams)),
          counts_passing(must_count_passing(core, streams, splits)),
          reader(core, streams, call, core.exp_needs(measures, applies, diagnose), tokens) {}

    /// Sums and outputs of runs: short ones share a tile if nothing about them is an exception.
    TRM_INLINE void run(run_work<Core>* work, int runs) noexcept {
        bool const may_share = runs > 1 && !reader.reads_rare() && (!applies || may_be_plain());
        while (runs > 0) {
            int const together = may_share ? in_one_tile(work, runs) : 1;
            if (together == 1 || !run_together(work, together))
                for (int i = 0; i < together; ++i) run(work[i]);
            work += together;
            runs -= together;
        }
    }

private:
    /// The state of the i-th run of a tile before its first token.
    TRM_INLINE void begin(int i, run_work<Core>& work) noexcept {
        now[i] = run_registers<V>(work.decided, work.advantage, widest);
        decided[i] = &work.decided;
        work.tally.clear(core, diagnose);
        lanes[i].clear(core, diagnose);
        counted[i] = {};
    }
    TRM_INLINE void end(int i, run_work<Core>& work) noexcept {
        flush(i, work.tally, true);
        if (!counts_passing) counted[i].passing = passing_of(core, counted[i]);
        work.tally.take(core, counted[i]);
    }
    TRM_INLINE void run(run_work<Core>& work) noexcept {
        bool const may_stop = applies && work.decided.keep && is_plain(io);
        begin(0, work);
        std::int64_t at = work.where.begin, stop = work.where.begin + work.where.size;
        while (at < stop) {
            std::int64_t const stretch_end = (std::min)(stop, at + tally_lanes::stretch);
            for (; at < stretch_end; at += tile<V>::tokens)
                steps(at, (std::min)(stretch_end, at + tile<V>::tokens), work);
            if (at >= stop) break;
            if (may_stop && core.certainly_rejected(lanes[0].maxima)) {  // the gradient will be zeros
                grad = nullptr;
                if (!diagnose) stop = at;
            }
            flush(0, work.tally, false);
            lanes[0].clear_sums(core, diagnose);
        }
        end(0, work);
        grad = io.grad;
    }
    /// How many of the runs, from the first on, fit into a tile and can share it.
    [[nodiscard]] TRM_INLINE int in_one_tile(run_work<Core> const* work, int runs) const noexcept {
        int n = 0;
        for (std::int64_t used = 0; n < runs && n < tile<V>::most_runs && (!applies || work[n].decided.keep); ++n) {
            used += (work[n].where.size + tile<V>::width - 1) / tile<V>::width;
            if (used > static_cast<std::int64_t>(tile<V>::registers)) break;
        }
        return (std::max)(n, 1);
    }
    /// False, and nothing is done, if a token of them is an exception but by loss_mask.
    [[nodiscard]] TRM_INLINE bool run_together(run_work<Core>* work, int runs) noexcept {
        reader.begin();
        for (int i = 0; i < runs; ++i) {
            begin(i, work[i]);
            reader.add(i, work[i].where.begin, work[i].where.begin + work[i].where.size, now[i].advantage);
        }
        if (tokens.used > 0) {
            reader.read();
            if (!tokens.in_range) return false;
            each_piece<false>(tokens, [&, this](auto const& p, auto) TRM_INLINE_LAMBDA {
                int const n = reader.count_of(p);
                counted[p.run].tokens += n;
                counted[p.run].finite += n;
            });
            measure();
            if (applies) apply_plain();
        }
        for (int i = 0; i < runs; ++i) end(i, work[i]);
        return true;
    }
    TRM_INLINE void steps(std::int64_t at, std::int64_t end, run_work<Core> const& work) noexcept {
        register_counts const here = reader.read(at, end, now[0].advantage);
        counted[0].tokens += here.selected;
        counted[0].finite += here.active;
        counted[0].positive_logp += here.positive;
        measure();
        if (!applies) return;
        if (tokens.in_range && work.decided.keep && may_be_plain()) return apply_plain();
        core.apply_weight_and_penalties(tokens, decided, clamps.penalty,
                                        io.weights != nullptr || io.token_weight != nullptr, stage_entry());
        core.apply_surrogate(tokens, decided, diagnose, stage_entry());
        if (diagnose) stage_entry()(stage::mask, core.diagnose_over());
        write(at, end);
    }
    /// Told which log-ratio a stage looks at, makes it as the stage's clamp has it.
    [[nodiscard]] TRM_INLINE auto stage_entry() noexcept {
        return [this](stage which, ratio_kind over) {
            tokens.enter(over, io.proximal != nullptr, clamp_of(clamps, which));
        };
    }
    TRM_INLINE void measure() noexcept {
        core.measure(tokens, io.reasons != nullptr, measures, lanes, counted);
        if (io.rejected != nullptr) {
            each_piece<false>(tokens, [&, this](auto const& p, auto) TRM_INLINE_LAMBDA {
                auto const* const keep = tokens.keep_of(p);
                for (int j = p.first; j < p.end; ++j) tokens.keep[j] = keep[j - p.first] & tokens.allowed[j];
            });
            tokens.tested = true;
        }
        if (counts_passing)
            each_piece<false>(tokens, [&, this](auto const& p, auto) TRM_INLINE_LAMBDA {
                for (int j = p.first; j < p.end; ++j) counted[p.run].passing += count(tokens.keep_of(p)[j - p.first]);
            });
        if (measures) core.measure_passing(tokens, lanes, clamps.penalty, stage_entry());
        if (applies || !diagnose) return;
        stage_entry()(stage::mask, core.diagnose_over());
        describe_all_measured(tokens, core.diagnose_over(), lanes);
    }
    /// What comes after measuring, of runs that are kept and have no exception in this tile but by loss_mask.
    TRM_INLINE void apply_plain() noexcept {
        core.apply_weight_and_penalties(tokens, decided, clamps.penalty, io.weights != nullptr, stage_entry());
        bool const only_gradient = grad != nullptr && io.weights == nullptr && io.keep == nullptr;
        terms_kind const kind = only_gradient ? terms_kind_of(core) : terms_kind::any;
        if (kind == terms_kind::bare && !diagnose)
            return core.apply_surrogate_and_write(tokens, decided, writer_of<terms_kind::bare>());
        core.apply_surrogate(tokens, decided, diagnose, stage_entry());
        switch (kind) {
            case terms_kind::any:
                return write_terms_as<terms_kind::any>();
            case terms_kind::bare:
                return write_terms_as<terms_kind::bare>();
            case terms_kind::weighted:
                return write_terms_as<terms_kind::weighted>();
            case terms_kind::penalised:
                return write_terms_as<terms_kind::penalised>();
        }
    }
    template <terms_kind Kind>
    [[nodiscard]] TRM_INLINE gradient_writer<V, tally_lanes, Kind> writer_of() noexcept {
        return {write_traits<Kind>(core), &tokens, {grad, io.weights, io.keep}, now, lanes};
    }
    template <terms_kind Kind>
    TRM_INLINE void write_terms_as() noexcept {
        auto const terms = writer_of<Kind>();
        if (diagnose) {
            write_terms(tokens, core.diagnose_over(), described_writer<V, tally_lanes, Kind>{terms, splits});
        } else {
            write_terms(tokens, core.diagnose_over(), terms);
        }
    }
    /// Is nothing wanted but what apply_plain writes?
    [[nodiscard]] bool may_be_plain() const noexcept { return is_plain(io) && !io.accumulate; }
    void write(std::int64_t at, std::int64_t end) noexcept {
        diagnose ? write_as<true>(at, end) : write_as<false>(at, end);
    }
    template <bool Described>
    [[gnu::noinline]] TRM_FLATTEN void write_as(std::int64_t first, std::int64_t end) noexcept {
        on_unit_of<V>([&, this]() TRM_INLINE_LAMBDA {
            write_traits<terms_kind::any> const traits(core);
            V objective = lanes[0].objective, regulariser = lanes[0].regulariser;
            described_lanes<V> local = lanes[0];
            stream_pointers<S, T> streams = io;  // a copy that stores cannot change
            streams.grad = grad;
            run_registers<V> const run = now[0];
            [[maybe_unused]] bool const split = splits;
            std::int64_t at = first;
            auto const step = [&, stop = end](auto& t, auto const& l, int j) TRM_INLINE_LAMBDA {
                take_penalties(traits, tokens, j, t);
                auto const n = static_cast<std::size_t>((std::min)(tile<V>::width, stop - at));
                V const factor = token_factor(streams, at, n, t);
                if constexpr (Described) {  // before anything is written: an output may be the memory of an input
                    describe_measured(t, l, local);
                    describe_tokens(traits, t, l, factor, split, run.wide, local);
                }
                write_gradient(traits, streams, at, n, run, t, factor, objective, regulariser);
                write_outputs(streams, at, n, run, t, factor);
                at += tile<V>::width;
            };
            each_register(tokens, core.diagnose_over(), step);
            if constexpr (Described) static_cast<described_lanes<V>&>(lanes[0]) = local;
            lanes[0].objective = objective;
            lanes[0].regulariser = regulariser;
        });
    }
    TRM_INLINE void flush(int i, run_tally<Core>& tally, bool last) const noexcept {
        if (applies) {
            last ? lanes[i].template flush<true, true>(core, tally, diagnose, splits)
                 : lanes[i].template flush_sums<true, true>(core, tally, diagnose, splits);
        } else {
            last ? lanes[i].template flush<true, false>(core, tally, diagnose, splits)
                 : lanes[i].template flush_sums<true, false>(core, tally, diagnose, splits);
        }
    }
};

/// All steps over runs of tokens. Not a member, so that any_loss_extern.hpp can say that it is compiled elsewhere.
template <class A, class Core, class S, class T>
void run_tiles(Core const& core, stream_pointers<S, T> const& io, call_numbers const& call, bool apply,
               run_work<Core>* work, int runs) noexcept {
    simd::on_unit<A>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        tile_pass<simd::vec<T, Unit>, Core, S> pass(core, io, call, apply);
        pass.run(work, runs);
    });
}

}  // namespace detail
TRM_NAMESPACE_END
