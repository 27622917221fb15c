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

template <class V, class Core, class S>
class tile_pass {
    using T = typename V::value_type;
    Core const& core;
    stream_pointers<S, T> io;
    log_ratio_clamps const clamps;
    double const widest;
    bool const applies, diagnose, splits;
    lane_tally<V, Core> lanes;
    token_counts<Core> counted;
    tile<V> tokens;
    tile_reader<V, S> reader;

public:
    TRM_INLINE tile_pass(Core const& policies, stream_pointers<S, T> const& streams, call_numbers const& call,
                         bool apply) noexcept
        : core(policies),
          io(streams),
          clamps(call.clamps),
          widest(call.widest),
          applies(apply),
          diagnose(call.diagnose),
          splits(core.has_token_criteria() || streams.rejected != nullptr),
          reader(core, streams, call,
                 streams.rejected != nullptr || streams.token_weight != nullptr || (core.needs() & need::marks) != 0,
                 tokens) {}

    /// Sums and outputs of one run.
    TRM_INLINE void run(run_work<Core>& work) noexcept {
        run_registers<V> const now(work.decided, work.advantage, widest);
        T* const grad = io.grad;
        bool const may_stop = applies && work.decided.keep && io.weights == nullptr && io.reasons == nullptr &&
                              io.rejected == nullptr && io.token_weight == nullptr;
        run_tally<Core>& tally = work.tally;
        tally.clear(core, diagnose);
        lanes.clear(core, diagnose);
        counted.tokens = counted.finite = counted.passing = counted.positive_logp = 0;
        std::fill_n(counted.rejected, core.criteria(), 0);
        std::int64_t at = work.where.begin, end = work.where.begin + work.where.size;
        while (at < end) {
            std::int64_t const stretch_end = (std::min)(end, at + lane_tally<V, Core>::stretch);
            for (; at < stretch_end; at += tile<V>::tokens)
                steps(at, (std::min)(stretch_end, at + tile<V>::tokens), now, work);
            if (at >= end) break;
            if (may_stop && core.certainly_rejected(lanes.maxima)) {  // the gradient will be zeros
                io.grad = nullptr;
                if (!diagnose) end = at;
            }
            flush(tally, false);
            lanes.clear_sums(core, diagnose);
        }
        flush(tally, true);
        if (!splits) counted.passing = counted.finite;
        tally.take(core, counted);
        io.grad = grad;
    }

private:
    TRM_INLINE void steps(std::int64_t at, std::int64_t end, run_registers<V> const& now,
                          run_work<Core> const& work) noexcept {
        register_counts const here = reader.read(at, end, now.advantage);
        counted.tokens += here.selected;
        counted.finite += here.active;
        counted.positive_logp += here.positive;
        core.measure(tokens, io.reasons != nullptr, lanes.sums, lanes.maxima, counted.rejected);
        if (io.rejected != nullptr)
            for (int j = 0; j < tokens.used; ++j) tokens.keep[j] = tokens.keep[j] & tokens.allowed[j];
        if (splits)
            each_piece<false>(tokens, [&, this](auto const& p, auto) TRM_INLINE_LAMBDA {
                for (int j = p.first; j < p.end; ++j) counted.passing += count(tokens.keep_of(p)[j - p.first]);
            });
        auto const enter = [this](stage which, ratio_kind over) {
            tokens.enter(over, io.proximal != nullptr, clamp_of(clamps, which));
        };
        core.measure_passing(tokens, lanes.sums, lanes.maxima, clamps.penalty, enter);
        if (!applies) {
            if (diagnose) describe_all_measured(enter);
            return;
        }
        if (tokens.in_range && work.decided.keep && is_plain()) {
            plain_writer<V> const plain{io.grad + at, now, &lanes.objective};
            if (!diagnose) return core.apply_plain(tokens, work.decided, plain);
            if (!now.wide && core.describes_ratio_of_surrogate(tokens))
                return core.apply_plain(tokens, work.decided, described_writer<V>{plain, splits, &lanes});
        }
        core.apply(tokens, work.decided, clamps.penalty, io.weights != nullptr || io.token_weight != nullptr, enter);
        if (diagnose) enter(stage::mask, core.diagnose_over());
        write(at, end, now);
    }
    /// Is nothing wanted but the surrogate's loss and gradient, and diagnostics?
    [[nodiscard]] bool is_plain() const noexcept {
        return io.grad != nullptr && !io.accumulate && !core.has_weight() && !core.has_penalties() &&
               !core.moves_rejected() && io.token_weight == nullptr && io.weights == nullptr && io.reasons == nullptr &&
               io.keep == nullptr;
    }
    [[nodiscard]] static std::size_t lanes_at(std::int64_t at, std::int64_t end) noexcept {
        return static_cast<std::size_t>((std::min)(tile<V>::width, end - at));
    }
    template <class Enter>
    void describe_all_measured(Enter const& enter) noexcept {
        enter(stage::mask, core.diagnose_over());
        on_unit_of<V>([&, this]() TRM_INLINE_LAMBDA {
            described_lanes<V> local = lanes;
            each_register(tokens, core.diagnose_over(),
                          [&](auto const& t, auto const& l, int) TRM_INLINE_LAMBDA { describe_measured(t, l, local); });
            static_cast<described_lanes<V>&>(lanes) = local;
        });
    }
    void write(std::int64_t at, std::int64_t end, run_registers<V> const& now) noexcept {
        bool const weighted = core.has_weight() || io.token_weight != nullptr || io.weights != nullptr;
        if (core.has_penalties()) {
            write_as<true, true>(at, end, now);
        } else if (weighted || io.reasons != nullptr || io.keep != nullptr) {
            write_as<true, false>(at, end, now);
        } else {
            write_as<false, false>(at, end, now);
        }
    }
    template <bool Weighted, bool Penalised>
    void write_as(std::int64_t at, std::int64_t end, run_registers<V> const& now) noexcept {
        diagnose ? write_described<Weighted, Penalised, true>(at, end, now)
                 : write_described<Weighted, Penalised, false>(at, end, now);
    }
    template <bool Weighted, bool Penalised, bool Described>
    [[gnu::noinline]] TRM_FLATTEN void write_described(std::int64_t first, std::int64_t end,
                                                       run_registers<V> const& now) noexcept {
        on_unit_of<V>([&, this]() TRM_INLINE_LAMBDA {
            write_traits<Weighted, Penalised> const traits{core.has_weight(), core.shares_gradient(),
                                                           core.folds_weight(), core.moves_rejected()};
            V objective = lanes.objective, regulariser = lanes.regulariser;
            described_lanes<V> local = lanes;
            stream_pointers<S, T> streams = io;  // a copy that stores cannot change
            if constexpr (!Weighted) streams.token_weight = nullptr;
            run_registers<V> const run = now;
            [[maybe_unused]] bool const split = splits;
            std::int64_t at = first;
            auto const step = [&, stop = end](auto const& t, auto const& l, int) TRM_INLINE_LAMBDA {
                std::size_t const n = lanes_at(at, stop);
                V const factor = Weighted ? token_factor(streams, at, n, t) : t.advantage;
                if constexpr (Described) {  // before anything is written: an output may be the memory of an input
                    describe_measured(t, l, local);
                    describe_tokens(traits, t, l, factor, split, run.wide, local);
                }
                write_gradient(traits, streams, at, n, run, t, factor, objective, regulariser);
                if constexpr (Weighted) write_outputs(streams, at, n, run, t, factor);
                at += tile<V>::width;
            };
            each_register(tokens, core.diagnose_over(), step);
            if constexpr (Described) static_cast<described_lanes<V>&>(lanes) = local;
            lanes.objective = objective;
            lanes.regulariser = regulariser;
        });
    }
    TRM_INLINE void flush(run_tally<Core>& tally, bool last) const noexcept {
        if (applies) {
            last ? lanes.template flush<true>(core, tally, diagnose, splits)
                 : lanes.template flush_sums<true>(core, tally, diagnose, splits);
        } else {
            last ? lanes.template flush<false>(core, tally, diagnose, splits)
                 : lanes.template flush_sums<false>(core, tally, diagnose, splits);
        }
    }
};

/// All steps over runs of tokens. Not a member, so that any_loss_extern.hpp can say that it is compiled elsewhere.
template <class A, class Core, class S, class T>
void run_tiles(Core const& core, stream_pointers<S, T> const& io, call_numbers const& call, bool apply,
               run_work<Core>* work, int runs) noexcept {
    simd::on_unit<A>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        tile_pass<simd::vec<T, Unit>, Core, S> pass(core, io, call, apply);
        for (int i = 0; i < runs; ++i) pass.run(work[i]);
    });
}

}  // namespace detail
TRM_NAMESPACE_END
