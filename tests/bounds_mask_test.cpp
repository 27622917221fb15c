// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/length_neutral.hpp>
#include <trm/bounds/sweep.hpp>

#include "catch.hpp"
#include "tabular.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace b = trm::bounds;

namespace {

b::trajectories<double> view(const tabular::enumeration& e, const std::vector<double>& reward) {
    b::trajectories<double> t{.layout = trm::packed{e.offsets}, .log_ratio = e.log_ratio, .kl = e.kl, .tv = e.tv};
    t.rewards = reward;
    t.weights = e.mu;
    return t;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

/// KL(fair coin || coin that shows 1 with probability p).
double coin_kl(double p) { return 0.5 * std::log(0.5 / p) + 0.5 * std::log(0.5 / (1.0 - p)); }

}  // namespace

TEST_CASE("length-neutral: E[W] bounds the error, and is Adaptive by another road", "[property]") {
    std::mt19937_64 rng(31);
    double worst = 0.0;
    for (std::size_t i = 0; i < 1200; ++i) {
        const auto kind = static_cast<tabular::mismatch>(i % 3);
        const auto e = tabular::enumerate(
            tabular::random_pair(tabular::nth_shape(i / 3), kind, 1.5 * std::exp(-4.0 * tabular::unit(rng)), rng));
        const auto horizon = static_cast<std::int64_t>(e.s.length);
        const b::length_neutral rule{horizon, e.eps, e.delta};
        std::vector<double> w(e.mu.size());
        REQUIRE(b::decide(view(e, {}), rule, 1.0, w, {}).ok());
        double mean = 0.0;
        for (std::size_t id = 0; id < w.size(); ++id) mean += e.mu[id] * w[id];
        double budget = 0.0;
        for (std::int64_t t = 0; t < horizon; ++t) budget += rule.weight(t);
        REQUIRE(rule.budget() == Approx(budget).epsilon(1e-12).margin(1e-15));

        const b::scale paper{{}, b::constants::paper};
        REQUIRE(b::length_neutral_bound(mean) ==
                Approx(b::adaptive(e.mean_tv, e.eps, e.delta)).epsilon(1e-10).margin(1e-12));
        REQUIRE(b::length_neutral_bound(mean, paper) == Approx(2.0 * mean));
        for (auto reward : {tabular::rewards::random, tabular::rewards::adversarial}) {
            const double error = std::fabs(tabular::evaluate(e, tabular::make_rewards(e, reward, rng)).error());
            REQUIRE(error <= b::length_neutral_bound(mean) + 1e-12);
            if (mean > 1e-6) worst = std::max(worst, error / mean);
        }
        // What is kept contributes at most threshold * Z.
        const double threshold = tabular::unit(rng);
        std::vector<std::uint8_t> kept(w.size());
        REQUIRE(b::decide(view(e, {}), rule, threshold, {}, kept).ok());
        double share = 0.0;
        for (std::size_t id = 0; id < w.size(); ++id) {
            REQUIRE((kept[id] != 0) == (w[id] <= threshold * rule.budget()));
            share += kept[id] != 0 ? e.mu[id] * w[id] : 0.0;
        }
        REQUIRE(share <= threshold * rule.budget() + 1e-15);
    }
    CHECK(worst > 0.9);  // attained at T = 2
}

TEST_CASE("length-neutral: neutral in length, a sum over placed pieces", "[unit]") {
    // The same ratio at every token: W / Z is that ratio's distance from 1, whatever T.
    for (std::int64_t horizon : {2, 16, 1000, 50000}) {
        const b::length_neutral rule{horizon, 2e-4, 1e-6};
        const std::vector<float> x(static_cast<std::size_t>(horizon), 0.125F);
        const auto w = b::weigh(rule, std::span<const float>(x));
        CHECK(w.value / rule.budget() == Approx(std::expm1(0.125)).epsilon(1e-9));
        CHECK(b::keep(rule, w, std::expm1(0.125) * (1 + 1e-9)));
        CHECK_FALSE(b::keep(rule, w, std::expm1(0.125) * (1 - 1e-9)));
    }

    std::mt19937_64 rng(5);
    std::vector<double> x(300);
    std::vector<std::uint8_t> mask(300);
    for (auto& v : x) v = tabular::unit(rng) - 0.5;
    for (auto& m : mask) m = rng() % 4 != 0;
    const b::length_neutral rule{512, 0.004, 1e-4};
    const std::span<const double> all(x);
    const std::span<const std::uint8_t> bits(mask);
    const auto whole = b::weigh(rule, all, bits);
    // Ranks hold pieces and add up, in any order.
    b::length_neutral_sum sum;
    for (const auto& [first, n] : {std::pair<std::size_t, std::size_t>{200, 100}, {0, 7}, {7, 193}}) {
        sum.merge(b::weigh(rule, all.subspan(first, n), bits.subspan(first, n), static_cast<std::int64_t>(first)));
    }
    CHECK(sum.value == Approx(whole.value).epsilon(1e-13));
    CHECK(sum.finite);
    // A rank that forgets where its piece stands gets another W.
    b::length_neutral_sum lost = b::weigh(rule, all.first(150), bits.first(150));
    lost.merge(b::weigh(rule, all.subspan(150), bits.subspan(150)));
    CHECK(lost.value > whole.value * 1.05);
    // So does reversing the tokens.
    std::vector<double> backwards(x.rbegin(), x.rend());
    CHECK(std::fabs(b::weigh(rule, std::span<const double>(backwards)).value - b::weigh(rule, all).value) > 1e-6);

    CHECK(rule.weight(511) == 0.0);
    CHECK(rule.weight(600) == 0.0);
    for (std::int64_t t = 1; t < 512; ++t) CHECK(rule.weight(t) <= rule.weight(t - 1));
    const b::length_neutral unknown{10, std::nullopt, std::nullopt};
    CHECK(unknown.budget() == 9.0);
}

TEST_CASE("length-neutral: masked slots are not read, non-finite tokens reject, misuse is reported", "[unit]") {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    const std::vector<std::int64_t> offsets{0, 3, 6};
    const std::vector<double> x{0.01, nan, 0.02, 0.01, 0.02, nan};
    const std::vector<std::uint8_t> mask{1, 0, 1, 1, 1, 1};
    const std::vector<std::int64_t> horizons{3, 40};
    b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .loss_mask = mask};
    const b::length_neutral rule{3, 0.05, std::nullopt};
    std::array<double, 2> w{};
    std::array<std::uint8_t, 2> kept{9, 9};
    REQUIRE(b::decide(t, rule, 1.0, w, kept).ok());
    CHECK(w[0] == Approx(std::expm1(0.01) * 0.1));
    CHECK(kept[0] == 1);
    CHECK(kept[1] == 0);
    t.horizons = horizons;
    REQUIRE(b::decide(t, rule, 1.0, w, kept).ok());
    CHECK(w[1] == Approx(std::expm1(0.01) * 1.0 + std::expm1(0.02) * 1.0));
    CHECK(kept[1] == 0);

