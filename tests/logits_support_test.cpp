// SPDX-License-Identifier: Apache-2.0
// Log-probabilities and gradients over kept ids: against the oracle on logits with everything else at -inf, against vocab_mask,
// derivatives, the bias that they remove, misuse.
#include "catch.hpp"
#include "logits_rows.hpp"

#include <trm/logits/support.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>

using namespace trm;

namespace {

using doubles = std::vector<double>;

template <class S>
struct problem {
    std::int64_t rows, vocab;
    double temperature = 0.8;
    std::vector<S> logits;
    std::vector<doubles> only_kept;  ///< scaled, -inf where not kept
    std::vector<std::int32_t> ids, targets;
    std::vector<std::int64_t> cu{0};
    std::vector<std::uint8_t> mask;  ///< the same as bytes

    problem(std::int64_t n, std::int64_t v, unsigned seed) : rows(n), vocab(v), mask(std::size_t(n * v)) {
        std::mt19937_64 rng(seed);
        for (std::int64_t r = 0; r < n; ++r) {
            doubles x = rows::make(rows::kind::normal, std::size_t(v), 0, rng);
            auto const s = rows::store<S>(x);
            logits.insert(logits.end(), s.begin(), s.end());
            doubles z = rows::scaled(x, temperature), kept(z.size(), -rows::inf);
            std::vector<std::int32_t> all(std::size_t(v), 0);
            for (std::size_t i = 0; i < all.size(); ++i) all[i] = std::int32_t(i);
            std::shuffle(all.begin(), all.end(), rng);
            all.resize(1 + rng() % std::size_t(v));
            for (std::int32_t id : all) {
                kept[std::size_t(id)] = z[std::size_t(id)];
                mask[std::size_t(r * v + id)] = 1;
            }
            ids.insert(ids.end(), all.begin(), all.end());
            cu.push_back(std::ssize(ids));
            targets.push_back(all[rng() % all.size()]);
            only_kept.push_back(kept);
        }
    }
    logits_view<S> view() const {
        return {.data = logits.data(), .rows = rows, .vocab = vocab, .temperature = temperature};
    }
    kept_ids kept() const { return {ids, cu}; }
};

struct answers {
    doubles logp, lse, entropy;
    explicit answers(std::int64_t n) : logp(std::size_t(n), 7.0), lse(logp), entropy(logp) {}
    log_prob_out<double> out() { return {logp, lse, entropy}; }
};

}  // namespace

TEMPLATE_TEST_CASE("kept ids are a softmax over what is kept", "[logits][parity]", float, double, bf16) {
    problem<TestType> const p(9, 37, 3);
    answers a(p.rows), by_mask(p.rows);
    REQUIRE(log_prob_of_kept(p.view(), p.kept(), p.targets, a.out()).ok());
    auto masked = p.view();
    masked.vocab_mask = p.mask.data();
    masked.vocab_mask_stride = p.vocab;
    REQUIRE(log_prob(masked, p.targets, by_mask.out()).ok());
    doubles const up{0.7, -1.2, 0, 0.3, 1, -1, 2, 0.5, 0}, up_h{0.2, 0, 0, -0.4, 0, 0.1, 0, 0, 0.6};
    std::vector<double> g(std::size_t(p.rows * p.vocab), 7.0), sum(g.size(), 0.5), sparse(g.size(), 0.0);
    logits_gradient_in<double> const in{.logsumexp = a.lse, .d_logp = up, .d_entropy = up_h, .entropy = a.entropy};
    auto const write = [&](std::vector<double>& to, logits_write mode) {
        REQUIRE(
            gradient_of_kept(p.view(), p.kept(), p.targets, in, logits_gradient_out<double>{to.data(), 0, mode}).ok());
    };
    write(g, logits_write::overwrite);
    write(sum, logits_write::accumulate);
    write(sparse, logits_write::nonzero_rows);
    CHECK(sparse == g);
    for (std::size_t r = 0; r < std::size_t(p.rows); ++r) {
        doubles const& z = p.only_kept[r];
        auto const target = std::size_t(p.targets[r]);
        CHECK(a.logp[r] == Approx(reference::log_softmax(z)[target]).margin(1e-13));
        CHECK(a.lse[r] == Approx(reference::logsumexp(z)).epsilon(1e-13));
        CHECK(a.entropy[r] == Approx(reference::entropy(z)).margin(1e-12));
        CHECK(by_mask.logp[r] == Approx(a.logp[r]).margin(2e-6));
        auto const want = reference::logits_gradient(z, target, up[r], up_h[r], p.temperature);
        for (std::size_t v = 0; v < z.size(); ++v) {
            CHECK(g[r * z.size() + v] == Approx(want[v]).margin(1e-13));
            CHECK(sum[r * z.size() + v] == Approx(want[v] + 0.5).margin(1e-13));
        }
    }
}

