// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "larger.hpp"
#include "logits_rows.hpp"

#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/reference/logits.hpp>

namespace {

using rows::kind;

template <class S>
double as_double(S v) {
    return static_cast<double>(trm::to_float(v));
}

/// Unit roundoff of what is written, plus that of float arithmetic.
template <class S>
double relative() {
    using U = trm::storage_t<S>;
    if (std::is_same_v<U, trm::bf16>) return 0x1p-8;
    if (std::is_same_v<U, trm::f16>) return 0x1p-10;
    return std::is_same_v<U, double> ? 1e-11 : 2e-6;
}

template <class S, class Arch>
void compare(kind k, std::size_t n, double temperature, bool entropy, bool stream, std::mt19937_64& rng) {
    std::size_t const target = rng() % n;
    std::vector<double> x = rows::make(k, n, target, rng);
    std::vector<S> s = rows::store<S>(x);
    std::vector<double> const z = rows::scaled(x, temperature);
    trm::logits_view<S> const view{.data = s.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = temperature};
    std::vector<std::int64_t> const ids{std::int64_t(target)};
    double logp, lse, h;
    REQUIRE(trm::log_prob<Arch>(view, ids, trm::log_prob_out<double>{{&logp, 1}, {&lse, 1}, {&h, 1}}).ok());

    double const up = 1.7, up_h = entropy ? -0.3 : 0.0;
    trm::logits_gradient_in<double> in{.logsumexp = {&lse, 1}, .d_logp = {&up, 1}};
    if (entropy) {
        in.d_entropy = {&up_h, 1};
        in.entropy = {&h, 1};
    }
    std::vector<double> const want = trm::reference::logits_gradient(z, target, up, up_h, temperature);
    double const unit = std::fabs(up) / temperature;  // of a probability: what 1 - p at the target is rounded to
    double largest = unit;
    for (double g : want) largest = std::max(largest, std::fabs(g));

    std::vector<S> out(n + 3), sum(n, rows::round_to<S>(0.5));
    REQUIRE(trm::logits_gradient<Arch>(
                view, ids, in, trm::logits_gradient_out<S>{out.data() + 1, 0, trm::logits_write::overwrite, stream})
                .ok());
    REQUIRE(trm::logits_gradient<Arch>(view, ids, in,
                                       trm::logits_gradient_out<S>{sum.data(), 0, trm::logits_write::accumulate})
                .ok());
    REQUIRE(trm::logits_gradient<Arch>(view, ids, in, trm::logits_gradient_out<S>{s.data()}).ok());
    double worst = 0, worst_sum = 0, total = 0;
    bool in_place_same = true;
    for (std::size_t i = 0; i < n; ++i) {
        double const g = as_double(out[i + 1]);
        worst = larger(worst, std::fabs(g - want[i]) -
                                  relative<S>() * (std::fabs(want[i]) + 1e-3 * largest + (i == target ? unit : 0)));
        worst_sum =
            larger(worst_sum, std::fabs(as_double(sum[i]) - want[i] - 0.5) - relative<S>() * (std::fabs(want[i]) + 1));
        in_place_same = in_place_same && as_double(s[i]) == g;
        total += g;
    }
    INFO(rows::name(k) << " V = " << n << " T = " << temperature << " entropy " << entropy << " " << Arch::name());
    CHECK(worst <= 1e-30 + (sizeof(S) == 2 ? 1e-7 : 0));
    CHECK(worst_sum <= 0);
    CHECK(in_place_same);
    if (sizeof(S) >= 4) CHECK(std::fabs(total) <= 4e-6 * largest);
    CHECK(as_double(out[0]) == 0);
    CHECK(as_double(out[n + 1]) == 0);
    for (std::size_t i = 0; i < n; ++i)
        if (z[i] == -rows::inf) REQUIRE(as_double(out[i + 1]) == 0);
}

template <class S, class Arch>
void compare_all() {
    std::mt19937_64 rng(21);
    for (std::size_t n : rows::sizes())
        for (int k = 0; k < static_cast<int>(kind::count); ++k) {
            if (std::is_same_v<S, trm::f16> && kind(k) == kind::lowest) continue;
            if (n < 100000 || k % 3 == 0)
                compare<S, Arch>(kind(k), n, k % 2 == 0 ? 1.0 : 0.6, k % 4 > 1, k % 2 != 0, rng);
        }
}

}  // namespace

TEST_CASE("d logits matches the oracle out of place, accumulating and in place", "[logits][parity]") {
    SECTION("f32") { compare_all<float, trm::simd::default_arch>(); }
    SECTION("bf16") { compare_all<trm::bf16, trm::simd::default_arch>(); }
    SECTION("f16") { compare_all<trm::f16, trm::simd::default_arch>(); }
    SECTION("f64") { compare_all<double, trm::simd::default_arch>(); }
    SECTION("f32, one lane") { compare_all<float, trm::simd::scalar>(); }
}

