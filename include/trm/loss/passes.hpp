// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/kernel.hpp>
#include <trm/loss/trim.hpp>
#include <trm/loss/validate.hpp>

#include <algorithm>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Streams of fewer bytes are not prefetched.
inline constexpr std::size_t prefetch_beyond = std::size_t{1} << 20;

/// How one run of tokens goes through the kernel: its pointers and numbers, the masked ends cut off, the kind of pass, and what
/// takes an optimistic pass back.
template <class Core, class Arch>
struct passes : checks<Core> {
    using checks<Core>::core;
    using checks<Core>::options;

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
        token_run const inner = io.mask == nullptr ? run : trimmed(io, run);
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
        token_run const inner = io.mask == nullptr ? run : trimmed(io, run);
        if (inner.size != run.size) {
            clear_outputs(io, run.begin, inner.begin);
            clear_outputs(io, inner.begin + inner.size, run.begin + run.size);
        }
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
            apply_run(io, where, scalars, tally);
        } else {
            tally.objective = 0;
            if (io.grad != nullptr) std::fill_n(io.grad + where.begin, where.size, T(0));
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
