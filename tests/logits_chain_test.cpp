// SPDX-License-Identifier: Apache-2.0
// From the logits of two policies through exact KL, mask, loss and gradient to d logits, on tabular policies: the kept
// set against enumeration, the gradient against automatic differentiation of the definition.
#include "catch.hpp"
#include "tabular.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/checked.hpp>
#include <trm/loss/masked_loss.hpp>

namespace {

/// Forward-mode automatic differentiation: value and derivative along one direction.
struct dual {
    double v = 0, d = 0;
    friend dual operator+(dual a, dual b) { return {a.v + b.v, a.d + b.d}; }
    friend dual operator-(dual a, dual b) { return {a.v - b.v, a.d - b.d}; }
    friend dual operator*(dual a, dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
    friend dual exp(dual a) { return {std::exp(a.v), std::exp(a.v) * a.d}; }
    friend dual log(dual a) { return {std::log(a.v), a.d / a.v}; }
};

std::vector<dual> log_softmax(std::vector<double> const& logits, std::size_t row, std::size_t n, std::size_t moved,
                              double temperature) {
    std::vector<dual> z(n);
    dual sum;
    for (std::size_t v = 0; v < n; ++v) {
        z[v] = {logits[row * n + v] / temperature, row * n + v == moved ? 1 / temperature : 0.0};
        sum = sum + exp(z[v]);
    }
    for (dual& x : z) x = x - log(sum);
    return z;
}

struct chain {
    tabular::pair p;
    tabular::enumeration e;
    std::vector<double> pi, reward;  // logits of pi
    double temperature, delta, beta;

