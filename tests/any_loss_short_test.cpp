// SPDX-License-Identifier: Apache-2.0
// Many short sequences: losses chosen at run time, which take several of them through one tile, give the bits of losses composed of
// types, which take one after the other.
#include "loss_short.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/to_spec.hpp>
#include <trm/policy/penalty_kl_sequence.hpp>

using namespace trm;
using namespace short_sequences;

namespace {

template <class S, class Loss>
void same_bits(Loss const& loss, batch_view<S> const& view) {
    any_loss const at_run_time{to_spec(loss)};
    for (bool const accumulate : {false, true})
        for (bool const diagnose : {true, false}) {
            INFO((diagnose ? "with" : "without") << " diagnostics" << (accumulate ? ", added to a gradient" : ""));
            auto const want = evaluate(loss, view, diagnose, accumulate),
                       got = evaluate(at_run_time, view, diagnose, accumulate);
            CHECK(got.r.loss == want.r.loss);
            CHECK(same(got.grad, want.grad));
            CHECK(std::memcmp(&got.r.diagnostics, &want.r.diagnostics, sizeof want.r.diagnostics) == 0);
            CHECK(got.r.loss != 0);
        }
}
masked_loss const with_token_mask{
    token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k1{}, stat::min, at_least(-0.7)}, importance_ratio{},
    seq_mean_token_mean{}};
/// Weights and penalties of several sequences in one tile; one divergence that two criteria look at, then others of other ratios.
masked_loss const weighted{token_mask{binary_tv{}, at_most(0.2)} && token_mask{binary_tv{}, at_least(-1)} &&
                               token_mask{over<ratio_kind::surrogate>(k1{}), within(-0.5, 0.5)} &&
                               token_mask{over<ratio_kind::current_over_rollout>(k2{}), at_most(0.08)} &&
                               token_mask{over<ratio_kind::correction>(k2{}), at_most(0.07)} &&
                               advantage_signed{over<ratio_kind::surrogate>(k2{}), at_most(0.03), at_most(0.04)},
                           sapo{1.0, 1.05},
                           token_mean{},
                           sequence_weight{stat::mean, truncate_above(1.02)},
                           squared_log_ratio{0.01, sees::all_tokens},
                           reference_kl{k3{}, 0.2, kl_gradient::importance_of_sequence{}, sees::kept_tokens, 5.0, 1.0}};

}  // namespace

TEMPLATE_TEST_CASE("short sequences that share a tile get the bits of masked_loss", "[loss][parity]", float, double,
                   bf16) {
    each_view<TestType>([](batch_view<TestType> const& v) {
        same_bits(sequences, v);
        masked_loss by_length = sequences;
        by_length.aggregate = seq_mean_token_mean{};
        same_bits(by_length, v);
        if constexpr (!std::is_same_v<TestType, bf16>) {
            same_bits(with_token_mask, v);
            same_bits(tokens, v);
            same_bits(in_two_passes, v);
            same_bits(weighted, v);
        }
    });
}

TEST_CASE("a loss chosen at run time writes the same whichever outputs are wanted", "[loss]") {
    each_view<float>([](batch_view<float> const& v) {
        same_outputs(any_loss{to_spec(sequences)}, v);
        same_outputs(any_loss{to_spec(tokens)}, v);
        same_outputs(any_loss{to_spec(in_two_passes)}, v);
        same_outputs(any_loss{to_spec(weighted)}, v);
    });
}
