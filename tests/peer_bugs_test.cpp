// SPDX-License-Identifier: Apache-2.0
// Numerical mistakes that trainers made, one test each: what the formula as it is usually written gives, and what trm gives.
#include "catch.hpp"
#include "loss_batch.hpp"
#include "spec_loss.hpp"

#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/any_loss_extern.hpp>

#include <numeric>

using namespace trm;

namespace {

/// A batch of a few tokens, and one call.
struct few {
    std::vector<float> logp, rollout, ref;
    std::vector<float> advantages;
    std::vector<std::uint8_t> mask;
    std::vector<std::int64_t> cu;
    std::vector<float> grad;
    trm::result result;

    few(std::vector<float> p, std::vector<float> mu, float advantage = 1)
        : logp(std::move(p)),
          rollout(std::move(mu)),
          advantages(logp.size(), advantage),
          mask(logp.size(), 1),
          cu{0, static_cast<std::int64_t>(logp.size())},
          grad(logp.size(), 7.0f) {}
    few& call(char const* text) {
        spec_loss const loss(parse_spec(text).spec);
        batch_view<float> const b{.logp = logp,
                                  .rollout_logp = rollout,
                                  .ref_logp = ref,
                                  .advantages = advantages,
                                  .loss_mask = mask,
                                  .layout = packed{cu}};
        result = loss(b, grad);
        INFO(text << ": " << result.status.what);
        REQUIRE(parse_spec(text).ok());
        REQUIRE(result.status.ok());
        return *this;
    }
    [[nodiscard]] bool finite() const {
        return is_finite(result.loss) && std::all_of(grad.begin(), grad.end(), [](float g) { return is_finite(g); });
    }
};
float const inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

/// What a formula as it is usually written gives. -ffast-math may change it: there the compiler supposes that no number is NaN
/// or infinite.
bool usual(bool outcome) { return TRM_FAST_MATH || outcome; }

}  // namespace

TEST_CASE("peers 5.1: NaN where the mask is 0 poisons a sum of products", "[loss][peers]") {
    few b({-0.5f, not_a_number}, {-0.6f, inf});
    b.mask[1] = 0;
    float naive = 0;
    for (std::size_t i = 0; i < 2; ++i) naive += std::exp(b.logp[i] - b.rollout[i]) * static_cast<float>(b.mask[i]);
    CHECK(usual(std::isnan(naive)));  // verl #2377, SkyRL #1633
    b.call("surrogate: importance_ratio");
    CHECK(b.finite());
    CHECK(b.result.loss == Approx(-std::exp(0.1)).epsilon(1e-6));
    CHECK(b.grad[1] == 0);
}

TEST_CASE("peers 5.1: a mean over nothing is 0 / 0", "[loss][peers]") {
    few b({-0.5f, -0.5f}, {-0.6f, -0.6f});
    b.mask = {0, 0};
    float const naive = 0.0f / static_cast<float>(b.mask[0] + b.mask[1]);
    CHECK(usual(std::isnan(naive)));  // verl #782, unsloth-zoo #1286
    for (char const* text :
         {"surrogate: ppo_clip", "surrogate: ppo_clip; divide_by: kept", "aggregate: seq_mean_token_mean"}) {
        b.call(text);
        CHECK(b.result.loss == 0);
        CHECK(b.grad == std::vector<float>{0, 0});
    }
}

TEST_CASE("peers 5.1: a rejected token whose ratio overflows: 0 times infinity", "[loss][peers]") {
    few b({-0.5f, -0.01f}, {-0.6f, -120.0f});
    float const naive = 0.0f * std::exp(b.logp[1] - b.rollout[1]);
    CHECK(usual(std::isnan(naive)));  // prime-rl #2084: keep * exp(l)
    b.call("mask: ratio in [0.5, 2]; surrogate: importance_ratio");
    CHECK(b.finite());
    CHECK(b.grad[1] == 0);
    CHECK(b.result.diagnostics.kept_tokens == 1);
}

