// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "logits_rows.hpp"

#include <trm/logits/log_prob.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>
#include <numeric>

namespace {

using rows::kind;

template <class S>
constexpr double tolerance = sizeof(S) == 8 ? 1e-11 : 1e-6;

/// log_prob of one row against the oracle.
template <class S, class Arch>
void compare(kind k, std::size_t n, double temperature, std::mt19937_64& rng) {
    std::size_t const target = rng() % n;
    std::vector<double> x = rows::make(k, n, target, rng);
    std::vector<S> const s = rows::store<S>(x);
    std::vector<double> const z = rows::scaled(x, temperature);
    if constexpr (std::is_same_v<S, trm::f16>)
        if (k == kind::lowest) return;  // f16 has no such number

    trm::logits_view<S> const view{.data = s.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
    std::vector<std::int32_t> const ids{std::int32_t(target)};
    double logp = 7, lse = 7, h = 7;
    trm::log_prob_out<double> const out{{&logp, 1}, {&lse, 1}, {&h, 1}};
    REQUIRE(trm::log_prob<Arch>(view, ids, out).ok());

    double const want = trm::reference::logsumexp(z);
    INFO(rows::name(k) << " V = " << n << " T = " << temperature << " " << Arch::name());
    CHECK(std::fabs(lse - want) <= tolerance<S>);
    CHECK(std::fabs(logp - (z[target] - want)) <= tolerance<S>);
    CHECK(std::fabs(h - trm::reference::entropy(z)) <= 8 * tolerance<S>);
    CHECK(h >= 0);
    CHECK(h <= std::log(double(n)) + 1e-5);
}

template <class S, class Arch>
void compare_all() {
    std::mt19937_64 rng(20);
    for (std::size_t n : rows::sizes())
        for (int k = 0; k < static_cast<int>(kind::count); ++k)
            if (n < 100000 || k % 3 == 0) compare<S, Arch>(kind(k), n, k % 2 == 0 ? 1.0 : 0.6, rng);
}

}  // namespace

TEST_CASE("log-prob, logsumexp and entropy match the oracle", "[logits][parity]") {
    SECTION("f32") { compare_all<float, trm::simd::default_arch>(); }
    SECTION("bf16") { compare_all<trm::bf16, trm::simd::default_arch>(); }
    SECTION("f16") { compare_all<trm::f16, trm::simd::default_arch>(); }
    SECTION("f64") { compare_all<double, trm::simd::default_arch>(); }
    SECTION("f32, one lane") { compare_all<float, trm::simd::scalar>(); }
}

TEST_CASE("Vocabulary shards merge in any order to the whole row", "[logits][property]") {
    std::mt19937_64 rng(26);
    std::size_t const n = 7001;
    for (int k = 0; k < static_cast<int>(kind::count); ++k) {
        std::size_t const target = rng() % n;
        std::vector<double> x = rows::make(kind(k), n, target, rng);
        std::vector<float> const s = rows::store<float>(x);
        std::vector<double> const z = rows::scaled(x, 1.0);
        std::vector<std::int64_t> const ids{std::int64_t(target)};
        std::vector<std::size_t> const cuts{0, 1, 2, 130, 1000, 1001, 4096, n};
        std::vector<trm::logits_partial> parts(cuts.size() - 1);
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
            trm::logits_view<float> const v{
                .data = s.data() + cuts[i], .rows = 1, .vocab = std::int64_t(cuts[i + 1] - cuts[i])};
            REQUIRE(trm::log_prob_partials(v, std::int64_t(cuts[i]), ids, std::span(&parts[i], 1)).ok());
        }
        double const want = trm::reference::logsumexp(z);
        for (int order = 0; order < 20; ++order) {
            std::shuffle(parts.begin(), parts.end(), rng);
            trm::logits_partial all;  // neutral
            trm::logits_partial left, right;
            for (std::size_t i = 0; i < parts.size(); ++i) (i % 2 == 0 ? left : right).merge(parts[i]);
            all.merge(left);
            all.merge(right);
            double logp = 7, lse = 7, h = 7;
            REQUIRE(trm::finish(std::span<trm::logits_partial const>(&all, 1),
                                trm::log_prob_out<double>{{&logp, 1}, {&lse, 1}, {&h, 1}})
                        .ok());
            INFO(rows::name(kind(k)));
            CHECK(std::fabs(lse - want) <= 1e-6);
            CHECK(std::fabs(logp - (z[target] - want)) <= 1e-6);
            CHECK(std::fabs(h - trm::reference::entropy(z)) <= 8e-6);
        }
    }
}