    CHECK(b::decide(t, rule, nan, w, kept).code == trm::errc::bad_threshold);
    CHECK(b::decide(t, rule, -1.0, w, kept).code == trm::errc::bad_threshold);
    CHECK(b::decide(t, rule, 1.0, std::span(w).first(1), kept).code == trm::errc::size_mismatch);
    CHECK(b::decide(t, rule, 1.0, w, std::span(kept).first(1)).code == trm::errc::size_mismatch);
    t.log_ratio = std::span(x).first(5);
    CHECK(b::decide(t, rule, 1.0, w, kept).code == trm::errc::size_mismatch);
    CHECK_FALSE(b::keep(rule, {nan, true}, 1.0));
    CHECK_FALSE(b::keep(rule, {0.0, true}, nan));
    CHECK(b::length_neutral_bound(nan) == std::numeric_limits<double>::max());
}

TEST_CASE("what a mask removes and leaves equals the enumerated values", "[property]") {
    std::mt19937_64 rng(77);
    for (std::size_t i = 0; i < 300; ++i) {
        const auto e =
            tabular::enumerate(tabular::random_pair(tabular::nth_shape(i), tabular::mismatch::sparse, 0.6, rng));
        const auto reward = tabular::make_rewards(e, tabular::rewards::random, rng);
        const auto o = tabular::evaluate(e, reward);
        b::evidence seen;
        REQUIRE(seen.add(view(e, reward)).ok());
        constexpr std::array<double, 4> fractions{0.3, 0.6, 0.9, 1.0};
        auto thresholds = b::thresholds_for(seen, b::mask_statistic::max_kl, fractions);
        thresholds.insert(thresholds.begin(), -1.0);
        const auto rows = b::sweep(seen, b::mask_statistic::max_kl, thresholds);
        REQUIRE(rows.size() == 5);
        for (const b::sweep_row& row : rows) {
            double kept = 0.0, removed = 0.0, left = 0.0, worst = 0.0;
            for (std::size_t id = 0; id < e.mu.size(); ++id) {
                double max_kl = 0.0;
                for (std::size_t t = 0; t < e.s.length; ++t) max_kl = std::max(max_kl, e.kl[id * e.s.length + t]);
                const double gain = e.mu[id] * (reward[id] - 0.5);
                if (max_kl <= row.threshold) {
                    kept += e.mu[id];
                    left += gain * e.first_order[id];
                    // The worst reward for the kept part puts 1 where S > 0 and 0 elsewhere.
                    worst += e.mu[id] * ((e.excess[id] > 0.0 ? 1.0 : 0.0) - 0.5) * e.excess[id];
                } else {
                    removed += gain * e.first_order[id];
                }
            }
            REQUIRE(row.kept_sequences == Approx(kept).margin(1e-12));
            REQUIRE(row.kept_tokens == Approx(kept).margin(1e-12));  // equal lengths
            REQUIRE(row.removed.value == Approx(removed).margin(1e-12));
            REQUIRE(row.kept_error.value == Approx(worst).margin(1e-12));
            REQUIRE(row.masked_error.value == Approx(o.improvement - left).margin(1e-12));
            if (row.kept_sequences > 0.0) REQUIRE(row.kept_ess > 0.0);
        }
        for (std::size_t k = 1; k < rows.size(); ++k) {
            REQUIRE(rows[k].kept_error.value >= rows[k - 1].kept_error.value);
            REQUIRE(rows[k].kept_sequences >= rows[k - 1].kept_sequences);
            REQUIRE(*rows[k].premise >= rows[k - 1].premise.value_or(0.0));
        }
        REQUIRE(rows.front().kept_sequences == 0.0);
        REQUIRE(rows.front().masked_error.value == Approx(o.improvement).margin(1e-12));
        REQUIRE(rows.back().removed.value == 0.0);
        REQUIRE(rows.back().masked_error.value == Approx(o.error()).margin(1e-12));
        REQUIRE(rows.back().kept_error.value == Approx(b::direct(seen.sequences).worst_case).margin(1e-15));
    }
}