TEST_CASE("peers 5.1: a k3 penalty clamped at its output has gradient 0 times infinity", "[loss][peers]") {
    few b({-100.0f, -0.5f}, {-100.0f, -0.5f});
    b.ref = {-0.5f, -0.6f};
    float const x = b.ref[0] - b.logp[0], slope = std::exp(x) - 1;
    CHECK(usual(std::isinf(slope)));
    CHECK(usual(std::isnan(0.0f * slope)));  // slime, OpenRLHF #525, AReaL: the clamp's derivative 0 times that of exp
    b.call("surrogate: ppo_clip; penalty: reference_kl(k3, beta=0.1, output_clamp=10)");
    CHECK(b.finite());
    b.call("surrogate: ppo_clip; penalty: kl(k3, beta=0.1)");  // TRL #3015: without any clamp
    CHECK(b.finite());
}

TEST_CASE("peers 5.1: where(mask, exp(x), 0) is finite forward and NaN backward", "[loss][peers]") {
    few b({-0.5f, 0.0f}, {-0.6f, -500.0f});
    b.mask[1] = 0;
    float const backward = static_cast<float>(b.mask[1]) * std::exp(b.logp[1] - b.rollout[1]);
    CHECK(usual(std::isnan(backward)));  // AReaL, TRL's padding: the select's 0 times the derivative of exp
    b.call("surrogate: ppo_clip; weight: token(truncate_above=2)");
    CHECK(b.finite());
}

TEST_CASE(
    "peers 5.1: an infinite weight belongs to the cap, not to 0, and a log-probability of -inf is no probability 1",
    "[loss][peers]") {
    few b({-0.1f, -0.5f}, {-120.0f, -0.5f});
    float const weight = std::exp(b.logp[0] - b.rollout[0]),
                naive = std::isfinite(weight) ? std::fmin(weight, 2.0f) : 0.0f;
    CHECK(usual(naive == 0));  // NeMo-RL: nan_to_num(inf) = 0 where truncation would give 2
    b.call("surrogate: policy_gradient; weight: token(truncate_above=2); aggregate: token_sum");
    CHECK(b.grad[0] == -2.0f);
    few c({-inf, -0.5f}, {-0.5f, -0.5f});  // NeMo-RL #4154: top-k gives -inf, replaced by 0: a token trains with p = 1
    c.call("surrogate: ppo_clip");
    CHECK(c.finite());
    CHECK(c.grad[0] == 0);
    CHECK(c.result.diagnostics.nonfinite_tokens == 1);
}

TEST_CASE("peers 5.1: the entropy of filtered logits is 0 times -infinity", "[logits][peers]") {
    std::vector<float> const logits{1.0f, 0.5f, -inf, -inf};
    float naive = 0;
    for (float z : logits) {
        float const log_p = z - std::log(std::exp(1.0f) + std::exp(0.5f));
        naive -= std::exp(log_p) * log_p;
    }
    CHECK(usual(std::isnan(naive)));  // TRL #7252
    std::vector<float> entropy(1);
    std::vector<std::int32_t> const target{0};
    log_prob_out<float> out;
    out.entropy = entropy;
    REQUIRE(log_prob(logits_view<float>{.data = logits.data(), .rows = 1, .vocab = 4}, target, out).ok());
    double const p = 1 / (1 + std::exp(-0.5));
    CHECK(entropy[0] == Approx(-p * std::log(p) - (1 - p) * std::log(1 - p)).epsilon(1e-5));
}

TEST_CASE("peers 5.1: NaN passes a filter that is written as 'not outside'", "[loss][peers]") {
    few b({not_a_number, -0.5f}, {-0.5f, -0.5f});
    float const r = std::exp(b.logp[0] - b.rollout[0]);
    CHECK(usual(!(r > 2.0f || r < 0.5f)));  // SkyRL's outlier and sequence masks keep it
    b.call("mask: veto(0.5, 2); surrogate: importance_ratio");
    CHECK(b.result.diagnostics.kept_tokens == 0);
    CHECK(b.finite());
}

