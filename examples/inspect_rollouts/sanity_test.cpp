// SPDX-License-Identifier: Apache-2.0

// Every warning on a log that has its fault, and silence on logs that do not.
#include "sanity.hpp"
#include "read.hpp"

#include "../../tests/catch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

namespace {

rollouts const& shipped() {
    static rollouts const r = read_rollouts(input{TRM_EXAMPLES_DATA, "native", {}}).all;
    return r;
}

/// The only warning contains every one of the words.
void expect_one(rollouts const& r, std::vector<std::string> const& words) {
    auto const warnings = sanity_warnings(r);
    CAPTURE(warnings);
    REQUIRE(warnings.size() == 1);
    for (std::string const& w : words) {
        CAPTURE(w);
        CHECK(warnings[0].find(w) != std::string::npos);
    }
}

void expect_silence(rollouts const& r) {
    auto const warnings = sanity_warnings(r);
    CAPTURE(warnings);
    CHECK(warnings.empty());
}

/// `change(value)` for one policy at the sampled tokens, every `each`-th of them.
template <class Change>
rollouts with(std::vector<double> rollouts::* policy, Change change, std::size_t each = 1) {
    rollouts r = shipped();
    for (std::size_t t = 0; t < r.logp.size(); t += each)
        if (r.usable(t)) (r.*policy)[t] = change((r.*policy)[t]);
    return r;
}

rollouts first_sequences(rollouts r, std::size_t n) {
    r.offsets.resize(n + 1);
    auto const tokens = static_cast<std::size_t>(r.offsets.back());
    for (auto* v : {&r.logp, &r.rollout_logp, &r.proximal_logp, &r.kl, &r.tv}) v->resize(tokens);
    r.loss_mask.resize(tokens);
    for (auto* v : {&r.advantage, &r.reward}) v->resize(n);
    r.group.resize(n), r.updates_behind.resize(n);
    return r;
}

double to_bf16(double x) {
    auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
    bits += 0x7FFFu + ((bits >> 16) & 1u);
    return std::bit_cast<float>(bits & 0xFFFF0000u);
}

std::vector<double> log_softmax(std::vector<double> z, double temperature) {
    double sum = 0, top = *std::max_element(z.begin(), z.end());
    for (double const x : z) sum += std::exp((x - top) / temperature);
    for (double& x : z) x = (x - top) / temperature - std::log(sum);
    return z;
}

/// Tokens sampled at a temperature from random rows of logits; the trainer's logits differ by noise.
rollouts sampled_at(double temperature, double trainer_divides_by, double engine_reports, double noise) {
    std::mt19937_64 random(20251223);
    std::normal_distribution<> normal;
    rollouts r;
    for (int i = 0; i < 1500; ++i) {
        double const scale = 0.6 + 2.8 * std::generate_canonical<double, 53>(random);
        std::vector<double> logits(200), trained(200);
        for (std::size_t v = 0; v < logits.size(); ++v) {
            logits[v] = scale * normal(random);
            trained[v] = logits[v] + noise * normal(random);
        }
        std::vector<double> p = log_softmax(logits, temperature);
        for (double& x : p) x = std::exp(x);
        std::size_t const token = std::discrete_distribution<std::size_t>(p.begin(), p.end())(random);
        r.rollout_logp.push_back(log_softmax(logits, engine_reports)[token]);
        r.logp.push_back(log_softmax(trained, trainer_divides_by)[token]);
        if (i % 50 == 49) r.offsets.push_back(i + 1);
    }
    r.advantage.assign(r.size(), 1.0);
    return r;
}

constexpr double ln2 = 0.6931471805599453, ln10 = 2.302585092994046;

}  // namespace

TEST_CASE("good data has no warning") {
    expect_silence(shipped());
    for (std::int64_t age : shipped().ages()) expect_silence(shipped().of_age(age));
    for (std::size_t n : {1u, 2u, 5u, 20u}) expect_silence(first_sequences(shipped(), n));
    for (double noise : {0.001, 0.02, 0.1, 0.3, 0.6}) expect_silence(sampled_at(1, 1, 1, noise));
    for (double t : {0.6, 0.8, 1.25}) expect_silence(sampled_at(t, t, t, 0.05));
}

