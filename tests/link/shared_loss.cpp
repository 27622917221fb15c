// SPDX-License-Identifier: Apache-2.0
// any_loss compiled once: this file calls it, tests/spec_loss.cpp holds it.
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
    trm::result const r = loss(
        trm::batch_view<float>{
            .logp = logp, .rollout_logp = rollout_logp, .advantages = advantages, .layout = trm::packed{cu_seqlens}},
        out, scratch);
    double const want = -std::exp(0.1) - std::exp(-0.1) + 1;
    std::printf("loss %.6f, expected %.6f\n", r.loss, want);
    return r.status.ok() && std::fabs(r.loss - want) < 1e-6 ? 0 : 1;
}
