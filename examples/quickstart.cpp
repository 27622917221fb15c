// SPDX-License-Identifier: Apache-2.0
#include <trm/trm.hpp>

#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
    // Two responses of three tokens, one after another. The fifth token was pasted in by a tool: loss_mask 0.
    std::vector<float> logp{-0.9f, -1.2f, -0.3f, -2.0f, -0.5f, -0.7f};          // current policy
    std::vector<float> rollout_logp{-1.0f, -1.1f, -0.3f, -1.2f, -9.9f, -0.7f};  // policy that sampled the tokens
    std::vector<std::uint8_t> loss_mask{1, 1, 1, 1, 0, 1};
    std::vector<float> advantages{1.0f, -0.5f};  // one per response
    std::vector<std::int32_t> cu_seqlens{0, 3, 6};

    trm::batch_view<float> batch{.logp = logp,
                                 .rollout_logp = rollout_logp,
                                 .sequence_advantages = advantages,
                                 .loss_mask = loss_mask,
                                 .layout = trm::packed{cu_seqlens}};

    // Drop responses in which a token moved too far; drop single tokens with a ratio outside [0.5, 2].
    trm::masked_loss loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)} &&
                              trm::token_mask{trm::ratio{}, trm::within(0.5, 2.0)},
                          trm::importance_ratio{}, trm::token_mean{}};

    std::vector<float> grad(logp.size());  // d loss / d logp
    trm::result r = trm::checked(loss)(batch, grad);

    std::printf("loss %.4f, kept %.0f of %.0f tokens, kl %.4f, effective sample size %.2f\n", r.loss,
                r.diagnostics.kept_tokens, r.diagnostics.tokens, r.diagnostics.kl_k3(), r.diagnostics.ess());
    for (float g : grad) std::printf("%.4f ", static_cast<double>(g));
    std::printf("\n");
}
