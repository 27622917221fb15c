// SPDX-License-Identifier: Apache-2.0
// Every surrogate of surrogates.hpp against the oracle: signs of A mixed within sequences, masks, holes, outliers.
#include "spec_parity.hpp"

#include <trm/policy/surrogates.hpp>

using namespace trm;

namespace {

batches::shape ordinary() {
    return {{0, 1, 16, 17, 5, 31, 0, 33, 64, 2, 3, 50, 90, 7, 130, 500, 1, 300}, true, 0.3, 0.004};
}

/// With and without proximal_logp, masked per token and per sequence.
template <class T, class S>
void compare_surrogate(S const& surrogate, std::uint64_t seed, double bound = parity::bounds_of<T>.term) {
    auto const b = batches::make<T>(ordinary(), seed);
    masked_loss const loss{token_mask{abs_log_ratio{}, at_most(0.9)} && sequence_mask{k2{}, stat::mean, at_most(0.41)},
                           surrogate, seq_mean_token_mean{}};
    auto view = b.view();
    view.token_weights = {};
    if ((needs_of(surrogate) & need::advantage) == 0) view.advantages = {};
    parity::compare_spec<T>(loss, view, bound);
    INFO("without proximal policy");
    view.proximal_logp = {};
    parity::compare_spec<T>(loss, view, bound);
}
template <class S>
void compare_both(S const& surrogate, std::uint64_t seed, double f32_bound = parity::bounds_of<float>.term) {
    compare_surrogate<double>(surrogate, seed);
    INFO("f32");
    compare_surrogate<float>(surrogate, seed, f32_bound);
}

}  // namespace

