// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c/batch.hpp>
#include <trm/interop/c/diagnostics.hpp>
#include <trm/interop/c/loss.hpp>

/// \file
/// The calls of a loss for one storage type. Most of the time that the C interface takes to compile is here, so the types are
/// instantiated in two sources, which compile at the same time: run_f32.cpp has all whose arithmetic is float, since they share
/// their kernels, and run_f64.cpp has double.

TRM_NAMESPACE_BEGIN
namespace c_api {

/// Functions that are no inline ones: otherwise compilers would look into them wherever they are called.
template <class S>
struct typed_calls {
    using real = default_arithmetic_t<S>;

    /// Everything at once. `diagnostics` is null or what the form `f` of the loss computes.
    [[nodiscard]] static status call(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                                     trm_outputs const* out, executor_of execute, double* loss_value,
                                     trm_diagnostics* diagnostics);
    /// Phase 0, into `memory.chosen`.
    [[nodiscard]] static status select(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                                       executor_of execute);
    /// Phase 0, into `weights`: reals.
    [[nodiscard]] static status weigh(any_loss const& f, trm_batch const& batch, trm_scratch& memory, void* weights,
                                      executor_of execute);
    [[nodiscard]] static status measure(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                                        sequence_totals& totals, executor_of execute);
    [[nodiscard]] static status count(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                                      sequence_totals const& totals, counts& n);
    [[nodiscard]] static status apply(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                                      sequence_totals const& totals, counts const& n, trm_outputs const* out,
                                      executor_of execute, double* loss_value, trm_diagnostics* diagnostics);

private:
    /// run(batch, outputs) and its result to where the caller wants it.
    template <class F>
    [[nodiscard]] static status write(trm_batch const& batch, trm_scratch& memory, trm_outputs const* out,
                                      double* loss_value, trm_diagnostics* diagnostics, F const& run) {
        batch_of<S> in;
        outputs_of<real> to;
        if (status s = in.read(batch, memory); !s.ok()) return s;
        if (status s = to.read(out, batch.tokens, memory); !s.ok()) return s;
        result const r = run(in, to.view);
        if (!r.status.ok()) return r.status;
        to.write_back(in.view.layout);
        if (loss_value != nullptr) *loss_value = r.loss;
        if (diagnostics != nullptr) write_struct(to_c(r.diagnostics), diagnostics);
        return {};
    }
};

template <class S>
status typed_calls<S>::call(any_loss const& f, trm_batch const& batch, trm_scratch& memory, trm_outputs const* out,
                            executor_of execute, double* loss_value, trm_diagnostics* diagnostics) {
    return write(batch, memory, out, loss_value, diagnostics, [&](batch_of<S> const& in, outputs<real> const& to) {
        return f(in.view, in.chosen, to, execute, memory.work);
    });
}
template <class S>
status typed_calls<S>::select(any_loss const& f, trm_batch const& batch, trm_scratch& memory, executor_of execute) {
    batch_of<S> in;
    if (status s = in.read(batch, memory); !s.ok()) return s;
    return f.select(in.view, memory.chosen, execute, memory.work);
}
template <class S>
status typed_calls<S>::weigh(any_loss const& f, trm_batch const& batch, trm_scratch& memory, void* weights,
                             executor_of execute) {
    batch_of<S> in;
    if (status s = in.read(batch, memory); !s.ok()) return s;
    if (!is_aligned<real>(weights)) return bad_argument("a pointer is not aligned for its type");
    std::span<real> const out(static_cast<real*>(weights), static_cast<std::size_t>(batch.tokens));
    return f.weigh(in.view, out, execute, memory.work);
}
template <class S>
status typed_calls<S>::measure(any_loss const& f, trm_batch const& batch, trm_scratch& memory, sequence_totals& totals,
                               executor_of execute) {
    batch_of<S> in;
    if (status s = in.read(batch, memory); !s.ok()) return s;
    return f.measure(in.view, in.chosen, totals, execute);
}
template <class S>
status typed_calls<S>::count(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                             sequence_totals const& totals, counts& n) {
    batch_of<S> in;
    if (status s = in.read(batch, memory); !s.ok()) return s;
    return f.count(in.view, in.chosen, totals, n);
}
template <class S>
status typed_calls<S>::apply(any_loss const& f, trm_batch const& batch, trm_scratch& memory,
                             sequence_totals const& totals, counts const& n, trm_outputs const* out,
                             executor_of execute, double* loss_value, trm_diagnostics* diagnostics) {
    return write(batch, memory, out, loss_value, diagnostics, [&](batch_of<S> const& in, outputs<real> const& to) {
        return f.apply(in.view, in.chosen, totals, n, to, execute);
    });
}

}  // namespace c_api
TRM_NAMESPACE_END
