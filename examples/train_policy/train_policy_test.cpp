// SPDX-License-Identifier: Apache-2.0
#include "methods.hpp"
#include "trainer.hpp"

#include "../../tests/catch.hpp"
#include "../../tests/larger.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

/// A batch of both tasks' kind: responses with observations inside, sampled by an engine with other weights.
rollouts sampled(model_shape const& shape, vector<float> const& parameters, std::string const& name, int horizon,
                 std::size_t n, precision p) {
    auto const t = make_task(name, horizon);
    rollouts r;
    r.resize(n, static_cast<std::size_t>(horizon), static_cast<std::size_t>(shape.vocabulary), shape.experts > 0);
    std::vector<problem> problems;
    for (std::size_t i = 0; i < n; ++i) {
        random_stream random(3, for_problems, 0, i / 2);
        problems.push_back(t->make(random));
        r.group_of[i] = static_cast<std::int32_t>(i / 2);
        r.advantages[i] = i % 3 == 0 ? -0.7F : 0.4F;
    }
    rollout_engine(shape, parameters, p).decode(problems, 0, 17, 0, r);
    return r;
}

double largest_difference(std::vector<float> const& a, std::vector<float> const& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) most = larger(most, static_cast<double>(std::fabs(a[i] - b[i])));
    return most;
}

run_settings small_run() {
    run_settings s;
    s.horizon = 12;
    s.prompts = 9;  // 36 sequences: the last chunk is not full
    s.responses = 4;
    s.staleness = 3;
    s.rollout = "int8";
    s.warm_start = 3;
    s.seed = 5;
    return s;
}

}  // namespace

TEST_CASE("the gradient of the whole trainer agrees with finite differences", "[train_policy]") {
    for (int experts : {0, 3}) {
        for (char const* task : {"branch", "addition"}) {
            model_shape const shape{8, 6, experts};
            vector<float> const old = initial_parameters(shape, 10, 1);
            rollouts const batch = sampled(shape, old, task, 10, 6, precision::bf16);
            vector<double> parameters = old.cast<double>();
            random_stream random(2);
            for (double& x : parameters) x += 0.02 * random.normal();
            for (named_method const& m : methods()) {
                INFO(m.name << ", " << task << ", experts " << experts);
                learner<double> learn(shape, loss_from(m.text), 4);
                vector<double> gradient, ignored;
                learn(parameters, batch, gradient);
                REQUIRE(gradient.size() == weights<double>::count(shape));
                if (m.text.rfind("centered", 0) == 0) continue;  // not the gradient of a loss
                // Weights are constants for the gradient, not for the loss.
                bool const weighted = m.text.find("weight:") != std::string::npos;
                std::vector<double> const d_logp = learn.d_logp;
                for (int direction = 0; direction < 3; ++direction) {
                    vector<double> d(parameters.size());
                    for (double& x : d) x = random.normal();
                    double const h = 1e-6;
                    double slope = learn(parameters + h * d, batch, ignored).loss.loss;
                    std::vector<double> const up = learn.logp;
                    slope -= learn(parameters - h * d, batch, ignored).loss.loss;
                    if (weighted) {
                        slope = 0;
                        for (std::size_t i = 0; i < up.size(); ++i) slope += d_logp[i] * (up[i] - learn.logp[i]);
                    }
                    CHECK(gradient.dot(d) == Approx(slope / (2 * h)).epsilon(1e-5).margin(1e-8));
                }
            }
        }
    }
}

TEST_CASE("every parameter's derivative agrees with finite differences", "[train_policy]") {
    for (int experts : {0, 3}) {
        model_shape const shape{8, 5, experts};
        vector<float> const old = initial_parameters(shape, 9, 4);
        rollouts const batch = sampled(shape, old, "branch", 9, 5, precision::f32);
        vector<double> const parameters = old.cast<double>();
        learner<double> learn(shape, loss_from("surrogate: importance_ratio"), 2);
        vector<double> gradient, ignored;
        learn(parameters, batch, gradient);
        for (Eigen::Index i = 0; i < parameters.size(); ++i) {
            vector<double> moved = parameters;
            moved(i) += 1e-5;
            double const up = learn(moved, batch, ignored).loss.loss;
            moved(i) -= 2e-5;
            double const down = learn(moved, batch, ignored).loss.loss;
            INFO("parameter " << i << ", experts " << experts);
            CHECK(gradient(i) == Approx((up - down) / 2e-5).epsilon(1e-5).margin(1e-9));
        }
    }
}

