// SPDX-License-Identifier: Apache-2.0
// Advantages from rewards: every rule on three batches, with numbers from its formula worked out apart (python, statistics.fmean
// and statistics.stdev); what rejected sequences, equal rewards and not finite rewards do; misuse.
#include "catch.hpp"

#include <trm/advantages.hpp>

#include <array>
#include <cmath>
#include <vector>

using namespace trm;
namespace adv = trm::advantages;

namespace {

struct sample {
    std::vector<double> rewards;
    std::vector<std::int32_t> group_of;
    std::vector<double> lengths;
    std::vector<std::vector<double>> expected;  ///< by rule
};

/// grpo: (r - mean) / (sqrt(sum (r - mean)^2 / (n - 1)) + 1e-6). dr_grpo: r - mean. rloo: r - mean of the others.
/// leave_one_out: the same, over (deviation of the others, n - 2, + 1e-6) where that is not 0. batch_scaled: r - mean, over
/// (deviation of all rewards + 1e-4). AReaL with mean_leave1out: rloo's, over (sqrt(sum of its squares / (n - 1)) + 1e-5). opo:
/// r - sum L r / sum L.
constexpr int rules = 7;
adv::rule rule_of(int i) {
    adv::rule areal = adv::rloo();
    areal.divide_by = adv::deviation::group;
    areal.epsilon = 1e-5;
    std::array<adv::rule, rules> const all{adv::grpo(),         adv::dr_grpo(), adv::rloo(), adv::leave_one_out(),
                                           adv::batch_scaled(), areal,          adv::opo()};
    return all[static_cast<std::size_t>(i)];
}
std::vector<sample> const samples{
    {{1.0, 0.0, 0.0, 1.0, 0.5, 0.25},
     {7, 7, 7, -2, -2, -2},
     {3.0, 5.0, 1.0, 2.0, 9.0, 4.0},
     {{1.1546985383827157, -0.5773492691913578, -0.5773492691913578, 1.0910865940445864, -0.2182173188089174,
       -0.8728692752356693},
      {0.6666666666666667, -0.3333333333333333, -0.3333333333333333, 0.41666666666666663, -0.08333333333333337,
       -0.33333333333333337},
      {1.0, -0.5, -0.5, 0.625, -0.125, -0.5},
      {1.0, -0.7071057811879616, -0.7071057811879616, 3.535513906045874, -0.23570181595190945, -1.4142095623844086},
      {1.4530280763971508, -0.7265140381985752, -0.7265140381985752, 0.908142547748219, -0.1816285095496439,
       -0.7265140381985754},
      {1.1546872051998767, -0.5773436025999383, -0.5773436025999383, 1.0910704038934311, -0.21821408077868623,
       -0.8728563231147449},
      {0.6666666666666667, -0.3333333333333333, -0.3333333333333333, 0.5, 0.0, -0.25}}},
    {{0.1, 0.7, -0.4, 0.3, 2.0, 1.5, -1.0},
     {3, 1, 3, 1, 3, 1, 1},
     {10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0},
     {{-0.3685483974847983, 0.3114123085816057, -0.763421680504225, -0.07186437890344749, 1.1319700779890234,
       1.0779656835517122, -1.3175136132298704},
      {-0.4666666666666667, 0.32499999999999996, -0.9666666666666667, -0.07500000000000001, 1.4333333333333333, 1.125,
       -1.375},
      {-0.7000000000000001, 0.4333333333333333, -1.4500000000000002, -0.09999999999999998, 2.15, 1.5,
       -1.8333333333333335},
      {-0.41247871263674046, 0.3465739819982937, -1.0792674416454393, -0.07832598364915053, 6.081101118252957,
       1.6876299526569947, -3.0004910800386466},
      {-0.44704044145385863, 0.31133173601250863, -0.9260123430115642, -0.07184578523365585, 1.3730527844654228,
       1.0776867785048376, -1.3171727292836906},
      {-0.36854674815313526, 0.3114103690411669, -0.7634182640314945, -0.07186393131719236, 1.1319650121846294,
       1.0779589697578855, -1.3175054074818602},
      {-0.888888888888889, 0.45789473684210524, -1.3888888888888888, 0.05789473684210525, 1.011111111111111,
       1.2578947368421052, -1.2421052631578948}}},
    {{-1.0, -1.0, 1.0, 5.0, 0.0, 0.0, 0.0, 4.0},
     {0, 0, 0, 0, 1, 1, 1, 1},
     {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0},
     {{-0.7071065311866358, -0.7071065311866358, 0.0, 1.4142130623732716, -0.499999750000125, -0.499999750000125,
       -0.499999750000125, 1.499999250000375},
      {-2.0, -2.0, 0.0, 4.0, -1.0, -1.0, -1.0, 3.0},
      {-2.666666666666667, -2.666666666666667, 0.0, 5.333333333333333, -1.3333333333333333, -1.3333333333333333,
       -1.3333333333333333, 4.0},
      {-0.8728712752297774, -0.8728712752297774, 0.0, 4.618798153520471, -0.5773500191897339, -0.5773500191897339,
       -0.5773500191897339, 4.0},
      {-0.8818782165140711, -0.8818782165140711, 0.0, 1.7637564330281421, -0.44093910825703553, -0.44093910825703553,
       -0.44093910825703553, 1.3228173247711066},
      {-0.7071049061915194, -0.7071049061915194, 0.0, 1.4142098123830387, -0.4999981250070312, -0.4999981250070312,
       -0.4999981250070312, 1.4999943750210938},
      {-3.0, -3.0, -1.0, 3.0, -1.2307692307692308, -1.2307692307692308, -1.2307692307692308, 2.769230769230769}}},
};
adv::input input_of(sample const& s) { return {.rewards = s.rewards, .group_of = s.group_of, .lengths = s.lengths}; }
std::vector<double> run(adv::rule const& r, adv::input const& in, std::span<std::uint8_t> informative = {}) {
    std::vector<double> out(in.rewards.size(), std::nan(""));
    REQUIRE(adv::from_rewards(r, in, std::span(out), informative).status.ok());
    return out;
}

}  // namespace

