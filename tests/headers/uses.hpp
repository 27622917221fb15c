// SPDX-License-Identifier: Apache-2.0
#pragma once
// Instantiates what the headers offer, so that warnings and names inside templates are met. Compiled, never run.
#include "one_loss.hpp"

#include <trm/interop/json.hpp>
#include <trm/interop/metrics.hpp>

#include <vector>

template <class T, class S>
double uses(S const* numbers, std::int64_t n) {
    std::vector<T> out(static_cast<std::size_t>(n)), grad(out.size());
    std::vector<std::int32_t> const targets(1), cu_seqlens{0, static_cast<std::int32_t>(n)};
    trm::logits_view<S> const view{.data = numbers, .rows = 1, .vocab = n};
    trm::log_prob_out<T> const log_prob{.logp = out, .entropy = grad};
    trm::divergence_out<T> const divergence{.kl_mu_pi = out, .tv = grad};
    bool ok =
        trm::log_prob(view, targets, log_prob).ok() && trm::exact_divergence(view, view, divergence).ok() &&
        trm::logits_gradient(view, targets, trm::logits_gradient_in<T>{.d_logp = grad}, trm::logits_gradient_out<T>{})
            .ok();

    trm::batch_view<S> batch{.logp = {numbers, static_cast<std::size_t>(n)},
                             .rollout_logp = {numbers, static_cast<std::size_t>(n)},
                             .layout = trm::packed{cu_seqlens}};
    trm::any_loss const loss{trm::parse_spec("mask: seq_max_k2 <= 0.05; surrogate: ppo_clip").spec};
    trm::result const r = loss(batch, trm::outputs<T>{.grad = grad});
    ok = ok && r.status.ok() && !trm::nemo_metrics(batch).empty() && trm::spec_to_json(loss.spec).is_object();

    trm::bounds::trajectories<S> const sampled{
        .layout = batch.layout, .logp = batch.logp, .rollout_logp = batch.rollout_logp};
    trm::bounds::evidence e;
    return ok && e.add(sampled).ok() ? trm::bounds::certify<>(e).health.ratio_excess.value + r.loss : 0.0;
}

inline double uses_all(float const* single, double const* wide, trm::bf16 const* half, std::int64_t n) {
    return one_loss() + one_loss<trm::simd::scalar>() + uses<float>(single, n) + uses<double>(wide, n) +
           uses<float>(half, n);
}
