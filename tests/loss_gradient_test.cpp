// SPDX-License-Identifier: Apache-2.0
// Gradients of every surrogate and penalty against automatic differentiation of the formulas and central differences of
// the loss itself. Mask and weights hang on the proximal and the rollout policy alone: they are frozen either way.
#include "loss_parity.hpp"

using namespace trm;

namespace {

/// A number and its derivative.
struct dual {
    double v, d = 0;
    friend dual operator+(dual a, dual b) { return {a.v + b.v, a.d + b.d}; }
    friend dual operator-(dual a, dual b) { return {a.v - b.v, a.d - b.d}; }
    friend dual operator*(dual a, dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
    friend dual exp(dual a) { return {std::exp(a.v), std::exp(a.v) * a.d}; }
    friend dual fabs(dual a) { return a.v < 0 ? dual{-a.v, -a.d} : a; }
    friend dual max(dual a, dual b) { return a.v > b.v ? a : b; }
    friend dual min(dual a, dual b) { return a.v < b.v ? a : b; }
};

/// One token as numbers; `logp` carries the derivative.
struct point {
    dual logp;
    double rollout, proximal, ref, advantage;
    [[nodiscard]] dual x() const { return logp - dual{proximal}; }
    [[nodiscard]] dual to_ref() const { return dual{ref} - logp; }
    [[nodiscard]] dual to_rollout() const { return logp - dual{rollout}; }
};

// The formulas, as published.
dual value(importance_ratio const&, point const& p) { return dual{-p.advantage} * exp(p.x()); }
dual value(policy_gradient const&, point const& p) { return dual{-p.advantage} * p.logp; }
dual value(ppo_clip const& c, point const& p) {
    dual const r = exp(p.x()), A{p.advantage};
    dual const inner = max(dual{-1} * r * A, dual{-1} * min(max(r, dual{1 - c.eps_low}), dual{1 + c.eps_high}) * A);
    return c.dual_clip > 0 && p.advantage < 0 ? min(inner, dual{-c.dual_clip} * A) : inner;
}
dual value(kl_penalty<k1> const& k, point const& p) { return dual{-k.beta} * p.to_ref(); }
dual value(kl_penalty<k2> const& k, point const& p) { return dual{k.beta / 2} * p.to_ref() * p.to_ref(); }
dual value(kl_penalty<k3> const& k, point const& p) { return dual{k.beta} * (exp(p.to_ref()) - dual{1} - p.to_ref()); }
dual value(kl_penalty<abs_log_ratio> const& k, point const& p) { return dual{k.beta} * fabs(p.to_ref()); }
dual value(squared_log_ratio const& q, point const& p) { return dual{q.coefficient} * p.to_rollout() * p.to_rollout(); }

template <class Loss>
void check(Loss const& loss) {
    auto b = batches::make<double>({{0, 1, 7, 33, 64, 12}, true, 0.35, 0.0}, 21);
    auto const view = b.view();
    auto const r = parity::run_of<double>(loss, view);
    double const tokens = r.result.diagnostics.tokens;
    REQUIRE(r.result.diagnostics.kept_tokens > 0.3 * tokens);
    REQUIRE(r.result.diagnostics.kept_tokens < tokens);
    REQUIRE(reference::evaluate(loss, view).nearest_decision > 1e-4);  // no clip within reach of the differences

    dual total{0};
    for (std::size_t i = 0; i < b.tokens(); ++i) {
        if (b.mask[i] == 0) {
            CHECK(r.grad[i] == 0);
            continue;
        }
        INFO("token " << i);
        point const p{{b.logp[i], 1}, b.rollout[i], b.proximal[i], b.ref[i], b.advantages[i]};
        dual term = dual{r.weights[i]} * value(loss.surrogate, p);
        std::apply(
            [&](auto const&... q) {
                ((term = term + (r.keep[i] != 0 || q.tokens == sees::all_tokens ? value(q, p) : dual{0})), ...);
            },
            loss.penalties);
        double const size = std::fabs(r.weights[i] * value(loss.surrogate, p).d) + std::fabs(term.d) + 1e-3;
        CHECK(std::fabs(r.grad[i] * tokens - term.d) <= 1e-12 * size);
        total = total + term;

        double const h = 1e-5, logp = b.logp[i];
        b.logp[i] = logp + h;
        double const up = loss(view).loss;
        b.logp[i] = logp - h;
        double const down = loss(view).loss;
        b.logp[i] = logp;
        CHECK(std::fabs((up - down) / (2 * h) * tokens - term.d) <= 1e-7 * (1 + size));
    }
    CHECK(std::fabs(r.result.loss * tokens - total.v) <= 1e-12 * tokens);
}

auto const mask = token_mask{over<ratio_kind::proximal_over_rollout>(ratio{}), within(0.75, 1.31)} &&
                  sequence_mask{over<ratio_kind::proximal_over_rollout>(k2{}), stat::max, at_most(0.11)};

}  // namespace

TEST_CASE("gradient of importance ratio, KL k1, k3 and squared log-ratio", "[loss][unit]") {
    check(masked_loss{mask, importance_ratio{}, token_mean{}, no_weight{}, kl_penalty{k1{}, 0.3},
                      kl_penalty{k3{}, 0.7, sees::kept_tokens}, squared_log_ratio{0.2}});
}
TEST_CASE("gradient of ppo_clip with dual clip and truncated weights, KL k2 and abs", "[loss][unit]") {
    check(masked_loss{mask, ppo_clip{0.2, 0.28, 1.5}, token_mean{}, token_weight{truncate_above(1.1)},
                      kl_penalty{k2{}, 0.3}, kl_penalty{abs_log_ratio{}, 0.7, sees::kept_tokens}});
}
TEST_CASE("gradient of policy gradient with a sequence weight", "[loss][unit]") {
    check(masked_loss{mask, policy_gradient{}, token_mean{}, sequence_weight{stat::sum, clamp_to(0.3, 3)}});
}
