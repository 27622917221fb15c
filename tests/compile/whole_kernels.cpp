// SPDX-License-Identifier: Apache-2.0
// Compiled by whole_kernels.cmake, which looks at the machine code.
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/masked_loss.hpp>

trm::result loss(trm::batch_view<float> const& batch, std::span<float> grad) {
    return trm::masked_loss{trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.05)}, trm::ppo_clip{},
                            trm::token_mean{}}(batch, grad);
}
trm::status log_prob(trm::logits_view<trm::bf16> const& logits, std::span<std::int32_t const> ids,
                     std::span<float> logp) {
    return trm::log_prob(logits, ids, trm::log_prob_out<float>{.logp = logp});
}
