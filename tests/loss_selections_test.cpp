// SPDX-License-Identifier: Apache-2.0
// Criteria that compare tokens or sequences with each other: against the oracle, against bounds/, and ties by hand.
#include "spec_parity.hpp"

#include <trm/bounds/length_neutral.hpp>
#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/selection_direction.hpp>
#include <trm/policy/selection_segment.hpp>

#include <set>

using namespace trm;

namespace {

batches::ragged<double> sample(std::uint64_t seed) {
    auto b = batches::make<double>({batches::short_lengths(150, seed), true, 0.3, 0.001}, seed);
    for (std::size_t i = 200; i < b.tokens(); i += 701) {  // not finite, and not outside loss_mask
        b.logp[i] = batches::nan;
        b.mask[i] = 1;
    }
    return b;
}
/// Packed, padded and cut into runs, against the oracle; each criterion must reject something and not everything.
template <class Mask>
void compare(Mask const& mask, int criteria, std::uint64_t seed) {
    auto const b = sample(seed);
    batches::random r(seed);
    batches::ragged<double> const layouts[] = {b, batches::padded(b, 0),
                                               batches::segmented(b, batches::cut(b.cu, 3, r))};
    masked_loss const loss{mask, importance_ratio{}, token_mean{over_kept}};
    for (auto const& l : layouts) {
        auto const want = parity::compare_spec<double>(loss, l.view());
        for (int i = 0; i < criteria; ++i) {
            INFO("criterion " << i);
            CHECK(want.diagnostics.rejected_tokens[i] > 0);
            CHECK(want.diagnostics.rejected_tokens[i] < 0.8 * want.diagnostics.tokens);
        }
        CHECK(want.diagnostics.nonfinite_tokens > 5);
    }
}

/// What a selection rejects of sequences of `length` tokens, each a prompt of its own, whose divergences are `given`: those
/// of one sequence by the loss's `select`, those of the whole batch from scores by hand.
template <class M>
std::vector<int> rejected_by(M const& m, std::vector<double> const& scores, std::int64_t length,
                             std::vector<double> const& advantages = {}) {
    std::vector<std::int64_t> cu{0};
    std::vector<std::int32_t> groups;
    while (cu.back() < std::ssize(scores) / m.channels) {
        groups.push_back(static_cast<std::int32_t>(groups.size()));
        cu.push_back(cu.back() + length);
    }
    auto const extent = static_cast<std::size_t>(cu.back());
    std::vector<double> const a = advantages.empty() ? std::vector<double>(extent, 1.0) : advantages;
    selection chosen;
    chosen.reset(extent, 0);
    std::uint16_t bit = 1;
    if constexpr (selects_by_sequence<M>) {
        std::vector<double> const logp(extent, -1.0);
        batch_view<double> const view{.logp = logp,
                                      .rollout_logp = logp,
                                      .advantages = a,
                                      .given = scores,
                                      .group_of = groups,
                                      .layout = packed{cu}};
        REQUIRE(masked_loss{m, importance_ratio{}, token_mean{}}.select(view, chosen).ok());
    } else {
        std::vector<std::uint8_t> const active(extent, 1);
        std::vector<std::byte> memory(M::scratch.total(extent, groups.size(), groups.size()));
        bit = 4;
        m.select({packed{cu}, groups, scores, active, a, extent, {}, selection_memory(memory.data())},
                 {chosen.reasons(), bit});
    }
    std::vector<int> out;
    for (std::size_t i = 0; i < extent; ++i)
        if (chosen.reasons()[i] == bit) out.push_back(static_cast<int>(i));
    return out;
}
using ints = std::vector<int>;

}  // namespace

