// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/masked_loss.hpp>
#include <trm/loss/presets_verl.hpp>
#include <trm/policy/mask_signed.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

/// \file
/// Losses of papers and trainers by name, each pinned to an equation or a commit. A preset is an ordinary masked_loss: change
/// its members freely. Differences that remain are in policy/README.md. Where a trainer has three policies (current, proximal,
/// rollout), set proximal_logp: masks and weights then correct proximal over rollout, and the surrogate moves current over
/// proximal. Denominators are the trainer's; batch-wide counts of several ranks go into `aggregate.divide_by`.

TRM_NAMESPACE_BEGIN
namespace presets {

/// The log-ratio of rollout corrections, and both bounds of a ratio in the space of k1.
inline constexpr ratio_kind corrected = ratio_kind::correction;
[[nodiscard]] inline band ratio_band_k1(double lower, double upper) noexcept {
    return within(-std::log(upper), -std::log(lower));
}

// --- the paper: Trust Region Masking, arXiv 2512.23075 -----------------------------------------------------------------

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

// --- verl 1dda039b9, verl/trainer/config/algorithm.py: RolloutCorrectionConfig's class methods --------------------------

/// verl's PPO: clip 0.2 / 0.2, dual clip 3.
inline constexpr ppo_clip verl_ppo{0.2, 0.2, 3.0};
/// The denominators of `use_v1` trainers (all original tokens); the legacy trainer divides by kept ones: token_mean{over_kept}.
inline constexpr aggregation verl_mean = token_mean{};
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
    return masked_loss{no_mask{}, verl_ppo, verl_mean, sequence_weight{stat::sum, truncate_above(threshold)}};
}
[[nodiscard]] inline auto decoupled_token_icepop(double upper = 5.0, double lower = 0.5) noexcept {
    return masked_loss{no_mask{}, verl_ppo, verl_mean, token_weight{zero_outside(lower, upper)}};
}
[[nodiscard]] inline auto decoupled_seq_is_rs(double is = 2.0, double lower = 0.5, double upper = 2.0) noexcept {
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::sum, within(std::log(lower), std::log(upper))},
                       verl_ppo, verl_mean, sequence_weight{stat::sum, truncate_above(is)}};
}
[[nodiscard]] inline auto decoupled_geo_rs(double lower = 0.999, double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean};
}
[[nodiscard]] inline auto decoupled_geo_rs_seq_tis(double is = 2.0, double lower = 0.999,
                                                   double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean,
                       sequence_weight{stat::sum, truncate_above(is)}};
}
[[nodiscard]] inline auto decoupled_geo_rs_token_tis(double is = 2.0, double lower = 0.999,
                                                     double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), verl_ppo, verl_mean, token_weight{truncate_above(is)}};
}
[[nodiscard]] inline auto decoupled_k3_rs(double threshold = 0.01) noexcept {
    return masked_loss{verl_mean_k3(threshold), verl_ppo, verl_mean};
}
[[nodiscard]] inline auto decoupled_k3_rs_seq_tis(double is = 2.0, double threshold = 0.01) noexcept {
    return masked_loss{verl_mean_k3(threshold), verl_ppo, verl_mean, sequence_weight{stat::sum, truncate_above(is)}};
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
    return masked_loss{no_mask{}, policy_gradient{}, verl_mean, sequence_weight{stat::sum, truncate_above(threshold)}};
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
                       sequence_weight{stat::sum, truncate_above(is)}};
}
[[nodiscard]] inline auto bypass_pg_geo_rs_token_tis(double is = 2.0, double lower = 0.999,
                                                     double upper = 1.001) noexcept {
    return masked_loss{verl_geometric(lower, upper), policy_gradient{}, verl_mean, token_weight{truncate_above(is)}};
}
/// `disabled`: verl's PPO without any correction.
[[nodiscard]] inline auto disabled() noexcept { return masked_loss{no_mask{}, verl_ppo, verl_mean}; }

// --- prime-rl 559b44772, src/prime_rl/trainer/rl/loss.py; sums over all tokens / loss_mask tokens --------------------------

