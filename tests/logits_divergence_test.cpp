// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "logits_rows.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>
#include <numeric>

namespace {

using rows::kind;

/// |got - want| <= bound (1 + |want|), infinities and NaN alike.
bool near(double got, double want, double bound) {
    if (!trm::is_finite(want)) return got == want || (want != want && got != got);
    return std::fabs(got - want) <= bound * (1 + std::fabs(want));
}

struct answers {
    double kl = 7, rl = 7, tv = 7, mu = 7, pi = 7;
    trm::divergence_out<double> out() { return {{&kl, 1}, {&rl, 1}, {&tv, 1}, {&mu, 1}, {&pi, 1}}; }
};

template <class S1, class S2, class Arch>
void compare(kind k, std::size_t n, double distance, std::mt19937_64& rng) {
    std::size_t const alive = rng() % n;
    std::vector<double> x = rows::make(k, n, alive, rng), y = x;
    std::normal_distribution<double> normal(0, distance);
    double const offset = 40 * normal(rng);
    for (double& v : y) v += normal(rng) + offset;
    if (rng() % 4 == 0) y = rows::make(k, n, alive, rng);  // unrelated; other holes
    std::vector<S1> const a = rows::store<S1>(x);
    std::vector<S2> const b = rows::store<S2>(y);
    double const tx = k == kind::wide ? 0.7 : 1.0, ty = k == kind::equal ? 1.3 : 1.0;
    std::vector<double> const zx = rows::scaled(x, tx), zy = rows::scaled(y, ty);
    trm::logits_view<S1> const mu{.data = a.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = tx};
    trm::logits_view<S2> const pi{.data = b.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = ty};
    answers two, one;
    REQUIRE(trm::exact_divergence<Arch>(mu, pi, two.out()).ok());
    REQUIRE(trm::exact_divergence<Arch>(mu, pi, one.out(), trm::known_logsumexp{{&two.mu, 1}, {&two.pi, 1}}).ok());

    double const bound = sizeof(S1) == 8 ? 1e-11 : 4e-6;
    double const kl = trm::reference::kl(zx, zy), rl = trm::reference::kl(zy, zx), tv = trm::reference::tv(zx, zy);
    INFO(rows::name(k) << " V = " << n << " distance " << distance << " " << Arch::name());
    for (answers const& got : {two, one}) {
        INFO(got.kl << " " << kl << "; " << got.rl << " " << rl << "; " << got.tv << " " << tv);
        CHECK(near(got.kl, kl, bound));
        CHECK(near(got.rl, rl, bound));
        CHECK(near(got.tv, tv, bound));
        CHECK(got.kl >= 0);
        CHECK(got.rl >= 0);
        CHECK((got.tv >= 0 && got.tv <= 1));
        CHECK(got.tv <= std::sqrt(got.kl / 2) + std::sqrt(bound));  // Pinsker
        CHECK(got.tv <= std::sqrt(got.rl / 2) + std::sqrt(bound));
    }
    CHECK(near(two.mu, trm::reference::logsumexp(zx), bound));
    CHECK(near(two.pi, trm::reference::logsumexp(zy), bound));
}

template <class S1, class S2, class Arch>
void compare_all() {
    std::mt19937_64 rng(23);
    for (std::size_t n : rows::sizes())
        for (int k = 0; k < static_cast<int>(kind::count); ++k)
            for (double distance : {1e-3, 0.3, 5.0})
                if (n < 5000 || (k + (distance < 1 ? 1 : 0)) % 4 == 0) compare<S1, S2, Arch>(kind(k), n, distance, rng);
}

}  // namespace

TEST_CASE("KL in both directions and TV match the oracle", "[logits][parity][property]") {
    SECTION("f32") { compare_all<float, float, trm::simd::default_arch>(); }
    SECTION("bf16 rollout, f32 current") { compare_all<trm::bf16, float, trm::simd::default_arch>(); }
    SECTION("f64") { compare_all<double, double, trm::simd::default_arch>(); }
    SECTION("f32, one lane") { compare_all<float, float, trm::simd::scalar>(); }
}

TEST_CASE("A policy does not diverge from itself, whatever its offset", "[logits][property]") {
    std::mt19937_64 rng(24);
    for (std::size_t n : {std::size_t(1), std::size_t(33), std::size_t(4097)}) {
        std::vector<double> x = rows::make(kind::normal, n, 0, rng), y = x;
        for (double& v : x) v = std::round(v * 64) / 64;
        for (std::size_t i = 0; i < n; ++i) y[i] = x[i] + 128;
        std::vector<float> const a = rows::store<float>(x), b = rows::store<float>(y);
        trm::logits_view<float> const mu{.data = a.data(), .rows = 1, .vocab = std::int64_t(n)};
        trm::logits_view<float> const pi{.data = b.data(), .rows = 1, .vocab = std::int64_t(n)};
        answers same, shifted;
        REQUIRE(trm::exact_divergence(mu, mu, same.out()).ok());
        REQUIRE(trm::exact_divergence(mu, pi, shifted.out()).ok());
        CHECK(same.kl == 0);
        CHECK(same.rl == 0);
        CHECK(same.tv == 0);
        CHECK(shifted.kl <= 2e-7);
        CHECK(shifted.tv <= 1e-6);
        CHECK(shifted.pi == Approx(shifted.mu + 128).epsilon(1e-9));
    }
}

