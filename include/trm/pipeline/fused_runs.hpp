// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/fused.hpp>
#include <trm/simd/dispatch.hpp>

/// \file
/// Runs of tokens through the fused pass on the unit of the CPU, long ones and short ones.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Runs of few tokens in a call with no other output than a gradient, without what `fused_pass` asks of a run: half of what they take.
template <class V, class Core, class S>
class short_pass : fused_pass<V, pass_kind::plain, false, Core, S> {
    using base = fused_pass<V, pass_kind::plain, false, Core, S>;
    using base::core, base::io, base::limits, base::width;

public:
    using base::base;

    /// Sums and gradients of the first of some runs, as long as they have at most two registers, no exceptions and small log-ratios.
    /// Returns how many.
    template <class Work>
    TRM_INLINE int run(Work* work, int runs) noexcept {
        if (base::has_rare || base::diagnose || io.mask != nullptr || !writes_only_gradient(io))
            __builtin_unreachable();  // see run_fused
        base::only_gradient = true;
        wanted<false> reads = base::want;
        if constexpr (requires { core.template restrict<true>(reads, false); })
            core.template restrict<true>(reads, false);
        int done = 0;
        for (; done < runs && work->where.size <= 2 * width; ++done, ++work) {
            std::int64_t const at = work->where.begin, size = work->where.size;
            auto const first = static_cast<std::size_t>((std::min)(size, width));
            std::size_t const n[2] = {first, static_cast<std::size_t>(size) - first};
            run_registers<V> now(work->decided, work->advantage, base::widest);
            now.kept = V::mask::everywhere();
            raw_tokens<V> raw[2];
            read_register(reads, io, at, n[0], now.advantage, raw[0]);
            V largest = largest_log_ratio(reads, raw[0]);
            if (n[1] > 0) {
                read_register(reads, io, at + width, n[1], now.advantage, raw[1]);
                largest = largest + largest_log_ratio(reads, raw[1]);
            }
            if (!all(is_within(largest, limits.most_small))) break;
            lane_tally<V, Core> lanes;
            token_counts<Core> counted{};
            lanes.clear(core, false);
            work->tally.clear(core, false);
            unrolled<2>([&](auto j) TRM_INLINE_LAMBDA {
                if (n[j] == 0) return;
                token<V, false> t;
                set_tokens(reads, raw[j], simd::first_n<V>(n[j]), true, t);
                this->steps(t, at + j * width, n[j], now, work->decided, same_clamps{}, lanes, counted);
            });
            this->finish(*work, lanes, counted, size);
        }
        return done;
    }
};

/// `Core`: the steps, made of `policies`. False, and nothing is done, if there is no such pass for the unit: on the last resort the
/// general one and tiles do the work of others.
template <class A, pass_kind Kind, bool Proximal, class Core, class Policies, class S, class T, class Work>
bool run_long(Policies const& policies, stream_pointers<S, T> io, call_numbers const& call, Work* work,
              int runs) noexcept {
    bool has_run = true;
    simd::on_unit<A>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        if constexpr (simd::is_last_resort<Unit> && (Kind == pass_kind::plain || !std::is_same_v<Core, Policies>)) {
            has_run = false;
        } else {
            // apply_runs and pass_of see to it that a plain pass has no such streams: what is not there needs no code.
            if constexpr (Kind == pass_kind::plain) {
                if (Proximal && io.proximal == nullptr) __builtin_unreachable();
                if (io.rejected != nullptr || io.token_weight != nullptr) __builtin_unreachable();
            }
            fused_pass<simd::vec<T, Unit>, Kind, Proximal, Core, S> pass(policies, io, call);
            for (int i = 0; i < runs; ++i) pass.run(work[i]);
        }
    });
    return has_run;
}
/// The first of some runs, as long as they are short. Returns how many. In a function of its own: beside it, g++ gives the loop over
/// longer runs another form, in which simple losses take up to 1.2 times as long.
template <class A, class Core, class Policies, class S, class T, class Work>
int run_short(Policies const& policies, stream_pointers<S, T> const& io, call_numbers const& call, Work* work,
              int runs) noexcept {
    int done = 0;
    simd::on_unit<A>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        if constexpr (!simd::is_last_resort<Unit>) {
            if (io.rejected != nullptr || io.token_weight != nullptr) __builtin_unreachable();
            short_pass<simd::vec<T, Unit>, Core, S> pass(policies, io, call);
            done = pass.run(work, runs);
        }
    });
    return done;
}
/// As run_long, with runs of few tokens in a pass of their own where there is one.
template <class A, pass_kind Kind, bool Proximal, class Core, class Policies, class S, class T, class Work>
bool run_fused(Policies const& policies, stream_pointers<S, T> const& io, call_numbers const& call, Work* work,
               int runs) noexcept {
    if constexpr (Kind == pass_kind::plain && !Proximal) {  // other passes would take longer to compile
        bool const takes_short = !call.diagnose && io.mask == nullptr && writes_only_gradient(io) &&
                                 !has_rare_inputs(wanted<Proximal>(Core(policies)), io);
        std::int64_t const most = takes_short ? 2 * simd::width<T, A>() : -1;
        for (int i = 0; i < runs;) {
            int const done = work[i].where.size > most ? 0 : run_short<A, Core>(policies, io, call, work + i, runs - i);
            i += done;
            if (done > 0) continue;
            int n = 1;
            while (i + n < runs && work[i + n].where.size > most) ++n;
            if (!run_long<A, Kind, Proximal, Core>(policies, io, call, work + i, n)) return false;
            i += n;
        }
        return true;
    }
    return run_long<A, Kind, Proximal, Core>(policies, io, call, work, runs);
}

}  // namespace detail
TRM_NAMESPACE_END