TEST_CASE("selections match the oracle", "[loss][parity]") {
    compare(prefix_mask{k2{}, at_most(0.3)} && group_mask{k3{}, stat::mean, at_most(0.12)} &&
                group_mask{abs_log_ratio{}, stat::max, at_most(2.0)} &&
                signed_sequence_mask{k1{}, stat::mean, at_most(0.02)} &&
                signed_sequence_mask{k2{}, stat::sum, at_most(1.7), advantage_sign::positive},
            5, 31);
    compare(quantile_mask{k2{}, 0.9, at_most(0.14)} && top_mean_mask{k3{}, 3, within(0.01, 0.3)} &&
                quantile_mask{over<ratio_kind::proximal_over_rollout>(k1{}), 0.0, at_least(-0.4)},
            3, 32);
    compare(top_share_mask{given{}, 0.31} && top_share_mask{over<ratio_kind::proximal_over_rollout>(ratio{}), 0.9}, 2,
            35);
    compare(budget_mask{k2{}, 0.035} && clip_cov{0.05, 3.0, 0.02, 0.2, 0.28, 12345}, 2, 33);
    compare(length_neutral_mask{0.2, 60, 0.1, 0.05} && length_neutral_mask{0.25, 100}, 2, 34);
    compare(segment_mask{k1{}, stat::mean, within(-0.2, 0.25)} && segment_mask{k2{}, stat::max, at_most(0.2), 7} &&
                segment_mask{over<ratio_kind::proximal_over_rollout>(ratio_change{}), stat::sum, at_most(0.2), 1},
            3, 36);
    compare(away_sequence_mask{ratio_change{}, stat::mean, at_most(0.24)} &&
                away_sequence_mask{given{}, stat::max, at_most(0.097)} && away_budget_mask{k2{}, 0.03} &&
                away_budget_mask{over<ratio_kind::proximal_over_rollout>(given{}), 0.046},
            4, 37);
    running_budget_mask by_slots{binary_tv{}, 0.1, 60};
    running_budget_mask by_length{over<ratio_kind::proximal_over_rollout>(k2{}), 0.2};
    by_length.w_min = 0.3;
    by_length.q = 0.5;
    by_length.k = 0.4;
    compare(by_slots && by_length, 2, 38);
}

TEST_CASE("quantiles do not interpolate, ranks are rounded up", "[loss][unit]") {
    std::vector<double> const d = {4, 1, 3, 2};
    auto const at = [&](double q, double limit) {
        return rejected_by(quantile_mask{given{}, q, at_most(limit)}, d, 4).empty();
    };
    CHECK(at(0, 1));
    CHECK(!at(0, 0.999));
    CHECK(at(0.25, 1));
    CHECK(!at(0.26, 1));
    CHECK(at(0.5, 2));
    CHECK(at(0.75, 3));
    CHECK(!at(0.76, 3));
    CHECK(at(1, 4));
    CHECK(!at(1, 3.999));
}

TEST_CASE("the mean of the largest takes what there is", "[loss][unit]") {
    CHECK(rejected_by(top_mean_mask{given{}, 3, at_most(3)}, {5, 1, 7, 9}, 2) == ints{2, 3});
    CHECK(rejected_by(top_mean_mask{given{}, 1, at_most(6)}, {5, 1, 7, 0}, 2) == ints{2, 3});
    CHECK(rejected_by(top_mean_mask{given{}, 2, at_most(2.99)}, {5, 1, 2, 2}, 2) == ints{0, 1});
}

TEST_CASE("a budget drops the largest, fewest first, until the mean is strictly below", "[loss][unit]") {
    std::vector<double> const d = {4, 1, 1, 0};
    CHECK(rejected_by(budget_mask{k2{}, 1.5000001}, d, 4) == ints{});
    CHECK(rejected_by(budget_mask{k2{}, 1.5}, d, 4) == ints{0});
    CHECK(rejected_by(budget_mask{k2{}, 0.6}, d, 4) == ints{0, 1});  // equal values in token order
    CHECK(rejected_by(budget_mask{k2{}, 0.5}, d, 4) == ints{0, 1, 2});
    CHECK(rejected_by(budget_mask{k2{}, 0}, d, 4) == ints{0, 1, 2});  // keeps the smallest even so
    CHECK(rejected_by(budget_mask{k2{}, 2}, {2, 2, 2}, 3) == ints{0, 1});
    CHECK(rejected_by(budget_mask{k2{}, 0}, {3}, 1) == ints{});
}

TEST_CASE("the top share of a batch: quantiles between ranks, ties stay", "[loss][unit]") {
    std::vector<double> const d = {0.5, 0.1, 0.9, 0.3, 1.0, 0.7, 0.2, 0.8, 0.6, 0.4};
    auto const at = [&](double share) { return rejected_by(top_share_mask{given{}, share}, d, 5); };
    CHECK(at(1) == ints{});
    CHECK(at(0) == ints{0, 1, 2, 3, 5, 6, 7, 8, 9});  // the largest stays
    CHECK(at(0.2) == ints{0, 1, 3, 5, 6, 7, 8, 9});  // quantile 0.8 lies between the 8th and the 9th
    CHECK(at(1.0 / 3) == ints{0, 1, 3, 6, 8, 9});  // quantile 2/3 is the 7th itself
    CHECK(rejected_by(top_share_mask{given{}, 0.5}, {1, 2, 2, 2}, 4) == ints{0});
    CHECK(rejected_by(top_share_mask{given{}, 0.5}, {3}, 1) == ints{});
}

