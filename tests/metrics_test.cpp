// SPDX-License-Identifier: Apache-2.0
// Every accessor of `diagnostics` and every metric that needs the batch, against its definition on a batch small enough to write out.
#include "catch.hpp"
#include "spec_loss.hpp"

#include <trm/interop/metrics_tokens.hpp>
#include <trm/loss/any_loss_extern.hpp>
#include <trm/policy/mask_signed.hpp>

#include <array>
#include <cmath>
#include <string>

using namespace trm;

namespace {

/// Sequences of 3, 2 and 0 tokens in loss_mask: slot 2 is left out, and so is the whole of the third sequence.
struct example {
    std::array<std::int32_t, 4> cu{0, 4, 6, 7};
    std::array<double, 7> logp{-0.5, -1.0, -9.0, -2.0, -0.25, -1.5, -3.0};
    std::array<double, 7> rollout{-0.75, -0.9, -1.0, -2.5, -0.25, -1.25, -0.5};
    std::array<double, 7> advantages{1.0, -1.0, 5.0, 0.5, -2.0, 0.0, 1.0};
    std::array<std::uint8_t, 7> mask{1, 1, 0, 1, 1, 1, 0};
    [[nodiscard]] batch_view<double> view() const {
        batch_view<double> b;
        b.logp = logp;
        b.rollout_logp = rollout;
        b.advantages = advantages;
        b.loss_mask = mask;
        b.layout = packed{cu};
        return b;
    }
};
example const e;
/// Log-ratios of the two sequences: 0.25, -0.1, 0.5 and 0, -0.25.
constexpr double x0[] = {0.25, -0.1, 0.5}, x1[] = {0, -0.25};

double k3_at(double x) { return std::expm1(x) - x; }
bool near(double a, double b) { return std::fabs(a - b) <= 1e-12 * (1 + std::fabs(b)); }
double value(metrics const& all, std::string const& name) {
    for (metric const& m : all)
        if (m.name == name) return m.value;
    FAIL("no metric " << name);
    return 0;
}
diagnostics run(char const* text) {
    loss_spec const spec = parse_spec(text);
    result const r = spec_loss(spec)(e.view(), outputs<double>{});
    REQUIRE(r.status.ok());
    return r.diagnostics;
}

}  // namespace

TEST_CASE("accessors of diagnostics are what they say", "[unit]") {
    auto const d = run("surrogate: ppo_clip(0.2, 0.2)");
    CHECK(d.tokens == 5);
    CHECK(near(d.max_ratio(), std::exp(0.5)));
    CHECK(near(d.min_ratio(), std::exp(-0.25)));
    CHECK(near(d.max_k2(), 0.125));
    CHECK(near(d.max_k3(), k3_at(0.5)));
    CHECK(near(d.kl_k1(), -(0.25 - 0.1 + 0.5 - 0.25) / 5));
    double const product0 = std::exp(0.65), product1 = std::exp(-0.25);
    CHECK(near(d.chi2_sequence(), (product0 * product0 + product1 * product1) / 2 - 1));
    CHECK(near(d.ess_sequence(),
               (product0 + product1) * (product0 + product1) / (2 * (product0 * product0 + product1 * product1))));
    // Ratios beyond 1.2 with A > 0: 0.25 and 0.5, both of the two; below 0.8 with A < 0: none of two.
    CHECK(near(d.clip_fraction_positive(), 1));
    CHECK(near(d.clip_fraction_negative(), 0));
    CHECK(near(run("surrogate: ppo_clip(0.05, 0.4)").clip_fraction_positive(), 0.5));
    CHECK(near(run("surrogate: ppo_clip(0.05, 0.4)").clip_fraction_negative(), 0.5));
    double const current[] = {3.5 / 3, 1.75 / 2}, before[] = {4.15 / 3, 1.5 / 2};  // -mean log-probability
    CHECK(near(d.log_ppl(), (current[0] + current[1]) / 2));
    CHECK(near(d.rollout_log_ppl(), (before[0] + before[1]) / 2));
    CHECK(near(d.ppl(), (std::exp(current[0]) + std::exp(current[1])) / 2));
    CHECK(near(d.rollout_ppl(), (std::exp(before[0]) + std::exp(before[1])) / 2));
    CHECK(near(d.ppl_ratio(), (std::exp(current[0] - before[0]) + std::exp(current[1] - before[1])) / 2));
    CHECK(near(d.log_ppl_diff(), (current[0] - before[0] + current[1] - before[1]) / 2));
    CHECK(near(d.log_ppl_abs_diff(), (before[0] - current[0] + current[1] - before[1]) / 2));
    // Of what a mask rejects: 0.25 and 0.5.
    auto const masked = run("mask: k1 >= -0.2; surrogate: ppo_clip");
    CHECK(masked.kept_tokens == 3);
    CHECK(near(masked.kl_k1_masked(), -0.375));
    CHECK(near(masked.kl_k3_masked(), (k3_at(0.25) + k3_at(0.5)) / 2));
    CHECK(near(masked.kl_k1_kept(), 0.35 / 3));
    auto const none = run("mask: ratio <= 1e-9; surrogate: ppo_clip");
    CHECK(none.clip_fraction_positive() == 0);
    CHECK(near(none.kl_k1_masked(), none.kl_k1()));
}

