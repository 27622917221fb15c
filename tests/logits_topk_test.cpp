// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "logits_rows.hpp"

#include <trm/logits/topk.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>
#include <numeric>
#include <string>

namespace {

struct pair_of_rows {
    std::vector<double> x, y, lx, ly;
    std::vector<std::int32_t> order;  ///< ids, most likely under mu first

    pair_of_rows(std::size_t n, double distance, std::mt19937_64& rng) {
        std::normal_distribution<double> normal(0, distance);
        x = rows::make(rows::kind::normal, n, 0, rng);
        y = x;
        for (double& v : y) v += normal(rng);
        lx = trm::reference::log_softmax(x);
        ly = trm::reference::log_softmax(y);
        order.resize(n);
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](auto a, auto b) { return x[std::size_t(a)] > x[std::size_t(b)]; });
    }
    template <class T>
    trm::partition_bounds bound(std::int64_t k, std::int32_t target) const {
        std::vector<std::int32_t> const ids(order.begin(), order.begin() + k);
        std::vector<T> mu, pi;
        for (auto id : ids) mu.push_back(T(lx[std::size_t(id)])), pi.push_back(T(ly[std::size_t(id)]));
        T const mu_target = T(lx[std::size_t(target)]), pi_target = T(ly[std::size_t(target)]);
        T kl = 7, rl = 7, tv = 7;
        trm::topk_view<T> v{.rows = 1,
                            .k = k,
                            .ids = ids,
                            .mu_logp = mu,
                            .pi_logp = pi,
                            .targets = {&target, 1},
                            .mu_target_logp = {&mu_target, 1},
                            .pi_target_logp = {&pi_target, 1}};
        REQUIRE(trm::topk_divergence(v, trm::topk_out<T>{{&kl, 1}, {&rl, 1}, {&tv, 1}}).ok());
        return {double(kl), double(rl), double(tv)};
    }
};

}  // namespace

TEST_CASE("Top-k bounds grow with k, never exceed the exact divergence, and reach it", "[logits][property]") {
    std::mt19937_64 rng(41);
    for (std::size_t n : {std::size_t(2), std::size_t(9), std::size_t(300)})
        for (double distance : {1e-3, 0.2, 3.0})
            for (int round = 0; round < 20; ++round) {
                pair_of_rows const p(n, distance, rng);
                double const kl = trm::reference::kl(p.x, p.y), rl = trm::reference::kl(p.y, p.x),
                             tv = trm::reference::tv(p.x, p.y);
                auto const target = std::int32_t(rng() % n);
                trm::partition_bounds last;
                for (std::int64_t k :
                     {std::int64_t(0), std::int64_t(1), std::int64_t(n / 3), std::int64_t(n / 2), std::int64_t(n)}) {
                    trm::partition_bounds const b = p.bound<double>(k, target), f = p.bound<float>(k, target);
                    CHECK(b.kl_mu_pi <= kl + 1e-12);
                    CHECK(b.kl_pi_mu <= rl + 1e-12);
                    CHECK(b.tv <= tv + 1e-12);
                    CHECK(b.kl_mu_pi >= last.kl_mu_pi - 1e-12);
                    CHECK(b.kl_pi_mu >= last.kl_pi_mu - 1e-12);
                    CHECK(b.tv >= last.tv - 1e-12);
                    // f32 log-probs: rounding is resolved downwards, by little
                    CHECK(f.kl_mu_pi <= b.kl_mu_pi + 2e-6 * (1 + b.kl_mu_pi));
                    CHECK(f.kl_pi_mu <= b.kl_pi_mu + 2e-6 * (1 + b.kl_pi_mu));
                    CHECK(f.kl_mu_pi >= 0.7 * b.kl_mu_pi - 4e-6);
                    CHECK(f.kl_pi_mu >= 0.7 * b.kl_pi_mu - 4e-6);
                    CHECK(f.tv == Approx(b.tv).margin(1e-6));
                    last = b;
                }
                CHECK(last.kl_mu_pi == Approx(kl).margin(1e-10));
                CHECK(last.kl_pi_mu == Approx(rl).margin(1e-10));
                CHECK(last.tv == Approx(tv).margin(1e-12));
            }
}

TEST_CASE("k = 0 is the binary divergence of the sampled token", "[logits][unit]") {
    std::mt19937_64 rng(42);
    for (int round = 0; round < 50; ++round) {
        pair_of_rows const p(20, 0.7, rng);
        auto const target = std::int32_t(rng() % 20);
        double const a = std::exp(p.lx[std::size_t(target)]), b = std::exp(p.ly[std::size_t(target)]);
        trm::partition_bounds const got = p.bound<double>(0, target);
        CHECK(got.tv == Approx(std::fabs(a - b)));
        CHECK(got.kl_mu_pi == Approx(a * std::log(a / b) + (1 - a) * std::log((1 - a) / (1 - b))).margin(1e-12));
    }
}

