// SPDX-License-Identifier: Apache-2.0

// Statistics of the study, and the comparison with the truth.
#include "enumeration.hpp"
#include "learner.hpp"
#include "summary.hpp"
#include "truth.hpp"

#include "../../tests/catch.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace {

truth_options small() {
    truth_options o;
    o.run.horizon = 3;
    o.run.hidden = 4;
    o.run.warm_start = 10;
    o.run.updates = 8;
    o.run.learning_rate = 0.03;
    o.staleness = {0, 8};
    o.engines = {"int8", "bf16-moe"};
    o.methods = {"none", "ratio", "seq-is", "centered", "trm-max"};
    o.seeds = 1;
    return o;
}

}  // namespace

TEST_CASE("scores of the enumeration are derivatives of its log-probabilities", "[truth]") {
    model_shape const shape{8, 4, 2};
    vector<double> const parameters = 2 * initial_parameters(shape, 3, 5).cast<double>();
    enumeration const all(shape, 3, 6, parameters);
    CHECK(all.responses() == 512);
    random_stream random(1);
    vector<double> d(parameters.size());
    for (double& x : d) x = random.normal();
    double const h = 1e-6;
    enumeration const up(shape, 3, 6, parameters + h * d), down(shape, 3, 6, parameters - h * d);
    double total = 0;
    for (std::size_t y : {0U, 77U, 300U, 511U})
        for (std::size_t t = 0; t < 3; ++t) {
            double const slope = (up.logp()[3 * y + t] - down.logp()[3 * y + t]) / (2 * h);
            CHECK(all.score(y, t).dot(d) == Approx(slope).epsilon(1e-5).margin(1e-8));
        }
    for (std::size_t y = 0; y < 512; ++y)
        total += std::exp(all.logp()[3 * y] + all.logp()[3 * y + 1] + all.logp()[3 * y + 2]);
    CHECK(total == Approx(1).epsilon(1e-12));
}

TEST_CASE("the expected gradient of a method in the study is that of the trainer", "[truth]") {
    // The batch of all responses, weighted by their probabilities, through the trainer's own path.
    model_shape const shape{8, 4, 0};
    vector<double> const parameters = 2 * initial_parameters(shape, 3, 5).cast<double>();
    enumeration const all(shape, 3, 6, parameters);
    rollouts batch = all.batch();
    rollout_engine(shape, (parameters * 0.9).cast<float>(), precision::bf16).score(0, 512, 0, 0, batch);
    for (std::size_t y = 0; y < 512; ++y)
        batch.advantages[y] = std::exp(batch.logp[3 * y] + batch.logp[3 * y + 1] + batch.logp[3 * y + 2]);
    learner<double> learn(shape, loss_from("surrogate: importance_ratio; aggregate: token_sum"));
    vector<double> gradient, expected = vector<double>::Zero(parameters.size());
    learn(parameters, batch, gradient);
    for (std::size_t y = 0; y < 512; ++y)
        for (std::size_t t = 0; t < 3; ++t) {
            std::size_t const i = 3 * y + t;
            double const ratio = std::exp(all.logp()[i] - static_cast<double>(batch.logp[i]));
            expected -= static_cast<double>(batch.advantages[y]) * ratio * all.score(y, t);
        }
    CHECK((gradient - expected).norm() < 1e-6 * expected.norm());
}

TEST_CASE("against the truth: whole-sequence ratios have no bias, and every bound holds", "[truth]") {
    truth_table const t = compare_with_truth(small());
    REQUIRE(t.gradients.size() == 20);
    REQUIRE(t.errors.size() == 4);
    auto const row = [&](char const* engine, char const* method, int staleness) {
        return *std::find_if(t.gradients.begin(), t.gradients.end(), [&](truth_row const& r) {
            return r.engine == engine && r.method == method && r.staleness == staleness;
        });
    };
    for (char const* engine : {"int8", "bf16-moe"}) {
        INFO(engine);
        CHECK(row(engine, "seq-is", 8).bias < 1e-6);
        CHECK(row(engine, "seq-is", 8).cosine == Approx(1));
        CHECK(row(engine, "none", 8).bias > 1e-2);
        CHECK(row(engine, "ratio", 8).bias > 1e-3);
        CHECK(row(engine, "ratio", 0).bias < row(engine, "ratio", 8).bias);
        CHECK(row(engine, "trm-max", 8).kept < 1);
        CHECK(row(engine, "ratio", 8).kept == Approx(1).epsilon(1e-6));
        CHECK(row(engine, "seq-is", 8).deviation > 0);
    }
    for (error_row const& r : t.errors) {
        INFO(r.engine << ", " << r.staleness << " updates behind");
        CHECK(r.error > 0);
        double const slack = 1e-12;
        CHECK(r.error <= r.worst_reward + slack);
        for (double bound : {r.second_moment, r.adaptive, r.mixed_kl, r.pinsker, r.classical})
            CHECK(r.worst_reward <= bound + slack);
    }
    truth_options long_task = small();
    long_task.run.horizon = 64;
    CHECK_THROWS_AS(compare_with_truth(long_task), std::invalid_argument);
}