TEST_CASE("prefix, group and signed masks reject what they say", "[loss][unit]") {
    std::vector<double> const d = {0, 2, 0, 3, 0, 0};
    CHECK(rejected_by(prefix_mask{given{}, at_most(1)}, d, 3) == ints{1, 2, 3, 4, 5});
    CHECK(rejected_by(prefix_mask{given{}, at_most(2)}, d, 3) == ints{3, 4, 5});
    CHECK(rejected_by(group_mask{given{}, stat::max, at_most(2)}, d, 3) == ints{3, 4, 5});
    std::vector<double> const a = {1, -1, 0, -1, 1, -1};
    CHECK(rejected_by(signed_sequence_mask{given{}, stat::max, at_most(1)}, d, 3, a) == ints{1, 3, 5});
    CHECK(rejected_by(signed_sequence_mask{given{}, stat::max, at_most(2), advantage_sign::positive}, d, 3, a) ==
          ints{4});
}

TEST_CASE("segments are runs of loss_mask, or pieces of them", "[loss][unit]") {
    std::vector<double> const d = {0, 2, 0, 3, 0, 0};
    CHECK(rejected_by(segment_mask{given{}, stat::max, at_most(2)}, d, 6) == ints{0, 1, 2, 3, 4, 5});
    CHECK(rejected_by(segment_mask{given{}, stat::max, at_most(2), 2}, d, 6) == ints{2, 3});
    CHECK(rejected_by(segment_mask{given{}, stat::max, at_most(2), 2}, d, 3) == ints{3, 4});
    std::vector<double> const logp(12, -1.0), a(12, 1.0), score{0, 9, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0};
    std::vector<std::uint8_t> const mask{1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1};
    auto bad = logp;
    bad[5] = batches::nan;
    std::vector<std::int32_t> const cu{0, 12};
    batch_view<double> const view{
        .logp = bad, .rollout_logp = logp, .advantages = a, .given = score, .loss_mask = mask, .layout = packed{cu}};
    auto const reasons = [&](std::int64_t length) {
        segment_mask const m{given{}, stat::max, at_most(2), length};
        auto const r = parity::run_of<double>(masked_loss{m, importance_ratio{}, token_mean{}}, view);
        ints out;
        for (std::size_t i = 0; i < 12; ++i)
            if ((r.reasons[i] & 1) != 0) out.push_back(static_cast<int>(i));
        return out;
    };
    CHECK(reasons(0) == ints{0, 1, 3, 4, 6, 9, 10, 11});  // the second run has a token that is not finite
    CHECK(reasons(2) == ints{0, 1, 6, 9, 10});  // pieces {3, 4}, {5, 6} and {9, 10}, {11}
}

TEST_CASE("clip_cov chooses by its seed alone", "[loss][unit]") {
    std::size_t const n = 400;
    std::vector<double> scores(2 * n), advantages(n);
    batches::random r(5);
    for (std::size_t i = 0; i < n; ++i) {
        scores[i] = -std::fabs(r.normal());
        scores[n + i] = 1;
        advantages[i] = r.normal();
    }
    clip_cov c{0.0, 10.0, 0.01, 0.2, 0.2, 7};
    auto const first = rejected_by(c, scores, 20, advantages);
    CHECK(first.size() == 4);
    CHECK(rejected_by(c, scores, 20, advantages) == first);
    std::set<ints> seen;
    for (c.seed = 0; c.seed < 20; ++c.seed) seen.insert(rejected_by(c, scores, 20, advantages));
    CHECK(seen.size() == 20);
    c.fraction = 0;
    CHECK(rejected_by(c, scores, 20, advantages).size() == 1);
    c.fraction = 1;
    auto const all = rejected_by(c, scores, 20, advantages);
    CHECK(all.size() > 100);
    CHECK(all.size() < 300);
    c.seed = 1;
    CHECK(rejected_by(c, scores, 20, advantages) == all);
}

TEST_CASE("clip_cov: ends of the clip belong to it, limits of the covariance do not", "[loss][unit]") {
    clip_cov c{0.5, 2.0, 1.0, 0.25, 0.5, 3};
    auto const at = [&](double up, double down) {  // covariances are 1
        return rejected_by(c, {-1, -3, up, down}, 1, {1, -1});
    };
    auto const sorted = [](ints v) {
        std::sort(v.begin(), v.end());
        return v;
    };
    CHECK(sorted(at(1.5, 0.75)) == ints{0, 1});
    CHECK(sorted(at(0.1, 9)) == ints{0, 1});
    CHECK(at(std::nextafter(1.5, 2), 0.75) == ints{1});
    CHECK(at(1.5, std::nextafter(0.75, 0)) == ints{0});
    c.lower = 1;
    CHECK(at(1, 1) == ints{});
    c.lower = 0.5;
    c.upper = 1;
    CHECK(at(1, 1) == ints{});
}

