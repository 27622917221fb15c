// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The keys of each trainer's configuration that reach its loss, by the name of its page.
struct trainer {
    char const* page;
    char const* keys;  ///< separated by spaces
};
inline constexpr trainer trainers[] = {
    {"verl",
     "rollout_is rollout_is_threshold rollout_is_batch_normalize rollout_rs rollout_rs_threshold "
     "bypass_mode loss_type SAFETY_BOUND eps decoupled_token_is decoupled_seq_is decoupled_token_icepop "
     "decoupled_seq_is_rs decoupled_geo_rs decoupled_geo_rs_seq_tis decoupled_geo_rs_token_tis "
     "decoupled_k3_rs decoupled_k3_rs_seq_tis decoupled_k3_rs_token_tis bypass_ppo_clip "
     "bypass_ppo_clip_geo_rs bypass_ppo_clip_k3_rs bypass_pg_is bypass_pg_token_icepop bypass_pg_geo_rs "
     "bypass_pg_geo_rs_seq_tis bypass_pg_geo_rs_token_tis disabled token_k2 seq_mean_k2 seq_sum_k2 "
     "loss_mode clip_ratio clip_ratio_low clip_ratio_high clip_ratio_c loss_agg_mode loss_scale_factor "
     "entropy_coeff use_kl_loss kl_loss_coef kl_loss_type clip_cov_ratio clip_cov_lb clip_cov_ub "
     "kl_cov_ratio dro_beta calculate_entropy calculate_sum_pi_squared use_fused_kernels ppo_epochs "
     "ppo_mini_batch_size entropy_from_logits_chunk_size use_v1"},
    {"trl",
     "beta num_iterations epsilon epsilon_high delta sapo_temperature_pos sapo_temperature_neg vespo_k_pos "
     "vespo_lambda_pos vespo_k_neg vespo_lambda_neg importance_sampling_level loss_type scale_rewards "
     "mask_truncated_completions top_entropy_quantile entropy_coef use_adaptive_entropy entropy_coef_min "
     "entropy_coef_max entropy_coef_delta entropy_target vllm_importance_sampling_correction "
     "vllm_importance_sampling_mode vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min "
     "off_policy_mask_threshold use_bias_correction_kl temperature divergence_type divergence_topk "
     "clip_ratio_c"},
    {"liger",
     "beta epsilon_low epsilon_high loss_type importance_sampling_level sapo_temperature_pos "
     "sapo_temperature_neg temperature delta use_bias_correction_kl vespo_k_pos vespo_lambda_pos "
     "vespo_k_neg vespo_lambda_neg compiled use_ref_model max_completion_length eps_low eps_high reduce "
     "inplace vllm_is_ratio"},
    {"openrlhf",
     "actor.eps_clip actor.eps_clip_low_high actor.dual_clip critic.value_clip "
     "algo.advantage.is_correction_enable algo.advantage.is_correction_threshold "
     "algo.advantage.is_correction_type actor.policy_loss_type algo.kl.init_coef algo.kl.estimator "
     "algo.kl.use_loss algo.kl.target algo.kl.horizon actor.entropy_coef eps"},
    {"skyrl",
     "policy_loss_type loss_reduction eps_clip_low eps_clip_high clip_ratio_c value_clip kl_estimator_type "
     "use_kl_in_reward use_kl_loss kl_loss_coef use_entropy_loss entropy_loss_coef sapo.tau_pos "
     "sapo.tau_neg clip_cov.clip_ratio clip_cov.clip_cov_lb clip_cov.clip_cov_ub kl_cov.kl_cov_frac "
     "kl_cov.ppo_kl_coef cispo.cispo_eps_clip_low cispo.cispo_eps_clip_high cispo.cispo_anchor "
     "dppo.dppo_type dppo.delta_low dppo.delta_high max_seq_len tis_ratio_type token_tis_ratio_clip_high "
     "sequence_tis_ratio_clip_high sequence_mask_metric geo_mask_high geo_mask_low product_mask_high "
     "product_mask_low outlier_token_is_threshold_low outlier_token_is_threshold_high "
     "token_mask_is_threshold_low token_mask_is_threshold_high score_centering.enabled prompt_mean "
     "rollout_is"},
    {"areal",
     "level action metric agg upper lower eps_clip eps_clip_higher c_clip m2_threshold rejection_sampling "
     "importance_sampling_level use_decoupled_loss recompute_logprob prox_logp_method kl_ctl kl_estimator "
     "use_sapo_loss sapo_tau_pos sapo_tau_neg ppo_n_minibatches"},
    {"nemo_rl",
     "disable_ppo_ratio token_level_loss sequence_level_importance_ratios ratio_clip_min ratio_clip_max "
     "ratio_clip_c reference_policy_kl_penalty reference_policy_kl_type kl_input_clamp_value "
     "kl_output_clamp_value use_kl_in_reward use_importance_sampling_correction "
     "truncated_importance_sampling_type truncated_importance_sampling_ratio "
     "truncated_importance_sampling_ratio_min use_on_policy_kl_approximation force_on_policy_ratio "
     "use_cispo positive_example_nll_weight seq_logprob_error_threshold eps icepop score_centering "
     "adaptive_ppo_clip_advantages adaptive_ppo_clip_outer_bound"},
    {"slime",
     "eps_clip eps_clip_high eps_clip_c value_clip kl_coef kl_loss_coef kl_loss_type use_kl_loss "
     "use_unbiased_kl entropy_coef advantage_estimator use_tis tis_clip tis_clip_low "
     "custom_tis_function_path get_mismatch_metrics use_rollout_logprobs use_opsm opsm_delta "
     "log_probs_chunk_size calculate_per_token_loss normalize_advantages use_rs tis_level rs_level "
     "tis_mode tis_lower_bound tis_upper_bound rs_lower_bound rs_upper_bound rs_veto_threshold "
     "tis_batch_normalize"},
    {"prime_rl",
     "dppo_mask_low dppo_mask_high adv_tau kl_tau ipo_threshold fused_lm_head_token_chunk_size "
     "sequence_mask_ratio_low eps ratio_low ratio_high"},
    {"stable_rl", "loss_mode clip_ratio_low clip_ratio_high clip_ratio_c loss_agg_mode eps"},
    {"roll",
     "pg_clip pg_clip_low pg_clip_high dual_clip_loss pg_variant tis topr cispo cispo_use_unified_mask "
     "kimi15 ratio_type segment loss_agg_mode use_kl_loss kl_loss_coef weight_type upper_bound agg_type "
     "ratio_low ratio_high diff_low diff_high entropy_loss_coef"},
};
