// SPDX-License-Identifier: Apache-2.0
// What the logits layer states of accuracy and range: vocabularies up to a million, rows whose terms all round alike,
// temperatures at the ends of what is allowed.
#include "catch.hpp"
#include "larger.hpp"
#include "logits_rows.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/logits/topk.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>
#include <string>

namespace {

/// Rows that are hard to sum: `level` everywhere, up to noise, and one entry `peak` nats above it.
struct hard_row {
    char const* name;
    double level, noise, peak;
    double at;  ///< place of the peak, as a fraction of the row
};
std::vector<hard_row> const hard_rows{{"near uniform", 1.7, 1e-3, 0, 0},
                                      {"equal", 2.3, 0, 0, 0},
                                      {"normal", 0, 2.5, 0, 0},
                                      {"first entry 7.9 nats below", 1.1, 0, -7.9, 0},
                                      {"first entry 12 nats above", 0.3, 0, 12, 0},
                                      {"last entry 12 nats above", -0.7, 1e-3, 12, 1},
                                      {"half of the mass in one", 0.9, 0, 13.8, 0.5}};

std::vector<double> make(hard_row const& h, std::size_t n, double temperature, std::mt19937_64& rng) {
    std::normal_distribution<double> normal(0, 1);
    std::vector<double> x(n);
    for (double& v : x) v = h.level + temperature * h.noise * normal(rng);
    if (h.peak < 0) std::fill_n(x.begin(), std::min(n, std::size_t(128)), h.level + temperature * h.peak);
    if (h.peak > 0) x[std::size_t(h.at * double(n - 1))] = h.level + temperature * h.peak;
    return x;
}

/// logsumexp, entropy and divergences of two rows, each exponential once: the oracle's formulas on the oracle's log-softmax.
struct exact_pair {
    double lse, other_lse, entropy = 0, kl = 0, reverse = 0, tv = 0;
    exact_pair(std::vector<double> const& z, std::vector<double> const& w) {
        std::vector<double> const lz = trm::reference::log_softmax(z), lw = trm::reference::log_softmax(w);
        lse = z[0] - lz[0];
        other_lse = w[0] - lw[0];
        for (std::size_t i = 0; i < z.size(); ++i) {
            double const p = std::exp(lz[i]), q = std::exp(lw[i]);
            entropy -= p * lz[i];
            kl += p * (lz[i] - lw[i]);
            reverse += q * (lw[i] - lz[i]);
            tv += std::fabs(p - q) / 2;
        }
    }
};

std::size_t const lengths[] = {4096, 262144, 1000003};

}  // namespace

