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
