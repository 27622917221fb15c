// SPDX-License-Identifier: Apache-2.0
// Every divergence and every mask statistic against the oracle. One loss carries many criteria: the reasons output shows
// each by itself.
#include "loss_parity.hpp"

using namespace trm;

namespace {

/// Each divergence per token; bands one-sided and two-sided.
auto const token_criteria =
    token_mask{k1{}, within(-0.45, 0.51)} && token_mask{k2{}, at_most(0.3)} && token_mask{k3{}, at_most(0.2)} &&
    token_mask{abs_log_ratio{}, at_most(0.7)} && token_mask{ratio{}, within(0.55, 1.9)} &&
    token_mask{binary_tv{}, at_most(0.21)} && token_mask{binary_kl{}, at_most(0.11)} &&
    token_mask{bidirectional_binary_kl{}, at_most(0.37)} && token_mask{given{}, within(0.011, 0.093)};

/// Each statistic per sequence, of values with and without exp.
auto const sequence_criteria =
    sequence_mask{k1{}, stat::sum, within(-2.3, 3.1)} && sequence_mask{k1{}, stat::mean, within(-0.07, 0.08)} &&
    sequence_mask{k2{}, stat::max, at_most(0.31)} && sequence_mask{k3{}, stat::mean, at_most(0.05)} &&
    sequence_mask{abs_log_ratio{}, stat::mean, at_most(0.23)} && sequence_mask{ratio{}, stat::min, at_least(0.51)} &&
    sequence_mask{binary_tv{}, stat::max, at_most(0.23)} && sequence_mask{given{}, stat::max, at_most(0.097)} &&
    sequence_mask{given{}, stat::min, at_most(0.021)};

/// The other pairs of policies.
auto const other_ratios = sequence_mask{over<ratio_kind::proximal_over_rollout>(k3{}), stat::mean, at_most(0.0123)} &&
                          token_mask{over<ratio_kind::current_over_proximal>(ratio{}), within(0.6, 1.7)} &&
                          token_mask{over<ratio_kind::proximal_over_rollout>(abs_log_ratio{}), at_most(0.37)} &&
                          sequence_mask{over<ratio_kind::current_over_proximal>(k2{}), stat::max, at_most(0.7)} &&
                          token_mask{over<ratio_kind::correction>(k1{}), at_least(-0.31)};

/// Rejections that a criterion must cause, and not everywhere, for the comparison to mean something.
void check_bites(reference::evaluation const& e, int criteria) {
    for (int i = 0; i < criteria; ++i) {
        INFO("criterion " << i << " rejects " << e.diagnostics.rejected_tokens[i] << " of " << e.diagnostics.tokens);
        CHECK(e.diagnostics.rejected_tokens[i] > 0);
        CHECK(e.diagnostics.rejected_tokens[i] < e.diagnostics.finite_tokens());
    }
}

template <class T, class S, class Mask>
void compare(Mask const& mask, batches::shape const& shape, std::uint64_t seed, int criteria) {
    auto const b = batches::make<S>(shape, seed);
    masked_loss const loss{mask, importance_ratio{}, token_mean{}};
    check_bites(parity::compare<T>(loss, b.view()), criteria);
}

batches::shape edges() { return {batches::edge_lengths()}; }
batches::shape many() { return {batches::short_lengths(400, 11), true, 0.3, 0.001}; }

}  // namespace

TEST_CASE("token masks match the oracle", "[loss][parity]") { compare<float, float>(token_criteria, edges(), 1, 9); }

TEST_CASE("sequence masks match the oracle", "[loss][parity]") {
    SECTION("f32") { compare<float, float>(sequence_criteria, many(), 1, 9); }
    SECTION("f64") { compare<double, double>(sequence_criteria, many(), 1, 9); }
}

TEST_CASE("masks over other pairs of policies match the oracle", "[loss][parity]") {
    compare<double, double>(other_ratios, many(), 1, 5);
}

TEST_CASE("masks of other storage and arithmetic match the oracle", "[loss][parity]") {
    auto const mask = token_mask{k3{}, at_most(0.21)} && sequence_mask{k2{}, stat::max, at_most(0.9)};
    SECTION("bf16") { compare<float, bf16>(mask, edges(), 2, 2); }
    SECTION("f16") { compare<float, f16>(mask, edges(), 2, 2); }
    SECTION("f32, computed in f64") { compare<double, float>(mask, edges(), 2, 2); }
    SECTION("f64, computed in f32") { compare<float, double>(mask, edges(), 2, 2); }
}