TEST_CASE("peers 5.1: the effective sample size of weights that are all 0", "[loss][peers]") {
    few b({-0.1f, -0.1f}, {-3.0f, -3.0f});
    b.call("surrogate: policy_gradient; weight: token(zero_outside=[0.5, 2])");  // verl: ZeroDivisionError
    CHECK(b.result.diagnostics.ess_weight() == 0);
    CHECK(b.finite());
}

TEST_CASE("peers 2.3: e^x - 1 - x of small x in float", "[loss][peers]") {
    double const x = 1e-3;
    float const naive = std::exp(float(x)) - 1.0f - float(x);
    CHECK(usual(std::fabs(naive / (x * x / 2) - 1) > 0.03));  // nobody uses expm1
    few b({-1.0f + 0x1p-10f}, {-1.0f});
    b.call("surrogate: importance_ratio");
    double const exact = std::expm1(0x1p-10) - 0x1p-10;
    CHECK(b.result.diagnostics.kl_k3() == Approx(exact).epsilon(1.3e-6));
}

TEST_CASE("peers 2.15: 1 - p of probabilities near 1, with an epsilon or without", "[loss][peers]") {
    double const log_mu = std::log1p(-1e-6), log_p = std::log1p(-1e-7);
    double const mu = std::exp(log_mu), p = std::exp(log_p);
    double const exact = mu * (log_mu - log_p) + 1e-6 * std::log(10.0);
    double const with_epsilon = mu * (log_mu - log_p) + (1 - mu) * std::log((1 - mu + 1e-8) / (1 - p + 1e-8));
    CHECK(std::fabs(with_epsilon / exact - 1) > 0.05);  // verl and Stable-RL add 1e-8
    std::vector<double> const logp{log_p}, rollout{log_mu}, advantages{1};
    std::vector<std::int64_t> const cu{0, 1};
    batch_view<double> const b{.logp = logp, .rollout_logp = rollout, .advantages = advantages, .layout = packed{cu}};
    auto const keeps = [&](double threshold) {
        loss_spec spec;
        spec.mask.push_back(token_mask<any_divergence>{binary_kl{}, at_most(threshold)});
        return spec_loss(spec)(b).diagnostics.kept_tokens == 1;
    };
    CHECK(keeps(exact * (1 + 1e-9)));
    CHECK_FALSE(keeps(exact * (1 - 1e-9)));
}

TEST_CASE("peers 5.2: a sampler's renormalised log-probabilities look like a move of the policy", "[logits][peers]") {
    std::vector<float> const logits{2.0f, 1.0f, 0.0f, -1.0f, -2.0f};
    std::vector<std::uint8_t> const kept{1, 1, 0, 0, 0};  // top-k of 2
    std::vector<std::int32_t> const target{0};
    std::vector<float> whole(1), sampled(1);
    log_prob_out<float> out;
    logits_view<float> view{.data = logits.data(), .rows = 1, .vocab = 5};
    out.logp = whole;
    REQUIRE(log_prob(view, target, out).ok());
    view.vocab_mask = kept.data();
    out.logp = sampled;
    REQUIRE(log_prob(view, target, out).ok());
    double const mass =
        (std::exp(2.0) + std::exp(1.0)) / (std::exp(2.0) + std::exp(1.0) + 1 + std::exp(-1.0) + std::exp(-2.0));
    CHECK(double(whole[0] - sampled[0]) ==
          Approx(std::log(mass)).epsilon(1e-5));  // TRL #6789: every ratio times the mass
    few naive({whole[0]}, {sampled[0]}), ours({sampled[0]}, {sampled[0]});
    CHECK(naive.call("surrogate: importance_ratio").result.diagnostics.kl_k3() > 0.008);
    CHECK(ours.call("surrogate: importance_ratio").result.diagnostics.kl_k3() == 0);
}

