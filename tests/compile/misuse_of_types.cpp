// SPDX-License-Identifier: Apache-2.0
// Element types that no kernel has.
// expect: trm: a batch stores float, double, trm::bf16, trm::f16 or a type for which trm::storage_traits
// expect: trm: logits are stored as float, double, trm::bf16, trm::f16
// expect: trm: the gradient is float or double, whatever the storage of the batch
// expect: trm: the gradient is a contiguous, writable range of float or double
#include <trm/trm.hpp>

#include <vector>

using namespace trm;

#ifdef TRM_TEST_MISUSE
batch_view<int> const storage{};
logits_view<long double> const logits_storage{};
outputs<bf16> const output_type{};
result loss_of(batch_view<bf16> const& batch, std::vector<bf16>& grad) {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}}(batch, grad);
}
#else
batch_view<float> const storage{};
logits_view<float> const logits_storage{};
outputs<float> const output_type{};
result loss_of(batch_view<bf16> const& batch, std::vector<float>& grad) {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}}(batch, grad);
}
#endif
