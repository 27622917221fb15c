// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets/common.hpp>
#include <trm/policy/surrogates.hpp>

/// \file
/// verl's losses with rollout correction.

TRM_NAMESPACE_BEGIN
namespace presets {

// --- verl 1dda039b9, verl/trainer/config/algorithm.py: RolloutCorrectionConfig's class methods -----------------------

/// verl's PPO: clip 0.2 / 0.2, dual clip 3.
inline constexpr ppo_clip verl_ppo{0.2, 0.2, 3.0};
/// The denominators of `use_v1` trainers (all original tokens); the legacy trainer divides by kept ones: token_mean{over_kept}.
inline constexpr aggregation verl_mean = token_mean{};
/// Everything is clamped at 20, but the log-ratios of tokens whose sum weighs a sequence: there the sum is.
inline constexpr log_ratio_clamps verl_clamps_of_products = [] {
    log_ratio_clamps c;
    c.weight = no_clamp;
    return c;
}();
/// seq_mean_k1 of a threshold "lower_upper": the band is on rollout over target, see presets_verl.hpp.
[[nodiscard]] inline auto verl_geometric(double lower = 0.999, double upper = 1.001) noexcept {
    return sequence_mask{over<corrected>(k1{}), stat::mean, within(std::log(lower), std::log(upper))};
}
[[nodiscard]] inline auto verl_mean_k3(double threshold) noexcept {
    return sequence_mask{over<corrected>(k3{}), stat::mean, at_most(threshold)};
}
[[nodiscard]] inline auto decoupled_token_is(double threshold = 2.0) noexcept {
    return masked_loss{no_mask{}, verl_ppo, verl_mean, token_weight{truncate_above(threshold)}};
}
[[nodiscard]] inline auto decoupled_seq_is(double threshold = 2.0) noexcept {
    return masked_loss{no_mask{}, verl_ppo, verl_mean, sequence_weight{stat::sum, truncate_above(threshold)}}.clamped(
        verl_clamps_of_products);
}
[[nodiscard]] inline auto decoupled_token_icepop(double upper = 5.0, double lower = 0.5) noexcept {
    return masked_loss{no_mask{}, verl_ppo, verl_mean, token_weight{zero_outside(lower, upper)}};
}
[[nodiscard]] inline auto decoupled_seq_is_rs(double is = 2.0, double lower = 0.5, double upper = 2.0) noexcept {
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::sum, within(std::log(lower), std::log(upper))},
                       verl_ppo, verl_mean, sequence_weight{stat::sum, truncate_above(is)}}
        .clamped(verl_clamps_of_products);
}
[[nodiscard]] inline auto decoupled_geo_rs(double lower = 0.999, double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean};
}
[[nodiscard]] inline auto decoupled_geo_rs_seq_tis(double is = 2.0, double lower = 0.999,
                                                   double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean,
                       sequence_weight{stat::sum, truncate_above(is)}}
        .clamped(verl_clamps_of_products);
}
[[nodiscard]] inline auto decoupled_geo_rs_token_tis(double is = 2.0, double lower = 0.999,
                                                     double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean, token_weight{truncate_above(is)}};
}
[[nodiscard]] inline auto decoupled_k3_rs(double threshold = 0.01) noexcept {
    return masked_loss{verl_mean_k3(threshold), verl_ppo, verl_mean};
}
[[nodiscard]] inline auto decoupled_k3_rs_seq_tis(double is = 2.0, double threshold = 0.01) noexcept {
    return masked_loss{verl_mean_k3(threshold), verl_ppo, verl_mean, sequence_weight{stat::sum, truncate_above(is)}}
        .clamped(verl_clamps_of_products);
}
[[nodiscard]] inline auto decoupled_k3_rs_token_tis(double is = 2.0, double threshold = 0.01) noexcept {
    return masked_loss{verl_mean_k3(threshold), verl_ppo, verl_mean, token_weight{truncate_above(is)}};
}
/// Bypass mode has two policies: give no proximal_logp. Importance weights then carry no gradient and REINFORCE does.
[[nodiscard]] inline auto bypass_ppo_clip() noexcept { return masked_loss{no_mask{}, verl_ppo, verl_mean}; }
[[nodiscard]] inline auto bypass_ppo_clip_geo_rs(double lower = 0.999, double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean};
}
[[nodiscard]] inline auto bypass_ppo_clip_k3_rs(double threshold = 0.01) noexcept {
    return masked_loss{verl_mean_k3(threshold), verl_ppo, verl_mean};
}
[[nodiscard]] inline auto bypass_pg_is(double threshold = 2.0) noexcept {
    return masked_loss{no_mask{}, policy_gradient{}, verl_mean, sequence_weight{stat::sum, truncate_above(threshold)}}
        .clamped(verl_clamps_of_products);
}
[[nodiscard]] inline auto bypass_pg_token_icepop(double upper = 5.0, double lower = 0.5) noexcept {
    return masked_loss{no_mask{}, policy_gradient{}, verl_mean, token_weight{zero_outside(lower, upper)}};
}
[[nodiscard]] inline auto bypass_pg_geo_rs(double lower = 0.999, double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), policy_gradient{}, verl_mean};
}
[[nodiscard]] inline auto bypass_pg_geo_rs_seq_tis(double is = 2.0, double lower = 0.999,
                                                   double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), policy_gradient{}, verl_mean,
                       sequence_weight{stat::sum, truncate_above(is)}}
        .clamped(verl_clamps_of_products);
}
[[nodiscard]] inline auto bypass_pg_geo_rs_token_tis(double is = 2.0, double lower = 0.999,
                                                     double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), policy_gradient{}, verl_mean, token_weight{truncate_above(is)}};
}
/// `disabled`: verl's PPO without any correction.
[[nodiscard]] inline auto disabled() noexcept { return masked_loss{no_mask{}, verl_ppo, verl_mean}; }

}  // namespace presets
TRM_NAMESPACE_END