TEST_CASE("metrics of pairs of log-probabilities", "[unit]") {
    auto const all = token_metrics(e.view(), ratio_kind::current_over_rollout, 0.1 + 1e-9);
    CHECK(near(value(all, "tokens_beyond_tolerance"), 3.0 / 5));
    CHECK(near(value(token_metrics(e.view()), "tokens_beyond_tolerance"), 4.0 / 5));  // 0 is not beyond 1e-6
    CHECK(near(value(all, "logp_diff_mean"), (0.25 + 0.1 + 0.5 + 0.25) / 5));
    CHECK(near(value(all, "logp_diff_max"), 0.5));
    CHECK(near(value(all, "ppo_kl"), -0.4 / 5));
    double p[5], mu[5], mean_p = 0, mean_mu = 0, diff = 0, most = 0;
    std::size_t const at[] = {0, 1, 3, 4, 5};
    for (int i = 0; i < 5; ++i) {
        p[i] = std::exp(e.logp[at[i]]);
        mu[i] = std::exp(e.rollout[at[i]]);
        mean_p += p[i] / 5;
        mean_mu += mu[i] / 5;
        diff += std::fabs(p[i] - mu[i]) / 5;
        most = std::fmax(most, std::fabs(p[i] - mu[i]));
    }
    double both = 0, of_p = 0, of_mu = 0, spread = 0;
    for (int i = 0; i < 5; ++i) {
        both += (p[i] - mean_p) * (mu[i] - mean_mu);
        of_p += (p[i] - mean_p) * (p[i] - mean_p);
        of_mu += (mu[i] - mean_mu) * (mu[i] - mean_mu);
        spread += std::pow(std::fabs(p[i] - mu[i]) - diff, 2) / 4;
    }
    CHECK(near(value(all, "probs_pearson_corr"), both / std::sqrt(of_p * of_mu)));
    CHECK(near(value(all, "prob_diff_mean"), diff));
    CHECK(near(value(all, "prob_diff_max"), most));
    CHECK(near(value(all, "prob_diff_std"), std::sqrt(spread)));
    double ess = 0;
    for (auto const& row : {std::span<double const>(x0), std::span<double const>(x1)}) {
        double r = 0, squares = 0;
        for (double x : row) r += std::exp(x), squares += std::exp(2 * x);
        ess += r * r / (static_cast<double>(row.size()) * squares) / 2;
    }
    CHECK(near(value(all, "ess_sequence_mean"), ess));
    // Log-ratios far beyond any clamp: one token has all the weight.
    example far = e;
    far.logp[1] = -0.9 + 900;
    auto const wide = token_metrics(far.view());
    CHECK(near(value(wide, "logp_diff_max"), 900));
    CHECK(near(value(wide, "ess_sequence_mean"),
               (1.0 / 3 + std::pow(1 + std::exp(-0.25), 2) / (2 * (1 + std::exp(-0.5)))) / 2));
    auto empty = e.view();
    std::array<std::uint8_t, 7> const nothing{};
    empty.loss_mask = nothing;
    for (metric const& m : token_metrics(empty)) CHECK(m.value == 0);
}