TEST_CASE("DPPO's top-k divergence: the sampled token takes the last place of a list without it", "[logits][parity]") {
    std::mt19937_64 rng(45);
    for (int round = 0; round < 50; ++round) {
        pair_of_rows const p(60, 0.7, rng);
        std::int32_t const target = p.order[rng() % 12];
        std::vector<std::int32_t> ids(p.order.begin(), p.order.begin() + 8);
        if (std::find(ids.begin(), ids.end(), target) == ids.end()) ids.back() = target;
        // As published: probabilities of the list, a rest bucket, masses of 1e-12 at least.
        std::vector<double> mu, pi;
        double kl = 0, tv = 0, mu_rest = 1, pi_rest = 1;
        for (std::int32_t id : ids) {
            mu.push_back(p.lx[std::size_t(id)]), pi.push_back(p.ly[std::size_t(id)]);
            double const a = std::exp(mu.back()), b = std::exp(pi.back());
            kl += a * std::log(a / b), tv += std::fabs(a - b) / 2, mu_rest -= a, pi_rest -= b;
        }
        mu_rest = std::max(mu_rest, 1e-12), pi_rest = std::max(pi_rest, 1e-12);
        kl += mu_rest * std::log(mu_rest / pi_rest), tv += std::fabs(mu_rest - pi_rest) / 2;

        std::vector<double> const mu_target{p.lx[std::size_t(target)]}, pi_target{p.ly[std::size_t(target)]};
        double got_kl = 7, got_tv = 7;
        trm::topk_view<double> const v{.rows = 1,
                                       .k = 8,
                                       .ids = ids,
                                       .mu_logp = mu,
                                       .pi_logp = pi,
                                       .targets = {&target, 1},
                                       .mu_target_logp = mu_target,
                                       .pi_target_logp = pi_target};
        REQUIRE(trm::topk_divergence(v, trm::topk_out<double>{{&got_kl, 1}, {}, {&got_tv, 1}}).ok());
        CHECK(got_kl == Approx(kl).margin(1e-10));
        CHECK(got_tv == Approx(tv).margin(1e-12));
    }
}

TEST_CASE("Top-k details: listed target, unused slots, impossible tokens, equal policies, misuse", "[logits][unit]") {
    std::mt19937_64 rng(43);
    pair_of_rows const p(50, 0.5, rng);
    std::int32_t const listed = p.order[2];
    std::vector<double> mu, pi;
    for (std::size_t i = 0; i < 5; ++i)
        mu.push_back(p.lx[std::size_t(p.order[i])]), pi.push_back(p.ly[std::size_t(p.order[i])]);
    trm::partition_bounds const plain = trm::partition_divergence<double>(mu, pi);
    CHECK(p.bound<double>(5, listed).kl_mu_pi == plain.kl_mu_pi);
    CHECK(p.bound<double>(5, p.order[30]).kl_mu_pi > plain.kl_mu_pi);

    std::vector<std::int32_t> ids(p.order.begin(), p.order.begin() + 5);
    ids.push_back(-1);
    mu.push_back(rows::inf), pi.push_back(rows::inf);
    double kl = 7, tv = 7;
    trm::topk_view<double> v{.rows = 1, .k = 6, .ids = ids, .mu_logp = mu, .pi_logp = pi};
    REQUIRE(trm::topk_divergence(v, trm::topk_out<double>{{&kl, 1}, {}, {&tv, 1}}).ok());
    CHECK(kl == plain.kl_mu_pi);
    CHECK(tv == plain.tv);

    pi[1] = -rows::inf;
    REQUIRE(trm::topk_divergence(v, trm::topk_out<double>{{&kl, 1}, {}, {&tv, 1}}).ok());
    CHECK(kl == rows::inf);
    CHECK(tv <= 1);
    v.pi_logp = v.mu_logp;
    REQUIRE(trm::topk_divergence(v, trm::topk_out<double>{{&kl, 1}, {}, {&tv, 1}}).ok());
    CHECK(kl == 0);
    CHECK(tv == 0);
    std::vector<double> broken = mu;
    broken[0] = std::numeric_limits<double>::quiet_NaN();
    v.pi_logp = broken;
    REQUIRE(trm::topk_divergence(v, trm::topk_out<double>{{&kl, 1}, {}, {&tv, 1}}).ok());
    CHECK(trm::is_nan(kl));
    std::uint8_t const skip = 0;
    v.row_mask = &skip;
    REQUIRE(trm::topk_divergence(v, trm::topk_out<double>{{&kl, 1}, {}, {&tv, 1}}).ok());
    CHECK(kl == 0);
    v.k = 5;
    CHECK(trm::topk_divergence(v, trm::topk_out<double>{}).code == trm::errc::size_mismatch);
    v.k = 6;
    std::vector<std::int32_t> const target{0};
    std::vector<double> const target_logp{-1};
    v.targets = target;
    v.mu_target_logp = target_logp;
    CHECK(std::string(trm::topk_divergence(v, trm::topk_out<double>{}).what) == "target log-probs");
    v.mu_target_logp = {};
    v.pi_target_logp = target_logp;
    CHECK(std::string(trm::topk_divergence(v, trm::topk_out<double>{}).what) == "target log-probs");

    std::vector<double> const x{1, 2, 3, 4};
    std::vector<double> const lse{std::log(std::exp(1) + std::exp(2)), std::log(std::exp(3) + std::exp(4))};
    std::vector<std::int32_t> const wanted{1, 0, 7, 0};  // 7: of a row that is not kept
    std::vector<std::uint8_t> const rows_kept{1, 0};
    trm::logits_view<double> const logits{.data = x.data(), .rows = 2, .vocab = 2, .row_mask = rows_kept.data()};
    std::vector<double> out(4, 9);
    REQUIRE(trm::gather_log_prob(logits, std::span(wanted), 2, std::span(lse), std::span(out)).ok());
    CHECK(out[0] == Approx(2 - lse[0]));
    CHECK(out[1] == Approx(1 - lse[0]));
    CHECK((out[2] == 0 && out[3] == 0));
}

