// SPDX-License-Identifier: Apache-2.0
// The C interface to logits and certificates gives the bits of the C++ calls.
#include "catch.hpp"
#include "interop_c.hpp"

#include <trm/bounds/certificate.hpp>
#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>

#include <nlohmann/json.hpp>

using namespace trm;

namespace {

template <class S>
std::vector<S> random_logits(std::size_t n, std::uint64_t seed) {
    batches::random r(seed);
    std::vector<S> x(n);
    for (S& v : x) v = batches::narrow<S>(3 * r.normal());
    return x;
}
template <class T>
bool same(std::vector<T> const& a, std::vector<T> const& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("C: logits, bit for bit", "", float, double, bf16, f16) {
    using real = default_arithmetic_t<TestType>;
    constexpr std::size_t rows = 7, vocab = 101, stride = 104;
    auto const x = random_logits<TestType>(rows * stride, 1), y = random_logits<TestType>(rows * stride, 2);
    std::vector<std::int32_t> const targets{0, 100, 3, 50, 7, 99, 1};
    std::vector<std::int64_t> const wide(targets.begin(), targets.end());
    std::vector<std::uint8_t> const row_mask{1, 1, 0, 1, 1, 1, 1};
    logits_view<TestType> const mu{x.data(), rows, vocab, stride, 0.7, nullptr, 0, row_mask.data()};
    logits_view<TestType> const pi{y.data(), rows, vocab, stride};
    std::vector<real> logp(rows), entropy(rows), kl(rows), back(rows), tv(rows);
    std::vector<double> lse(rows);
    REQUIRE(log_prob(mu, targets, log_prob_out<real>{logp, lse, entropy}).ok());
    REQUIRE(exact_divergence(mu, pi, divergence_out<real>{kl, back, tv, {}, {}}).ok());

    trm_logits m = trm_logits_init();
    m.data = x.data();
    m.dtype = c::dtype<TestType>;
    m.rows = rows;
    m.vocab = vocab;
    m.row_stride = stride;
    trm_logits p = m;
    p.data = y.data();
    m.temperature = 0.7;
    m.row_mask = row_mask.data();
    std::vector<real> c_logp(rows), c_entropy(rows), c_kl(rows), c_back(rows), c_tv(rows);
    std::vector<double> c_lse(rows);
    REQUIRE(trm_log_prob(&m, wide.data(), TRM_I64, c_logp.data(), c_lse.data(), c_entropy.data(), nullptr, nullptr) ==
            TRM_OK);
    CHECK(same(logp, c_logp));
    CHECK(same(entropy, c_entropy));
    CHECK(same(lse, c_lse));
    REQUIRE(trm_exact_divergence(&m, &p, c_kl.data(), c_back.data(), c_tv.data(), nullptr, nullptr) == TRM_OK);
    CHECK(same(kl, c_kl));
    CHECK(same(back, c_back));
    CHECK(same(tv, c_tv));
    CHECK(kl[0] > 0);

    for (int const write : {TRM_OVERWRITE, TRM_ACCUMULATE, TRM_NONZERO_ROWS}) {
        std::vector<real> const up{1, -1, 0.5f, 0, 2, 1, 1}, up_entropy{0, 0.1f, 0, 0, 0, 0.2f, 0};
        auto want = random_logits<TestType>(rows * stride, 3), got = want;
        logits_gradient_in<real> in{lse, up, up_entropy, entropy};
        logits_gradient_out<TestType> out{want.data(), stride, static_cast<logits_write>(write)};
        REQUIRE(logits_gradient(mu, targets, in, out).ok());
        REQUIRE(trm_logits_gradient(&m, targets.data(), TRM_I32, c_lse.data(), up.data(), up_entropy.data(),
                                    c_entropy.data(), got.data(), stride, write, nullptr, nullptr) == TRM_OK);
        CHECK(same(want, got));
    }
}

TEST_CASE("C: logits refuse what they cannot read") {
    std::vector<float> const x(6);
    std::vector<float> y(6);
    std::vector<std::int32_t> const targets{0, 2}, outside{0, 3};
    trm_error error = trm_error_init();
    trm_logits l = trm_logits_init();
    l.data = x.data();
    l.dtype = TRM_F32;
    l.rows = 2;
    l.vocab = 3;
    float* const logp = y.data();
    auto const log_prob_of = [&](trm_logits v, void const* ids, int dtype) {
        return trm_log_prob(&v, ids, dtype, logp, nullptr, nullptr, nullptr, &error);
    };
    CHECK(log_prob_of(l, targets.data(), TRM_I32) == TRM_OK);
    CHECK(log_prob_of(l, targets.data(), 0) == TRM_BAD_ARGUMENT);
    CHECK(log_prob_of(l, nullptr, TRM_I32) == TRM_BAD_ARGUMENT);
    CHECK(log_prob_of(l, outside.data(), TRM_I32) == TRM_BAD_LAYOUT);
    CHECK(error.token == 1);
    CHECK(std::string(error.message).find("(row 1)") != std::string::npos);
    trm_logits v = l;
    v.temperature = 0;
    CHECK(log_prob_of(v, targets.data(), TRM_I32) == TRM_BAD_THRESHOLD);
    v = l;
    v.dtype = 9;
    CHECK(log_prob_of(v, targets.data(), TRM_I32) == TRM_BAD_ARGUMENT);
    v = l;
    v.rows = -1;
    CHECK(log_prob_of(v, targets.data(), TRM_I32) == TRM_BAD_LAYOUT);
    v = l;
    v.data = nullptr;
    CHECK(log_prob_of(v, targets.data(), TRM_I32) == TRM_MISSING_STREAM);
    v = l;
    v.data = reinterpret_cast<char const*>(x.data()) + 1;
    CHECK(log_prob_of(v, targets.data(), TRM_I32) == TRM_BAD_ARGUMENT);
    v = l;
    v.dtype = TRM_F64;
    CHECK(trm_exact_divergence(&l, &v, logp, nullptr, nullptr, nullptr, &error) == TRM_UNSUPPORTED);
    CHECK(trm_exact_divergence(&l, nullptr, logp, nullptr, nullptr, nullptr, &error) == TRM_BAD_ARGUMENT);
    double const lse[2] = {1, 1};
    auto const gradient = [&](double const* logsumexp, int write) {
        return trm_logits_gradient(&l, targets.data(), TRM_I32, logsumexp, x.data(), nullptr, nullptr, y.data(), 0,
                                   write, nullptr, &error);
    };
    CHECK(gradient(lse, TRM_OVERWRITE) == TRM_OK);
    CHECK(gradient(lse, 3) == TRM_BAD_ARGUMENT);
    CHECK(gradient(nullptr, TRM_OVERWRITE) == TRM_BAD_ARGUMENT);
}

TEST_CASE("C: a certificate as JSON is the C++ one") {
    auto const b = batches::make<float>({batches::short_lengths(60, 3), true, 0.02, 0}, 3);
    std::vector<double> rewards(60);
    std::vector<std::int64_t> groups(60);
    for (std::size_t i = 0; i < 60; ++i) {
        rewards[i] = static_cast<double>(i % 3) / 2;
        groups[i] = static_cast<std::int64_t>(i / 6);
    }
    bounds::trajectories<float> t = bounds::trajectories_of(b.view());
    t.rewards = rewards;
    t.groups = groups;
    bounds::evidence seen;
    REQUIRE(seen.add(t).ok());
    bounds::certificate_options options;
    options.bootstrap.resamples = 100;
    options.surrogate_gain = 0.25;
    bounds::certificate const want = bounds::certify(seen, options);

    trm_batch const batch = c::batch_of(b);
    trm_outcomes outcomes = trm_outcomes_init();
    outcomes.rewards = rewards.data();
    outcomes.groups = groups.data();
    trm_certificate_options o = trm_certificate_options_init();
    o.resamples = 100;
    o.has_surrogate_gain = 1;
    o.surrogate_gain = 0.25;
    trm_error error = trm_error_init();
    c::evidence const evidence(trm_evidence_new()), merged(trm_evidence_new());
    REQUIRE(trm_evidence_add(evidence.get(), &batch, &outcomes, nullptr, &error) == TRM_OK);
    REQUIRE(trm_evidence_merge(merged.get(), evidence.get(), &error) == TRM_OK);
    c::string const text(trm_evidence_certificate(merged.get(), &o, &error));
    REQUIRE(text);
    auto const j = nlohmann::json::parse(text.get());
    CHECK(j["certified"] == want.certified);
    CHECK(j["gain"] == 0.25);
    REQUIRE(want.headline);
    CHECK(j["headline"] == *want.headline);
    REQUIRE(j["ladder"].size() == want.rungs);
    for (std::size_t i = 0; i < want.rungs; ++i) {
        CHECK(j["ladder"][i]["value"] == want.ladder[i].value);
        CHECK(j["ladder"][i]["vacuous"] == want.ladder[i].vacuous);
        CHECK(j["ladder"][i]["interval"].is_null() == !want.ladder[i].range);
        if (want.ladder[i].range) CHECK(j["ladder"][i]["interval"][1] == want.ladder[i].range->high);
    }
    CHECK(j["ladder"][0]["kind"] == "estimated");
    CHECK(j["health"]["ess"] == want.health.ess);
    CHECK(j["surrogate"]["value"] == want.surrogate.value);
    CHECK(j["tokens"] == want.tokens);
    CHECK(j["sequences"] == 60);

    auto segmented = c::layouts<float>(4)[2];
    trm_batch const pieces = c::batch_of(segmented);
    outcomes = trm_outcomes_init();
    CHECK(trm_evidence_add(evidence.get(), &pieces, &outcomes, nullptr, &error) == TRM_UNSUPPORTED);
    CHECK(trm_evidence_add(evidence.get(), &batch, nullptr, nullptr, &error) == TRM_BAD_ARGUMENT);
    CHECK(trm_evidence_merge(evidence.get(), evidence.get(), &error) == TRM_BAD_ARGUMENT);
    o.reward_min = 2;
    CHECK(trm_evidence_certificate(evidence.get(), &o, &error) == nullptr);
    CHECK(error.code == TRM_BAD_THRESHOLD);
    c::evidence const nothing(trm_evidence_new());
    c::string const empty(trm_evidence_certificate(nothing.get(), nullptr, &error));
    REQUIRE(empty);
    CHECK(nlohmann::json::parse(empty.get())["headline"].is_null());
}