TEST_CASE("intervals", "[study]") {
    interval const none = wilson(0, 20), some = wilson(5, 20);
    CHECK(none.low == 0);
    CHECK(none.high == Approx(0.16113).epsilon(1e-4));
    CHECK(some.low == Approx(0.11186).epsilon(1e-4));
    CHECK(some.high == Approx(0.46870).epsilon(1e-4));
    std::vector<double> x;
    for (int i = 0; i < 50; ++i) x.push_back(i % 5);
    interval const mean = bootstrap_mean(x);
    double const error = deviation_of(x) / std::sqrt(50);
    CHECK(deviation_of(x) == Approx(std::sqrt(100.0 / 49)));
    CHECK(mean.low == Approx(2 - 1.96 * error).margin(0.1));
    CHECK(mean.high == Approx(2 + 1.96 * error).margin(0.1));
}

TEST_CASE("a run collapsed if it lost more than half of its gain and more than a tenth", "[study]") {
    auto const collapsed = [](std::vector<double> value) {
        run_result r;
        r.value = std::move(value);
        return r.collapsed();
    };
    CHECK(collapsed({0.2, 0.8, 0.4}));
    CHECK_FALSE(collapsed({0.2, 0.8, 0.6}));
    CHECK_FALSE(collapsed({0.2, 0.25, 0.18}));
    CHECK(collapsed({0.4, 0.4, 0.2}));
}

TEST_CASE("two methods are compared seed by seed", "[study]") {
    std::vector<run_result> results;
    for (int seed = 0; seed < 4; ++seed)
        for (char const* method : {"none", "dppo"}) {
            run_result r;
            r.settings.method = method;
            r.settings.seed = static_cast<std::uint64_t>(seed);
            // What a seed adds to both methods is in no difference.
            r.value = {0, 0.1 * seed + (r.settings.method == "dppo" ? 0.2 + 0.01 * (seed % 2) : 0)};
            if (seed < 3 || r.settings.method == "none") results.push_back(r);
        }
    auto const pairs = pairs_of(cells_of(results));
    REQUIRE(pairs.size() == 1);
    CHECK(pairs[0].method == "dppo");
    CHECK(pairs[0].other == "none");
    REQUIRE(pairs[0].difference.size() == 3);
    CHECK(pairs[0].difference[1] == Approx(0.21));
    CHECK(pairs[0].effect_size().value() == Approx((0.61 / 3) / (0.01 / std::sqrt(3))));
    CHECK_FALSE(method_pair{"", "", "", {0.5, 0.5}}.effect_size().has_value());
}

TEST_CASE("the studies of horizons, optimisers and noise compare the same ten methods in every setting", "[study]") {
    struct expected {
        char const* name;
        std::set<int> horizons;
        std::set<std::string> optimisers;
        bool noise;
    };
    for (auto const& [name, horizons, optimisers, noise] : {expected{"horizons", {16, 64, 256, 1024}, {"adam"}, false},
                                                            {"sgd", {64}, {"adam", "sgd"}, false},
                                                            {"noise", {16, 64}, {"adam"}, true}}) {
        INFO(name);
        std::map<std::string, std::map<std::string, std::set<std::uint64_t>>> seeds;
        std::set<int> seen;
        std::set<std::string> used;
        for (run_settings const& s : study_preset(name)) {
            seeds[scenario_of(s)][s.method].insert(s.seed);
            seen.insert(s.horizon);
            used.insert(s.optimiser);
            CHECK((s.noise > 0) == noise);
        }
        CHECK(seen == horizons);
        CHECK(used == optimisers);
        std::set<std::string> all;
        for (auto const& [scenario, methods] : seeds) {
            INFO(scenario);
            CHECK(methods.size() == 10);
            CHECK(methods.count("none") == 1);
            for (auto const& [method, which] : methods) {
                all.insert(method);
                CHECK(which.size() >= 5);
                CHECK(which == methods.begin()->second);  // pairs for every seed
            }
        }
        CHECK(all.size() == 10);
    }
}

TEST_CASE("runs of every study have names of their own, and cells hold the seeds of one method", "[study]") {
    for (std::string const& name : study_names()) {
        std::set<std::string> names;
        for (run_settings const& s : study_preset(name)) CHECK(names.insert(run_name(s)).second);
    }
    CHECK_THROWS_AS(study_preset("huge"), std::invalid_argument);
    std::vector<run_result> results;
    for (run_settings const& s : study_preset("smoke")) {
        run_result r;
        r.settings = s;
        r.value = {0.1, s.method == "none" ? 0.2 : 0.5};
        results.push_back(r);
    }
    auto const cells = cells_of(results);
    REQUIRE(cells.size() == 6);
    for (cell const& c : cells) {
        CHECK(c.runs.size() == 2);
        CHECK(mean_of(c.gain) == Approx(c.method == "none" ? 0 : 0.3));
        CHECK(std::count_if(cells.begin(), cells.end(), [&](cell const& o) { return o.scenario == c.scenario; }) == 3);
    }
    CHECK(cells[0].scenario == cells[2].scenario);
}
