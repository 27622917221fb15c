// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "token_row.hpp"

#include <trm/loss/any_loss.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/reference/loss.hpp>

/// Losses of the benchmarks, compared with the oracle before they are timed.
namespace bench {

inline constexpr trm::sequence_mask max_k2{trm::k2{}, trm::stat::max, trm::at_most(0.125)};
inline constexpr auto max_and_mean = max_k2 && trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.5)};

template <class Loss>
Loss quiet(Loss loss) {
    if constexpr (requires { loss.options; }) loss.options.diagnose = false;
    else loss.diagnose = false;
    return loss;
}

inline bool close(double a, double b, double size) { return std::fabs(a - b) <= 1e-5 * (size + std::fabs(b)); }

/// 4096 ragged tokens, some sequences rejected, for comparisons; the streams that `view` has are kept.
template <class S>
trm::batch_view<S> small_batch() {
    return rollouts<S>::get(4096, lengths::ragged, 30).view();
}
/// Does `run(batch, grad)`, which returns the loss, agree with `loss` on the batch?
template <class Loss, class S, class Run>
bool agrees(Loss const& loss, trm::batch_view<S> const& batch, Run const& run, trm::selection_view const& chosen = {}) {
    auto const want = trm::reference::evaluate(loss, batch, 1, chosen);
    std::vector<float> grad(want.grad.size(), 7);
    if (!close(run(batch, std::span<float>(grad)), want.loss, want.loss_size)) return false;
    for (std::size_t i = 0; i < grad.size(); ++i)
        if (!close(static_cast<double>(grad[i]), want.grad[i], want.grad_size[i])) return false;
    return true;
}
template <class Loss, class S>
bool matches_oracle(Loss const& loss, trm::batch_view<S> const& batch) {
    return agrees(loss, batch, [&](auto const& b, std::span<float> grad) { return loss(b, grad).loss; });
}

/// One-call loss with a gradient.
template <class Loss, class S>
void pipeline_row(benchmark::State& state, Loss const& loss, trm::batch_view<S> const& view,
                  trm::outputs<float> const& out, double bytes, int threads, trm::selection_view const& chosen = {}) {
    trm::workspace scratch;
    bool ok = true;
    row(state, view.layout.extent(), bytes, threads, [&] {
        auto r = with_threads(threads, [&](auto const& run) { return loss(view, chosen, out, run, scratch); });
        ok = ok && r.status.ok();
        benchmark::DoNotOptimize(r.loss);
    });
    if (!ok) state.SkipWithError("the loss refused the batch");
}

}  // namespace bench