TEST_CASE("the row of kept ids is the derivative of what they give", "[logits][property]") {
    problem<double> p(1, 12, 4);
    doubles const up{0.9}, up_h{0.4};
    answers a(1);
    auto const value = [&] {
        REQUIRE(log_prob_of_kept(p.view(), p.kept(), p.targets, a.out()).ok());
        return up[0] * a.logp[0] + up_h[0] * a.entropy[0];
    };
    value();
    doubles g(12), lse = a.lse, h = a.entropy;
    REQUIRE(
        gradient_of_kept(p.view(), p.kept(), p.targets,
                         logits_gradient_in<double>{.logsumexp = lse, .d_logp = up, .d_entropy = up_h, .entropy = h},
                         logits_gradient_out<double>{g.data()})
            .ok());
    for (std::size_t v = 0; v < 12; ++v) {
        double const e = 1e-4, z = p.logits[v];
        p.logits[v] = z + e;
        double const above = value();
        p.logits[v] = z - e;
        double const below = value();
        p.logits[v] = z;
        CHECK((above - below) / (2 * e) == Approx(g[v]).margin(1e-8));
    }
}

TEST_CASE("ratios over the sampler's support are 1 on policy, over the vocabulary the kept mass",
          "[logits][property]") {
    problem<double> const p(6, 50, 5);
    answers kept(6), whole(6);
    REQUIRE(log_prob_of_kept(p.view(), p.kept(), p.targets, kept.out()).ok());
    REQUIRE(log_prob(p.view(), p.targets, whole.out()).ok());
    for (std::size_t r = 0; r < 6; ++r) {  // the server reports z - logsumexp of what it keeps
        double const served = p.only_kept[r][std::size_t(p.targets[r])] - reference::logsumexp(p.only_kept[r]);
        CHECK(std::exp(kept.logp[r] - served) == Approx(1).epsilon(1e-13));
        double mass = 0;
        for (std::size_t v = 0; v < 50; ++v)
            if (p.mask[r * 50 + v] != 0) mass += std::exp(p.only_kept[r][v] - whole.lse[r]);
        CHECK(std::exp(whole.logp[r] - served) == Approx(mass).epsilon(1e-12));
    }
}

TEST_CASE("kept ids: impossible tokens, empty lists, rows that are left out, misuse", "[logits][unit]") {
    std::vector<float> z{1, 2, -std::numeric_limits<float>::infinity(), 3, 0, 1, 2, 3, 1, 1, 1, 1};
    std::vector<std::int32_t> ids{0, 2, 1, 3, 3}, targets{1, 2, 0};
    std::vector<std::int32_t> cu{0, 2, 2, 5};
    logits_view<float> view{.data = z.data(), .rows = 3, .vocab = 4};
    answers a(3);
    auto const code = [&](kept_ids const& k) { return log_prob_of_kept(view, k, targets, a.out()).code; };
    REQUIRE(code({ids, cu}) == errc::ok);
    CHECK(a.logp[0] == -rows::inf);  // 1 is not kept
    CHECK(a.lse[0] == Approx(1.0));  // of 0 and an impossible token
    CHECK(is_nan(a.logp[1]));
    std::uint8_t const keep[] = {1, 0, 0};
    REQUIRE(code({ids, cu, keep}) == errc::ok);
    CHECK(a.logp[1] == 0);
    CHECK(a.logp[2] == 0);
    std::vector<float> g(12, 7.0f);
    doubles const up{0, 1, 1};
    logits_gradient_in<double> in{.logsumexp = a.lse, .d_logp = up};
    REQUIRE(gradient_of_kept(view, {ids, cu, keep}, targets, in,
                             logits_gradient_out<float>{g.data(), 0, logits_write::nonzero_rows})
                .ok());
    CHECK(g == std::vector<float>(12, 7.0f));
    ids[4] = 4;
    CHECK(code({ids, cu}) == errc::bad_layout);
    CHECK(code({ids, cu, keep}) == errc::ok);  // nobody looks there
    ids[4] = 3;
    std::vector<std::int32_t> const wrong[] = {{0, 2, 2}, {1, 2, 2, 5}, {0, 3, 2, 5}, {0, 2, 2, 6}};
    CHECK(code({ids, wrong[0]}) == errc::size_mismatch);
    for (int i = 1; i < 4; ++i) CHECK(code({ids, wrong[i]}) == errc::decreasing_offsets);
    z[5] = std::numeric_limits<float>::quiet_NaN();
    ids = {0, 2, 1, 3, 3};
    z[8] = z[5];
    ids = {0, 2, 0, 3, 1};
    REQUIRE(code({ids, cu}) == errc::ok);
    CHECK(is_nan(a.logp[2]));
}
