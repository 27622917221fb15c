// SPDX-License-Identifier: Apache-2.0
// Outputs in the memory of inputs: every result, diagnostics included, is that of outputs in memory of their own.
#include "loss_parity.hpp"

#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

#include <cstring>

using namespace trm;

namespace {

/// A batch with every stream, selections worked out beforehand or not.
struct inputs {
    batches::ragged<float> b;
    std::vector<std::uint16_t> rejected;
    std::vector<std::uint8_t> marks;

    [[nodiscard]] batch_view<float> view() const { return b.view(); }
    [[nodiscard]] selection_view chosen() const { return {rejected, marks}; }
};

template <class A>
bool same(std::span<A const> a, std::span<A const> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// One output written over one input, all others apart; compared with a call that overwrites nothing.
template <class Loss>
void compare(Loss const& loss, inputs const& clean, char const* name) {
    auto const n = clean.b.tokens();
    parity::run<float> const want = [&] {
        parity::run<float> r(n);
        auto const out = r.outputs();
        r.result = loss(clean.view(), clean.chosen(), out);
        return r;
    }();
    REQUIRE(want.result.status.ok());
    auto const check = [&](char const* what, auto&& alias) {
        inputs mine = clean;
        parity::run<float> r(n);
        auto out = r.outputs();
        alias(mine, out);
        result const got = loss(mine.view(), mine.chosen(), out);
        INFO(name << ": " << what);
        REQUIRE(got.status.ok());
        CHECK(got.loss == want.result.loss);
        CHECK(std::memcmp(&got.diagnostics, &want.result.diagnostics, sizeof got.diagnostics) == 0);
        CHECK(same<float>(out.grad, want.grad));
        CHECK(same<float>(out.weights, want.weights));
        CHECK(same<std::uint8_t>(out.keep, want.keep));
        CHECK(same<std::uint16_t>(out.reasons, want.reasons));
    };
    using floats = std::vector<float> batches::ragged<float>::*;
    struct stream {
        char const* name;
        floats member;
    };
    using R = batches::ragged<float>;
    for (stream const s :
         {stream{"logp", &R::logp}, stream{"rollout_logp", &R::rollout}, stream{"proximal_logp", &R::proximal},
          stream{"ref_logp", &R::ref}, stream{"advantages", &R::advantages}, stream{"given", &R::given},
          stream{"token_weights", &R::token_weights}}) {
        INFO("over " << s.name);
        check("grad", [&](inputs& in, outputs<float>& out) { out.grad = in.b.*s.member; });
        check("weights", [&](inputs& in, outputs<float>& out) { out.weights = in.b.*s.member; });
        check("grad alone", [&](inputs& in, outputs<float>& out) { out.grad = in.b.*s.member; });
    }
    check("keep over loss_mask", [](inputs& in, outputs<float>& out) { out.keep = in.b.mask; });
    if (!clean.marks.empty()) check("keep over marks", [](inputs& in, outputs<float>& out) { out.keep = in.marks; });
    if (!clean.rejected.empty())
        check("reasons over rejected", [](inputs& in, outputs<float>& out) { out.reasons = in.rejected; });
    check("everything at once", [&](inputs& in, outputs<float>& out) {
        out.grad = in.b.logp;
        out.weights = in.b.advantages;
        out.keep = in.b.mask;
        if (!in.rejected.empty()) out.reasons = in.rejected;
    });
}

template <class Loss>
void compare(Loss const& loss, char const* name) {
    inputs in;
    in.b = batches::make<float>({{3, 0, 40, 17, 1, 200, 64, 33, 5, 2000, 70, 80}, true, 0.3, 0.004}, 91);
    compare(loss, in, name);
    in.rejected.resize(in.b.tokens());
    in.marks.resize(in.b.tokens());
    for (std::size_t t = 0; t < in.b.tokens(); ++t) {
        in.rejected[t] = t % 11 == 3 ? 1 : 0;
        in.marks[t] = t % 7 == 2;
    }
    compare(loss, in, name);
}

}  // namespace

TEST_CASE("outputs in the memory of inputs", "[loss][promise]") {
    token_mask const ratios{ratio{}, within(0.6, 1.7)};
    sequence_mask const worst{k2{}, stat::max, at_most(0.6)};
    compare(masked_loss{ratios && worst, ppo_clip{}, token_mean{}, token_weight{truncate_above(1.7)},
                        kl_penalty{k3{}, 0.1}, squared_log_ratio{0.2, sees::kept_tokens}},
            "token and sequence criteria, weight, penalties");
    compare(masked_loss{prefix_mask{k2{}, at_most(0.3)}, importance_ratio{}, token_mean{over_kept},
                        sequence_weight{stat::mean, truncate_above(2)}},
            "prefix");
    compare(masked_loss{group_mask{k3{}, stat::mean, at_most(0.12)} && budget_mask{k2{}, 0.035} && worst, gspo{},
                        seq_mean_token_mean{}, normalised{token_weight{truncate_above(2)}}},
            "group, budget, normalised weight");
    compare(masked_loss{worst, kl_cov{0.3, 0.05}, prompt_mean{}, no_weight{}, kl_penalty{k3{}, 0.1}},
            "marked tokens, prompts");
}

TEST_CASE("what was rejected beforehand is counted before it is overwritten", "[loss][unit]") {
    // One sequence of 200 tokens whose 80th leaves the region: prefix_mask rejects it and the 120 after it.
    std::vector<float> logp(200, -1.0f), rollout(200, -1.0f), advantages(200, 1.0f), grad(200);
    logp[79] = -3.0f;
    std::vector<std::uint8_t> mask(200, 1);
    std::vector<std::int32_t> const cu{0, 200};
    batch_view<float> const view{
        .logp = logp, .rollout_logp = rollout, .advantages = advantages, .loss_mask = mask, .layout = packed{cu}};
    masked_loss const loss{prefix_mask{k2{}, at_most(0.5)}, importance_ratio{}, token_mean{}};
    outputs<float> out;
    out.grad = grad;
    out.keep = mask;
    result const r = loss(view, out);
    REQUIRE(r.status.ok());
    CHECK(r.diagnostics.rejected_tokens[0] == 121);
    CHECK(r.diagnostics.rejected_sequences[0] == 1);
    CHECK(r.diagnostics.kept_tokens == 79);

    std::vector<std::uint16_t> rejected(200);
    for (std::size_t t : {3u, 4u, 150u, 199u}) rejected[t] = 1;
    std::fill(mask.begin(), mask.end(), std::uint8_t{1});
    selection_view const chosen{.reasons = rejected};
    outputs<float> reasons;
    reasons.reasons = rejected;
    masked_loss const two{token_mask{k2{}, at_most(100)} && token_mask{k1{}, at_most(100)}, importance_ratio{},
                          token_mean{}};
    result const again = two(view, chosen, reasons);
    REQUIRE(again.status.ok());
    CHECK(again.diagnostics.rejected_tokens[0] == 4);
}
