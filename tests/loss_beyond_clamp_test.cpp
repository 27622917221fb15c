// SPDX-License-Identifier: Apache-2.0
// Whole losses where the log-ratio clamp acts: every criterion, weight, surrogate and penalty of the catalogue over batches
// in which a third of the tokens lies beyond the clamp, for clamps from 2 to 80, and for stages with clamps of their own. Composed at run time they must agree with
// the oracle; composed at compile time, which some are, with the former in every bit.
#include "any_loss_parity.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/to_spec.hpp>

using namespace trm;

namespace {

/// Every stage as its trainers have it, and none like another.
constexpr log_ratio_clamps of_stages(clamp_range mask, clamp_range weight, clamp_range weight_sequence,
                                     clamp_range surrogate, clamp_range surrogate_sequence, clamp_range penalty) {
    log_ratio_clamps c;
    c.mask = mask;
    c.weight = weight;
    c.weight_sequence = weight_sequence;
    c.surrogate = surrogate;
    c.surrogate_sequence = surrogate_sequence;
    c.penalty = penalty;
    return c;
}
constexpr log_ratio_clamps clamps[] = {2,
                                       5,
                                       20,
                                       80,
                                       of_stages(20, no_clamp, 15, {-80, 20}, {-80, 10}, 5),
                                       of_stages(3, {-2, 6}, {-7, 1}, {-9, 0.5}, {-0.25, 1.5}, {-1, 40})};

/// Ordinary tokens, and pairs of log-probabilities that are far apart: near 0 against the smallest, or anywhere between.
template <class T>
batches::ragged<T> hard(std::uint64_t seed) {
    auto b = batches::make<T>({{0, 1, 16, 17, 5, 33, 2, 40, 64, 3, 90, 7, 130}, true, 0.3, 0.0}, seed);
    batches::random r(seed + 1000);
    double const levels[] = {-1e-6, -0.01, -0.4375, -1, -3, -17, -20.5, -24.5, -31, -47, -60, -84, -95, -300};
    auto const level = [&] { return T(levels[r.below(std::size(levels))] * (1 + 1e-3 * r.uniform())); };
    for (std::size_t i = 0; i < b.tokens(); ++i) {
        if (b.mask[i] == 0 || r.uniform() < 0.5) continue;
        b.logp[i] = level();
        b.rollout[i] = level();
        b.proximal[i] = r.uniform() < 0.5 ? level() : T((b.logp[i] + b.rollout[i]) / 2);
        b.ref[i] = r.uniform() < 0.5 ? level() : T(b.logp[i] * T(1.01));
    }
    return b;
}

/// Decisions must not be nearer than rounding: relative to sums of log-ratios as large as the clamp.
template <class T>
parity::bounds bounds_at(double clamp) {
    parity::bounds b = parity::bounds_of<T>;
    double const u = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
    b.term += 2 * clamp * u;
    b.product += 100 * clamp * u;
    b.tiny = 1e-34;  // sapo and the range of float
    return b;
}

enum class compiled : bool { no, yes };
template <class T, compiled Compiled, class Loss>
void compare(Loss loss, std::uint64_t seed, bool product = false) {
    auto const b = hard<T>(seed);
    auto view = b.view();
    std::vector<std::uint8_t> marks(b.tokens());
    for (std::size_t t = 0; t < marks.size(); ++t) marks[t] = t % 7 == 3;
    selection_view const chosen{.marks = marks};
    view.token_weights = {};
    if ((needs_of(loss.surrogate) & need::advantage) == 0) view.advantages = {};
    for (bool const proximal : {true, false})
        for (log_ratio_clamps const& clamp : clamps) {
            INFO("clamp " << &clamp - clamps << (proximal ? ", proximal" : ""));
            if (!proximal) view.proximal_logp = {};
            loss.options.log_ratio_clamp = clamp;
            auto const bounds = bounds_at<T>(clamp.widest());
            auto const got = parity::run_of<T>(spec_loss(to_spec(loss)), view, 1, chosen);
            auto const want = reference::evaluate(loss, view, 1, chosen);
            parity::check(got, want, view, product ? bounds.product : bounds.term, bounds);
            CHECK(want.diagnostics.max_x == clamp.mask.upper);
            CHECK(want.diagnostics.kept_tokens > 0);
            if constexpr (Compiled == compiled::yes)
                CHECK(any_parity::difference(got, parity::run_of<T>(loss, view, 1, chosen)) == "");
        }
}
template <compiled Compiled = compiled::yes, class Loss>
void compare_both(Loss const& loss, std::uint64_t seed, bool product = false) {
    compare<double, compiled::no>(loss, seed, product);
    INFO("f32");
    compare<float, Compiled>(loss, seed, product);
}
template <class S, class W = no_weight, class... Ps>
void surrogate(S s, std::uint64_t seed, bool product = false, W w = {}, Ps... p) {
    compare_both<compiled::no>(masked_loss{token_mask{binary_tv{}, at_most(0.731)}, s, seq_mean_token_mean{}, w, p...},
                               seed, product);
}

}  // namespace

