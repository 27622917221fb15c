// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/fused_runs.hpp>

/// \file
/// Runs of tokens through the right pass: fused for policies chosen by types and for frequent ones chosen at run time, tile by tile
/// for others.

TRM_NAMESPACE_BEGIN
namespace detail {

/// False, and nothing is done, if the loss has other policies than frequent ones, or the unit no code for them.
template <pass_kind Kind, class Call, class S, class T, class Core>
[[nodiscard]] bool run_frequent(Call const& call, stream_pointers<S, T> const& io, call_numbers const& numbers,
                                run_work<Core>* work, int runs) noexcept {
    using A = typename Call::arch;
    auto const* const policies = call.core.frequent();
    if (policies == nullptr || (io.proximal != nullptr && !policies->fits_proximal())) return false;
    return with_steps < Kind ==
           pass_kind::measure > (*policies, [&]<class Steps>(std::type_identity<Steps>) {
               if constexpr (Kind == pass_kind::measure && !Steps::two_pass()) {
                   return false;  // too rare for a loop of their own
               } else {
                   return io.proximal == nullptr ? run_fused<A, Kind, false, Steps>(*policies, io, numbers, work, runs)
                                                 : run_fused<A, Kind, true, Steps>(*policies, io, numbers, work, runs);
               }
           });
}
/// The same for policies chosen at compile time.
template <pass_kind Kind, class Call, class S, class T, class Core>
[[nodiscard]] bool run_static(Call const& call, stream_pointers<S, T> const& io, call_numbers const& numbers,
                              run_work<Core>* work, int runs) noexcept {
    using A = typename Call::arch;
    if constexpr (Kind == pass_kind::plain)
        if (io.proximal == nullptr) return run_fused<A, Kind, false, Core>(call.core, io, numbers, work, runs);
    return run_fused<A, Kind, true, Core>(call.core, io, numbers, work, runs);
}
template <pass_kind Kind, class Call, class S, class T, class Core>
void pass_of(Call const& call, stream_pointers<S, T> const& io, call_numbers const& numbers, run_work<Core>* work,
             int runs) noexcept {
    if constexpr (Core::is_static) {
        if (!run_static<Kind>(call, io, numbers, work, runs))
            (void)run_static<pass_kind::general>(call, io, numbers, work, runs);
    } else {
        if constexpr (Kind != pass_kind::general)
            if (run_frequent<Kind>(call, io, numbers, work, runs)) return;
        run_tiles<typename Call::arch>(call.core, io, numbers, Kind != pass_kind::measure, work, runs);
    }
}

/// Statistics only. `describes`: with the sums that diagnostics of whole sequences are made of, if they are wanted.
template <class Call, class S, class T, class Core>
void measure_runs(Call const& call, stream_pointers<S, T> const& io, bool describes, run_work<Core>* work,
                  int runs) noexcept {
    call_numbers numbers = call.numbers;
    numbers.diagnose = numbers.diagnose && describes;
    if (io.mask != nullptr)
        for (int i = 0; i < runs; ++i) work[i].where = trimmed(io, work[i].where);
    pass_of<pass_kind::measure>(call, io, numbers, work, runs);
}

/// Statistics, loss and outputs of runs that are all kept so far, or of one, as decided for each.
template <class Call, class S, class T, class Core>
void apply_runs(Call const& call, stream_pointers<S, T> const& io, call_numbers const& numbers, run_work<Core>* work,
                int runs) noexcept {
    bool const plain = is_plain(io) && work->decided.keep;
    for (int i = 0; i < runs && io.mask != nullptr; ++i) {
        token_run const run = work[i].where, inner = trimmed(io, run);
        if (inner.size == run.size) continue;
        clear_outputs(io, run.begin, inner.begin);
        clear_outputs(io, inner.begin + inner.size, run.begin + run.size);
        work[i].where = inner;
    }
    if (plain) {
        pass_of<pass_kind::plain>(call, io, numbers, work, runs);
    } else {
        pass_of<pass_kind::general>(call, io, numbers, work, runs);
    }
}

/// Must a run be computed again once its sequence is rejected, instead of filled with zeros?
template <class Call, class S, class T>
[[nodiscard]] bool needs_second_pass(Call const& call, stream_pointers<S, T> const& io) noexcept {
    return io.reasons != nullptr || call.core.penalises_all();
}
/// Zeros for a run of which that is all: of a sequence that is rejected, and needs no second pass.
template <class S, class T, class Core>
void clear_run(stream_pointers<S, T> const& io, token_run where, run_work<Core>& work) noexcept {
    work.tally.objective = work.tally.regulariser = 0;
    clear_outputs(io, where.begin, where.begin + where.size);
}

/// The same as apply_runs for a group of runs whose sequences have been measured: those that are kept and follow each other go through
/// the pass together.
template <class Call, class S, class T, class Core>
void apply_decided(Call const& call, stream_pointers<S, T> const& io, run_work<Core>* work, int runs) noexcept {
    call_numbers numbers = call.numbers;
    numbers.measured = true;
    bool const clears = !call.options.diagnose && !needs_second_pass(call, io);
    for (int i = 0, n = 1; i < runs; i += n, n = 1) {
        if (clears && !work[i].decided.keep) {
            static_cast<token_counts<Core>&>(work[i].tally) = {};
            clear_run(io, work[i].where, work[i]);
            continue;
        }
        while (work[i].decided.keep && i + n < runs && work[i + n].decided.keep) ++n;
        apply_runs(call, io, numbers, work + i, n);
    }
}

/// A run whose outputs were written before its sequence was found to be rejected.
template <class Call, class S, class T, class Core>
void undo_run(Call const& call, stream_pointers<S, T> const& io, token_run where, run_work<Core>& work) noexcept {
    needs_second_pass(call, io) ? apply_runs(call, io, call.numbers, &work, 1) : clear_run(io, where, work);
}

}  // namespace detail
TRM_NAMESPACE_END
