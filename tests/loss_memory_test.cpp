// SPDX-License-Identifier: Apache-2.0
// No call allocates once its workspace has seen the batch, and a workspace is as large as documented.
#include "catch.hpp"
#include "heap.hpp"
#include "loss_batch.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/checked.hpp>
#include <trm/loss/masked_loss.hpp>
#ifdef _OPENMP
#include <trm/interop/openmp.hpp>
#endif

#include <initializer_list>
#include <vector>

namespace {

struct streams {
    std::vector<std::int64_t> cu{0};
    std::vector<std::int32_t> groups;
    std::vector<float> logp, mu, advantages, grad;

    explicit streams(std::int64_t sequences) {
        batches::random next(3);
        for (std::int64_t s = 0; s < sequences; ++s) {
            for (std::int64_t t = next.below(60); t >= 0; --t) {
                mu.push_back(-0.01f - static_cast<float>(std::fabs(next.normal())));
                logp.push_back(mu.back() + 0.1f * static_cast<float>(next.normal()));
                advantages.push_back(static_cast<float>(next.normal()));
            }
            cu.push_back(static_cast<std::int64_t>(logp.size()));
            groups.push_back(static_cast<std::int32_t>(s / 4));
        }
        grad.resize(logp.size());
    }
    [[nodiscard]] trm::batch_view<float> view() const {
        return {
            .logp = logp, .rollout_logp = mu, .advantages = advantages, .group_of = groups, .layout = trm::packed{cu}};
    }
    trm::outputs<float> outputs() {
        trm::outputs<float> out;
        out.grad = grad;
        return out;
    }
};

/// Allocations of f's second run.
template <class F>
std::int64_t steady(F const& f) {
    f();
    return heap::of(f).calls;
}

trm::any_divergence const k2{trm::k2{}};
constexpr trm::band small = trm::at_most(0.04);

/// One spec for each way in which a loss may use a workspace.
std::vector<trm::loss_spec> specs() {
    std::vector<trm::loss_spec> all;
    auto const add = [&](std::initializer_list<trm::any_criterion> mask) -> trm::loss_spec& {
        trm::loss_spec& s = all.emplace_back();
        s.mask = mask;
        s.surrogate = trm::ppo_clip{};
        return s;
    };
    add({trm::sequence_mask{k2, trm::stat::max, small}});
    add({trm::sequence_mask{k2, trm::stat::mean, trm::at_most(0.005)}}).aggregate = trm::token_mean{trm::over_kept};
    add({trm::token_mask{k2, small}}).aggregate = trm::prompt_mean{};
    add({trm::prefix_mask{k2, small}});
    add({trm::group_mask{k2, trm::stat::max, small}});
    add({trm::signed_sequence_mask{k2, trm::stat::mean, trm::at_most(0.005)}});
    add({trm::quantile_mask{k2, 0.9, small}});
    add({trm::top_mean_mask{k2, 3, small}});
    add({trm::budget_mask{k2, 0.004}, trm::quantile_mask{k2, 0.9, small}});
    add({trm::top_share_mask{k2, 0.5}});
    add({trm::clip_cov{0.1, 5.0, 0.1}});
    add({trm::length_neutral_mask{0.05, 64}});
    add({}).surrogate = trm::kl_cov{};
    return all;
}

}  // namespace

TEST_CASE("No loss call allocates after the first", "[unit][memory]") {
    streams s(300);
    auto const view = s.view();
    auto const out = s.outputs();
    trm::sequence_totals totals;
    trm::counts total;
    trm::selection chosen;
    bool ok = true;
    std::size_t index = 0;
    for (trm::loss_spec const& spec : specs()) {
        INFO("spec " << index++);
        trm::any_loss const loss{spec};
        trm::workspace scratch;
        double kept = 0;
        CHECK(steady([&] {
                  auto const r = loss(view, out, scratch);
                  ok = ok && r.status.ok();
                  kept = r.diagnostics.kept_tokens;
              }) == 0);
        CHECK(kept > 0);
        if (!spec.mask.empty()) CHECK(kept < static_cast<double>(s.logp.size()));
        CHECK(scratch.bytes() <= s.logp.size() * (8 * 3 + 4 + 2 + 24) + 300 * 40 + 75 + 256 + 300 * 8 * 20);
        CHECK(steady([&] {
                  ok = ok && loss.select(view, chosen, scratch).ok();
                  ok = ok && loss.measure(view, chosen, totals).ok();
                  ok = ok && loss.count(view, chosen, totals, total).ok();
                  ok = ok && loss.apply(view, chosen, totals, total, out).status.ok();
              }) == 0);
        CHECK(ok);
    }
}