TEST_CASE("token criteria beyond the clamp: every divergence", "[loss][parity]") {
    compare_both(
        masked_loss{token_mask{k1{}, within(-19.3, 19.1)} && token_mask{k2{}, at_most(163.7)} &&
                        token_mask{k3{}, at_most(1.21e7)} && token_mask{abs_log_ratio{}, at_most(18.3)} &&
                        token_mask{ratio{}, within(1.3e-8, 9.1e7)} && token_mask{binary_tv{}, at_most(0.931)} &&
                        token_mask{binary_kl{}, at_most(9.7)} && token_mask{bidirectional_binary_kl{}, at_most(16.1)} &&
                        token_mask{probability_change{}, at_least(-0.953)} &&
                        token_mask{ratio_either_way{}, at_most(7.7e7)} && token_mask{k3_reversed{}, at_most(3.3e7)} &&
                        token_mask{jensen_shannon{}, at_most(8.9)} && dppo_kl(0.31, 0.11) &&
                        only_away(token_mask{bidirectional_binary_kl{}, at_most(17.3)}),
                    importance_ratio{}, token_mean{over_kept}},
        1);
}

TEST_CASE("sequence criteria beyond the clamp", "[loss][parity]") {
    compare_both(masked_loss{sequence_mask{binary_kl{}, stat::mean, at_most(9.3)} &&
                                 sequence_mask{bidirectional_binary_kl{}, stat::max, at_most(217.3)} &&
                                 sequence_mask{k1{}, stat::sum, within(-391.7, 433.1)} &&
                                 sequence_mask{k1{}, stat::min, at_least(-71.9)} &&
                                 sequence_mask{jensen_shannon{}, stat::mean, at_most(12.7)} &&
                                 over_passing(sequence_mask{binary_kl{}, stat::sum, at_most(741.0)}) &&
                                 sequence_mask{over<ratio_kind::correction>(k2{}), stat::max, at_most(3100.7)} &&
                                 token_mask{bidirectional_binary_kl{}, at_most(187.1)},
                             ppo_clip{0.2, 0.28, 3.0}, token_mean{}},
                 3);
}

TEST_CASE("selections beyond the clamp", "[loss][parity]") {
    compare_both(
        masked_loss{prefix_mask{binary_kl{}, at_most(41.3)} && group_mask{binary_kl{}, stat::mean, at_most(17.9)} &&
                        signed_sequence_mask{bidirectional_binary_kl{}, stat::mean, at_most(21.7)} &&
                        quantile_mask{binary_kl{}, 0.9, at_most(37.1)} && top_mean_mask{k2{}, 3, at_most(2911.3)} &&
                        budget_mask{binary_tv{}, 0.417} && top_share_mask{bidirectional_binary_kl{}, 0.91} &&
                        clip_cov{0.05, 50.0, 0.02, 0.2, 0.28, 5} && length_neutral_mask{1e34, 200, 0.1, 0.05},
                    policy_gradient{}, token_mean{}},
        2);
}

TEST_CASE("weights beyond the clamp", "[loss][parity]") {
    surrogate(policy_gradient{}, 3, false, token_weight{});
    surrogate(policy_gradient{}, 4, false, token_weight{clamp_to(1e-6, 1.7e6)});
    surrogate(policy_gradient{}, 5, false,
              over<ratio_kind::current_over_rollout>(token_weight{zero_outside(1e-30, 1e30)}));
    surrogate(policy_gradient{}, 6, true, sequence_weight{stat::sum});
    surrogate(policy_gradient{}, 7, true, sequence_weight{stat::mean, truncate_above(2.9), sees::kept_tokens});
    surrogate(policy_gradient{}, 8, false, constant_weight{0.7});
}