TEST_CASE("cispo", "[loss][parity]") { compare_both(cispo_around(0.2, 0.28), 1); }
TEST_CASE("dppo_score", "[loss][parity]") { compare_both(dppo_score(1.3), 2); }
TEST_CASE("reference_gap", "[loss][parity]") { compare_both(reference_gap{}, 3); }
TEST_CASE("sapo", "[loss][parity]") {
    compare_both(sapo{}, 4);
    compare_both(sapo{30.0, 7.0}, 5, 2e-5);
}
TEST_CASE("dro", "[loss][parity]") { compare_both(dro{0.7}, 6); }
TEST_CASE("gspo", "[loss][parity]") { compare_both(gspo{0.05, 0.04, 1.2}, 7); }
TEST_CASE("gspo_token", "[loss][parity]") { compare_both(gspo_token{0.05, 0.04, 1.2}, 8); }
TEST_CASE("gmpo", "[loss][parity]") { compare_both(gmpo{0.2, 0.3}, 9); }
TEST_CASE("gspo and gmpo with weights that differ inside a sequence", "[loss][parity]") {
    auto const b = batches::make<double>(ordinary(), 12);
    auto const mask = token_mask{abs_log_ratio{}, at_most(0.9)} && sequence_mask{k2{}, stat::mean, at_most(0.41)};
    parity::compare_spec<double>(
        masked_loss{mask, gspo{0.05, 0.04, 1.2}, seq_mean_token_mean{}, token_weight{clamp_to(0.8, 1.1)}}, b.view());
    parity::compare_spec<double>(masked_loss{mask, gmpo{0.2, 0.3}, token_mean{}, sequence_weight{stat::mean}},
                                 b.view());
}
TEST_CASE("gspo over all loss_mask tokens, whose rejected ones move the mean", "[loss][parity]") {
    compare_both(gspo{0.05, 0.04, 1.2, sees::all_tokens}, 13);
    compare_both(gspo_token{0.05, 0.04, 1.2, sees::all_tokens}, 14);
    auto const b = batches::make<double>(ordinary(), 15);
    parity::compare_spec<double>(
        masked_loss{token_mask{abs_log_ratio{}, at_most(0.9)}, gspo{0.05, 0.04, 1.2, sees::all_tokens},
                    seq_mean_token_mean{}, token_weight{clamp_to(0.8, 1.1)}, kl_penalty{k3{}, 0.1, sees::kept_tokens}},
        b.view());
}
TEST_CASE("sapo_sequence", "[loss][parity]") {
    compare_both(sapo_sequence{}, 16);
    compare_both(sapo_sequence{3, 2, sees::all_tokens}, 17);
}
TEST_CASE("cispo_sequence", "[loss][parity]") {
    compare_both(cispo_sequence{0.9, 1.02}, 18);
    compare_both(cispo_sequence{0.9, 1.02, sees::all_tokens}, 19);
}
TEST_CASE("vespo_folded", "[loss][parity]") {
    auto const b = batches::make<double>(ordinary(), 20);
    for (bool const weighted : {true, false}) {
        auto view = b.view();
        if (!weighted) view.token_weights = {};
        auto const mask = token_mask{abs_log_ratio{}, at_most(0.9)} && sequence_mask{k2{}, stat::mean, at_most(0.41)};
        parity::compare_spec<double>(
            masked_loss{mask, vespo_folded{}, seq_mean_token_mean{}, token_weight{clamp_to(0.8, 1.1)}}, view, 1e-10);
        parity::compare_spec<double>(masked_loss{mask, vespo_folded{}, token_mean{}}, view, 1e-10);
    }
}
TEST_CASE("means with an epsilon, clips with any delta", "[loss][parity]") {
    auto const b = batches::make<double>(ordinary(), 21);
    auto const mask = token_mask{abs_log_ratio{}, at_most(0.9)} && sequence_mask{k2{}, stat::mean, at_most(0.41)} &&
                      over_passing(sequence_mask{k1{}, stat::mean, within(-0.3, 0.3)});
    for (aggregation const how :
         {aggregation{token_mean{over_kept}}, aggregation{seq_mean_token_mean{}}, aggregation{seq_mean_token_sum{}}}) {
        masked_loss loss{mask, gmpo{0.2, 0.3}, how};
        loss.options.mean_epsilon = 0.25;  // so large that it shows
        parity::compare_spec<double>(loss, b.view());
        masked_loss other{mask, gspo{0.05, 0.04, 1.2}, how};
        other.options.mean_epsilon = 0.25;
        parity::compare_spec<double>(other, b.view());
        masked_loss third{mask, topr_geometric{0.99, 1.2, 0.1, 0.98}, how};
        third.options.mean_epsilon = 0.25;
        parity::compare_spec<double>(third, b.view());
    }
    for (double const delta : {0.85, 1.05, 1.6}) compare_both(clip_with_delta(0.2, 0.2, delta), 22);
}
TEST_CASE("rejection of tokens that were likely", "[loss][parity]") {
    auto const b = batches::make<double>(ordinary(), 23);
    parity::compare_spec<double>(masked_loss{likely_signed{ratio{}, at_most(1.28), at_least(0.8), 0.3, 0.0} &&
                                                 token_mask{behaviour_probability{}, at_least(0.02)} &&
                                                 token_mask{target_probability{}, at_least(0.01)},
                                             policy_gradient{}, token_mean{}},
                                 b.view());
}
TEST_CASE("vespo", "[loss][parity]") { compare_both(vespo{}, 10, 1e-4); }
TEST_CASE("topr", "[loss][parity]") { compare_both(topr{0.5, 1.5, 0.25, 0.9}, 11, 1e-4); }
TEST_CASE("spo", "[loss][parity]") { compare_both(spo{0.3}, 19, 1e-3); }
TEST_CASE("drpo", "[loss][parity]") { compare_both(drpo{0.05}, 14, 3e-4); }
TEST_CASE("up_grpo", "[loss][parity]") { compare_both(up_grpo{0.1, 1.4}, 15); }
TEST_CASE("delight", "[loss][parity]") { compare_both(delight{0.7}, 16, 2e-5); }
TEST_CASE("topr_token", "[loss][parity]") { compare_both(topr_token{0.9, 1.2, 0.1, 0.8}, 17); }
TEST_CASE("topr_geometric", "[loss][parity]") { compare_both(topr_geometric{0.99, 1.2, 0.1, 0.98}, 18); }
