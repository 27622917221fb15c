// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/stages.hpp>
#include <trm/pipeline/tile_reader.hpp>
#include <trm/pipeline/write.hpp>

/// \file
/// The pass over runs of tokens for policies chosen at run time: the steps of `fused_pass`, each a loop over a tile. The same
/// functions of a register, in the same order, so the same bits.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What write_gradient and describe_tokens ask of the policies.
template <bool Weighted, bool Penalised>
struct write_traits {
    bool weight, shares, folds, moves;
    [[nodiscard]] constexpr bool has_weight() const noexcept { return Weighted && weight; }
    [[nodiscard]] constexpr bool shares_gradient() const noexcept { return shares; }
    [[nodiscard]] constexpr bool folds_weight() const noexcept { return folds; }
    [[nodiscard]] constexpr bool moves_rejected() const noexcept { return moves; }
    [[nodiscard]] static constexpr bool has_penalties() noexcept { return Penalised; }
};

/// Adds loss and writes gradient of a register where nothing else is wanted. Not a member of tile_pass: the loops over tiles that
/// it is compiled into are the same for every storage type.
template <class V>
struct plain_writer {
    using T = typename V::value_type;
    write_traits<false, false> traits;
    stream_pointers<T, T> streams;  ///< `grad` and `accumulate`
    run_registers<V> run;
    std::int64_t first;
    TRM_INLINE void operator()(token<V, true> const& t, int j, V& sum) const noexcept {
        V unused = sum;
        write_gradient(traits, streams, first + j * tile<V>::width, V::size, run, t, sum, sum, unused);
    }
};

template <class V, class Core, class S>
class tile_pass {
    using T = typename V::value_type;
    Core const& core;
    stream_pointers<S, T> io;
    wanted<true> const want_proximal;
    wanted<false> const want;
    token_limits<V> const limits;
    log_ratio_clamps const clamps;
    double const widest;
    bool const applies, diagnose, splits, checks_all;
    lane_tally<V, Core> lanes;
    token_counts<Core> counted;
    tile<V> tokens;

public:
    TRM_INLINE tile_pass(Core const& policies, stream_pointers<S, T> const& streams, call_numbers const& call,
                         bool apply) noexcept
        : core(policies),
          io(streams),
          want_proximal(core),
          want(core),
          limits(call.clamps),
          clamps(call.clamps),
          widest(call.clamps.widest()),
          applies(apply),
          diagnose(call.diagnose),
          splits(core.has_token_criteria() || streams.rejected != nullptr),
          checks_all(streams.rejected != nullptr || streams.token_weight != nullptr || want.marks) {}

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
        register_counts const here =
            io.proximal != nullptr
                ? tile_reader<V, S, true>(want_proximal, io, limits, checks_all, diagnose, tokens)
                      .read(at, end, now.advantage)
                : tile_reader<V, S, false>(want, io, limits, checks_all, diagnose, tokens).read(at, end, now.advantage);
        counted.tokens += here.selected;
        counted.finite += here.active;
        counted.positive_logp += here.positive;
        core.measure(tokens, io.reasons != nullptr, lanes.sums, lanes.maxima, counted.rejected);
        if (io.rejected != nullptr)
            for (int j = 0; j < tokens.used; ++j) tokens.keep[j] = tokens.keep[j] & tokens.allowed[j];
        if (splits)
            for (int j = 0; j < tokens.used; ++j) counted.passing += count(tokens.keep[j]);
        auto const enter = [this](stage which, ratio_kind over) {
            tokens.enter(over, io.proximal != nullptr, clamp_of(clamps, which));
        };
        core.measure_passing(tokens, lanes.sums, lanes.maxima, clamps.penalty, enter);
        if (diagnose) {
            enter(stage::mask, core.diagnose_over());
            describe_measured();
        }
        if (!applies) return;
        if (tokens.clean && is_plain()) {
            plain_writer<V> writer{{false, false, false, core.moves_rejected()}, {}, now, at};
            writer.streams.grad = io.grad;
            writer.streams.accumulate = io.accumulate;
            core.enter_surrogate(enter);
            V objective = lanes.objective;
            core.apply_plain(tokens, work.decided, writer, objective);
            lanes.objective = objective;
            return;
        }
        core.apply(tokens, work.decided, clamps.penalty, io.weights != nullptr || io.token_weight != nullptr, enter);
        if (diagnose) {
            enter(stage::mask, core.diagnose_over());
            describe(at, end, now.wide);  // before anything is written: an output may be the memory of an input
        }
        write(at, end, now);
    }
    /// Is nothing wanted but the surrogate's loss and gradient?
    [[nodiscard]] bool is_plain() const noexcept {
        return !diagnose && !core.has_weight() && !core.has_penalties() && io.token_weight == nullptr &&
               io.weights == nullptr && io.reasons == nullptr && io.keep == nullptr;
    }
    [[nodiscard]] static std::size_t lanes_at(std::int64_t at, std::int64_t end) noexcept {
        return static_cast<std::size_t>((std::min)(tile<V>::width, end - at));
    }
    [[gnu::noinline]] void describe_measured() noexcept {
        on_unit_of<V>([&, this]() __attribute__((always_inline)) {
            V x = lanes.x, logp = lanes.logp;
            ratio_kind const over = core.diagnose_over();
            each_register(tokens, [&](auto const& t, int) __attribute__((always_inline)) {
                x = x + t[over].value;
                logp = logp + t.logp;
            });
            lanes.x = x;
            lanes.logp = logp;
        });
    }
    [[gnu::noinline]] void describe(std::int64_t first, std::int64_t end, bool wide) noexcept {
        on_unit_of<V>([&, this]() __attribute__((always_inline)) {
            described_lanes<V> local = lanes;
            ratio_kind const over = core.diagnose_over();
            bool const weighted = core.has_weight(), split = splits, squares = wide;
            auto const streams = io;
            write_traits<true, false> const traits{weighted, false, false, false};
            std::int64_t at = first;
            each_register(tokens, [&, stop = end](auto const& t, int) __attribute__((always_inline)) {
                V const factor = weighted ? token_factor(streams, at, lanes_at(at, stop), t) : t.advantage;
                describe_tokens(traits, t, t[over], factor, split, squares, local);
                at += tile<V>::width;
            });
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
    [[gnu::noinline]] void write_as(std::int64_t first, std::int64_t end, run_registers<V> const& now) noexcept {
        on_unit_of<V>([&, this]() __attribute__((always_inline)) {
            write_traits<Weighted, Penalised> const traits{core.has_weight(), core.shares_gradient(),
                                                           core.folds_weight(), core.moves_rejected()};
            V objective = lanes.objective, regulariser = lanes.regulariser;
            stream_pointers<S, T> streams = io;  // a copy that stores cannot change
            if constexpr (!Weighted) streams.token_weight = nullptr;
            run_registers<V> const run = now;
            std::int64_t at = first;
            each_register(tokens, [&, stop = end](auto const& t, int) __attribute__((always_inline)) {
                std::size_t const n = lanes_at(at, stop);
                V const factor = Weighted ? token_factor(streams, at, n, t) : t.value;
                write_gradient(traits, streams, at, n, run, t, factor, objective, regulariser);
                if constexpr (Weighted) write_outputs(streams, at, n, run, t, factor);
                at += tile<V>::width;
            });
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
    simd::on_unit<A>([&]<class Unit>(Unit) __attribute__((always_inline)) {
        tile_pass<simd::vec<T, Unit>, Core, S> pass(core, io, call, apply);
        for (int i = 0; i < runs; ++i) pass.run(work[i]);
    });
}

}  // namespace detail
TRM_NAMESPACE_END