TEST_CASE("clips counted whatever the advantage", "[unit]") {
    // Ratios e^0.25 (A 1), e^-0.1 (-1), e^0.5 (0.5), 1 (-2), e^-0.25 = 0.779 (0) against [0.8, 1.2].
    auto const c = clip_metrics(e.view(), 0.8, 1.2);
    CHECK(near(value(c, "low"), 1.0 / 5));
    CHECK(near(value(c, "high"), 2.0 / 5));
    CHECK(near(value(c, "outside"), 3.0 / 5));
    CHECK(near(value(c, "low_negative"), 0));
    CHECK(near(value(c, "high_positive"), 2.0 / 5));
    CHECK(near(value(c, "outside_nonzero"), 2.0 / 4));
    // `diagnostics` counts the same clip only where it acts.
    CHECK(near(run("surrogate: ppo_clip(0.2, 0.2)").clip_fraction(), 2.0 / 5));
}

TEST_CASE("pass rates per criterion, of tokens and of sequences", "[unit]") {
    auto const m = pass_metrics(run("mask: k1 >= -0.2 && seq_max_k2 <= 0.1; surrogate: ppo_clip"), 2);
    CHECK(near(value(m, "criterion_0_token_pass_rate"), 3.0 / 5));
    CHECK(near(value(m, "criterion_0_sequence_pass_rate"), 0.5));
    CHECK(near(value(m, "criterion_1_token_pass_rate"), 2.0 / 5));  // max k2 of the first sequence is 0.125
    CHECK(near(value(m, "criterion_1_sequence_pass_rate"), 0.5));
    CHECK(near(value(m, "token_pass_rate"), 2.0 / 5));
    CHECK(near(value(m, "sequence_pass_rate"), 0.5));
}

TEST_CASE("NeMo-RL's KL metrics with each of its estimators, clamped or not", "[unit]") {
    double sum = 0, squares = 0, forward = 0, backward = 0;
    for (auto const& row : {std::span<double const>(x0), std::span<double const>(x1)})
        for (double x : row) {
            sum += x / 5;
            squares += x * x / 10;
            forward += k3_at(x) / 5;
            backward += k3_at(-x) / 5;
        }
    auto const close = [](double a, double b) { return std::fabs(a - b) < 1e-7; };  // theirs is over n + 1e-8
    auto const by_k1 = nemo_metrics<k1>(e.view()), by_k2 = nemo_metrics<k2>(e.view()), by_k3 = nemo_metrics(e.view());
    CHECK(close(value(by_k1, "gen_kl_error"), -sum));
    CHECK(close(value(by_k1, "policy_kl_error"), sum));
    CHECK(close(value(by_k2, "gen_kl_error"), squares));
    CHECK(close(value(by_k2, "policy_kl_error"), squares));
    CHECK(close(value(by_k3, "gen_kl_error"), forward));
    CHECK(close(value(by_k3, "policy_kl_error"), backward));
    example far = e;
    far.logp[0] = 29.25;  // x = 30
    CHECK(close(value(nemo_metrics<k1>(far.view()), "gen_kl_error"), -(20 + 0.15) / 5));
    CHECK(close(value(nemo_metrics<k1>(far.view(), INFINITY), "gen_kl_error"), -(30 + 0.15) / 5));
}