TEST_CASE("Lists as inference servers write them bound the exact divergence from below", "[logits][property]") {
    std::mt19937_64 rng(46);
    for (int round = 0; round < 400; ++round) {
        std::size_t const n = 2 + rng() % 300, k = 1 + rng() % std::min(n, std::size_t(20));
        pair_of_rows const p(n, round % 3 == 0 ? 0.02 : 1.5, rng);
        double const kl = trm::reference::kl(p.x, p.y), rl = trm::reference::kl(p.y, p.x),
                     tv = trm::reference::tv(p.x, p.y);
        auto const target = round % 2 == 0 ? p.order[rng() % k] : std::int32_t(rng() % n);
        std::vector<std::int32_t> ids{target};  // first, and again among the k
        ids.insert(ids.end(), p.order.begin(), p.order.begin() + std::ptrdiff_t(k));
        if (round % 4 < 2) std::shuffle(ids.begin(), ids.end(), rng);
        if (round % 5 == 0) ids.push_back(ids[rng() % ids.size()]);
        if (round % 7 == 0) ids.push_back(-1);
        auto const check = [&]<class T>(T, double slack) {
            std::vector<T> mu, pi;
            for (std::int32_t id : ids) {
                mu.push_back(id < 0 ? T(7) : T(p.lx[std::size_t(id)]));
                pi.push_back(id < 0 ? T(7) : T(p.ly[std::size_t(id)]));
            }
            T const mu_target = T(p.lx[std::size_t(target)]), pi_target = T(p.ly[std::size_t(target)]);
            trm::topk_view<T> v{.rows = 1, .k = std::int64_t(ids.size()), .ids = ids, .mu_logp = mu, .pi_logp = pi};
            if (round % 2 == 0)
                v.targets = {&target, 1}, v.mu_target_logp = {&mu_target, 1}, v.pi_target_logp = {&pi_target, 1};
            T a = 7, b = 7, c = 7;
            REQUIRE(trm::topk_divergence(v, trm::topk_out<T>{{&a, 1}, {&b, 1}, {&c, 1}}).ok());
            CHECK((double(a) >= 0 && double(a) <= kl + slack * (1 + kl)));
            CHECK((double(b) >= 0 && double(b) <= rl + slack * (1 + rl)));
            CHECK((double(c) >= 0 && double(c) <= tv + slack && c <= 1));
        };
        check(double(), 1e-12);
        check(float(), 2e-6);
    }
}