TEST_CASE("advantages: published rules", "[advantages]") {
    for (sample const& s : samples)
        for (int i = 0; i < rules; ++i) {
            auto const got = run(rule_of(i), input_of(s));
            for (std::size_t k = 0; k < got.size(); ++k) {
                INFO("rule " << i << " sequence " << k);
                CHECK(got[k] == Approx(s.expected[static_cast<std::size_t>(i)][k]).epsilon(1e-12).margin(1e-14));
            }
            std::vector<float> narrow(got.size());
            REQUIRE(adv::from_rewards(rule_of(i), input_of(s), std::span(narrow)).status.ok());
            for (std::size_t k = 0; k < got.size(); ++k) CHECK(narrow[k] == static_cast<float>(got[k]));
        }
}

TEST_CASE("advantages: rejected sequences are as if they were not there", "[advantages]") {
    for (sample const& s : samples)
        for (int i = 0; i < rules; ++i) {
            std::vector<std::uint8_t> kept(s.rewards.size(), 1);
            kept[1] = kept[s.rewards.size() - 2] = 0;
            sample rest;
            for (std::size_t k = 0; k < kept.size(); ++k) {
                if (kept[k] == 0) continue;
                rest.rewards.push_back(s.rewards[k]);
                rest.group_of.push_back(s.group_of[k]);
                rest.lengths.push_back(s.lengths[k]);
            }
            auto const want = run(rule_of(i), input_of(rest));
            auto spoiled = s;  // whatever a rejected sequence's reward is
            spoiled.rewards[1] = 1e9;
            spoiled.rewards[s.rewards.size() - 2] = std::nan("");
            auto in = input_of(spoiled);
            in.kept = kept;
            auto const got = run(rule_of(i), in);
            std::size_t k = 0;
            for (std::size_t j = 0; j < kept.size(); ++j) CHECK(got[j] == (kept[j] != 0 ? want[k++] : 0.0));
            in.kept = {};  // a reward that is not finite is treated like that, and counted
            spoiled.rewards[1] = INFINITY;
            std::vector<double> out(kept.size());
            auto const summary = adv::from_rewards(rule_of(i), in, std::span(out));
            CHECK(summary.nonfinite == 2);
            CHECK(out == got);
        }
}

TEST_CASE("advantages: groups with equal rewards get exactly 0", "[advantages]") {
    std::vector<double> const rewards{0.1, 0.1, 0.1, 0.7, 0.1, 0.3, -1e100, 1e100, 5.0};
    std::vector<std::int32_t> const groups{4, 4, 4, 9, 9, 9, -1, -1, 2};
    std::vector<double> const lengths(9, 3.0);
    adv::input const in{.rewards = rewards, .group_of = groups, .lengths = lengths};
    for (int i = 0; i < rules; ++i) {
        adv::rule r = rule_of(i);
        r.epsilon = 0;
        std::vector<std::uint8_t> informative(rewards.size(), 7);
        auto const a = run(r, in, informative);
        for (double v : a) CHECK(std::isfinite(v));
        for (std::size_t k : {0u, 1u, 2u, 8u}) CHECK(a[k] == 0);
        CHECK(informative == std::vector<std::uint8_t>{0, 0, 0, 1, 1, 1, 1, 1, 0});
    }
    std::vector<double> out(9);
    auto const s = adv::from_rewards(adv::grpo(), in, std::span(out));
    CHECK(s.sequences == 9);
    CHECK(s.groups == 4);
    CHECK(s.informative_groups == 2);
    CHECK(s.informative_sequences == 5);
    CHECK(s.nonfinite == 0);
}