TEST_CASE("d logits is the derivative of what log_prob computes", "[logits][property]") {
    std::mt19937_64 rng(22);
    std::size_t const n = 37;
    for (int round = 0; round < 20; ++round) {
        std::vector<double> x = rows::make(kind::normal, n, 0, rng);
        std::vector<std::uint8_t> mask(n);
        for (auto& m : mask) m = rng() % 4 != 0;
        std::vector<std::int32_t> const ids{std::int32_t(rng() % n)};
        mask[std::size_t(ids[0])] = 1;
        trm::logits_view<double> const view{
            .data = x.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = 0.8, .vocab_mask = mask.data()};
        double logp, lse, h;
        trm::log_prob_out<double> const out{{&logp, 1}, {&lse, 1}, {&h, 1}};
        double const up = 0.9, up_h = 0.4;
        auto const value = [&] {
            REQUIRE(trm::log_prob(view, ids, out).ok());
            return up * logp + up_h * h;
        };
        value();
        std::vector<double> g(n);
        REQUIRE(trm::logits_gradient(view, ids,
                                     trm::logits_gradient_in<double>{{&lse, 1}, {&up, 1}, {&up_h, 1}, {&h, 1}},
                                     trm::logits_gradient_out<double>{g.data()})
                    .ok());
        for (std::size_t i = 0; i < n; ++i) {
            double const keep = x[i], step = 1e-5;
            x[i] = keep + step;
            double const high = value();
            x[i] = keep - step;
            double const low = value();
            x[i] = keep;
            CHECK(g[i] == Approx((high - low) / (2 * step)).margin(1e-8));
            if (mask[i] == 0) CHECK(g[i] == 0);
        }
    }
}

TEST_CASE("A target that vocab_mask excludes has probability 0 in the gradient", "[logits][unit]") {
    std::mt19937_64 rng(23);
    for (std::size_t n : {3u, 37u, 300u}) {
        std::vector<double> const x = rows::make(kind::normal, n, 0, rng);
        std::vector<std::uint8_t> mask(n, 1);
        std::vector<std::int32_t> const ids{std::int32_t(n / 2)};
        mask[n / 2] = 0;
        trm::logits_view<double> const view{
            .data = x.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = 0.8, .vocab_mask = mask.data()};
        double logp, lse, h;
        REQUIRE(trm::log_prob(view, ids, trm::log_prob_out<double>{{&logp, 1}, {&lse, 1}, {&h, 1}}).ok());
        CHECK(logp == -rows::inf);
        double const up = 0.9, up_h = 0.4;
        std::vector<double> g(n);
        REQUIRE(trm::logits_gradient(view, ids,
                                     trm::logits_gradient_in<double>{{&lse, 1}, {&up, 1}, {&up_h, 1}, {&h, 1}},
                                     trm::logits_gradient_out<double>{g.data()})
                    .ok());
        CHECK(g[n / 2] == Approx(up / 0.8).epsilon(1e-15));
        double rest = 0;
        for (std::size_t i = 0; i < n; ++i) rest += i == n / 2 ? 0 : g[i];
        CHECK(rest == Approx(-up / 0.8).epsilon(1e-6));
    }
}

TEST_CASE("Rejected rows are not read and cost a memset or nothing", "[logits][unit]") {
    std::size_t const n = 70, stride = 80, count = 5;
    float const nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> x(count * stride, nan);
    for (std::size_t i = 0; i < n; ++i) x[stride + i] = float(i % 7);
    // Row 0: no upstream gradient. Row 1: ordinary. Row 2: row_mask 0, invalid target. Row 3: NaN logits. Row 4: all -inf.
    for (std::size_t i = 0; i < n; ++i) x[4 * stride + i] = -std::numeric_limits<float>::infinity();
    std::vector<std::uint8_t> const row_mask{1, 1, 0, 1, 1};
    std::vector<std::int32_t> const ids{3, 4, -100, 5, 6};
    trm::logits_view<float> const view{
        .data = x.data(), .rows = 5, .vocab = 70, .row_stride = 80, .row_mask = row_mask.data()};
    std::vector<float> logp(5), h(5);
    std::vector<double> lse(5);
    REQUIRE(trm::log_prob(view, ids, trm::log_prob_out<float>{logp, lse, h}).ok());
    CHECK(!trm::is_finite(logp[3]));
    CHECK(!trm::is_finite(logp[4]));
    CHECK(lse[2] == 0);
    CHECK(logp[2] == 0);
    lse[0] = 1;  // as a caller would who computed it elsewhere

    std::vector<float> const up{0, 2, 1, 1, 1};
    trm::logits_gradient_in<float> const in{.logsumexp = lse, .d_logp = up};
    auto const run = [&](trm::logits_write mode) {
        std::vector<float> g(count * stride, 9.0f);
        REQUIRE(trm::logits_gradient(view, ids, in, trm::logits_gradient_out<float>{g.data(), 80, mode}).ok());
        for (std::size_t r = 0; r < count; ++r)
            for (std::size_t i = n; i < stride; ++i) REQUIRE(g[r * stride + i] == 9.0f);  // padding stays
        return g;
    };
    std::vector<float> const over = run(trm::logits_write::overwrite), add = run(trm::logits_write::accumulate),
                             skip = run(trm::logits_write::nonzero_rows);
    for (std::size_t r = 0; r < count; ++r)
        for (std::size_t i = 0; i < n; ++i) {
            std::size_t const at = r * stride + i;
            if (r == 1) {
                CHECK(over[at] != 0);
                CHECK(skip[at] == over[at]);
                CHECK(add[at] == Approx(over[at] + 9.0f));
            } else {
                REQUIRE(over[at] == 0);
                REQUIRE(add[at] == 9.0f);
                REQUIRE(skip[at] == 9.0f);
            }
        }
}