TEST_CASE("A selection that is filled again allocates nothing", "[unit][memory]") {
    streams large(300), few(100);
    trm::masked_loss const loss{trm::prefix_mask{trm::k2{}, small}, trm::kl_cov{}, trm::token_mean{}};
    trm::workspace scratch;
    trm::selection chosen;
    bool ok = true;
    auto const fill = [&](streams const& s) {
        ok = ok && loss.select(s.view(), chosen, scratch).ok() && chosen.reasons().size() == s.logp.size() &&
             chosen.marks().size() == s.logp.size();
    };
    CHECK(heap::of([&] { fill(few); }).calls > 0);  // the counter counts
    CHECK(heap::of([&] { fill(large); }).calls > 0);
    CHECK(heap::of([&] { fill(few); }).calls == 0);
    CHECK(heap::of([&] { fill(large); }).calls == 0);
    CHECK(ok);
}

TEST_CASE("Losses chosen at compile time allocate nothing", "[unit][memory]") {
    streams s(300);
    auto const view = s.view();
    auto const out = s.outputs();
    trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, small}, trm::ppo_clip{},
                                trm::token_mean{trm::over_kept}};
    trm::workspace scratch;
    bool ok = true;
    CHECK(steady([&] { ok = ok && loss(view, out, scratch).status.ok(); }) == 0);
    CHECK(scratch.bytes() == 300 * sizeof(double) * (5 + 0 + 1));  // five sums of every loss, one maximum
    CHECK(steady([&] { ok = ok && trm::checked(loss)(view, out, scratch).status.ok(); }) == 0);
    CHECK(heap::of([&] { ok = ok && loss(view).status.ok(); }).calls == 1);  // its own workspace: the counter counts

    // Denominators that are known in advance need no workspace at all.
    auto all = loss;
    all.aggregate = trm::token_mean{};
    trm::workspace unused;
    CHECK(heap::of([&] { ok = ok && all(view, out, unused).status.ok() && all(view, s.grad).status.ok(); }).calls == 0);
    CHECK(unused.bytes() == 0);
#ifdef _OPENMP
    std::int64_t runtime = 0;  // what OpenMP itself allocates for a parallel region: hundreds of times in clang's
    auto const two = [&](std::int64_t n, auto const& f) -> void {
        std::int64_t const before = heap::calls;
        trm::openmp_executor{2, 0}(n, f);
        runtime += heap::calls - before;
    };
    auto const parallel = steady([&] {
        runtime = 0;
        ok = ok && loss(view, out, two, scratch).status.ok();
    });
    CHECK(parallel == runtime);
#ifndef __clang__
    CHECK(runtime == 0);  // what the threads allocate inside the loss would be in it
#endif
#endif
    CHECK(ok);
}

TEST_CASE("A loss chosen at run time takes memory only for what it has", "[unit][memory]") {
    streams s(300);
    auto const bytes = [&](trm::loss_spec const& spec) {
        trm::workspace scratch;
        CHECK(trm::any_loss{spec}(s.view(), s.outputs(), scratch).status.ok());
        return scratch.bytes();
    };
    trm::loss_spec spec;
    spec.surrogate = trm::ppo_clip{};
    CHECK(bytes(spec) == 0);
    spec.mask = {trm::token_mask{k2, small}, trm::sequence_mask{k2, trm::stat::max, small}};
    spec.weight = trm::token_weight{trm::truncate_above(2)};
    CHECK(bytes(spec) == 0);
    spec.weight_factors.emplace_back(trm::surprise_weight{});
    CHECK(bytes(spec) >= s.logp.size() * sizeof(float));
}

TEST_CASE("A workspace for selections is as large as documented", "[unit][memory]") {
    streams s(300);
    trm::masked_loss const loss{trm::budget_mask{trm::k2{}, 0.004}, trm::kl_cov{}, trm::token_mean{}};
    trm::workspace scratch;
    REQUIRE(loss(s.view(), s.outputs(), scratch).status.ok());
    std::size_t const tokens = s.logp.size(), scores = 9, advantages = 8, largest = 24, chosen = 3;
    std::size_t const stated = tokens * (scores + advantages + largest + chosen) + 256;
    CHECK(scratch.bytes() <= stated + 2 * sizeof(double));  // rounded up to doubles
    CHECK(scratch.bytes() + 2 * sizeof(double) >= stated);

    trm::masked_loss const by_sequence{trm::prefix_mask{trm::k2{}, small}, trm::importance_ratio{}, trm::token_mean{}};
    trm::workspace other;
    REQUIRE(by_sequence(s.view(), s.outputs(), other).status.ok());
    CHECK(other.bytes() <= tokens * (scores + chosen) + 512 * 128);
    CHECK(other.bytes() >= tokens * (scores + chosen));
}