TEST_CASE("advantages: the only sequence of a group", "[advantages]") {
    std::vector<double> const rewards{5.0, 1.0, 3.0};
    std::vector<std::int32_t> const groups{1, 2, 2};
    adv::input const in{.rewards = rewards, .group_of = groups};
    adv::rule r = adv::grpo();
    CHECK(run(r, in)[0] == 0);
    r.single = adv::lone::reward;
    std::vector<std::uint8_t> informative(3);
    CHECK(run(r, in, informative)[0] == Approx(5 / (1 + 1e-6)).epsilon(1e-15));  // verl: mean 0, deviation 1
    CHECK(informative[0] == 1);
    r = adv::rloo();
    r.single = adv::lone::reward;
    CHECK(run(r, in)[0] == 5);
    r = {.subtract = adv::baseline::none, .divide_by = adv::deviation::none};
    CHECK(run(r, in) == rewards);
    r.divide_by = adv::deviation::batch;  // root mean square, n - 1
    CHECK(run(r, in)[1] == Approx(1 / (std::sqrt(35.0 / 2) + 1e-6)).epsilon(1e-15));
    r.unbiased = false;
    CHECK(run(r, in)[1] == Approx(1 / (std::sqrt(35.0 / 3) + 1e-6)).epsilon(1e-15));
}

TEST_CASE("advantages: kept sequences from kept tokens", "[advantages]") {
    std::vector<std::uint8_t> const keep{0, 0, 1, 0, 0, 9};
    std::vector<std::uint8_t> kept(4, 5);
    std::array<std::int32_t, 5> const cu{0, 2, 3, 3, 6};
    REQUIRE(adv::kept_sequences(packed{cu}, keep, kept).ok());
    CHECK(kept == std::vector<std::uint8_t>{0, 1, 0, 1});
    std::array<std::int32_t, 4> const of{1, 0, 1, 1};
    kept.resize(2);
    REQUIRE(adv::kept_sequences(segments{cu, of, 2}, keep, kept).ok());
    CHECK(kept == std::vector<std::uint8_t>{1, 1});
    kept.resize(3);
    CHECK(adv::kept_sequences(padded{3, 2}, keep, kept).ok());
    CHECK(kept == std::vector<std::uint8_t>{0, 1, 1});
    CHECK(adv::kept_sequences(padded{3, 3}, keep, kept).code == errc::size_mismatch);
    CHECK(adv::kept_sequences(padded{2, 2}, keep, kept).code == errc::size_mismatch);
}

TEST_CASE("advantages: tokens of informative sequences are what dapo_zv divides by", "[advantages]") {
    std::array<std::int32_t, 4> const cu{0, 2, 5, 9};
    std::vector<std::uint8_t> const mask{1, 1, 1, 0, 1, 1, 1, 0, 1};
    std::vector<std::uint8_t> informative(3);
    std::vector<double> const rewards{1, 1, 0};
    std::vector<std::int32_t> const groups{0, 7, 7};
    std::vector<double> a(3);
    REQUIRE(adv::from_rewards(adv::grpo(), {.rewards = rewards, .group_of = groups}, std::span(a), informative)
                .status.ok());
    CHECK(informative == std::vector<std::uint8_t>{0, 1, 1});
    CHECK(adv::tokens_of(packed{cu}, mask, informative) == 5);
    CHECK(adv::tokens_of(packed{cu}, {}, informative) == 7);
    std::array<std::int32_t, 3> const of{1, 0, 1};
    std::vector<std::uint8_t> const first{1, 0};
    CHECK(adv::tokens_of(segments{cu, of, 2}, mask, first) == 2);
}

TEST_CASE("advantages: misuse", "[advantages]") {
    sample const& s = samples[0];
    std::vector<double> out(6);
    auto const code = [&](adv::rule const& r, adv::input const& in, std::size_t size = 6) {
        return adv::from_rewards(r, in, std::span(out).first(size)).status.code;
    };
    auto in = input_of(s);
    CHECK(code(adv::grpo(), in) == errc::ok);
    CHECK(code(adv::grpo(), in, 5) == errc::size_mismatch);
    CHECK(code(adv::grpo(-1), in) == errc::bad_threshold);
    CHECK(code(adv::grpo(std::nan("")), in) == errc::bad_threshold);
    std::vector<std::uint8_t> const kept(5, 1);
    in.kept = kept;
    CHECK(code(adv::grpo(), in) == errc::size_mismatch);
    in.kept = {};
    std::vector<double> lengths(6, -1.0);
    in.lengths = lengths;
    CHECK(code(adv::opo(), in) == errc::bad_threshold);
    CHECK(code(adv::grpo(), in) == errc::ok);
    lengths.assign(6, 0.0);
    CHECK(run(adv::opo(), in) == std::vector<double>(6, 0.0));  // no length, no baseline
    in.lengths = {};
    CHECK(code(adv::opo(), in) == errc::size_mismatch);
    in.group_of = {};
    CHECK(code(adv::grpo(), in) == errc::size_mismatch);
    CHECK(adv::from_rewards(adv::grpo(), {}, std::span(out).first(0)).status.ok());
}
