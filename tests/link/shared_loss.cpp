// SPDX-License-Identifier: Apache-2.0
// any_loss compiled once: this file calls it, whole and in phases, tests/spec_loss.cpp holds it.
#include <trm/loss/any_loss_extern.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
    std::vector<float> const logp{-0.9f, -1.2f, -0.3f}, rollout_logp{-1.0f, -1.1f, -0.3f},
        advantages{1.0f, 1.0f, -1.0f};
    std::vector<std::int32_t> const cu_seqlens{0, 3};
    std::vector<float> grad(3);
    trm::any_loss const loss{
        trm::parse_spec("mask: ratio in [0.5, 2]; surrogate: importance_ratio; aggregate: token_sum")};
    trm::outputs<float> out;
    out.grad = grad;
    trm::workspace scratch;
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = rollout_logp, .advantages = advantages, .layout = trm::packed{cu_seqlens}};
    trm::result const r = loss(batch, out, scratch);
    trm::sequence_totals totals;
    trm::counts total;
    if (!loss.measure(batch, totals).ok() || !loss.count(batch, totals, total).ok()) return 1;
    trm::result const in_phases = loss.apply(batch, totals, total, out);
    double const want = -std::exp(0.1) - std::exp(-0.1) + 1;
    std::printf("loss %.6f, expected %.6f\n", r.loss, want);
    return r.status.ok() && std::fabs(r.loss - want) < 1e-6 && in_phases.loss == r.loss ? 0 : 1;
}