TEST_CASE("peers 5.2: a product of ratios as the weight of a long sequence", "[loss][peers]") {
    few b(std::vector<float>(2820, -1.001f), std::vector<float>(2820, -1.0f));
    b.call("surrogate: policy_gradient; weight: product");  // NeMo-RL #2269: a mean weight of 0.06 with healthy KL
    CHECK(b.result.diagnostics.mean_weight() == Approx(0.0596).epsilon(0.01));
    b.call("surrogate: policy_gradient; weight: geometric");
    CHECK(b.result.diagnostics.mean_weight() == Approx(0.999).epsilon(1e-4));
}

TEST_CASE("peers 5.3: bands on the ratio are on current over rollout, not on its inverse", "[loss][peers]") {
    few b({-0.5f, -0.5f}, {-0.9054651f, -0.9054651f});  // r = 1.5
    CHECK(b.call("mask: geometric_ratio in [0.6, 1.6]").result.diagnostics.kept_tokens == 2);
    CHECK(b.call("mask: geometric_ratio in [0.6, 1.4]").result.diagnostics.kept_tokens ==
          0);  // verl #4544 would keep: 1 / r = 0.67
}

TEST_CASE("peers 5.3: weights carry no gradient", "[loss][peers]") {
    few b({-0.5f}, {-0.6f});
    b.call("surrogate: policy_gradient; weight: token; aggregate: token_sum");
    double const r = std::exp(double(b.logp[0]) - double(b.rollout[0]));
    CHECK(double(b.grad[0]) == Approx(-r).epsilon(1e-6));
    double const with_gradient = -r * (1 + double(b.logp[0]));  // d (r logp) / d logp: verl #4105
    CHECK(std::fabs(double(b.grad[0]) - with_gradient) > 0.3);
}

TEST_CASE("peers 5.4: rejection must not inflate what is left, and parts must not be averaged", "[loss][peers]") {
    few b({-0.5f, -0.5f, -0.5f, -0.5f}, {-0.5f, -0.5f, -0.5f, -3.0f});
    b.call("mask: ratio <= 2; surrogate: importance_ratio");
    CHECK(b.grad[0] == Approx(-0.25));  // AReaL #1088: -1/3, times N / N_kept
    b.call("mask: ratio <= 2; surrogate: importance_ratio; divide_by: kept");
    CHECK(b.grad[0] == Approx(-1.0 / 3));
    // micro-batches of 3 and 1 token, each divided by its own count: SkyRL #1296, NeMo-RL #212
    few first({-0.5f, -0.5f, -0.5f}, {-0.5f, -0.5f, -0.5f}), second({-0.5f}, {-0.5f}, 5);
    double const naive = (first.call("surrogate: importance_ratio").result.loss +
                          second.call("surrogate: importance_ratio").result.loss) /
                         2;
    CHECK(naive == Approx(-3));
    double const whole = first.call("surrogate: importance_ratio; divide_by: 4").result.loss +
                         second.call("surrogate: importance_ratio; divide_by: 4").result.loss;
    CHECK(whole == Approx(-2));
}

TEST_CASE("peers 5.5: padding must not take part in a quantile", "[loss][peers]") {
    few b({-1, -2, -3, -4, -5, -6}, {-1, -1, -1, -1, -1, -1});
    b.mask = {1, 1, 1, 1, 0, 0};
    std::vector<float> const given{0.1f, 0.2f, 0.3f, 0.4f, 9, not_a_number};
    batch_view<float> const view{.logp = b.logp,
                                 .rollout_logp = b.rollout,
                                 .advantages = b.advantages,
                                 .given = given,
                                 .loss_mask = b.mask,
                                 .layout = packed{b.cu}};
    spec_loss const loss(parse_spec("mask: top_share(given, share=0.5)").spec);
    CHECK(loss(view).diagnostics.kept_tokens == 2);  // TRL #3715: 6 entropies, a threshold that no real token reaches
}
