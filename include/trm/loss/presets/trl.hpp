// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets/common.hpp>
#include <trm/policy/mask_signed.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

/// \file
/// TRL's losses. TRL clamps no log-ratio, but for those of vespo (20, for tokens and for their sum).

TRM_NAMESPACE_BEGIN
namespace presets {

// --- TRL f2cd57710, trl/trainer/grpo_{trainer,config}.py -------------------------------------------------------------

/// TRL's default correction of the sampler: `sequence_mask`, the product of proximal / rollout, 0 above 3.
inline constexpr sequence_weight<stat::sum_t> trl_sequence_mask{{}, {-1.0, 3.0, 0.0, 0.0}};
[[nodiscard]] inline auto trl_grpo(double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, ppo_clip{eps_low, eps_high}, seq_mean_token_mean{}, trl_sequence_mask}.clamped(
        no_clamp);
}
[[nodiscard]] inline auto trl_dapo(double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, ppo_clip{eps_low, eps_high}, token_mean{}, trl_sequence_mask}.clamped(no_clamp);
}
/// Divides by rows times max_completion_length; TRL counts empty rows too (over_count).
[[nodiscard]] inline auto trl_dr_grpo(double max_completion_length, double eps_low = 0.2,
                                      double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, ppo_clip{eps_low, eps_high}, seq_mean_token_sum_norm{max_completion_length},
                       trl_sequence_mask}
        .clamped(no_clamp);
}
/// epsilon_high is an absolute cap of the ratio here.
[[nodiscard]] inline auto trl_cispo(double epsilon_high = 5.0) noexcept {
    return masked_loss{no_mask{}, cispo{0.0, epsilon_high}, token_mean{}, trl_sequence_mask}.clamped(no_clamp);
}
[[nodiscard]] inline auto trl_sapo() noexcept {
    return masked_loss{no_mask{}, sapo{}, seq_mean_token_mean{}, trl_sequence_mask}.clamped(no_clamp);
}
/// VESPO refuses sequence weights; token weights belong inside w: `vespo_folded`.
[[nodiscard]] inline auto trl_vespo() noexcept { return masked_loss{no_mask{}, vespo{}, token_mean{}}; }
/// LUSPO, arXiv 2602.05261: gspo's term times the length of its sequence, mean over sequences.
[[nodiscard]] inline auto trl_luspo(double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, gspo{eps_low, eps_high}, seq_mean_token_sum{}, trl_sequence_mask}.clamped(no_clamp);
}
/// `top_entropy_quantile`: the policy term of the share of tokens with the largest entropy, which the batch brings in `given`
/// (logits/log_prob.hpp computes it). Denominators and KL see every token.
[[nodiscard]] inline auto trl_top_entropy(double share = 0.2, double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{top_share_mask{given{}, share}, ppo_clip{eps_low, eps_high}, token_mean{}, trl_sequence_mask}
        .clamped(no_clamp);
}
/// Off-policy sequence masking (DeepSeek-V3.2): drops the tokens with A < 0 where mean_t(log mu - log p) > delta. The
/// threshold has no default in TRL, 1e-4 in slime.
[[nodiscard]] inline auto trl_opsm(double delta, double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{signed_sequence_mask{k1{}, stat::mean, at_most(delta)}, ppo_clip{eps_low, eps_high},
                       token_mean{}, trl_sequence_mask}
        .clamped(no_clamp);
}

}  // namespace presets
TRM_NAMESPACE_END