TEST_CASE("a constant advantage has no expected gradient once scores are centred", "[train_policy]") {
    model_shape const shape{8, 5, 2};
    vector<float> const old = initial_parameters(shape, 2, 3);
    rollouts all;  // every response of two tokens, weighted by its probability
    all.resize(64, 2, 8, true);
    for (std::size_t y = 0; y < 64; ++y) {
        all.tokens[3 * y] = 6;
        all.tokens[3 * y + 1] = static_cast<std::int32_t>(y / 8);
        all.tokens[3 * y + 2] = static_cast<std::int32_t>(y % 8);
        all.loss_mask[2 * y] = all.loss_mask[2 * y + 1] = 1;
    }
    rollout_engine(shape, old, precision::bf16).score(0, 64, 0, 0, all);
    for (std::size_t y = 0; y < 64; ++y) all.advantages[y] = std::exp(all.logp[2 * y] + all.logp[2 * y + 1]);
    vector<double> parameters = 4 * old.cast<double>(), gradient;
    auto const norm = [&](char const* method) {
        learner<double> learn(shape, loss_from(text_of(method)));
        learn(parameters, all, gradient);
        return gradient.norm();
    };
    CHECK(norm("none") > 1e-4);
    CHECK(norm("centered") < 1e-8);
    CHECK(norm("tis") > 1e-7);
    CHECK(norm("centered-tis") < 1e-8);
    CHECK_THROWS_AS(loss_from("centered: weight: product(truncate_above=2); surrogate: policy_gradient"),
                    std::invalid_argument);
}

TEST_CASE("the rollout engine in f32 without staleness has the trainer's log-probabilities", "[train_policy]") {
    for (int experts : {0, 4}) {
        for (char const* task : {"branch", "addition"}) {
            INFO(task << ", experts " << experts);
            model_shape const shape{8, 16, experts};
            vector<float> parameters = 2 * initial_parameters(shape, 64, 7), gradient;
            learner<float> learn(shape, loss_from("surrogate: importance_ratio"));
            rollouts const same = sampled(shape, parameters, task, 64, 20, precision::f32);
            batch_report const report = learn(parameters, same, gradient);
            CHECK(largest_difference(learn.logp, same.logp) < 2e-5);
            CHECK(largest_difference(learn.logp, same.logp) > 0);  // another order of operations
            CHECK(report.expert_flips == 0);
            CHECK(report.max_kl < 1e-5);
            for (precision p : {precision::bf16, precision::int8}) {
                rollouts const other = sampled(shape, parameters, task, 64, 20, p);
                batch_report const mismatch = learn(parameters, other, gradient);
                CHECK(largest_difference(learn.logp, other.logp) > 1e-3);
                CHECK(mismatch.max_kl > 10 * report.max_kl);
            }
        }
    }
}

TEST_CASE("a seed gives the same run, bit for bit, for any number of threads", "[train_policy]") {
    for (int experts : {0, 3}) {
        run_settings s = small_run();
        s.experts = experts;
        trainer one(s), two(s), three(s);
        for (int i = 0; i < 8; ++i) {
            std::string const row = one.step({1}).csv();
            CHECK(two.step({2}).csv() == row);
            CHECK(three.step({3}).csv() == row);
        }
        CHECK(one.parameters() == two.parameters());
        CHECK(one.parameters() == three.parameters());
        CHECK(one.evaluate(40, {1}) == two.evaluate(40, {2}));
        s.seed = 6;
        trainer other(s);
        other.step();
        CHECK(other.parameters() != one.parameters());
    }
}