TEST_CASE("A small rest under one policy does not lift the bound above the exact divergence", "[logits][property]") {
    // Two tokens; the listed one has nearly all of mu: what is left of mu is less than what f32 log-probs tell.
    for (double rest : {1e-9, 1e-8, 1e-7, 3e-7, 6e-7, 1e-6, 3e-6})
        for (double other : {0.01, 0.3, 0.9, 0.999}) {
            double const exact = (1 - rest) * std::log((1 - rest) / (1 - other)) + rest * std::log(rest / other);
            float const mu = float(std::log1p(-rest)), pi = float(std::log1p(-other));
            trm::partition_bounds const b = trm::partition_divergence<float>({&mu, 1}, {&pi, 1});
            INFO("rest " << rest << " and " << other);
            CHECK(b.kl_mu_pi <= exact + 2e-7 * (1 + exact));
            CHECK(b.kl_mu_pi >= exact - 4e-5);
        }
}

TEST_CASE("Lists that are no part of a distribution are refused, and nothing is written", "[logits][unit]") {
    std::vector<std::int32_t> ids{3, 5, 3, 4, 6, 8};
    std::vector<double> mu{-1, -2, -1, -2, -2, -3}, pi{-1.5, -1.5, -1.5, -2, -2, -3};
    std::vector<std::int32_t> targets{9, 8};
    std::vector<double> mu_target{-4, -3}, pi_target{-4, -3}, kl{7, 7};
    trm::topk_view<double> const v{.rows = 2,
                                   .k = 3,
                                   .ids = ids,
                                   .mu_logp = mu,
                                   .pi_logp = pi,
                                   .targets = targets,
                                   .mu_target_logp = mu_target,
                                   .pi_target_logp = pi_target};
    auto const run = [&] { return trm::topk_divergence(v, trm::topk_out<double>{.kl_mu_pi = kl}); };
    auto const refused = [&](std::int64_t row, char const* sentence) {
        kl = {7, 7};
        trm::status const s = run();
        CHECK(s == trm::status{trm::errc::bad_layout, -1, row, ""});
        CHECK(std::string(s.what) == sentence);
        CHECK(kl == std::vector<double>{7, 7});
    };
    char const* const twice = "top-k: one id with two log-probs";
    char const* const much = "top-k: probabilities sum to more than 1";
    REQUIRE(run().ok());
    CHECK(kl[0] > 0);
    mu[2] = -1.1;
    refused(0, twice);
    mu[2] = -1, pi[2] = -1.6;
    refused(0, twice);
    pi[2] = -1.5, mu_target[1] = -3.2;
    refused(1, twice);
    mu_target[1] = -3, mu[3] = -0.05;
    refused(1, much);
    mu[3] = -2, pi[4] = 0.3;  // no log-prob
    refused(1, much);
    pi[4] = rows::inf;
    refused(1, much);
    pi[4] = -2;
    CHECK(run().ok());
    mu[3] = -rows::inf;  // cut by top-p
    CHECK(run().ok());
    pi[3] = -rows::inf;
    CHECK(run().ok());
    CHECK(trm::is_finite(kl[1]));
    targets[0] = -100;  // none
    mu_target[0] = pi_target[0] = 0;
    CHECK(run().ok());
    CHECK(kl[0] < 1);
    std::vector<double> const more{-0.1, -0.1}, one{-0.1};
    CHECK(trm::is_nan(trm::partition_divergence<double>(more, more).tv));
    CHECK(trm::is_nan(trm::partition_divergence<double>(more, one).kl_mu_pi));
}

TEST_CASE("Stored ids are looked up in the logits", "[logits][unit]") {
    std::mt19937_64 rng(44);
    std::size_t const n = 40;
    std::vector<double> x = rows::make(rows::kind::normal, 2 * n, 0, rng);
    std::vector<trm::bf16> const s = rows::store<trm::bf16>(x);
    std::vector<std::uint8_t> mask(n, 1);
    mask[7] = 0;
    trm::logits_view<trm::bf16> v{
        .data = s.data(), .rows = 2, .vocab = std::int64_t(n), .temperature = 0.5, .vocab_mask = mask.data()};
    std::vector<std::int32_t> const targets{1, 2};
    std::vector<std::int32_t> ids{3, 7, -1, 39, 1, 0};
    std::vector<double> logp(2), lse(2), got(6);
    REQUIRE(trm::log_prob(v, targets, trm::log_prob_out<double>{logp, lse, {}}).ok());
    REQUIRE(trm::gather_log_prob(v, ids, 3, std::span<double const>(lse), std::span(got)).ok());
    CHECK(got[0] == Approx(2 * x[3] - lse[0]));
    CHECK(got[1] == -rows::inf);
    CHECK(got[2] == -rows::inf);
    CHECK(got[3] == Approx(2 * x[n + 39] - lse[1]));
    ids[5] = 40;
    CHECK(trm::gather_log_prob(v, ids, 3, std::span<double const>(lse), std::span(got)) ==
          trm::status{trm::errc::bad_layout, -1, 1, ""});
}
