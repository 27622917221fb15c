// SPDX-License-Identifier: Apache-2.0
// Values of trainers' functions on three small batches, worked out from the formulas in the comments in double precision, against
// the texts that say the same.
#include "catch.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>

#include <string>
#include <vector>

using namespace trm;

namespace {

struct small_batch {
    std::vector<int> lengths;
    std::vector<double> advantages;  ///< of sequences
    std::vector<double> logp, proximal, rollout, ref;
    std::vector<std::uint8_t> mask;
    std::vector<std::int32_t> prompts;
};
/// An ordinary one; one with a hole and an empty row; one with a mean log-ratio of 12 and an advantage of 0.
small_batch const batches[3] = {
    {{3, 2},
     {0.7, -1.1},
     {-0.9, -1.4, -0.3, -2.1, -0.6},
     {-1, -1.3, -0.7, -1.9, -0.5},
     {-1.25, -1.2, -0.75, -1.8, -0.45},
     {-1.1, -1.2, -0.5, -2, -0.9},
     {1, 1, 1, 1, 1},
     {0, 0}},
    {{4, 2, 3},
     {-0.4, 1.5, 0.8},
     {-0.2, -1.1, -0.8, -3, -0.4, -0.6, -1.7, -0.25, -0.95},
     {-0.6, -1, -0.9, -2.6, -0.5, -0.7, -1.5, -0.3, -1.2},
     {-0.5, -1.1, -0.9, -2.9, -0.45, -0.8, -1.55, -0.2, -1},
     {-0.3, -1, -1.1, -2.7, -0.5, -0.65, -1.4, -0.35, -1.05},
     {1, 0, 1, 1, 0, 0, 1, 1, 1},
     {0, 1, 1}},
    {{2, 1, 2},
     {-2, 1, 0},
     {-1, -2, -0.7, -0.9, -1.1},
     {-13, -14, -0.9, -0.8, -1.2},
     {-12.5, -14.25, -0.6, -0.9, -1},
     {-1.2, -1.8, -0.6, -1.1, -0.95},
     {1, 1, 1, 1, 1},
     {0, 1, 0}},
};

/// In `text`, ROWS is the number of rows, empty ones included, TOKENS that of loss_mask tokens.
struct published {
    char const* text;
    double loss[3];
    bool two_policies = false;  ///< without proximal_logp
};
/// l = log p - log q, r = e^l (p current, q proximal, mu rollout, f reference); clip(r) to [0.8, 1.2]. Means over tokens unless the
/// comment says otherwise; log-ratios are clamped at 20 in verl and SkyRL.
published const functions[] = {
    // TRL sapo, importance_sampling_level sequence: -A 4/tau sigma(tau (s - 1)), s = exp(mean l), mean of row means.
    {"surrogate: sapo_sequence(ratios=all); aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none",
     {0.2213083825093769, -0.28388403954050773, 1.7995149548542313}},
    // TRL cispo, sequence, epsilon_high 1.02: -sg(min(s, 1.02)) A log p, token mean.
    {"surrogate: cispo_sequence(upper=1.02, ratios=all); log_ratio_clamp: none",
     {-0.13998053799648436, 0.12239999999999999, -1.0812000000000002}},
    // TRL vespo with token_truncate at 3: log w = sum clamp(l, 20) + sum log min(q / mu, 3), within [log 1e-8, 20].
    {"surrogate: vespo_folded; weight: token(truncate_above=3); weight_clamp: none",
     {-0.21526796032924062, 0.109241082138736, 0.15249474988960354}},
    // TRL grpo with delta 0.9: -min(min(r, delta) A, clip(r) A), mean of row means.
    {"surrogate: ppo_clip(0.2, -0.1, 1.2); aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none",
     {0.15898124705633393, -0.094768470581347422, 0.5}},
    // The same with delta 1.1, between 1 and 1 + epsilon_high.
    {"surrogate: ppo_clip(0.2, 0.1, 1.2); aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none",
     {0.11175021495213866, -0.12599256803699396, 0.43333333333333329}},
    // TRL luspo with token_truncate at 3: PPO's term of s times min(q / mu, 3) of each token, summed, mean over rows.
    {"surrogate: gspo(0.2, 0.2, ratios=all); weight: token(truncate_above=3); aggregate: seq_mean_token_sum; "
     "divide_by: ROWS; log_ratio_clamp: none",
     {-0.41715455752460784, -0.31636946603408544, 205131.07692636069}},
    // Stable-RL ppo_ablation_positive, threshold 0.3: A > 0 rejected iff p / mu > 1.28 and mu >= 0.3, else iff p / mu < 0.8; -A min(p / mu, 3) log p.
    {"mask: away_likely(ratio <= 1.28, negative >= 0.8, least_positive=0.3); surrogate: cispo@current_over_rollout(0, "
     "3); surrogate_clamp: [-inf, 20]",
     {0.22566028583792724, 0.10205441100842687, -3.4733227614749658}},
    // Stable-RL ppo_ablation_negative, alike with the condition on A <= 0.
    {"mask: away_likely(ratio <= 1.28, negative >= 0.8, least_negative=0.3); surrogate: cispo@current_over_rollout(0, "
     "3); surrogate_clamp: [-inf, 20]",
     {-0.29540024323977687, 0.10205441100842687, -3.4733227614749658}},
    // Stable-RL ppo_ablation_both.
    {"mask: away_likely(ratio <= 1.28, negative >= 0.8, 0.3, 0.3); surrogate: cispo@current_over_rollout(0, 3); "
     "surrogate_clamp: [-inf, 20]",
     {-0.11659773211702647, 0.10205441100842687, -3.4733227614749658}},
    // slime gspo with token TIS in mask mode, 0.85 to 1.15: s over the original mask, weights raw, original denominators, mean over rows.
    {"mask: ratio@correction in [0.85, 1.15]; weight: token; surrogate: gspo(0.2, 0.2, ratios=all); aggregate: "
     "seq_mean_token_mean; divide_by: ROWS; surrogate_clamp: none",
     {0.1785583554663876, -0.092240887580466724, 0}},
    // slime sequence TIS at 2, batch-normalised: the mean weight over all rows, empty ones as 0.
    {"weight: normalised_product(truncate_above=2, rows=all); surrogate: ppo_clip; aggregate: seq_mean_token_mean; "
     "divide_by: ROWS; surrogate_clamp: none; weight_clamp: none",
     {-0.047506676722794683, -0.042178365766825321, 104562.08936209785}},
    // verl vanilla, seq-mean-token-mean: row means over n + 1e-8, mean over rows.
    {"surrogate: ppo_clip(dual_clip=3); aggregate: seq_mean_token_mean; divide_by: ROWS; sequence_mean_epsilon: 1e-8",
     {0.09948027338841009, -0.12191146995767704, 1.599999994}},
    // verl gspo: log s at most 10, no clamp of tokens.
    {"surrogate: gspo_token(0.2, 0.2, ratios=all); aggregate: seq_mean_token_mean; divide_by: ROWS; surrogate_clamp: "
     "none; surrogate_sequence_clamp: [-inf, 10]; sequence_mean_epsilon: 1e-8",
     {0.073468601871401196, -0.13785268134230094, 14683.910456453594}},
    // verl geo_mean, 0.2: -mean_i A_i exp(mean z), both means over n + 1e-8, all rows.
    {"surrogate: gmpo(0.2, 0.2); aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none; "
     "surrogate_mean_epsilon: 1e-8; sequence_mean_epsilon: 1e-8",
     {0.099260699340576075, -0.12379223198099744, 108502.78009238077}},
    // NeMo-RL, token_level_loss false: row means over n + 1e-8, their sum over the valid rows + 1e-8.
    {"surrogate: ppo_clip; aggregate: seq_mean_token_mean; log_ratio_clamp: none; mean_epsilon: 1e-8",
     {0.099480272891008734, -0.18286720402217954, 108502.793375148}},
    // verl vanilla, token-mean: min(max(-A r, -A clip(r)), -3 A) for A < 0.
    {"surrogate: ppo_clip(dual_clip=3)", {-0.0702161694105579, -0.18286720554607291, 2.16}},
    // The same with token TIS at 2: times min(q / mu, 2).
    {"weight: token(truncate_above=2); surrogate: ppo_clip(dual_clip=3)",
     {-0.13756954306165486, -0.13692745583508314, 2.0908709187168375}},
    // With sequence TIS at 1.2: times min(exp(sum log q - log mu), 1.2).
    {"weight: product(truncate_above=1.2); weight_clamp: none; surrogate: ppo_clip(dual_clip=3)",
     {-0.2129138484529239, -0.047029663327372094, 1.6913255064077592}},
    // With IcePop "0.9_1.2": q / mu inside, else 0.
    {"weight: token(zero_outside=[0.9, 1.2]); surrogate: ppo_clip(dual_clip=3)",
     {0.061099913741401154, -0.07792300507999288, 0.0}},
    // vanilla, seq-mean-token-sum.
    {"surrogate: ppo_clip(dual_clip=3); aggregate: seq_mean_token_sum; divide_by: ROWS",
     {-0.17554042352639476, -0.36573441109214583, 3.6}},
    // vanilla, seq-mean-token-sum-norm with 4.
    {"surrogate: ppo_clip(dual_clip=3); aggregate: seq_mean_token_sum_norm(4); divide_by: ROWS",
     {-0.04388510588159869, -0.09143360277303646, 0.9}},
    // verl dppo_tv at 0.1: A > 0 kept iff p - q <= 0.1, else iff p - q >= -0.1; -A min(r, 3) log p.
    {"mask: away(binary_tv@surrogate <= 0.1); surrogate: cispo(lower=0, upper=3)",
     {-0.18109247749019455, 0.17036710588427795, -3.4290036138575766}},
    // verl dppo_kl at 0.02, with exact complements: kept iff KL(q || p) of this token or not is inside, or it moves back.
    {"mask: away(binary_kl@surrogate <= 0.02); surrogate: cispo(lower=0, upper=3)",
     {-0.18109247749019455, 0.17036710588427795, -3.4290036138575766}},
    // verl sapo: -A 4 / tau sigma(tau (r - 1)), row means over n + 1e-8, mean over rows.
    {"surrogate: sapo; aggregate: seq_mean_token_mean; divide_by: ROWS; sequence_mean_epsilon: 1e-8",
     {0.21435705423684182, -0.28138364131996424, 1.7995149495574942}},
    // verl gpg: -A log p.
    {"surrogate: policy_gradient", {-0.23000000000000015, 0.11999999999999995, -1.06}},
    // verl kl_cov, 0.1 and 0.4: -A r, and + 0.1 |l| on the int(0.4 N) tokens of largest (A - mean A)(log p - mean log p).
    {"surrogate: kl_cov(coefficient=0.1, fraction=0.4); surrogate_clamp: none",
     {-0.09907162708033579, -0.19521592470206248, 130203.8328546515}},
    // verl, slime, NeMo-RL cispo: -clip(r) A log p.
    {"surrogate: cispo(lower=0.8, upper=1.2)", {-0.13069247749019455, 0.1376788916128421, -1.2719999999999998}},
    // verl dro: -(A log p - 0.15 l^2).
    {"surrogate: dro(beta=0.3); surrogate_clamp: none", {-0.22310000000000013, 0.130875, 7.581799999999999}},
    // verl bypass, reinforce with token TIS at 2: -min(p / mu, 2) A log p.
    {"weight: token(truncate_above=2); surrogate: policy_gradient",
     {-0.050728620326439364, 0.10205441100842687, -2.2733227614749656},
     true},
    // verl's kl_loss_type k1, SkyRL's, x = log f - log p clamped at 0.15 and the value at 0.01 (theirs: 20 and 10), times
    // 0.1, beside -A log p.
    {"surrogate: policy_gradient; penalty: reference_kl(k1, 0.1, input_clamp=0.15, output_clamp=0.01)",
     {-0.2298000000000001, 0.12033333333333333, -1.0602}},
    // verl's kl_loss_type k2, SkyRL's, x = log f - log p clamped at 0.15 and the value at 0.01 (theirs: 20 and 10), times
    // 0.1, beside -A log p.
    {"surrogate: policy_gradient; penalty: reference_kl(k2, 0.1, input_clamp=0.15, output_clamp=0.01)",
     {-0.22910000000000008, 0.12074999999999995, -1.0591}},
    // verl's kl_loss_type k3, SkyRL's, x = log f - log p clamped at 0.15 and the value at 0.01 (theirs: 20 and 10), times
    // 0.1, beside -A log p.
    {"surrogate: policy_gradient; penalty: reference_kl(k3, 0.1, input_clamp=0.15, output_clamp=0.01)",
     {-0.22909658163848712, 0.12074187090179793, -1.059096581638487}},
    // verl's kl_loss_type abs, SkyRL's, x = log f - log p clamped at 0.15 and the value at 0.01 (theirs: 20 and 10), times
    // 0.1, beside -A log p.
    {"surrogate: policy_gradient; penalty: reference_kl(abs_log_ratio, 0.1, input_clamp=0.15, output_clamp=0.01)",
     {-0.22900000000000015, 0.12099999999999993, -1.059}},
    // TRL grpo: mean of row means.
    {"surrogate: ppo_clip; aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none",
     {0.09948027450997976, -0.1219114703640486, 108502.79427933594}},
    // TRL dapo, epsilon_high 0.28: mean over tokens; bnpo of one micro-batch.
    {"surrogate: ppo_clip(0.2, 0.28); log_ratio_clamp: none",
     {-0.08141616941055792, -0.19353387221273957, 130203.5888546515}},
    // TRL dr_grpo, max_completion_length 8.
    {"surrogate: ppo_clip; aggregate: seq_mean_token_sum_norm(8); divide_by: ROWS; log_ratio_clamp: none",
     {-0.021942552940799345, -0.04571680138651823, 27125.748569833988}},
    // TRL cispo, epsilon_high 1.1, absolute: -min(r, 1.1) A log p.
    {"surrogate: cispo(lower=0, upper=1.1); log_ratio_clamp: none", {-0.1355440131677261, 0.1525573313697488, -1.166}},
    // TRL sapo.
    {"surrogate: sapo; aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none",
     {0.21435705657098525, -0.28138364225790974, 1.7995149548542313}},
    // TRL grpo at level sequence (GSPO), 0.02 and 0.03: PPO's clip of s = exp(mean l).
    {"surrogate: gspo(0.02, 0.03, ratios=all); aggregate: seq_mean_token_mean; divide_by: ROWS; log_ratio_clamp: none",
     {0.17850000000000005, -0.13681398486485682, 108502.8509460026}},
    // TRL vespo: -phi A log p, phi = exp(lambda + k log w - lambda w), log w = sum l within [log 1e-8, 20].
    {"surrogate: vespo; surrogate_sequence_clamp: [-18.420680743952367, 20]",
     {-0.22030438292808735, 0.05280480911842735, 0.10749390498310947}},
    // TRL OPSM at 0.1: A < 0 dropped iff mean (log mu - log p) > 0.1.
    {"mask: signed(seq_mean_k1 <= 0.1); surrogate: ppo_clip; log_ratio_clamp: none",
     {-0.449401167055625, -0.18286720554607291, 130203.59313520315}},
    // slime OPSM at 0.1: over log q.
    {"mask: signed(seq_mean_k1@current_over_proximal <= 0.1); surrogate: ppo_clip; log_ratio_clamp: none",
     {-0.449401167055625, -0.18286720554607291, 130203.59313520315}},
    // TRL sequence_mask, clip_max 1.2: times exp(sum log q - log mu), 0 above.
    {"weight: product(zero_outside=[0, 1.2]); surrogate: ppo_clip; log_ratio_clamp: none",
     {0.32636755201382606, -0.3187893125847255, 101402.66940822176}},
    // TRL sequence_truncate, 0.9 to 1.2.
    {"weight: product(clamp=[0.9, 1.2]); surrogate: ppo_clip; log_ratio_clamp: none",
     {-0.19801490258618956, -0.09664057267712729, 117183.23382168284}},
    // TRL token_mask, clip_max 1.2.
    {"weight: token(zero_outside=[0, 1.2]); surrogate: ppo_clip; log_ratio_clamp: none",
     {0.061099913741401154, -0.20891992557247, 39486.130607931234}},
    // TRL use_bias_correction_kl: 0.3 r k3, slime's unbiased KL, beside -A log p.
    {"surrogate: policy_gradient; penalty: reference_kl(k3, 0.3, input_clamp=80, gradient=importance); "
     "log_ratio_clamp: none",
     {-0.22344937141305588, 0.1268933396429698, 390.8574556039026}},
    // The same at level sequence: 0.3 s k3, s = exp(mean l).
    {"surrogate: policy_gradient; penalty: reference_kl(k3, 0.3, input_clamp=80, gradient=importance_of_sequence); "
     "log_ratio_clamp: none",
     {-0.22358939955927903, 0.12801517312751176, 390.8574878748218}},
    // OpenRLHF tis, 0.9 to 1.2: small weights are raised.
    {"weight: token(clamp=[0.9, 1.2]); surrogate: ppo_clip; log_ratio_clamp: none; surrogate_clamp: 20",
     {-0.12456880049530761, -0.15792300507999288, 136713.80879196333}},
    // OpenRLHF and NeMo-RL seq-mask-tis, 0.9 to 1.1: raw weights of sequences with exp(mean log q - log mu) inside.
    {"mask: seq_mean_k1@correction in [-0.09531017980432493, 0.10536051565782628]; weight: token; surrogate: ppo_clip; "
     "divide_by: TOKENS; log_ratio_clamp: none; surrogate_clamp: 20",
     {-0.13756954306165486, -0.13692745583508314, 0.0}},
    // OpenRLHF gspo with correction: s over the rollout policy.
    {"surrogate: gspo@current_over_rollout(0.02, 0.03, ratios=all); log_ratio_clamp: none",
     {-0.0013999999999999347, -0.15945758618515615, 114904.29847897468}},
    // SkyRL's stages: outliers beyond 0.5 and 1.5 drop the sequence, tokens within 0.85 to 1.25, TIS at 1.1, geometric
    // mean of the rest within 0.9 to 1.1.
    {"mask: veto@correction(0.5, 1.5) && ratio@correction in [0.85, 1.25] && passing(seq_mean_k1@correction in "
     "[-0.09531017980432493, 0.10536051565782628]); weight: token(truncate_above=1.1); surrogate: ppo_clip",
     {0.06109991374140118, -0.07792300507999289, 0.0}},
    // SkyRL dppo, binary TV 0.1: A = 0 kept; -r A, r over the rollout policy.
    {"mask: away(binary_tv <= 0.1, negative <= 0.1, zero=keep); surrogate: importance_ratio@current_over_rollout",
     {0.2377134579325732, -0.15776999006106548, 123078.64298470579}},
    // SkyRL rollout_is: -A log p p / mu inside 0.8 to 1.2.
    {"weight: token@current_over_rollout(zero_outside=[0.8, 1.2]); surrogate: policy_gradient",
     {0.046857774715176784, 0.12005252844277348, 0.12667723852503435}},
    // SkyRL prompt_mean: mean over prompts of the mean over their tokens; slime's rollout mean with rollouts as prompts.
    {"surrogate: ppo_clip; aggregate: prompt_mean", {-0.0702161694105579, -0.18286720554607291, 81376.79570950195}},
    // AReaL rejection of tokens by ratio, 0.8 to 1.1.
    {"mask: ratio@correction in [0.8, 1.1]; weight: token; surrogate: ppo_clip; log_ratio_clamp: none",
     {0.061099913741401154, -0.20891992557247, 0.0}},
    // by kl_k1, the log-ratio itself, at most 0.1.
    {"mask: k1@correction >= -0.1; weight: token; surrogate: ppo_clip; log_ratio_clamp: none",
     {0.061099913741401154, -0.20891992557247, 39486.130607931234}},
    // by kl_k2.
    {"mask: k2@correction <= 0.006; weight: token; surrogate: ppo_clip; log_ratio_clamp: none",
     {0.061099913741401154, -0.07792300507999288, 0.0}},
    // by kl_k3, which is 1 / r - 1 + log r there.
    {"mask: k3_reversed@correction <= 0.006; weight: token; surrogate: ppo_clip; log_ratio_clamp: none",
     {0.061099913741401154, -0.07792300507999288, 0.0}},
    // AReaL at level sequence, agg mean, 1.05: the geometric mean is the weight.
    {"mask: geometric_ratio@correction <= 1.05; weight: geometric; surrogate: ppo_clip; divide_by: TOKENS; "
     "log_ratio_clamp: none",
     {0.3517864116787187, -0.3766050739322468, 114904.30165008533}},
    // agg sum.
    {"mask: product_ratio@correction <= 1.05; weight: geometric; surrogate: ppo_clip; divide_by: TOKENS; "
     "log_ratio_clamp: none",
     {0.3517864116787187, -0.3766050739322468, 114904.30165008533}},
    // agg max, 1.1.
    {"mask: seq_min_k1@correction >= -0.09531017980432493; weight: geometric; surrogate: ppo_clip; divide_by: TOKENS; "
     "log_ratio_clamp: none",
     {0.3517864116787187, -0.3766050739322468, -0.17779637296361228}},
    // AReaL, action clamp at level sequence.
    {"weight: geometric(clamp=[0.98, 1.03]); surrogate: ppo_clip; log_ratio_clamp: none",
     {-0.09128190437512802, -0.16788654271609504, 127599.52127249907}},
    // AReaL M2PO at 0.017: the largest squares leave until the mean of the rest is below; over what is kept.
    {"mask: budget(k2@correction, limit=0.0085); surrogate: ppo_clip; divide_by: kept; log_ratio_clamp: none",
     {0.10563469890004096, -0.2834406466552875, 0.0}},
    // NeMo-RL tis at 1.2, token level: over N + 1e-8.
    {"weight: token(clamp=[0, 1.2]); surrogate: ppo_clip; total_mean_epsilon: 1e-8; log_ratio_clamp: none",
     {-0.12456880024617001, -0.14491992533093678, 117608.43025383625}},
    // NeMo-RL sequence-level ratios with tis: the weight is the product.
    {"weight: product(clamp=[0, 1.2]); surrogate: gspo(0.02, 0.03, ratios=all); log_ratio_clamp: none",
     {-0.14798272056551504, -0.07273109538216109, 101402.69459604127}},
    // NeMo-RL's sequence error mask at 1.15: mean exp|log mu - log q|; dropped sequences leave the count.
    {"mask: seq_mean_ratio_either_way@correction <= 1.15; surrogate: ppo_clip; divide_by: kept; log_ratio_clamp: none",
     {-0.0702161694105579, -0.8186671598544016, 0}},
    // NeMo-RL's k3 with its clamps (0.15 and 0.01 for 20 and 10), times 0.3.
    {"surrogate: ppo_clip; penalty: reference_kl(k3, 0.3, input_clamp=0.15, output_clamp=0.01, "
     "gradient=score_function); log_ratio_clamp: none",
     {-0.06750591432601902, -0.18064159284067896, 130203.59584545824}},
    // its on-policy approximation: times p / mu.
    {"surrogate: ppo_clip; penalty: reference_kl(k3, 0.3, input_clamp=80, gradient=importance_over_rollout); "
     "log_ratio_clamp: none",
     {-0.06346963459607605, -0.1753994124464413, 130582.90298530573}},
    // prime-rl IPO at 0.1: -r A iff |p - mu| <= 0.1, + 0.001 l^2 on all tokens, over the rollout policy.
    {"mask: binary_tv <= 0.1; surrogate: importance_ratio@current_over_rollout; penalty: squared_log_ratio(0.001); "
     "log_ratio_clamp: none",
     {0.23780895793257323, -0.24773766056613233, -0.12450098360719195}},
    // prime-rl until August 2026, at 0.1: dropped iff p - mu > 0.1 for A > 0, < -0.1 else.
    {"mask: away(binary_tv <= 0.1); surrogate: importance_ratio@current_over_rollout; penalty: "
     "squared_log_ratio(0.001); log_ratio_clamp: none",
     {0.23780895793257323, -0.15774707339439883, 123078.69945120576}},
    // prime-rl IcePop, 0.8 to 1.2: -r A log p inside.
    {"weight: token@current_over_rollout(zero_outside=[0.8, 1.2]); surrogate: policy_gradient; log_ratio_clamp: none",
     {0.046857774715176784, 0.12005252844277348, 0.12667723852503435}},
    // prime-rl ref_kl at 0.1: -(log f - log p) r iff p - mu >= -0.1.
    {"mask: probability_change >= -0.1; surrogate: reference_gap@current_over_rollout; penalty: "
     "squared_log_ratio(0.001); log_ratio_clamp: none",
     {0.1236675734120869, 0.022876848321610566, -4410.5694897289995}},
    // Stable-RL dppo_binary_tv at 0.1: over the rollout policy.
    {"mask: away(binary_tv <= 0.1); surrogate: cispo@current_over_rollout(lower=0, upper=3); surrogate_clamp: [-inf, "
     "20]",
     {-0.29540024323977687, 0.10205441100842687, -3.4733227614749658}},
    // Stable-RL dppo_binary_kl at 0.02.
    {"mask: away(binary_kl <= 0.02); surrogate: cispo@current_over_rollout(lower=0, upper=3); surrogate_clamp: [-inf, "
     "20]",
     {-0.29540024323977687, 0.10205441100842687, -3.4733227614749658}},
    // Stable-RL ppo: A > 0 dropped above 1.2, else below 0.8.
    {"mask: away(ratio in [0.8, 1.2]); surrogate: cispo@current_over_rollout(lower=0, upper=3); surrogate_clamp: "
     "[-inf, 20]",
     {0.046857774715176825, 0.10205441100842687, -3.4733227614749658}},
    // Stable-RL ppo_recompute (MiniRL): the mask over log q.
    {"mask: away(ratio@current_over_proximal in [0.8, 1.2]); surrogate: cispo@current_over_rollout(lower=0, upper=3); "
     "surrogate_clamp: [-inf, 20]",
     {-0.11659773211702647, 0.14986088907465572, -3.6}},
    // slime MIS: TIS at 1.2, rejection within 0.7 to 1.3, veto below 0.6, mean over rows.
    {"mask: ratio@correction in [0.7, 1.3] && veto@correction(0.6, inf); weight: token(truncate_above=1.2); surrogate: "
     "ppo_clip; aggregate: seq_mean_token_mean; divide_by: ROWS; surrogate_clamp: none",
     {0.04299923432203151, -0.13927995038164667, 65101.62024031329}},
    // slime MIS at level geometric.
    {"weight: geometric(truncate_above=1.02); surrogate: ppo_clip; surrogate_clamp: none; weight_clamp: none",
     {-0.10660277871801882, -0.14560937206349633, 114904.30165008533}},
    // ROLL tis: -min(r, 1) A log p.
    {"surrogate: cispo(lower=0, upper=1); log_ratio_clamp: none", {-0.1523440131677261, 0.1448482948238813, -1.06}},
    // ROLL cispo with the unified mask.
    {"mask: away(ratio@surrogate in [0.8, 1.2]); surrogate: cispo(lower=0.8, upper=1.2); log_ratio_clamp: none",
     {-0.18109247749019455, 0.14567889161284217, -1.44}},
    // ROLL filters: tokens by ratio, and sequences by the mean of q - mu.
    {"mask: ratio@correction in [0.8, 1.2] && seq_mean_probability_change@correction in [-0.02, 0.02]; surrogate: "
     "ppo_clip; divide_by: TOKENS; log_ratio_clamp: none",
     {0.0, 0.17313304104779456, 0.0}},
    // by their sum.
    {"mask: seq_sum_probability_change@correction in [-0.06, 0.06]; surrogate: ppo_clip; divide_by: TOKENS; "
     "log_ratio_clamp: none",
     {0.37918499764506713, 0.2264663743811279, 130203.83313520314}},
    // KPop at 0.04: KL(mu || p) + KL(p || mu) of this token or not.
    {"mask: bidirectional_binary_kl <= 0.04; surrogate: importance_ratio@current_over_rollout",
     {0.2377134579325732, -0.247760577232799, -0.18096748360719192}},
    // TOPR of the paper: -A log p, times min(exp(sum l), 1) for A < 0.
    {"surrogate: topr", {-0.07604602308494049, 0.11999999999999995, -1.06}},
};

double loss_of(published const& of, small_batch const& b) {
    std::string text = of.text;
    std::size_t tokens = 0;
    for (auto const m : b.mask) tokens += m;
    for (auto const& [word, number] : {std::pair{std::string("ROWS"), b.lengths.size()}, {"TOKENS", tokens}})
        for (auto at = text.find(word); at != std::string::npos; at = text.find(word))
            text.replace(at, word.size(), std::to_string(number));
    INFO(text);
    spec_result const parsed = parse_spec(text);
    INFO(parsed.message);
    REQUIRE(parsed.ok());
    std::vector<std::int64_t> cu{0};
    for (int n : b.lengths) cu.push_back(cu.back() + n);
    batch_view<double> view;
    view.logp = b.logp;
    if (!of.two_policies) view.proximal_logp = b.proximal;
    view.ref_logp = b.ref;
    view.group_of = b.prompts;
    view.rollout_logp = b.rollout;
    view.loss_mask = b.mask;
    view.sequence_advantages = b.advantages;
    view.layout = packed{cu};
    result const r = spec_loss(parsed.spec)(view, outputs<double>{});
    REQUIRE(r.status.ok());
    return r.loss;
}

}  // namespace

TEST_CASE("trainers' functions on three small batches", "[loss][parity]") {
    for (published const& p : functions)
        for (int i = 0; i < 3; ++i) {
            double const got = loss_of(p, batches[i]), want = p.loss[i];
            INFO(p.text << ", batch " << i << ": " << got << ", expected " << want);
            CHECK(std::fabs(got - want) <= 1e-10 * std::fmax(1, std::fabs(want)));
        }
}