TEST_CASE("Sums over long rows are as accurate as stated", "[logits][property]") {
    std::mt19937_64 rng(71);
    std::vector<std::int32_t> const ids{0};
    for (std::size_t n : lengths)
        for (hard_row const& h : hard_rows) {
            double const temperature = n % 2 == 0 ? 1.0 : 0.6;
            std::vector<double> x = make(h, n, temperature, rng), y = x;
            std::normal_distribution<double> normal(0, 0.3);
            for (double& v : y) v += normal(rng);
            std::vector<float> const a = rows::store<float>(x), b = rows::store<float>(y);
            std::vector<double> const z = rows::scaled(x, temperature), w = rows::scaled(y, temperature);
            trm::logits_view<float> const mu{
                .data = a.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
            trm::logits_view<float> const pi{
                .data = b.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
            exact_pair const want(z, w);
            double const lse = want.lse, pi_lse = want.other_lse;
            double got = 7, plain = 7, got_h = 7, k = 7, r = 7, t = 7, mu_l = 7, pi_l = 7;
            REQUIRE(trm::log_prob(mu, ids, trm::log_prob_out<double>{{}, {&got, 1}, {&got_h, 1}}).ok());
            REQUIRE(trm::log_prob(mu, ids, trm::log_prob_out<double>{{}, {&plain, 1}, {}}).ok());
            INFO(h.name << ", V = " << n);
            CHECK(std::fabs(got - lse) <= 2e-6);
            CHECK(std::fabs(plain - lse) <= 2e-6);
            CHECK(std::fabs(got_h - want.entropy) <= 1e-5);
            if (h.peak == 0) {  // as in the rows of models
                CHECK(std::fabs(plain - lse) <= 5e-7);
                CHECK(std::fabs(got_h - want.entropy) <= 1e-6);
            }
            trm::divergence_out<double> const out{{&k, 1}, {&r, 1}, {&t, 1}, {&mu_l, 1}, {&pi_l, 1}};
            for (bool known : {false, true}) {
                trm::known_logsumexp lses;
                if (known) lses = {{&lse, 1}, {&pi_lse, 1}};
                REQUIRE(trm::exact_divergence(mu, pi, out, lses).ok());
                CHECK(std::fabs(k - want.kl) <= 4e-6 * (1 + want.kl));
                CHECK(std::fabs(r - want.reverse) <= 4e-6 * (1 + want.reverse));
                CHECK(std::fabs(t - want.tv) <= 4e-6 * (1 + want.tv));
                CHECK(std::fabs(mu_l - lse) <= 2e-6);
                CHECK(std::fabs(pi_l - pi_lse) <= 2e-6);
            }
            // Shards
            std::vector<trm::logits_partial> parts(2);
            std::int64_t const half = std::int64_t(n) / 2 + 3;
            trm::logits_view<float> left = mu, right = mu;
            left.vocab = half;
            right.data += half;
            right.vocab -= half;
            REQUIRE(trm::log_prob_partials(left, 0, ids, std::span(parts).first(1)).ok());
            REQUIRE(trm::log_prob_partials(right, half, ids, std::span(parts).last(1)).ok());
            parts[0].merge(parts[1]);
            CHECK(std::fabs(parts[0].logsumexp() - lse) <= 2e-6);
            CHECK(std::fabs(parts[0].entropy() - want.entropy) <= 1e-5);
        }
}

TEST_CASE("Probabilities of the gradient are as accurate as stated", "[logits][property]") {
    std::mt19937_64 rng(72);
    for (std::size_t n : {std::size_t(33001), std::size_t(1000003)})
        for (hard_row const& h : hard_rows)
            for (double temperature : {n < 100000 ? 1.0 : 0.6}) {
                std::vector<double> x = make(h, n, temperature, rng);
                std::vector<float> const a = rows::store<float>(x);
                std::vector<double> const lp = trm::reference::log_softmax(rows::scaled(x, temperature));
                std::vector<double> const lse{x[0] / temperature - lp[0]};
                std::vector<std::int32_t> const ids{0};
                std::vector<float> const up{-1.0f};
                std::vector<float> d(n);
                trm::logits_view<float> const v{
                    .data = a.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
                REQUIRE(trm::logits_gradient(v, ids, trm::logits_gradient_in<float>{.logsumexp = lse, .d_logp = up},
                                             trm::logits_gradient_out<float>{d.data()})
                            .ok());
                double worst = 0;
                for (std::size_t i = 1; i < n; ++i) {
                    double const p = std::exp(lp[i]) / temperature, bound = 4.6e-7 - 1.2e-7 * lp[i];
                    worst = larger(worst, std::fabs(double(d[i]) - p) / (p * bound));
                }
                INFO(h.name << ", V = " << n << ", T = " << temperature);
                CHECK(worst <= 1);
            }
}

TEST_CASE("Results stay in their range whatever the rounding", "[logits][property]") {
    std::mt19937_64 rng(73);
    std::uniform_real_distribution<double> uniform(0, 1);
    for (std::size_t n : {std::size_t(1), std::size_t(2), std::size_t(17), std::size_t(300), std::size_t(5000)})
        for (int round = 0; round < 400; ++round) {
            double const temperature = std::exp(std::log(1e-6) + uniform(rng) * std::log(1e12));
            double const scale = temperature * std::exp(8 * uniform(rng) - 6);
            std::normal_distribution<double> normal(0, 1);
            std::vector<float> x(n), y(n);
            for (float& v : x) v = float(scale * normal(rng));
            if (round % 3 == 0) x.assign(n, float(scale));
            y = x;
            if (round % 2 == 0)
                for (float& v : y) v += float(scale * 1e-6 * normal(rng));
            if (round % 5 == 0) x[rng() % n] += float(20 * temperature);
            std::vector<std::int32_t> const ids{std::int32_t(std::max_element(x.begin(), x.end()) - x.begin())};
            trm::logits_view<float> const mu{
                .data = x.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
            trm::logits_view<float> const pi{
                .data = y.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
            double lp = 7, lse = 7, h = 7, k = 7, r = 7, t = 7, gathered = 7;
            REQUIRE(trm::log_prob(mu, ids, trm::log_prob_out<double>{{&lp, 1}, {&lse, 1}, {&h, 1}}).ok());
            REQUIRE(trm::exact_divergence(mu, pi, trm::divergence_out<double>{{&k, 1}, {&r, 1}, {&t, 1}, {}, {}}).ok());
            INFO("V = " << n << ", temperature " << temperature << ", scale " << scale);
            CHECK((lp <= 0 && lp >= -std::log(double(n)) - 1e-5));  // the most likely token
            CHECK((h >= 0 && h <= std::log(double(n))));
            CHECK((k >= 0 && k < rows::inf));
            CHECK((r >= 0 && r < rows::inf));
            CHECK((t >= 0 && t <= 1));
            lse -= 1e-7;  // as rounded elsewhere
            REQUIRE(trm::gather_log_prob(mu, std::span<std::int32_t const>(ids), 1, std::span<double const>(&lse, 1),
                                         std::span(&gathered, 1))
                        .ok());
            CHECK((gathered <= 0 && gathered >= lp - 1e-6));
        }
}

TEST_CASE("Entries filled with -1e10 or -1e30 are impossible, also where a row starts with them",
          "[logits][property]") {
    for (double fill : {-1e4, -1e9, -1e10, -1e20, -1e30, -3e38})
        for (std::size_t n : {std::size_t(40), std::size_t(5000), std::size_t(40000)}) {
            std::vector<float> x(n, float(fill)), y(n, float(fill));
            for (std::size_t i = n / 2; i < n / 2 + 9; ++i) x[i] = float(i % 5), y[i] = float(i % 3);
            std::vector<double> zx, zy;
            for (std::size_t i = n / 2; i < n / 2 + 9; ++i) zx.push_back(x[i]), zy.push_back(y[i]);
            std::vector<std::int32_t> const ids{std::int32_t(n / 2)};
            trm::logits_view<float> const mu{.data = x.data(), .rows = 1, .vocab = std::int64_t(n)},
                pi{.data = y.data(), .rows = 1, .vocab = std::int64_t(n)};
            double lse = 7, h = 7, k = 7, t = 7;
            INFO("filled with " << fill << ", V = " << n);
            REQUIRE(trm::log_prob(mu, ids, trm::log_prob_out<double>{{}, {&lse, 1}, {&h, 1}}).ok());
            REQUIRE(
                trm::exact_divergence(mu, pi, trm::divergence_out<double>{.kl_mu_pi = {&k, 1}, .tv = {&t, 1}}).ok());
            CHECK(lse == Approx(trm::reference::logsumexp(zx)).margin(1e-6));
            CHECK(h == Approx(trm::reference::entropy(zx)).margin(2e-6));
            CHECK(k == Approx(trm::reference::kl(zx, zy)).margin(4e-6));
            CHECK(t == Approx(trm::reference::tv(zx, zy)).margin(1e-6));
        }
}

TEST_CASE("Rows that a temperature takes beyond the resolution of the storage type are NaN, not wrong",
          "[logits][unit]") {
    for (std::size_t n : {std::size_t(5), std::size_t(3000)})
        for (double top : {1e4, -1e4, 3e30}) {
            std::vector<float> x(n, float(top)), y(n, 0.25f);
            std::vector<std::int32_t> const ids{1};
            trm::logits_view<float> const v{.data = x.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = 1e-6};
            trm::logits_view<float> const u{.data = y.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = 1e-6};
            double lp = 7, lse = 7, h = 7, k = 7, t = 7;
            REQUIRE(trm::log_prob(v, ids, trm::log_prob_out<double>{{&lp, 1}, {&lse, 1}, {&h, 1}}).ok());
            REQUIRE(trm::exact_divergence(v, u, trm::divergence_out<double>{.kl_mu_pi = {&k, 1}, .tv = {&t, 1}}).ok());
            for (double got : {lp, lse, h, k, t}) CHECK(trm::is_nan(got));
        }
}