TEST_CASE("Vocabulary masks equal -inf, shared or per row, with tails and strides", "[logits][property]") {
    std::mt19937_64 rng(27);
    for (std::size_t n : {std::size_t(5), std::size_t(128), std::size_t(333)})
        for (bool shared : {true, false}) {
            std::size_t const count = 3, stride = n + 7;
            std::vector<float> x(count * stride, 1e30f), y(count * n);
            std::vector<std::uint8_t> mask((shared ? 1 : count) * n);
            for (auto& m : mask) m = rng() % 3 != 0;
            mask[2] = 1;
            if (!shared) mask[n + 2] = mask[2 * n + 2] = 1;
            std::normal_distribution<float> normal(0, 3);
            for (std::size_t r = 0; r < count; ++r)
                for (std::size_t i = 0; i < n; ++i) {
                    float const value = normal(rng);
                    x[r * stride + i] = value;
                    y[r * n + i] = mask[shared ? i : r * n + i] != 0 ? value : -std::numeric_limits<float>::infinity();
                }
            std::vector<std::int32_t> const ids{2, std::int32_t(n - 1), 0};
            trm::logits_view<float> const masked{.data = x.data(),
                                                 .rows = 3,
                                                 .vocab = std::int64_t(n),
                                                 .row_stride = std::int64_t(stride),
                                                 .vocab_mask = mask.data(),
                                                 .vocab_mask_stride = shared ? 0 : std::int64_t(n)};
            trm::logits_view<float> const holes{.data = y.data(), .rows = 3, .vocab = std::int64_t(n)};
            std::vector<float> a(3), b(3), ha(3), hb(3);
            std::vector<double> la(3), lb(3);
            REQUIRE(trm::log_prob(masked, ids, trm::log_prob_out<float>{a, la, ha}).ok());
            REQUIRE(trm::log_prob(holes, ids, trm::log_prob_out<float>{b, lb, hb}).ok());
            for (std::size_t r = 0; r < 3; ++r) {
                CHECK(la[r] == Approx(lb[r]).margin(1e-6));
                CHECK(ha[r] == Approx(hb[r]).margin(4e-6));
                if (y[r * n + std::size_t(ids[r])] < -1e30f) {
                    CHECK(a[r] == -std::numeric_limits<float>::infinity());
                    CHECK(b[r] == -std::numeric_limits<float>::infinity());
                } else {
                    CHECK(a[r] == Approx(b[r]).margin(1e-6));
                }
            }
        }
}

TEST_CASE("A broken row spoils itself only, a skipped row is not read", "[logits][unit]") {
    float const inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (std::size_t n : {std::size_t(3), std::size_t(130), std::size_t(2000)})
        for (std::size_t at : {std::size_t(0), n / 2, n - 1}) {
            std::vector<float> x(6 * n, 0.5f);
            x[n + at] = nan;
            x[2 * n + at] = inf;
            for (std::size_t i = 0; i < n; ++i) x[3 * n + i] = -inf, x[4 * n + i] = nan;
            std::vector<std::uint8_t> const row_mask{1, 1, 1, 1, 0, 1};
            trm::logits_view<float> const v{
                .data = x.data(), .rows = 6, .vocab = std::int64_t(n), .row_mask = row_mask.data()};
            std::vector<std::int32_t> const ids{0, 1, 2, 0, -1, 2};
            std::vector<float> logp(6, 7), h(6, 7);
            std::vector<double> lse(6, 7);
            REQUIRE(trm::log_prob(v, ids, trm::log_prob_out<float>{logp, lse, h}).ok());
            INFO("V = " << n << ", broken at " << at);
            for (std::size_t r : {std::size_t(0), std::size_t(5)}) {
                CHECK(logp[r] == Approx(-std::log(double(n))));
                CHECK(h[r] == Approx(std::log(double(n))));
            }
            for (std::size_t r : {std::size_t(1), std::size_t(2), std::size_t(3)}) {
                CHECK(!trm::is_finite(logp[r]));
                CHECK(!trm::is_finite(h[r]));
            }
            CHECK(!trm::is_finite(lse[3]));
            CHECK(logp[4] == 0);
            CHECK(lse[4] == 0);
            CHECK(h[4] == 0);
        }
}

TEST_CASE("The forward pass refuses inconsistent inputs", "[logits][unit]") {
    std::vector<float> x(12), logp(3), short_span(2);
    std::vector<std::int32_t> ids{0, 3, 1};
    trm::logits_view<float> const v{.data = x.data(), .rows = 3, .vocab = 4};
    auto const call = [&](trm::logits_view<float> const& view) {
        return trm::log_prob(view, ids, trm::log_prob_out<float>{.logp = logp});
    };
    CHECK(call(v).ok());
    auto bad = v;
    bad.row_stride = 3;
    CHECK(call(bad).code == trm::errc::bad_layout);
    bad = v;
    bad.vocab = 0;
    CHECK(call(bad).code == trm::errc::bad_layout);
    bad = v;
    bad.data = nullptr;
    CHECK(call(bad).code == trm::errc::missing_stream);
    for (double t : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        bad = v;
        bad.temperature = t;
        CHECK(call(bad).code == trm::errc::bad_threshold);
    }
    CHECK(trm::log_prob(v, ids, trm::log_prob_out<float>{.logp = short_span}).code == trm::errc::size_mismatch);
    CHECK(trm::log_prob(v, std::span<std::int32_t const>(ids).first(2), trm::log_prob_out<float>{.logp = logp}).code ==
          trm::errc::size_mismatch);
    ids[1] = 4;
    CHECK(call(v) == trm::status{trm::errc::bad_layout, -1, 1, ""});
    ids[1] = -1;
    CHECK(call(v) == trm::status{trm::errc::bad_layout, -1, 1, ""});
}

TEST_CASE("what rounding makes of sums: log-probabilities of at most 0, entropies from 0 to log(vocab)",
          "[logits][unit]") {
    trm::logits_partial p;
    p.shift = 3;
    p.target_logit = 3;
    p.sum_exp = 1 - 0x1p-52;  // less than the target's own term
    CHECK(p.logp() == 0);
    p.sum_exp = 1;
    CHECK(p.logp() == 0);
    p.weighted_sum = 0x1p-52;
    CHECK(p.entropy() == 0);
    p.sum_exp = 4;
    p.weighted_sum = -0x1p-40;
    CHECK(p.logp() == Approx(-std::log(4.0)));
    CHECK(p.entropy(4) == Approx(std::log(4.0)).epsilon(1e-15));
    CHECK(p.entropy(5) > std::log(4.0));
}