/// DPPO's binary TV and the squared log-ratio on all tokens; adv_tau is the coefficient of the policy term. Two criteria, so
/// that metrics tell the sides apart: reason bit 0 is the high side, bit 1 the low one.
[[nodiscard]] inline auto prime_rl(double low = 0.2, double high = 0.2, double kl_tau = 1e-3,
                                   double adv_tau = 1.0) noexcept {
    return masked_loss{
        advantage_signed{binary_tv{}, at_most(high), band{}} && advantage_signed{binary_tv{}, band{}, at_most(low)},
        over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{}, constant_weight{adv_tau},
        squared_log_ratio{kl_tau}};
}
/// Symmetric: |p - mu| <= threshold whatever the sign of A.
[[nodiscard]] inline auto prime_rl_ipo(double threshold = 0.1, double kl_tau = 1e-3, double adv_tau = 1.0) noexcept {
    return masked_loss{token_mask{binary_tv{}, at_most(threshold)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{},
                       constant_weight{adv_tau}, squared_log_ratio{kl_tau}};
}
/// The teacher component: advantage log f - sg log p, f in ref_logp; drops p - mu < -threshold.
[[nodiscard]] inline auto prime_rl_ref_kl(double threshold = 0.2, double kl_coefficient = 1e-3) noexcept {
    return masked_loss{token_mask{probability_change{}, at_least(-threshold)},
                       over<ratio_kind::current_over_rollout>(reference_gap{}), token_mean{}, no_weight{},
                       squared_log_ratio{kl_coefficient}};
}

// --- slime 624b824a8, examples/train_infer_mismatch_helper/mis.yaml ----------------------------------------------------------

/// Token TIS at 2, normalised to batch mean 1 over original tokens; token rejection of ratios outside [0.5, 2]; a sequence goes
/// if any ratio is below 1e-4. PPO clip 0.2, mean of sequence means.
[[nodiscard]] inline auto slime_mis(double lower = 0.5, double upper = 2.0, double veto_below = 1e-4) noexcept {
    return masked_loss{token_mask{over<corrected>(k1{}), ratio_band_k1(lower, upper)} &&
                           sequence_mask{over<corrected>(k1{}), stat::max, at_most(-std::log(veto_below))},
                       ppo_clip{}, seq_mean_token_mean{}, normalised{token_weight{truncate_above(upper)}}};
}

// --- TRL f2cd57710, trl/trainer/grpo_{trainer,config}.py ---------------------------------------------------------------------

/// TRL's default correction of the sampler: `sequence_mask`, the product of proximal / rollout, 0 above 3.
inline constexpr sequence_weight<stat::sum_t> trl_sequence_mask{{}, {-1.0, 3.0, 0.0, 0.0}};
[[nodiscard]] inline auto trl_grpo(double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, ppo_clip{eps_low, eps_high}, seq_mean_token_mean{}, trl_sequence_mask};
}
[[nodiscard]] inline auto trl_dapo(double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, ppo_clip{eps_low, eps_high}, token_mean{}, trl_sequence_mask};
}
/// Divides by rows times max_completion_length; TRL counts empty rows too (over_count).
[[nodiscard]] inline auto trl_dr_grpo(double max_completion_length, double eps_low = 0.2,
                                      double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, ppo_clip{eps_low, eps_high}, seq_mean_token_sum_norm{max_completion_length},
                       trl_sequence_mask};
}
/// epsilon_high is an absolute cap of the ratio here.
[[nodiscard]] inline auto trl_cispo(double epsilon_high = 5.0) noexcept {
    return masked_loss{no_mask{}, cispo{0.0, epsilon_high}, token_mean{}, trl_sequence_mask};
}
[[nodiscard]] inline auto trl_sapo() noexcept {
    return masked_loss{no_mask{}, sapo{}, seq_mean_token_mean{}, trl_sequence_mask};
}
/// VESPO refuses sequence weights; with token weights TRL multiplies them into w instead.
[[nodiscard]] inline auto trl_vespo() noexcept { return masked_loss{no_mask{}, vespo{}, token_mean{}}; }
/// LUSPO, arXiv 2602.05261: gspo's term times the length of its sequence, mean over sequences.
[[nodiscard]] inline auto trl_luspo(double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{no_mask{}, gspo{eps_low, eps_high}, seq_mean_token_sum{}, trl_sequence_mask};
}
/// `top_entropy_quantile`: the policy term of the share of tokens with the largest entropy, which the batch brings in `given`
/// (logits/log_prob.hpp computes it). Denominators and KL see every token.
[[nodiscard]] inline auto trl_top_entropy(double share = 0.2, double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{top_share_mask{given{}, share}, ppo_clip{eps_low, eps_high}, token_mean{}, trl_sequence_mask};
}
/// Off-policy sequence masking (DeepSeek-V3.2): drops the tokens with A < 0 where mean_t(log mu - log p) > delta. The
/// threshold has no default in TRL, 1e-4 in slime.
[[nodiscard]] inline auto trl_opsm(double delta, double eps_low = 0.2, double eps_high = 0.2) noexcept {
    return masked_loss{signed_sequence_mask{k1{}, stat::mean, at_most(delta)}, ppo_clip{eps_low, eps_high},
                       token_mean{}, trl_sequence_mask};
}

// --- OpenRLHF 3c3be623, openrlhf/models/loss.py ------------------------------------------------------------------------------

/// Clamps on both sides: weights below 0.5 are raised to 0.5.
[[nodiscard]] inline auto openrlhf_tis(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{clamp_to(lower, upper)}};
}
[[nodiscard]] inline auto openrlhf_icepop(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{zero_outside(lower, upper)}};
}
/// Geometric-mean filter of sequences, then the raw token ratio.
[[nodiscard]] inline auto openrlhf_seq_mask_tis(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::mean, ratio_band_k1(lower, upper)}, ppo_clip{},
                       token_mean{}, token_weight{}};
}

