// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/trm.hpp>

#include <cstddef>
#include <cstdint>

/// One loss over a few numbers, with and without trm's vectors, for tests of flags and linking. In an unnamed namespace:
/// what translation units with different flags could share must be trm's alone.
namespace {

template <class Arch = trm::simd::default_arch>
double one_loss() {
    constexpr std::size_t n = 64;
    float logp[n], rollout_logp[n], grad[n];
    std::uint8_t loss_mask[n];
    for (std::size_t i = 0; i < n; ++i) {
        logp[i] = -0.1f - 0.01f * static_cast<float>(i);
        rollout_logp[i] = -0.1f - 0.01f * static_cast<float>(i ^ 7u);
        loss_mask[i] = i % 5 != 0;
        grad[i] = 0;
    }
    float const advantages[2] = {1.0f, -0.5f};
    std::int32_t const cu_seqlens[3] = {0, 21, 64};
    trm::batch_view<float> const batch{.logp = logp,
                                       .rollout_logp = rollout_logp,
                                       .sequence_advantages = advantages,
                                       .loss_mask = loss_mask,
                                       .layout = trm::packed{cu_seqlens}};
    trm::masked_loss const loss{trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.05)} &&
                                    trm::token_mask{trm::ratio{}, trm::within(0.95, 2.0)},
                                trm::importance_ratio{}, trm::token_mean{}};
    trm::result const r = loss.on(Arch{})(batch, grad);
    if (!r.status.ok()) return 1e300;
    double total = r.loss;
    for (float g : grad) total += static_cast<double>(g);
    return total;
}

}  // namespace