TEST_CASE("Vocabulary shards, forward, merge, backward, make the gradient of the whole row", "[logits][property]") {
    std::mt19937_64 rng(28);
    std::int64_t const n = 5003;
    std::vector<std::int64_t> const cuts{0, 1, 640, 641, 3000, n};
    for (int k = 0; k < static_cast<int>(kind::count); ++k) {
        std::vector<double> x, z;
        std::vector<std::int32_t> ids;
        for (std::int64_t target : {std::int64_t(0), std::int64_t(640), n - 1}) {
            std::vector<double> row = rows::make(kind(k), std::size_t(n), std::size_t(target), rng);
            x.insert(x.end(), row.begin(), row.end());
            ids.push_back(std::int32_t(target));
        }
        std::vector<float> const s = rows::store<float>(x);
        std::vector<std::uint8_t> mask(std::size_t(n), 1);
        if (k % 2 == 0) mask[7] = mask[700] = 0;
        std::vector<trm::logits_partial> all(3), part(3);
        auto const shard = [&](std::size_t i) {
            return trm::logits_view<float>{.data = s.data() + cuts[i],
                                           .rows = 3,
                                           .vocab = cuts[i + 1] - cuts[i],
                                           .row_stride = n,
                                           .temperature = 0.8,
                                           .vocab_mask = mask.data() + cuts[i]};
        };
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
            REQUIRE(trm::log_prob_partials(shard(i), cuts[i], ids, part).ok());
            for (std::size_t r = 0; r < 3; ++r) all[r].merge(part[r]);
        }
        std::vector<double> logp(3), lse(3), h(3);
        REQUIRE(trm::finish(std::span<trm::logits_partial const>(all), trm::log_prob_out<double>{logp, lse, h}).ok());
        std::vector<double> const up{1.5, 0, -2}, up_h{0.25, 0, 0};
        trm::logits_gradient_in<double> const in{lse, up, up_h, h};
        std::vector<float> g(s.size(), 9.0f);
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
            REQUIRE(
                trm::logits_gradient_shard(shard(i), cuts[i], ids, in, trm::logits_gradient_out<float>{&g[cuts[i]], n})
                    .ok());
        for (std::size_t r = 0; r < 3; ++r) {
            std::vector<double> row(x.begin() + std::int64_t(r) * n, x.begin() + std::int64_t(r + 1) * n);
            for (std::size_t i = 0; i < row.size(); ++i)
                if (mask[i] == 0) row[i] = -rows::inf;
            std::vector<double> const want =
                trm::reference::logits_gradient(rows::scaled(row, 0.8), std::size_t(ids[r]), up[r], up_h[r], 0.8);
            double worst = 0, total = 0;
            for (std::size_t i = 0; i < row.size(); ++i) {
                double const got = double(g[r * std::size_t(n) + i]);
                worst = larger(worst, std::fabs(got - want[i]));
                total += got;
            }
            INFO(rows::name(kind(k)) << " row " << r);
            CHECK(worst <= 4e-6);
            CHECK(std::fabs(total) <= 1e-5);
        }
    }
}

TEST_CASE("The backward pass refuses inconsistent inputs", "[logits][unit]") {
    std::vector<float> x(6), g(6), up(2, 1.0f), h(2);
    std::vector<double> lse(2);
    std::vector<std::int32_t> ids{0, 2};
    trm::logits_view<float> view{.data = x.data(), .rows = 2, .vocab = 3};
    trm::logits_gradient_in<float> const in{.logsumexp = lse, .d_logp = up};
    trm::logits_gradient_out<float> const out{g.data()};
    CHECK(trm::logits_gradient(view, ids, in, out).ok());
    auto bad = in;
    bad.logsumexp = bad.logsumexp.first(1);
    CHECK(trm::logits_gradient(view, ids, bad, out).code == trm::errc::size_mismatch);
    bad = in;
    bad.d_logp = {};
    CHECK(trm::logits_gradient(view, ids, bad, out).code == trm::errc::size_mismatch);
    bad = in;
    bad.d_entropy = up;
    CHECK(trm::logits_gradient(view, ids, bad, out).code == trm::errc::missing_stream);
    CHECK(trm::logits_gradient(view, ids, in, trm::logits_gradient_out<float>{g.data(), 2}).code ==
          trm::errc::bad_layout);
    CHECK(trm::logits_gradient(view, ids, in, trm::logits_gradient_out<float>{}).code == trm::errc::missing_stream);
    ids[1] = 3;
    CHECK(trm::logits_gradient(view, ids, in, out) == trm::status{trm::errc::bad_layout, -1, 1, ""});
}
