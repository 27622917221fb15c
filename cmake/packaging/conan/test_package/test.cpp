// SPDX-License-Identifier: Apache-2.0
#include <trm/trm.hpp>
#if defined(WITH_EIGEN)
#include <trm/interop/eigen.hpp>
#endif

#include <array>
#include <cstdio>

int main() {
    std::array<float, 2> const logp{-1.0f, -2.0f}, rollout_logp{-1.0f, -1.0f}, advantages{1.0f, 1.0f};
    std::array<int, 2> const cu_seqlens{0, 2};
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = rollout_logp, .advantages = advantages, .layout = trm::packed{cu_seqlens}};
    trm::masked_loss const loss{trm::token_mask{trm::abs_log_ratio{}, trm::at_most(0.5)}, trm::importance_ratio{},
                                trm::token_sum{}};
    std::array<float, 2> grad{};
    trm::result const r = trm::checked(loss)(batch, grad);
    std::printf("loss %g\n", r.loss);
    return r.loss == -1 && grad[1] == 0 ? 0 : 1;  // the second token is masked
}
