// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/presets/common.hpp>
#include <trm/policy/mask_signed.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/surrogates.hpp>

/// \file
/// Losses of prime-rl, slime, OpenRLHF, SkyRL, AReaL and NeMo-RL.

TRM_NAMESPACE_BEGIN
namespace presets {

// --- prime-rl, src/prime_rl/trainer/rl/loss.py; sums over all tokens / loss_mask tokens ------------------------------

/// The default since 27 August 2026 (#3418), IPO: |p - mu| <= eps whatever the sign of A, and the squared log-ratio on all
/// tokens; adv_tau is the coefficient of the policy term.
[[nodiscard]] inline auto prime_rl(double eps = 0.1, double kl_tau = 1e-3, double adv_tau = 1.0) noexcept {
    return masked_loss{token_mask{binary_tv{}, at_most(eps)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{},
                       constant_weight{adv_tau}, squared_log_ratio{kl_tau}}
        .clamped(no_clamp);
}
/// The same under its name before it was the default (559b44772, `type = "ipo"`).
[[nodiscard]] inline auto prime_rl_ipo(double threshold = 0.1, double kl_tau = 1e-3, double adv_tau = 1.0) noexcept {
    return prime_rl(threshold, kl_tau, adv_tau);
}
/// `type = "icepop"`, since 10 September 2026 (#3526): tokens whose ratio is outside [ratio_low, ratio_high] are dropped; no KL.
[[nodiscard]] inline auto prime_rl_icepop(double ratio_low = 0.2, double ratio_high = 5.0,
                                          double adv_tau = 1.0) noexcept {
    return masked_loss{token_mask{k1{}, ratio_band_k1(ratio_low, ratio_high)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{},
                       constant_weight{adv_tau}}
        .clamped(no_clamp);
}
/// The default from 2 April to 27 August 2026 (559b44772, `type = "default"`): DPPO's binary TV. Two criteria, so that metrics
/// tell the sides apart: reason bit 0 is the high side, bit 1 the low one.
[[nodiscard]] inline auto prime_rl_dppo_2026_08(double low = 0.2, double high = 0.2, double kl_tau = 1e-3,
                                                double adv_tau = 1.0) noexcept {
    return masked_loss{
        advantage_signed{binary_tv{}, at_most(high), band{}} && advantage_signed{binary_tv{}, band{}, at_most(low)},
        over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{}, constant_weight{adv_tau},
        squared_log_ratio{kl_tau}}
        .clamped(no_clamp);
}
/// The teacher component: advantage log f - sg log p, f in ref_logp; drops p - mu < -threshold.
[[nodiscard]] inline auto prime_rl_ref_kl(double threshold = 0.2, double kl_coefficient = 1e-3) noexcept {
    return masked_loss{token_mask{probability_change{}, at_least(-threshold)},
                       over<ratio_kind::current_over_rollout>(reference_gap{}), token_mean{}, no_weight{},
                       squared_log_ratio{kl_coefficient}}
        .clamped(no_clamp);
}

// --- slime 624b824a8, examples/train_infer_mismatch_helper/mis.yaml --------------------------------------------------

/// Token TIS at 2, normalised to batch mean 1 over original tokens; token rejection of ratios outside [0.5, 2]; a sequence goes
/// if any ratio is below 1e-4. PPO clip 0.2, mean of sequence means.
[[nodiscard]] inline auto slime_mis(double lower = 0.5, double upper = 2.0, double veto_below = 1e-4) noexcept {
    return masked_loss{token_mask{over<corrected>(k1{}), ratio_band_k1(lower, upper)} &&
                           sequence_mask{over<corrected>(k1{}), stat::max, at_most(-std::log(veto_below))},
                       ppo_clip{}, seq_mean_token_mean{}, normalised{token_weight{truncate_above(upper)}}}
        .clamped(clamps_by_stage(20, 20, no_clamp, no_clamp));
}

// --- OpenRLHF 3c3be623, openrlhf/models/loss.py ----------------------------------------------------------------------

/// Only the ratio of the surrogate is clamped.
inline constexpr log_ratio_clamps openrlhf_clamps = clamps_by_stage(no_clamp, no_clamp, 20, no_clamp);
/// Clamps on both sides: weights below 0.5 are raised to 0.5.
[[nodiscard]] inline auto openrlhf_tis(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{clamp_to(lower, upper)}}.clamped(
        openrlhf_clamps);
}
[[nodiscard]] inline auto openrlhf_icepop(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{zero_outside(lower, upper)}}.clamped(
        openrlhf_clamps);
}
/// Geometric-mean filter of sequences, then the raw token ratio.
[[nodiscard]] inline auto openrlhf_seq_mask_tis(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::mean, ratio_band_k1(lower, upper)}, ppo_clip{},
                       token_mean{}, token_weight{}}
        .clamped(openrlhf_clamps);
}

// --- SkyRL a9564572e, off_policy_correction_utils.py -----------------------------------------------------------------

