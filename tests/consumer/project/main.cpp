// SPDX-License-Identifier: Apache-2.0
#include <trm/trm.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
    std::vector<float> const logp{-1.0f, -2.0f}, rollout_logp{-1.0f, -1.0f}, advantages{1.0f, 1.0f};
    std::vector<std::int32_t> const cu_seqlens{0, 2};
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = rollout_logp, .advantages = advantages, .layout = trm::packed{cu_seqlens}};
    trm::masked_loss const loss{trm::token_mask{trm::abs_log_ratio{}, trm::at_most(0.5)}, trm::importance_ratio{},
                                trm::token_sum{}};
    std::vector<float> grad(2);
    trm::result const r = trm::checked(loss)(batch, grad);
    std::printf("%g %g %g\n", r.loss, static_cast<double>(grad[0]), static_cast<double>(grad[1]));
    // One kept token of ratio 1, one dropped.
    return std::fabs(r.loss + 1) < 1e-6 && grad[0] == -1.0f && grad[1] == 0.0f ? 0 : 1;
}