TEST_CASE("sweep: intervals, odd thresholds, baselines", "[unit]") {
    std::mt19937_64 rng(3);
    std::vector<std::int64_t> offsets{0}, groups;
    std::vector<double> x, reward;
    for (int i = 0; i < 200; ++i) {
        const int n = 1 + static_cast<int>(rng() % 20);
        for (int t = 0; t < n; ++t) x.push_back(0.2 * (tabular::unit(rng) - 0.5));
        offsets.push_back(static_cast<std::int64_t>(x.size()));
        groups.push_back(i / 5);
        reward.push_back(static_cast<double>(rng() % 2));
    }
    b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .rewards = reward};
    t.groups = groups;
    b::evidence e;
    REQUIRE(e.add(t).ok());
    const std::array<double, 4> thresholds{std::numeric_limits<double>::quiet_NaN(), 1e-3, 3e-3, 1.0};
    const auto rows = b::sweep(e, b::mask_statistic::max_k2, thresholds);
    CHECK(rows[0].kept_sequences == 0.0);
    CHECK_FALSE(rows[1].premise.has_value());  // k2 of sampled tokens bounds nothing
    CHECK(rows[3].kept_tokens == 1.0);
    CHECK(rows[1].kept_tokens < rows[1].kept_sequences);  // long sequences have larger maxima
    for (const auto& row : rows) {
        REQUIRE(row.removed.range.has_value());
        CHECK(row.removed.range->low <= row.removed.value);
        CHECK(row.removed.range->high >= row.removed.value);
        CHECK(row.kept_error.range->low <= row.kept_error.value);
        CHECK(row.kept_error.range->high >= row.kept_error.value);
    }
    CHECK(rows[1].removed.range->high > rows[1].removed.range->low);
    // The mean criterion does not single out long sequences.
    const std::array<double, 1> half{0.5};
    const auto by_mean =
        b::sweep(e, b::mask_statistic::mean_kl, b::thresholds_for(e, b::mask_statistic::mean_kl, half));
    CHECK(by_mean[0].kept_sequences == Approx(0.5));
    // A shifted reward with the range shifted alike changes nothing.
    for (auto& r : reward) r += 5.0;
    b::evidence shifted;
    REQUIRE(shifted.add(t).ok());
    b::sweep_options o;
    o.reward = {5.0, 6.0};
    const auto moved = b::sweep(shifted, b::mask_statistic::max_k2, thresholds, o);
    CHECK(moved[1].removed.value == Approx(rows[1].removed.value));
    CHECK(moved[1].masked_error.value == Approx(rows[1].masked_error.value));
    o.baseline = 5.0;
    CHECK(b::sweep(shifted, b::mask_statistic::max_k2, thresholds, o)[1].removed.value !=
          Approx(rows[1].removed.value));
}