TEST_CASE("a running budget may be spent whole; what is left is small and what moves back is free", "[loss][unit]") {
    std::vector<double> const logp{-1, -1, -1}, rollout{-2, -2, -2};
    std::vector<std::int32_t> const cu{0, 3};
    auto const rejected = [&](std::vector<double> const& d, std::vector<double> const& advantages) {
        batch_view<double> const view{
            .logp = logp, .rollout_logp = rollout, .advantages = advantages, .given = d, .layout = packed{cu}};
        running_budget_mask<given> m{given{}, 0.5};
        m.w_min = 1;
        m.drift_min = 0.25;
        m.k = 0;
        auto const r = parity::run_of<double>(masked_loss{m, importance_ratio{}, token_mean{}}, view);
        ints out;
        for (std::size_t i = 0; i < 3; ++i)
            if ((r.reasons[i] & 1) != 0) out.push_back(static_cast<int>(i));
        return out;
    };
    double const more = std::nextafter(0.5, 1);
    CHECK(rejected({0.5, 0.25, 0.25}, {1, 1, 1}) == ints{});  // 0.5 + 0.25 - 0.5 and 0.5 + 0.5 - 0.75 are left then
    CHECK(rejected({more, 0, 0}, {1, 1, 1}) == ints{0});
    CHECK(rejected({0.5, 0.2500001, 0}, {1, 1, 1}) == ints{1});
    CHECK(rejected({0.5, 0.25, 0.2500001}, {1, 1, 1}) == ints{2});
    CHECK(rejected({0, 0, more}, {1, 1, 1}) == ints{2});  // never more than delta at once
    CHECK(rejected({9, 9, 9}, {-1, 0, -1}) == ints{});
}

TEST_CASE("the length-neutral mask keeps what bounds::decide keeps", "[loss][parity]") {
    auto b = sample(41);
    length_neutral_mask const mask{0.1, 60, 0.1, 0.05};
    for (bool const rows : {false, true}) {
        auto const l = rows ? batches::padded(b, 0) : b;
        auto view = l.view();
        view.loss_mask = l.mask;
        std::vector<std::uint8_t> want(static_cast<std::size_t>(l.sequences));
        REQUIRE(bounds::decide(bounds::trajectories_of(view), mask.rule(), mask.threshold, {}, want).ok());
        masked_loss loss{mask, policy_gradient{}, token_mean{}};
        auto const got = parity::run_of<double>(loss, view);
        int kept = 0;
        for (std::int64_t i = 0; i < l.sequences; ++i) {
            token_run const run = view.layout.run(i);
            kept += want[static_cast<std::size_t>(i)];
            bool agree = true;
            for (std::int64_t t = run.begin; t < run.begin + run.size; ++t) {
                auto const at = static_cast<std::size_t>(t);
                if (l.mask[at] == 0 || !is_finite(l.logp[at])) continue;
                agree = agree && (got.keep[at] != 0) == (want[static_cast<std::size_t>(i)] != 0);
            }
            CHECK(agree);
        }
        CHECK(kept > 20);
        CHECK(kept < l.sequences - 20);
    }
}

TEST_CASE("prompt ids may be hashes", "[loss][unit]") {
    auto b = sample(77);
    masked_loss const by_group{group_mask{k2{}, stat::max, at_most(0.3)}, importance_ratio{}, token_mean{}};
    masked_loss const by_prompt{no_mask{}, importance_ratio{}, prompt_mean{}};
    auto const small_group = parity::run_of<double>(by_group, b.view()),
               small_prompt = parity::run_of<double>(by_prompt, b.view());
    for (auto& g : b.groups) g = 2147483647 - g * 7654321;
    workspace scratch;
    parity::run<double> r(b.tokens());
    r.result = by_group(b.view(), r.outputs(), scratch);
    REQUIRE(r.result.status.ok());
    CHECK(r.grad == small_group.grad);
    CHECK(r.reasons == small_group.reasons);
    r.result = by_prompt(b.view(), r.outputs(), scratch);
    REQUIRE(r.result.status.ok());
    CHECK(r.grad == small_prompt.grad);
    CHECK(r.result.loss == small_prompt.result.loss);
    CHECK(scratch.bytes() < 100 * b.tokens());  // proportional to the batch, not to the ids
    selection chosen;
    REQUIRE(by_group.select(b.view(), chosen, scratch).ok());
    auto const rejected = chosen.reasons();
    REQUIRE(rejected.size() == b.tokens());
    for (std::size_t t = 0; t < rejected.size(); ++t)
        if (b.mask[t] != 0 && (small_group.reasons[t] & reason_nonfinite) == 0)
            CHECK(rejected[t] == small_group.reasons[t]);
}