TEST_CASE("the engine's weights are as many updates old as was asked", "[train_policy]") {
    trainer t(small_run());
    std::vector<vector<float>> all{t.parameters()};
    for (std::size_t i = 0; i < 7; ++i) {
        CHECK(t.engine_parameters() == all[i < 3 ? 0 : i - 3]);
        t.step();
        CHECK(t.parameters() != all.back());
        all.push_back(t.parameters());
    }
}

TEST_CASE("a response does not depend on the chunk in which it is decoded", "[train_policy]") {
    model_shape const shape{8, 8, 2};
    vector<float> const parameters = initial_parameters(shape, 20, 1);
    rollouts const whole = sampled(shape, parameters, "addition", 20, 6, precision::f32);
    rollouts part = whole;
    auto const t = make_task("addition", 20);
    random_stream random(3, for_problems, 0, 2);
    std::vector<problem> const problems(2, t->make(random));
    std::fill(part.tokens.begin() + 4 * 21, part.tokens.end(), 0);
    rollout_engine(shape, parameters, precision::f32).decode(problems, 4, 17, 0, part);
    CHECK(part.tokens == whole.tokens);
}

TEST_CASE("rewards of the tasks", "[train_policy]") {
    auto const branch = make_task("branch", 5);
    problem p{{7, -1, -1, -1, -1, -1}, 1};
    auto const worth = [&](std::vector<std::int32_t> const& tokens) { return branch->reward(p, tokens); };
    CHECK(worth({7, 3, 4, 5, 3, 4}) == 1);
    CHECK(worth({7, 5, 3, 4, 5, 3}) == 1);
    CHECK(worth({7, 3, 4, 4, 5, 3}) == 0.75);
    CHECK(worth({7, 0, 1, 2, 0, 1}) == 0.25);
    CHECK(worth({7, 0, 4, 5, 3, 4}) == 0);  // chose the wrong branch, walked the right one
    CHECK(worth({7, 6, 4, 5, 3, 4}) == 0);

    auto const addition = make_task("addition", 6);  // 2+2, 1+1, 0+0: 1 carry, 0 carry, 1
    problem const sum{{7, -1, 5, -1, 3, -1, 3}, 0};
    CHECK(addition->reward(sum, std::vector<std::int32_t>{7, 1, 5, 0, 3, 1, 3}) == 1);
    CHECK(addition->reward(sum, std::vector<std::int32_t>{7, 1, 5, 2, 3, 0, 3}) == Approx(1.0 / 3));
    random_stream random(1);
    problem const made = addition->make(random);
    CHECK(std::count(made.forced.begin(), made.forced.end(), -1) == 3);
    CHECK_THROWS_AS(make_task("chess", 8), std::invalid_argument);
}

TEST_CASE("the policy learns both tasks on-policy", "[train_policy]") {
    for (char const* task : {"branch", "addition"}) {
        INFO(task);
        run_settings s;
        s.task = task;
        s.horizon = 16;
        s.method = "ratio";
        s.seed = 1;
        s.learning_rate = 0.02;
        s.warm_start = s.task == "branch" ? 40 : 0;
        trainer t(s);
        double const before = t.evaluate(256);
        for (int i = 0; i < 150; ++i) t.step();
        CHECK(t.evaluate(256) > before + 0.15);
    }
}

TEST_CASE("settings that make no sense are refused by name", "[train_policy]") {
    auto const complaint = [](auto change) -> std::string {
        run_settings s;
        change(s);
        try {
            validate(s);
        } catch (std::invalid_argument const& e) {
            return e.what();
        }
        return {};
    };
    auto const names = [&](auto change, char const* word) { return complaint(change).find(word) != std::string::npos; };
    CHECK(complaint([](run_settings&) {}).empty());
    CHECK(names([](run_settings& s) { s.rollout = "f8"; }, "f8"));
    CHECK(names([](run_settings& s) { s.method = "mask: seq_max_k7 <= 1"; }, "seq_max_k7"));
    CHECK(names([](run_settings& s) { s.responses = 1; }, "responses"));
    CHECK(names([](run_settings& s) { s.task = "chess"; }, "chess"));
    CHECK(names([](run_settings& s) { s.advantage = "gae"; }, "advantage"));
}
