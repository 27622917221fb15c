// SPDX-License-Identifier: Apache-2.0
// Masks that look at the direction of the move, further divergences, and KL to the reference with every gradient and clamp.
#include "spec_parity.hpp"

#include <trm/policy/mask_signed.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

using namespace trm;

namespace {

batches::shape ordinary() {
    return {{0, 1, 16, 17, 5, 31, 0, 33, 64, 2, 3, 50, 90, 7, 130, 500, 1, 300}, true, 0.3, 0.01};
}

template <class T, class Loss>
void compare(Loss const& loss, std::uint64_t seed, double zeros = 0, double bound = parity::bounds_of<T>.term) {
    auto b = batches::make<T>(ordinary(), seed);
    batches::random r(seed);
    std::vector<std::uint8_t> marks(b.tokens());
    for (std::size_t i = 0; i < marks.size(); ++i) {
        marks[i] = r.uniform() < 0.2;
        if (b.mask[i] != 0 && r.uniform() < zeros) b.advantages[i] = 0;
    }
    auto view = b.view();
    view.token_weights = {};
    selection_view const chosen{.marks = marks};
    parity::compare_spec<T>(loss, view, bound, 1, chosen);
    INFO("without proximal policy");
    view.proximal_logp = {};
    parity::compare_spec<T>(loss, view, bound, 1, chosen);
}

masked_loss const directed{dppo_tv(0.1, 0.07) && advantage_signed{binary_kl{}, within(1e-5, 0.2), at_most(0.1)} &&
                               only_away(token_mask{over<ratio_kind::current_over_proximal>(k3{}), at_most(0.2)}),
                           importance_ratio{}, token_mean{over_kept}};
masked_loss const further{
    token_mask{probability_change{}, at_least(-0.15)} && sequence_mask{ratio_either_way{}, stat::mean, at_most(1.31)} &&
        sequence_mask{k3_reversed{}, stat::mean, at_most(0.07)} && token_mask{jensen_shannon{}, at_most(0.11)} &&
        sequence_mask{jensen_shannon{}, stat::mean, at_most(0.013)},
    importance_ratio{}, token_mean{}};
masked_loss const staged{
    token_mask{k1{}, within(-0.5, 0.4)} && sequence_mask{k1{}, stat::max, at_most(2.0)} &&
        over_passing(sequence_mask{k1{}, stat::mean, within(-0.03, 0.04)}) && prefix_mask{k2{}, at_most(8.0)} &&
        over_passing(sequence_mask{over<ratio_kind::current_over_proximal>(k3{}), stat::sum, at_most(0.9)}) &&
        over_passing(sequence_mask{ratio{}, stat::max, at_most(1.63)}) &&
        over_passing(sequence_mask{ratio{}, stat::min, at_least(0.69)}),
    importance_ratio{}, token_mean{over_kept}, sequence_weight{stat::mean, clamp_to(0.9, 1.1), sees::kept_tokens}};
masked_loss const repaired{
    token_mask{k3{}, at_most(0.131)},
    kl_cov{0.3},
    token_mean{},
    no_weight{},
    reference_kl{k3{}, 0.11, kl_gradient::pathwise{}, sees::all_tokens, 1.0, 0.25},
    reference_kl{k1{}, 0.13, kl_gradient::straight_through{}},
    reference_kl{k3{}, 0.17, kl_gradient::straight_through{}, sees::kept_tokens, 5.0, 0.2},
    reference_kl{k3{}, 0.19, kl_gradient::score_function{}, sees::all_tokens, 20.0, 0.3},
    reference_kl{abs_log_ratio{}, 0.23, kl_gradient::score_function{}},
    reference_kl{k2{}, 0.29, kl_gradient::importance<>{}},
    reference_kl{k3{}, 0.31, kl_gradient::importance<ratio_kind::current_over_rollout>{}, sees::kept_tokens, 0.7, 0.9}};
/// TRL's KL times the ratio of the sequence.
masked_loss const by_sequence{
    token_mask{k3{}, at_most(0.131)} && sequence_mask{k2{}, stat::mean, at_most(0.06)}, gspo{0.03, 0.04},
    seq_mean_token_mean{}, no_weight{},
    reference_kl{k3{}, 0.31, kl_gradient::importance_of_sequence{}, sees::all_tokens, 1.0, 0.25}};
masked_loss const by_kept{token_mask{k3{}, at_most(0.131)},
                          importance_ratio{},
                          token_mean{},
                          no_weight{},
                          kl_penalty{k1{}, 0.1},
                          reference_kl{k1{}, 0.31, kl_gradient::importance_of_sequence{}, sees::kept_tokens}};

}  // namespace

TEST_CASE("signed token masks", "[loss][parity]") {
    auto const b = batches::make<double>(ordinary(), 1);
    parity::compare_spec<double>(directed, b.view());
    auto const c = batches::make<float>(ordinary(), 1);
    parity::compare_spec<float>(directed, c.view());
}

TEST_CASE("A = 0 takes the branch that the mask names", "[loss][parity]") {
    double const logp[] = {-1.0, -0.2, -1.0, -0.2}, rollout[] = {-0.2, -1.0, -0.2, -1.0}, advantage[] = {0, 0, -1, 1};
    std::int32_t const cu[] = {0, 4};
    batch_view<double> const view{.logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = packed{cu}};
    auto const kept = [&](auto const& mask) {
        return parity::run_of<double>(masked_loss{mask, importance_ratio{}, token_mean{}}, view).keep;
    };
    CHECK(kept(dppo_tv()) == std::vector<std::uint8_t>{0, 1, 0, 0});
    CHECK(kept(dppo_tv(0.2, 0.2, zero_advantage::keep)) == std::vector<std::uint8_t>{1, 1, 0, 0});
}