TEST_CASE("surrogates of one token beyond the clamp", "[loss][parity]") {
    surrogate(importance_ratio{}, 11);
    surrogate(ppo_clip{0.2, 0.28, 3.0}, 12);
    surrogate(cispo{0.3, 5e9}, 13);
    surrogate(dppo_score(), 14);
    surrogate(reference_gap{}, 15);
    surrogate(dro{0.7}, 16, true);
    surrogate(kl_cov{0.3}, 17, true);
    surrogate(sapo{1.0, 1.05}, 18, true);
    surrogate(up_grpo{0.2, 3.1}, 19);
    surrogate(topr_token{0.2, 5, 0.1, batches::inf}, 20);
    surrogate(delight{0.7}, 110, true);
}

TEST_CASE("surrogates of sequences beyond the clamp", "[loss][parity]") {
    surrogate(gspo{0.2, 0.3, 3.1}, 21, true);
    surrogate(gspo{0.99, 1e9}, 22, true, token_weight{truncate_above(1.7)});
    surrogate(gspo_token{0.99, 1e9}, 23, true);
    surrogate(gmpo{}, 24, true);
    surrogate(gmpo{90, 90}, 25, true);
    surrogate(vespo{}, 26, true);
    surrogate(vespo{1000.0, 10, 12.0, 3}, 27, true);  // log phi would be 3600 at its largest
    surrogate(topr{0.2, 5, 0.1, batches::inf}, 28, true);
    surrogate(topr_geometric{0.2, 5, 0.1, batches::inf}, 29, true);
    surrogate(vespo_folded{}, 210, true);
    surrogate(sapo_sequence{}, 211, true);
    surrogate(cispo_sequence{0.3, 5}, 212, true);
}

TEST_CASE("penalties beyond the clamp", "[loss][parity]") {
    using sees::all_tokens, sees::kept_tokens;
    surrogate(policy_gradient{}, 31, false, no_weight{}, kl_penalty{k1{}, 0.1}, kl_penalty{k2{}, 0.2, kept_tokens},
              kl_penalty{abs_log_ratio{}, 0.4}, squared_log_ratio{0.5, kept_tokens});
    surrogate(policy_gradient{}, 32, false, no_weight{}, kl_penalty{k3{}, 0.3});
    using namespace kl_gradient;
    surrogate(policy_gradient{}, 33, false, no_weight{}, reference_kl{k3{}, 0.1, pathwise{}, all_tokens, 7.0, 31.3},
              reference_kl{k3{}, 0.2, straight_through{}, kept_tokens, 5.0, 1.3},
              reference_kl{k3{}, 0.3, score_function{}, all_tokens, 12.0},
              reference_kl{k3{}, 0.4, importance<>{}, all_tokens, 3.0},
              reference_kl{k1{}, 0.5, importance<ratio_kind::current_over_rollout>{}, kept_tokens, 80.0});
    surrogate(policy_gradient{}, 34, true, no_weight{}, reference_kl{k3{}, 0.3, importance_of_sequence{}});
}

TEST_CASE("sums and shared gradients with clamps by stage, composed at compile time", "[loss][parity]") {
    compare_both(masked_loss{sequence_mask{binary_kl{}, stat::mean, at_most(9.3)} &&
                                 over_passing(sequence_mask{k2{}, stat::mean, at_most(1711.3)}) &&
                                 token_mask{k1{}, within(-19.3, 19.1)},
                             gspo{0.99, 1e9}, token_mean{}, token_weight{truncate_above(1.7)}, squared_log_ratio{0.01}},
                 42, true);
    compare_both(masked_loss{no_mask{}, vespo{}, token_mean{}, sequence_weight{stat::sum, truncate_above(2.9)}}, 43,
                 true);
    compare_both(masked_loss{no_mask{}, over<ratio_kind::current_over_rollout>(importance_ratio{}), token_mean{},
                             normalised{over<ratio_kind::current_over_rollout>(token_weight{clamp_to(1e-6, 1.7e6)})}},
                 44, true);
}

TEST_CASE("weights, penalties and a surrogate beyond the clamp, composed at compile time", "[loss][parity]") {
    compare_both(masked_loss{sequence_mask{binary_kl{}, stat::mean, at_most(9.3)}, ppo_clip{0.2, 0.28, 3.0},
                             token_mean{}, token_weight{clamp_to(1e-6, 1.7e6)}, kl_penalty{k3{}, 0.3},
                             reference_kl{k3{}, 0.4, kl_gradient::importance<>{}, sees::all_tokens, 3.0}},
                 41, true);
}