TEST_CASE("Divergence shards merge in any order", "[logits][property]") {
    std::mt19937_64 rng(25);
    std::size_t const n = 5000;
    for (int k = 0; k < static_cast<int>(kind::count); ++k) {
        std::vector<double> x = rows::make(kind(k), n, 4321, rng), y = x;
        std::normal_distribution<double> normal(0, 0.5);
        for (double& v : y) v += normal(rng);
        std::vector<float> const a = rows::store<float>(x), b = rows::store<float>(y);
        answers whole;
        trm::logits_view<float> mu{.data = a.data(), .rows = 1, .vocab = std::int64_t(n)},
            pi{.data = b.data(), .rows = 1, .vocab = std::int64_t(n)};
        REQUIRE(trm::exact_divergence(mu, pi, whole.out()).ok());
        std::vector<std::size_t> const cuts{0, 1, 100, 1129, 3000, 4999, n};
        std::vector<trm::divergence_partial> parts(cuts.size() - 1);
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
            mu.data = a.data() + cuts[i];
            pi.data = b.data() + cuts[i];
            mu.vocab = pi.vocab = std::int64_t(cuts[i + 1] - cuts[i]);
            REQUIRE(trm::divergence_partials(mu, pi, std::span(&parts[i], 1)).ok());
        }
        for (int order = 0; order < 20; ++order) {
            std::shuffle(parts.begin(), parts.end(), rng);
            trm::divergence_partial all;
            for (auto const& p : parts) all.merge(p);
            INFO(rows::name(kind(k)));
            CHECK(near(all.kl_mu_pi(), whole.kl, 5e-7));
            CHECK(near(all.kl_pi_mu(), whole.rl, 5e-7));
            CHECK(near(all.mu_logsumexp(), whole.mu, 1e-6));
            CHECK(near(all.pi_logsumexp(), whole.pi, 1e-6));
        }
        // TV: the merged normalisers go back to the shards, whose TVs add up.
        double tv = 0;
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
            mu.data = a.data() + cuts[i];
            pi.data = b.data() + cuts[i];
            mu.vocab = pi.vocab = std::int64_t(cuts[i + 1] - cuts[i]);
            double part = 7;
            trm::known_logsumexp const known{{&whole.mu, 1}, {&whole.pi, 1}};
            REQUIRE(trm::exact_divergence(mu, pi, trm::divergence_out<double>{.tv = {&part, 1}}, known).ok());
            tv += part;
        }
        CHECK(near(tv, whole.tv, 1e-6));
    }
}

TEST_CASE("Support, masks, skipped and broken rows", "[logits][unit]") {
    float const inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    std::size_t const n = 200;
    std::vector<float> x(5 * n), y(5 * n);
    for (std::size_t i = 0; i < 5 * n; ++i) x[i] = float(i % 13), y[i] = float(i % 11);
    y[150] = -inf;                                        // row 0: mu can, pi cannot
    x[n + 3] = nan;                                       // row 1
    for (std::size_t i = 0; i < n; ++i) y[2 * n + i] = -inf;  // row 2: empty
    y[3 * n + 199] = inf;                                 // row 3
    for (std::size_t i = 0; i < n; ++i) x[4 * n + i] = nan;  // row 4: skipped
    std::vector<std::uint8_t> const row_mask{1, 1, 1, 1, 0};
    trm::logits_view<float> const mu{.data = x.data(), .rows = 5, .vocab = 200};
    trm::logits_view<float> pi{.data = y.data(), .rows = 5, .vocab = 200, .row_mask = row_mask.data()};
    std::vector<float> kl(5, 7), rl(5, 7), tv(5, 7);
    REQUIRE(trm::exact_divergence(mu, pi, trm::divergence_out<float>{kl, rl, tv}).ok());
    CHECK(kl[0] == inf);
    CHECK(rl[0] > 0);
    CHECK(rl[0] < 100);
    CHECK(tv[0] > 0);
    for (std::size_t r : {std::size_t(1), std::size_t(2), std::size_t(3)}) {
        CHECK(trm::is_nan(double(kl[r])));
        CHECK(trm::is_nan(double(rl[r])));
        CHECK(trm::is_nan(double(tv[r])));
    }
    CHECK(kl[4] == 0);
    CHECK(tv[4] == 0);

    // The same vocabulary mask on both sides removes the entry: finite again, and equal to -inf on both sides.
    std::vector<std::uint8_t> mask(n, 1);
    mask[150] = 0;
    auto masked_mu = mu;
    masked_mu.rows = pi.rows = 1;
    masked_mu.vocab_mask = pi.vocab_mask = mask.data();
    float got = 7, got_tv = 7;
    REQUIRE(trm::exact_divergence(masked_mu, pi, trm::divergence_out<float>{{&got, 1}, {}, {&got_tv, 1}}).ok());
    std::vector<double> zx(x.begin(), x.begin() + 200), zy(y.begin(), y.begin() + 200);
    zx[150] = -rows::inf;
    CHECK(got == Approx(trm::reference::kl(zx, zy)).epsilon(1e-6));
    CHECK(got_tv == Approx(trm::reference::tv(zx, zy)).epsilon(1e-6));

    pi.vocab = 199;
    CHECK(trm::exact_divergence(masked_mu, pi, trm::divergence_out<float>{}).code == trm::errc::size_mismatch);
}