// --- SkyRL a9564572e, off_policy_correction_utils.py -------------------------------------------------------------------------

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
[[nodiscard]] auto skyrl(skyrl_bounds const& b, Weight weight) noexcept {
    auto const x = [](band r) { return ratio_band_k1(r.lower, r.upper); };
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::max, at_most(x(b.outlier).upper)} &&
                           sequence_mask{over<corrected>(k1{}), stat::min, at_least(x(b.outlier).lower)} &&
                           token_mask{over<corrected>(k1{}), x(b.token)} &&
                           over_passing(sequence_mask{over<corrected>(k1{}), stat::mean, x(b.sequence)}),
                       ppo_clip{}, token_mean{}, weight};
}
}  // namespace detail
/// Its stages in order: outliers, token band, token TIS, geometric band over the tokens that the token band left. Reason
/// bits 0 and 1 are outliers below and above, 2 the token band, 3 the geometric band. SkyRL keeps NaN ratios in the first
/// and the last stage.
[[nodiscard]] inline auto skyrl_pipeline(skyrl_bounds const& b = {}) noexcept {
    return detail::skyrl(b, token_weight{truncate_above(b.tis)});
}
/// With sequence TIS: the product of the ratios that the token band left, truncated; SkyRL's default cap is 5.
[[nodiscard]] inline auto skyrl_pipeline_seq_tis(skyrl_bounds const& b = {.tis = 5.0}) noexcept {
    return detail::skyrl(b, sequence_weight{stat::sum, truncate_above(b.tis), sees::kept_tokens});
}

// --- AReaL 4aef98d8d, areal/utils/functional/functional.py --------------------------------------------------------------------

/// Decoupled PPO with the default RejectionSamplingConfig: tokens whose proximal / rollout ratio exceeds 5 are masked, the
/// others weighted with it; divides by all tokens.
[[nodiscard]] inline auto areal_decoupled(double upper = 5.0) noexcept {
    return masked_loss{token_mask{over<corrected>(k1{}), at_least(-std::log(upper))}, ppo_clip{}, token_mean{},
                       token_weight{}};
}
/// RejectionSamplingConfig(level = sequence, action = clamp, metric = ratio): nothing is masked, and the geometric mean of
/// proximal / rollout, one weight per sequence, is clamped where it is out of bounds. The same number for agg = mean, for
/// agg = sum if lower <= 1 <= upper, and for agg = max without a lower bound.
[[nodiscard]] inline auto areal_sequence_clamp(double upper = 5.0, double lower = 0.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, sequence_weight{stat::mean, clamp_to(lower, upper)}};
}

// --- NeMo-RL 7ea279abf, nemo_rl/algorithms/loss/loss_functions.py ---------------------------------------------------------------

/// Its KL to the reference: k3 with the score-function gradient, coefficient 0.01, clamps 20 and 10, every token.
inline constexpr reference_kl<k3, kl_gradient::score_function> nemo_kl{{}, 0.01, {}, sees::all_tokens, 20.0, 10.0};
[[nodiscard]] inline auto nemo_tis(double upper, double lower = 0.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{clamp_to(lower, upper)}, nemo_kl};
}
[[nodiscard]] inline auto nemo_icepop(double lower = 0.5, double upper = 5.0) noexcept {
    return masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{zero_outside(lower, upper)}, nemo_kl};
}
[[nodiscard]] inline auto nemo_seq_mask_tis(double lower = 0.999, double upper = 1.002) noexcept {
    return masked_loss{sequence_mask{over<corrected>(k1{}), stat::mean, ratio_band_k1(lower, upper)}, ppo_clip{},
                       token_mean{}, token_weight{}, nemo_kl};
}
/// Sequences whose mean e^|x| exceeds the threshold leave, the denominator included. Its KL sees kept sequences only.
[[nodiscard]] inline auto nemo_sequence_error(double threshold) noexcept {
    auto kl = nemo_kl;
    kl.tokens = sees::kept_tokens;
    return masked_loss{sequence_mask{over<corrected>(ratio_either_way{}), stat::mean, at_most(threshold)}, ppo_clip{},
                       token_mean{over_kept}, no_weight{}, kl};
}

// --- methods without a trainer of their own -------------------------------------------------------------------------------------

/// KPop: token mask on KL(mu || p) + KL(p || mu) of the sampled token, threshold 0.1. The proposals clamp probabilities to
/// [1e-6, 1 - 1e-6]; here they are exact.
[[nodiscard]] inline auto kpop(double threshold = 0.1) noexcept {
    return masked_loss{token_mask{bidirectional_binary_kl{}, at_most(threshold)},
                       over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{}};
}
/// M2PO, arXiv 2510.01161; AReaL: drops the largest squared log-ratios, proximal over rollout, until their mean is below the
/// limit, and divides by what is kept.
[[nodiscard]] inline auto m2po(double limit) noexcept {
    return masked_loss{budget_mask{over<corrected>(k2{}), limit / 2}, ppo_clip{}, token_mean{over_kept}};
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
