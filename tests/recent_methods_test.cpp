// SPDX-License-Identifier: Apache-2.0
// Methods since the survey, through their text, on three small batches: values of the stated formulas, worked out apart in
// python with plain loops, and gradients against differences of the loss.
#include "catch.hpp"
#include "recent_batches.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>

#include <array>

using namespace trm;

namespace {

/// Means over all loss_mask tokens, rejected ones contribute 0, unless the text says otherwise. x = logp - mu, r = e^x:
/// spo -r A + |A| (r - 1)^2 / 0.4; drpo -r A + |A| (p - mu)^2 / (0.4 mu); up_grpo A > 0: -A, else
/// min(max(-r A, -clip(r, 0.8, 1.2) A), -3 A); delight -A logp / (1 + exp(A logp)); topr_token and topr_geometric -w A logp, w = 1
/// for A >= 0, else r or exp(mean x) clipped to [0, 1]. Masks, with -r A: away means A x > 0.
/// away_in: away, in sequences with mean |r - 1| above the bound. away_budget: away tokens, largest x^2 first, until the mean of
/// x^2 over the rest is below twice the limit. running_budget: away and Z_t = w_t |p - mu| > min(delta, delta + d W - S),
/// w_t = 1 - (1 - w_min) t / 11, d = clamp(k q-quantile of |p - mu|, 0.02, 0.1). segment: runs of loss_mask, or pairs of tokens within them, with
/// exp(mean x) outside [0.8, 1.2].
struct example {
    char const* text;
    std::array<double, 3> loss;
};
example const examples[] = {
    {"surrogate: spo", {0.3105606537255709, -0.6014531742381837, -0.08946628636174131}},
    {"surrogate: drpo", {0.29076516806291863, -0.822535945805065, -0.4536045470299122}},
    {"surrogate: up_grpo", {0.2828669545656377, -0.7676000000000001, -0.6520536132158803}},
    {"surrogate: delight", {-0.004926852081422404, 0.5251921531595408, 0.6550365511210621}},
    {"surrogate: topr_token", {-0.3456189468353421, 0.5609997885545523, 0.6954801334018652}},
    {"surrogate: topr_geometric; aggregate: seq_mean_token_mean",
     {-0.5173865688047163, 0.3383458679712606, 0.5262544646839162}},
    {"mask: away_in(seq_mean_ratio_change <= 0.09); surrogate: importance_ratio",
     {0.09586939841455286, -0.10835217340757293, -0.30502716403501123}},
    {"mask: away_budget(k2, limit=0.004); surrogate: importance_ratio",
     {0.1372929724456075, -0.10835217340757293, -0.30502716403501123}},
    {"mask: running_budget(binary_tv, delta=0.05, horizon=12); surrogate: importance_ratio",
     {0.1468887941427301, -0.10835217340757293, -0.30502716403501123}},
    {"mask: away_in(seq_mean_ratio_change <= 0.3); surrogate: importance_ratio",
     {0.2800155013311753, -0.29470355666850145, -0.47891050589453954}},
    {"mask: away_budget(k2, limit=0.02); surrogate: importance_ratio",
     {0.2800155013311753, -0.10835217340757293, -0.30502716403501123}},
    {"mask: running_budget(binary_tv, horizon=12, k=0.7, w_min=0.5, q=0.5); surrogate: importance_ratio",
     {0.2800155013311753, -0.29470355666850145, -0.30502716403501123}},
    {"mask: segment(seq_mean_k1 in [-0.1823215567939546, 0.2231435513142097]); surrogate: importance_ratio",
     {0.2800155013311753, -0.7104869480667929, -0.24756360298278088}},
    {"mask: segment(seq_mean_k1 in [-0.1823215567939546, 0.2231435513142097], length=2); surrogate: importance_ratio",
     {0.1372929724456075, -0.3100663594362957, -0.2707973928744022}},
};

}  // namespace

TEST_CASE("methods since the survey have the values of their formulas", "[loss][parity]") {
    for (example const& e : examples) {
        INFO(e.text);
        spec_result const parsed = parse_spec(e.text);
        INFO(parsed.message);
        REQUIRE(parsed.ok());
        spec_loss const loss(parsed.spec);
        for (std::size_t i = 0; i < 3; ++i) {
            INFO("batch " << i);
            recent::doubles grad(recent::examples[i].logp.size());
            result const r = loss(recent::examples[i].view(), grad);
            REQUIRE(r.status.ok());
            CHECK(r.loss == Approx(e.loss[i]).epsilon(1e-10).margin(1e-12));
            for (double g : grad) CHECK(is_finite(g));
        }
    }
}