TEST_CASE("good data with unusual but right values has no warning") {
    // Certain tokens are 0 in both policies, or nearly 0 in one.
    rollouts r = shipped();
    for (std::size_t t = 0; t < r.logp.size(); ++t)
        if (r.logp[t] > -0.01) r.rollout_logp[t] = 0.0;
    expect_silence(r);
    // Masked slots may hold anything, and so may tokens that are not finite.
    r = shipped();
    for (std::size_t t = 0; t < r.logp.size(); ++t)
        if (r.loss_mask[t] == 0) r.logp[t] = t % 2 != 0 ? -9999.0 : 1.0, r.rollout_logp[t] = std::nan("");
    for (std::size_t t = 0; t < r.logp.size(); t += 100) r.logp[t] = -HUGE_VAL;
    expect_silence(r);
    // Both policies in the same low precision.
    r = shipped();
    for (auto* v : {&r.logp, &r.rollout_logp})
        for (double& x : *v) x = to_bf16(x);
    expect_silence(r);
    // A very unlikely token is no placeholder.
    r = shipped();
    r.rollout_logp[3] = -61.5, r.logp[3] = -60;
    expect_silence(r);
    // Neighbours that are alike: a shift correlates too, but less than no shift.
    rollouts slow;
    for (int t = 0; t < 2000; ++t) {
        slow.logp.push_back(-2.5 + 2 * std::sin(0.1 * t));
        slow.rollout_logp.push_back(slow.logp.back() + 0.1 * std::sin(1.7 * t));
    }
    slow.offsets = {0, 2000};
    expect_silence(slow);
    expect_silence(rollouts{});
}

TEST_CASE("one policy shifted by one token") {
    rollouts late = shipped();
    std::copy_backward(late.rollout_logp.begin(), late.rollout_logp.end() - 1, late.rollout_logp.end());
    expect_one(late, {"rollout_logp is shifted by one token", "at the token before"});
    rollouts early = shipped();
    std::copy(early.rollout_logp.begin() + 1, early.rollout_logp.end(), early.rollout_logp.begin());
    expect_one(early, {"rollout_logp is shifted by one token", "at the token after"});
}

TEST_CASE("one side without temperature") {
    for (double t : {0.6, 0.7, 0.8, 1.25})
        for (double noise : {0.02, 0.3}) {
            CAPTURE(t, noise);
            char const* const hotter = t > 1 ? "as if rollout_logp" : "as if logp";
            char const* const colder = t > 1 ? "as if logp" : "as if rollout_logp";
            expect_one(sampled_at(t, 1, t, noise), {"two temperatures", hotter});
            expect_one(sampled_at(t, t, 1, noise), {"two temperatures", colder});
        }
    expect_one(sampled_at(0.9, 1, 0.9, 0.02), {"two temperatures"});
}

TEST_CASE("logarithms to another base") {
    for (auto const& [policy, name] : {std::pair{&rollouts::rollout_logp, "rollout_logp"}, {&rollouts::logp, "logp"}}) {
        expect_one(with(policy, [](double x) { return x / ln2; }), {std::string(name) + " is in logarithms to base 2"});
        expect_one(with(policy, [](double x) { return x / ln10; }),
                   {std::string(name) + " is in logarithms to base 10"});
    }
}

TEST_CASE("placeholders at sampled tokens") {
    for (auto const& [policy, name] : {std::pair{&rollouts::rollout_logp, "rollout_logp"}, {&rollouts::logp, "logp"}}) {
        std::string const which = name;
        expect_one(
            with(policy, [](double) { return -9999.0; }, 1000), {which + " is -9999 at ", "of 39693 sampled tokens"});
        expect_one(with(policy, [](double) { return -100.0; }, 1000), {which + " is -100 at "});
        expect_one(with(policy, [](double) { return 1.0; }, 1000), {which + " is 1.0 at "});
        expect_one(with(policy, [](double) { return 0.0; }, 500), {which + " is exactly 0.0 at "});
    }
}

TEST_CASE("no log-probabilities at all") {
    for (auto const& [policy, name] : {std::pair{&rollouts::rollout_logp, "rollout_logp"}, {&rollouts::logp, "logp"}}) {
        std::string const which = name;
        expect_one(with(policy, [](double) { return 0.0; }), {which + " is 0 at every one of 39693"});
        expect_one(with(policy, [](double) { return -1.5; }), {which + " is -1.5 at every one of 39693"});
        expect_one(with(policy, [](double x) { return std::exp(x); }),
                   {which + " is above 0", "these are probabilities"});
        expect_one(with(policy, [](double x) { return -x; }), {which + " is above 0", "negative log-probabilities"});
    }
}

TEST_CASE("one side rounded to bfloat16") {
    expect_one(with(&rollouts::rollout_logp, to_bf16), {"rollout_logp is rounded to bfloat16", "of logp"});
    expect_one(with(&rollouts::logp, to_bf16), {"logp is rounded to bfloat16", "of rollout_logp"});
}

TEST_CASE("identical policies") {
    rollouts r = shipped();
    r.rollout_logp = r.logp;
    expect_one(r, {"logp and rollout_logp are the same number at 3969"});
}