// Token-wise rules look at one token's ratio and advantage. eps and delta are properties of the two policies: a rule
// that edits the surrogate cannot change them, and a rule that edits gradients need not keep them small either.
TEST_CASE("token-wise clipping voids the identity that the bounds rest on", "[unit]") {
    // One token: the error is 0 and every bound with (t-1) is 0. Clip the ratio and the error is not.
    const double p = 0.9;  // pi(1); mu is a fair coin; R = y
    const double gain = p - 0.5;
    const double surrogate = 0.5 * 1.0 * (p / 0.5 - 1.0);
    const double clipped = 0.5 * 1.0 * (std::min(p / 0.5, 1.2) - 1.0);
    CHECK(std::fabs(gain - surrogate) <= 1e-15);
    CHECK(b::pinsker_marginal(1, coin_kl(p)) == 0.0);
    CHECK(std::fabs(gain - clipped) == Approx(0.3));
}

TEST_CASE("no token-wise rule keeps eps and delta small; a sequence mask on the maximum does", "[unit]") {
    // Two tokens, one parameter x. pi(1 | first) = sigmoid(50 x), pi(1 | second) = sigmoid(x); mu is x = 0, fair coins.
    // The advantage of the first token is 0 (nothing depends on it), of the second +-1. Every token-wise rule that
    // passes ratios near 1 lets the second token pull x, and with it the first token's distribution, away.
    constexpr double steep = 50.0;
    using rule = std::function<double(double, double)>;  // (ratio, advantage) -> d surrogate / d ratio
    const std::vector<std::pair<const char*, rule>> rules{
        {"PPO clip", [](double r, double a) { return (a > 0 && r > 1.2) || (a < 0 && r < 0.8) ? 0.0 : a; }},
        {"tight PPO clip", [](double r, double a) { return (a > 0 && r > 1.02) || (a < 0 && r < 0.98) ? 0.0 : a; }},
        {"token mask", [](double r, double a) { return r >= 0.8 && r <= 1.2 ? a : 0.0; }},
        {"truncated weight", [](double r, double a) { return std::min(r, 1.2) / r * a; }}};
    const auto ascend = [&](const rule& f, double delta) {
        double x = 0.0;
        for (int step = 0; step < 20000; ++step) {
            double slope = 0.0;
            for (int y1 : {0, 1}) {
                for (int y2 : {0, 1}) {
                    const double first = sigmoid(steep * x);
                    const double second = sigmoid(x);
                    if (std::max(coin_kl(first), coin_kl(second)) > delta) continue;  // the sequence is rejected
                    const double r1 = (y1 == 1 ? first : 1.0 - first) / 0.5;
                    const double r2 = (y2 == 1 ? second : 1.0 - second) / 0.5;
                    slope += 0.25 * f(r1, 0.0) * r1 * steep * (y1 - first);
                    slope += 0.25 * f(r2, y2 == 1 ? 1.0 : -1.0) * r2 * (y2 - second);
                }
            }
            x += 1e-3 * slope;
        }
        return x;
    };
    for (const auto& [name, f] : rules) {
        CAPTURE(name);
        const double unmasked = ascend(f, std::numeric_limits<double>::max());
        const double masked = ascend(f, 0.01);
        // The rule kept every second token in its band, or nearly, and delta is past any trust region.
        const double first = sigmoid(steep * unmasked);
        CHECK(coin_kl(first) > (std::string(name) == "tight PPO clip" ? 0.1 : 4.0));
        CHECK(std::fabs(first - 0.5) > 0.2);
        const double kept = sigmoid(steep * masked);
        CHECK(coin_kl(kept) < 0.0125);  // 0.01 and one step
        CHECK(coin_kl(kept) > 0.0075);  // it did move
    }
}

TEST_CASE("no function of the sequence KL alone bounds the largest token KL", "[unit]") {
    // A context reached with probability q, different by kl there and equal elsewhere: sequence KL q * kl, delta kl.
    const auto pair_with = [](double q, double p) {
        tabular::pair out{{2, 2}, {}, {}};
        out.mu = {1.0 - q, q, 0.5, 0.5, 0.5, 0.5};
        out.pi = {1.0 - q, q, 0.5, 0.5, 1.0 - p, p};
        return tabular::enumerate(out);
    };
    const auto rare = pair_with(1e-3, 0.99);
    const auto common = pair_with(0.5, 0.5 + 0.5 * std::sqrt(1.0 - std::exp(-2.0 * 2e-3 * coin_kl(0.99))));
    CHECK(rare.seq_kl == Approx(common.seq_kl).epsilon(1e-9));
    CHECK(rare.delta > 100.0 * common.delta);
}