    /// -sum_y mu(y) [M(y) R(y) sum_t rho_t] - beta sum_y mu(y) sum_t H_t, derivative along the logit `moved`.
    dual definition(std::size_t moved) const {
        std::size_t const v = p.s.vocabulary, length = p.s.length;
        dual loss;
        for (std::size_t y = 0; y < e.mu.size(); ++y) {
            bool const keep = kept(y);
            for (std::size_t t = 0; t < length; ++t) {
                std::size_t const row = p.s.row(y, t), token = p.s.token(y, t);
                std::vector<dual> const lp = log_softmax(pi, row, v, moved, temperature);
                dual const rho = exp(lp[token] - dual{std::log(p.mu[row * v + token]), 0});
                if (keep) loss = loss - dual{e.mu[y] * reward[y], 0} * rho;
                for (std::size_t i = 0; i < v; ++i) loss = loss + dual{beta * e.mu[y], 0} * exp(lp[i]) * lp[i];
            }
        }
        return loss;
    }
    bool kept(std::size_t y) const {
        auto const first = e.kl.begin() + std::ptrdiff_t(y * p.s.length);
        return *std::max_element(first, first + std::ptrdiff_t(p.s.length)) <= delta;
    }
};

template <class S>
void run(chain const& c, double tolerance) {
    std::size_t const v = c.p.s.vocabulary, length = c.p.s.length, count = c.e.mu.size(), tokens = count * length;
    std::vector<S> mu_logits(tokens * v), pi_logits(tokens * v);
    std::vector<std::int32_t> ids, cu{0};
    std::vector<S> advantage, entropy_up;
    for (std::size_t y = 0; y < count; ++y) {
        for (std::size_t t = 0; t < length; ++t) {
            std::size_t const row = c.p.s.row(y, t);
            for (std::size_t i = 0; i < v; ++i) {
                mu_logits[ids.size() * v + i] = S(std::log(c.p.mu[row * v + i]) + 2.5);
                pi_logits[ids.size() * v + i] = S(c.pi[row * v + i]);
            }
            ids.push_back(std::int32_t(c.p.s.token(y, t)));
            entropy_up.push_back(S(-c.beta * c.e.mu[y]));
        }
        cu.push_back(std::int32_t(ids.size()));
        advantage.push_back(S(c.e.mu[y] * c.reward[y]));
    }
    trm::logits_view<S> const mu{.data = mu_logits.data(), .rows = std::int64_t(tokens), .vocab = std::int64_t(v)};
    trm::logits_view<S> const pi{
        .data = pi_logits.data(), .rows = std::int64_t(tokens), .vocab = std::int64_t(v), .temperature = c.temperature};
    std::vector<S> mu_logp(tokens), logp(tokens), h(tokens), kl(tokens), d_logp(tokens), d_logits(tokens * v);
    std::vector<double> lse(tokens);
    REQUIRE(trm::log_prob(mu, ids, trm::log_prob_out<S>{.logp = mu_logp}).ok());
    REQUIRE(trm::log_prob(pi, ids, trm::log_prob_out<S>{logp, lse, h}).ok());
    REQUIRE(trm::exact_divergence(mu, pi, trm::divergence_out<S>{.kl_mu_pi = kl}).ok());

    trm::masked_loss const loss{trm::sequence_mask{trm::given{}, trm::stat::max, trm::at_most(c.delta)},
                                trm::importance_ratio{}, trm::token_sum{}};
    trm::batch_view<S> const batch{.logp = logp,
                                   .rollout_logp = mu_logp,
                                   .sequence_advantages = advantage,
                                   .given = kl,
                                   .layout = trm::packed{cu}};
    std::vector<std::uint8_t> keep(tokens);
    trm::result const r = loss(batch, trm::outputs<S>{.grad = d_logp, .keep = keep});
    REQUIRE(r.status.ok());
    double entropy_term = 0;
    for (std::size_t i = 0; i < tokens; ++i) {
        REQUIRE(bool(keep[i]) == c.kept(i / length));
        CHECK(double(kl[i]) == Approx(c.e.kl[i]).margin(tolerance));
        entropy_term -= c.beta * c.e.mu[i / length] * double(h[i]);
    }
    CHECK(r.loss + entropy_term == Approx(c.definition(~std::size_t(0)).v).margin(tolerance));

    REQUIRE(trm::logits_gradient(pi, ids, trm::logits_gradient_in<S>{lse, d_logp, entropy_up, h},
                                 trm::logits_gradient_out<S>{d_logits.data()})
                .ok());
    std::vector<double> gradient(c.pi.size());
    for (std::size_t i = 0; i < tokens; ++i)
        for (std::size_t k = 0; k < v; ++k)
            gradient[c.p.s.row(i / length, i % length) * v + k] += double(d_logits[i * v + k]);
    for (std::size_t i = 0; i < gradient.size(); ++i)
        REQUIRE(gradient[i] == Approx(c.definition(i).d).margin(tolerance));
}

}  // namespace

TEST_CASE("Exact mask, loss and d logits agree with enumeration and automatic differentiation",
          "[logits][loss][parity]") {
    std::mt19937_64 rng(51);
    int rejected = 0, kept = 0;
    for (std::size_t i = 0; i < 24; ++i) {
        chain c;
        tabular::shape const s = tabular::nth_shape(i);
        c.temperature = i % 3 == 0 ? 0.7 : 1.0;
        c.beta = i % 2 == 0 ? 0.0 : 0.3;
        c.p = tabular::random_pair(s, tabular::mismatch(i % 3), 0.4, rng);
        c.pi.resize(c.p.pi.size());
        for (std::size_t k = 0; k < c.pi.size(); ++k) c.pi[k] = c.temperature * (std::log(c.p.pi[k]) - 1.0);
        c.e = tabular::enumerate(c.p);
        c.delta = 0.4 * c.e.delta + 1e-9;  // well away from any token's KL, as the next lines make sure
        for (double kl : c.e.kl)
            if (std::fabs(kl - c.delta) < 1e-5) c.delta += 3e-5;
        c.reward = tabular::make_rewards(c.e, tabular::rewards::random, rng);
        for (std::size_t y = 0; y < c.e.mu.size(); ++y) (c.kept(y) ? kept : rejected)++;
        INFO("case " << i);
        run<double>(c, 1e-11);
        run<float>(c, 2e-5);
    }
    CHECK(kept > 50);
    CHECK(rejected > 50);
}

TEST_CASE("The calls that throw name the row of a bad target", "[logits][unit]") {
    std::vector<float> const x(6);
    std::vector<float> logp(2);
    std::vector<std::int32_t> const ids{0, 3};
    trm::logits_view<float> const v{.data = x.data(), .rows = 2, .vocab = 3};
    CHECK_THROWS_WITH(trm::throw_if(trm::log_prob(v, ids, trm::log_prob_out<float>{.logp = logp})),
                      "trm: targets: id outside the vocabulary: layout is inconsistent (row 1)");
}
