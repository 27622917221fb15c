// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets/common.hpp>
#include <trm/policy/mask_signed.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

/// \file
/// Losses of papers that are not the loss of one trainer.

TRM_NAMESPACE_BEGIN
namespace presets {

// --- the paper: Trust Region Masking, arXiv 2512.23075 ---------------------------------------------------------------

/// E[M A sum_t rho_t] with M = 1[max_t D_t <= delta], divided by all sequences, rejected ones included; D the exact KL(mu
/// || pi) per token in the batch's `given` stream.
[[nodiscard]] inline auto trm_max_exact(double delta, aggregation a = seq_mean_token_sum{}) noexcept {
    return masked_loss{sequence_mask{given{}, stat::max, at_most(delta)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), a};
}
/// The same from sampled tokens: D = k2, symmetric in the log-ratio. A detector, not a bound.
[[nodiscard]] inline auto trm_max(double delta, aggregation a = seq_mean_token_sum{}) noexcept {
    return masked_loss{sequence_mask{k2{}, stat::max, at_most(delta)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), a};
}
/// The average criterion from sampled tokens: mean_t k3 <= delta, k3 unbiased for KL(mu || pi).
[[nodiscard]] inline auto trm_mean(double delta, aggregation a = seq_mean_token_sum{}) noexcept {
    return masked_loss{sequence_mask{k3{}, stat::mean, at_most(delta)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), a};
}

// --- methods without a trainer of their own --------------------------------------------------------------------------

/// KPop: token mask on KL(mu || p) + KL(p || mu) of the sampled token, threshold 0.1. The proposals clamp probabilities to
/// [1e-6, 1 - 1e-6]; here they are exact.
[[nodiscard]] inline auto kpop(double threshold = 0.1) noexcept {
    return masked_loss{token_mask{bidirectional_binary_kl{}, at_most(threshold)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{}};
}
/// M2PO, arXiv 2510.01161; AReaL: drops the largest squared log-ratios, proximal over rollout, until their mean is below the
/// limit, and divides by what is kept.
[[nodiscard]] inline auto m2po(double limit) noexcept {
    return masked_loss{budget_mask{over<corrected>(k2{}), limit / 2}, ppo_clip{}, token_mean{over_kept}}.clamped(
        no_clamp);
}
/// DPPO of verl and Stable-RL (score form) and of prime-rl and SkyRL (differentiable ratio), binary TV.
[[nodiscard]] inline auto dppo_tv_score(double low = 0.2, double high = 0.2, double cap = 20.0) noexcept {
    return masked_loss{dppo_tv(low, high), dppo_score(cap), token_mean{}};
}
[[nodiscard]] inline auto dppo_kl_score(double low = 0.2, double high = 0.2, double cap = 20.0) noexcept {
    return masked_loss{dppo_kl(low, high), dppo_score(cap), token_mean{}};
}
[[nodiscard]] inline auto skyrl_dppo(double low = 0.2, double high = 0.2) noexcept {
    return masked_loss{dppo_tv(low, high, zero_advantage::keep),
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{}};
}

}  // namespace presets
TRM_NAMESPACE_END