TEST_CASE("further divergences", "[loss][parity]") {
    compare<double>(further, 3);
    compare<float>(further, 3);
}

TEST_CASE("statistics over tokens that pass the token criteria", "[loss][parity]") {
    auto const b = batches::make<double>({batches::short_lengths(200, 6), true, 0.3, 0.003}, 6);
    batches::random r(7);
    auto const cut = batches::segmented(b, batches::cut(b.cu, 3, r));
    for (auto const* layout : {&b, &cut}) {
        auto const want = parity::compare_spec<double>(staged, layout->view());
        for (int i = 0; i < 7; ++i) {
            INFO("criterion " << i);
            CHECK(want.diagnostics.rejected_tokens[i] > 0);
        }
        CHECK(want.diagnostics.kept_tokens > 0.1 * want.diagnostics.tokens);
    }
}

TEST_CASE("a token that a criterion rejects does not speak for its sequence afterwards", "[loss][unit]") {
    // r = 3 leaves through the token band; the geometric mean of the rest is 1, of all tokens 1.3
    double const x[] = {0.0, std::log(3.0), 0.01, -0.01}, rollout[] = {-2, -2, -2, -2}, advantage[] = {1, 1, 1, 1};
    double logp[4];
    for (int i = 0; i < 4; ++i) logp[i] = rollout[i] + x[i];
    std::int32_t const cu[] = {0, 4};
    batch_view<double> const view{.logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = packed{cu}};
    auto const kept = [&](auto const& mask) {
        return parity::run_of<double>(masked_loss{mask, importance_ratio{}, token_mean{}}, view).keep;
    };
    token_mask const band{ratio{}, within(0.5, 2)};
    CHECK(kept(band && geometric_ratio_within(0.99, 1.01)) == std::vector<std::uint8_t>{0, 0, 0, 0});
    CHECK(kept(band && over_passing(geometric_ratio_within(0.99, 1.01))) == std::vector<std::uint8_t>{1, 0, 1, 1});
    CHECK(kept(over_passing(geometric_ratio_within(0.99, 1.01)) && band) == std::vector<std::uint8_t>{1, 0, 1, 1});
}

TEST_CASE("KL to the reference: gradients and clamps; kl_cov", "[loss][parity]") {
    compare<double>(repaired, 4);
    compare<float>(repaired, 4);
    compare<double>(by_sequence, 5);
    compare<float>(by_sequence, 5);
    compare<double>(by_kept, 6);
    compare<float>(by_kept, 6);
    auto clamped = by_kept;
    clamped.options.log_ratio_clamp.penalty = 0.3;
    clamped.options.log_ratio_clamp.surrogate_sequence = 0.01;
    clamped.options.mean_epsilon.surrogate = 0.01;
    compare<double>(clamped, 7);
    auto two = masked_loss{no_mask{},
                           importance_ratio{},
                           token_mean{},
                           no_weight{},
                           reference_kl{k1{}, 0.31, kl_gradient::importance_of_sequence{}},
                           reference_kl{k3{}, 0.31, kl_gradient::importance_of_sequence{}}};
    CHECK(two(batches::make<double>(ordinary(), 1).view()).status.code == errc::unsupported);
}

TEST_CASE("policies refuse what has no meaning", "[loss][unit]") {
    double const nan = batches::nan;
    CHECK_FALSE(cispo{2, 1}.validate().ok());
    CHECK_FALSE(cispo{nan, 1}.validate().ok());
    CHECK_FALSE(sapo{0, 1}.validate().ok());
    CHECK_FALSE(sapo{1, 81}.validate().ok());
    CHECK_FALSE(dro{nan}.validate().ok());
    CHECK_FALSE(gspo{-1, 1, 0}.validate().ok());
    CHECK_FALSE(gspo_token{0.1, 0.1, 0.9}.validate().ok());
    CHECK_FALSE(gmpo{nan, 1}.validate().ok());
    CHECK_FALSE(gmpo{0.4, -0.1}.validate().ok());  // a bound in log space, above 0 where A > 0
    CHECK_FALSE(vespo{2, 0, 3, 2}.validate().ok());
    CHECK_FALSE(topr{1, 0.5, 0, 1}.validate().ok());
    CHECK_FALSE(kl_cov{nan}.validate().ok());
    CHECK_FALSE(dppo_tv(nan, 0.2).validate().ok());
    CHECK_FALSE(constant_weight{nan}.validate().ok());
    CHECK_FALSE(top_share_mask{given{}, 1.5}.validate().ok());
    CHECK_FALSE(over_passing(sequence_mask{k1{}, stat::mean, at_most(nan)}).validate().ok());
    CHECK_FALSE(reference_kl{k3{}, nan}.validate().ok());
    CHECK_FALSE(reference_kl{k3{}, 1.0, kl_gradient::pathwise{}, sees::all_tokens, 0.0}.validate().ok());
    CHECK((cispo{}.validate().ok() && sapo{}.validate().ok() && dro{0.1}.validate().ok() && gspo{}.validate().ok() &&
           gspo_token{}.validate().ok() && gmpo{}.validate().ok() && vespo{}.validate().ok() &&
           topr{}.validate().ok() && kl_cov{}.validate().ok() && dppo_kl().validate().ok() &&
           reference_kl{k3{}, 1.0}.validate().ok()));
}