/// Thresholds of its off_policy_correction. All are off by default (token TIS 2, sequence TIS 5, geometric band 0.99 to
/// 1.01 and product band 0.5 to 2 once on); the outlier bounds are those that its documentation suggests.
struct skyrl_bounds {
    band outlier{1e-4, 100.0};  ///< any ratio outside drops the sequence
    band token{0.5, 2.0};  ///< ratios that are kept
    band sequence{0.99, 1.01};  ///< geometric mean of the ratios that are left
    double tis = 2.0;
};
namespace detail {
template <class Weight>
[[nodiscard]] auto skyrl(skyrl_bounds const& b, Weight weight, clamp_range of_weighted_tokens) noexcept {
    auto const x = [](band r) { return ratio_band_k1(r.lower, r.upper); };
    // SkyRL clamps the log-ratio of a token's weight to +-20; for the weight of a sequence it clamps the sum over the sequence
    // to +-20 and not the log-ratios that it adds up. Its criteria clamp nothing.
    log_ratio_clamps clamps;
    clamps.mask = no_clamp;
    clamps.weight = of_weighted_tokens;
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::max, at_most(x(b.outlier).upper)} &&
                           sequence_mask{over<corrected>(k1{}), stat::min, at_least(x(b.outlier).lower)} &&
                           token_mask{over<corrected>(k1{}), x(b.token)} &&
                           over_passing(sequence_mask{over<corrected>(k1{}), stat::mean, x(b.sequence)}),
                       ppo_clip{}, token_mean{}, weight}
        .clamped(clamps);
}
}  // namespace detail
/// Its stages in order: outliers, token band, token TIS, geometric band over the tokens that the token band left. Reason
/// bits 0 and 1 are outliers below and above, 2 the token band, 3 the geometric band. SkyRL keeps NaN ratios in the first
/// and the last stage.
[[nodiscard]] inline auto skyrl_pipeline(skyrl_bounds const& b = {}) noexcept {
    return detail::skyrl(b, token_weight{truncate_above(b.tis)}, 20);
}
/// With sequence TIS: the product of the ratios that the token band left, truncated; SkyRL's default cap is 5.
[[nodiscard]] inline auto skyrl_pipeline_seq_tis(skyrl_bounds const& b = {.tis = 5.0}) noexcept {
    return detail::skyrl(b, sequence_weight{stat::sum, truncate_above(b.tis), sees::kept_tokens}, no_clamp);
}

// --- AReaL 4aef98d8d, areal/utils/functional/functional.py -----------------------------------------------------------

/// Decoupled PPO with the default RejectionSamplingConfig: tokens whose proximal / rollout ratio exceeds 5 are masked, the
/// others weighted with it; divides by all tokens.
[[nodiscard]] inline auto areal_decoupled(double upper = 5.0) noexcept {
    return masked_loss{token_mask{over<corrected>(k1{}), at_least(-std::log(upper))}, ppo_clip{}, token_mean{},
                       token_weight{}}
        .clamped(no_clamp);
}
/// RejectionSamplingConfig(level = sequence, action = clamp, metric = ratio): nothing is masked, and the geometric mean of
/// proximal / rollout, one weight per sequence, is clamped where it is out of bounds. The same number for agg = mean, for
/// agg = sum if lower <= 1 <= upper, and for agg = max without a lower bound.
[[nodiscard]] inline auto areal_sequence_clamp(double upper = 5.0, double lower = 0.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, sequence_weight{stat::mean, clamp_to(lower, upper)}}
        .clamped(no_clamp);
}

// --- NeMo-RL 7ea279abf, nemo_rl/algorithms/loss/loss_functions.py ----------------------------------------------------

/// Its KL to the reference: k3 with the score-function gradient, coefficient 0.01, clamps 20 and 10, every token.
inline constexpr reference_kl<k3, kl_gradient::score_function> nemo_kl{{}, 0.01, {}, sees::all_tokens, 20.0, 10.0};
[[nodiscard]] inline auto nemo_tis(double upper, double lower = 0.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{clamp_to(lower, upper)}, nemo_kl}.clamped(
        no_clamp);
}
[[nodiscard]] inline auto nemo_icepop(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{zero_outside(lower, upper)}, nemo_kl}.clamped(
        no_clamp);
}
[[nodiscard]] inline auto nemo_seq_mask_tis(double lower = 0.999, double upper = 1.002) noexcept {
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::mean, ratio_band_k1(lower, upper)}, ppo_clip{},
                       token_mean{}, token_weight{}, nemo_kl}
        .clamped(no_clamp);
}
/// Sequences whose mean e^|x| exceeds the threshold leave, the denominator included. Its KL sees kept sequences only.
[[nodiscard]] inline auto nemo_sequence_error(double threshold) noexcept {
    auto kl = nemo_kl;
    kl.tokens = sees::kept_tokens;
    return masked_loss{sequence_mask{over<corrected>(ratio_either_way{}), stat::mean, at_most(threshold)}, ppo_clip{},
                       token_mean{over_kept}, no_weight{}, kl}
        .clamped(no_clamp);
}

}  // namespace presets
TRM_NAMESPACE_END
