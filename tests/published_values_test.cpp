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
    std::vector<double> logp, proximal, rollout;
    std::vector<std::uint8_t> mask;
};
/// An ordinary one; one with a hole and an empty row; one with a mean log-ratio of 12 and an advantage of 0.
small_batch const batches[3] = {
    {{3, 2},
     {0.7, -1.1},
     {-0.9, -1.4, -0.3, -2.1, -0.6},
     {-1, -1.3, -0.7, -1.9, -0.5},
     {-1.25, -1.2, -0.75, -1.8, -0.45},
     {1, 1, 1, 1, 1}},
    {{4, 2, 3},
     {-0.4, 1.5, 0.8},
     {-0.2, -1.1, -0.8, -3, -0.4, -0.6, -1.7, -0.25, -0.95},
     {-0.6, -1, -0.9, -2.6, -0.5, -0.7, -1.5, -0.3, -1.2},
     {-0.5, -1.1, -0.9, -2.9, -0.45, -0.8, -1.55, -0.2, -1},
     {1, 0, 1, 1, 0, 0, 1, 1, 1}},
    {{2, 1, 2},
     {-2, 1, 0},
     {-1, -2, -0.7, -0.9, -1.1},
     {-13, -14, -0.9, -0.8, -1.2},
     {-12.5, -14.25, -0.6, -0.9, -1},
     {1, 1, 1, 1, 1}},
};

/// In `text`, ROWS is the number of rows, empty ones included.
struct published {
    char const* text;
    double loss[3];
};
/// l = log p - log q, r = e^l (p current, q proximal, mu rollout); clip(r) to [0.8, 1.2].
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
};

double loss_of(std::string text, small_batch const& b) {
    for (auto at = text.find("ROWS"); at != std::string::npos; at = text.find("ROWS"))
        text.replace(at, 4, std::to_string(b.lengths.size()));
    INFO(text);
    spec_result const parsed = parse_spec(text);
    INFO(parsed.message);
    REQUIRE(parsed.ok());
    std::vector<std::int64_t> cu{0};
    for (int n : b.lengths) cu.push_back(cu.back() + n);
    batch_view<double> view;
    view.logp = b.logp;
    view.proximal_logp = b.proximal;
    view.rollout_logp = b.rollout;
    view.loss_mask = b.mask;
    view.sequence_advantages = b.advantages;
    view.layout = packed(cu);
    result const r = spec_loss(parsed.spec)(view, outputs<double>{});
    REQUIRE(r.status.ok());
    return r.loss;
}

}  // namespace

TEST_CASE("trainers' functions on three small batches", "[loss][parity]") {
    for (published const& p : functions)
        for (int i = 0; i < 3; ++i) {
            double const got = loss_of(p.text, batches[i]), want = p.loss[i];
            INFO(p.text << ", batch " << i << ": " << got << ", expected " << want);
            CHECK(std::fabs(got - want) <= 1e-10 * std::fmax(1, std::fabs(want)));
        }
}
