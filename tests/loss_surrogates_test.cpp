// SPDX-License-Identifier: Apache-2.0
// Surrogates, weights, penalties, aggregations and denominators against the oracle, on every vector unit.
#include "loss_parity.hpp"

using namespace trm;

namespace {

batches::shape ordinary() { return {batches::edge_lengths(), true, 0.3, 0.002}; }

/// With proximal_logp, without it; token_weights or none; advantages per token or per sequence.
template <class S, class F>
void for_views(batches::ragged<S> const& b, F&& f) {
    auto view = b.view();
    SECTION("all streams") { f(view); }
    view.proximal_logp = {};
    SECTION("without proximal policy") { f(view); }
    view.token_weights = {};
    view.advantages = {};
    view.sequence_advantages = b.sequence_advantages;
    SECTION("advantages per sequence, no token weights") { f(view); }
    view = b.view();
    view.loss_mask = {};
    SECTION("no loss_mask") {
        auto const plain = batches::make<S>({batches::edge_lengths(), false, 0.3, 0.002}, 6);
        view = plain.view();
        view.loss_mask = {};
        f(view);
    }
}

std::vector<aggregation> aggregations() {
    std::vector<aggregation> all{token_sum{}};
    for (denominator const d : {over_all, over_kept, over_count(321.5)})
        all.insert(all.end(), {token_mean{d}, seq_mean_token_sum{d}, seq_mean_token_mean{d},
                               seq_mean_token_sum_norm{77.5, d}, prompt_mean{d}});
    return all;
}

auto const mask = token_mask{k3{}, at_most(0.131)} && sequence_mask{k2{}, stat::max, at_most(8.3)};
masked_loss const clipped{mask, ppo_clip{0.2, 0.28, 3.0}, seq_mean_token_mean{}, token_weight{truncate_above(1.7)},
                          kl_penalty{k3{}, 0.1}};

template <class T, class Loss>
void compare_everywhere(Loss const& loss, std::uint64_t seed, double bound = parity::bounds_of<T>.term) {
    auto const b = batches::make<T>(ordinary(), seed);
    for_views(b, [&](auto const& view) { parity::compare<T>(loss, view, bound); });
}

}  // namespace

TEST_CASE("importance ratio, no weight, no penalty", "[loss][parity]") {
    compare_everywhere<double>(masked_loss{mask, importance_ratio{}, token_mean{}}, 1);
}

TEST_CASE("ppo_clip with dual clip, token weight truncated, KL k3 on all tokens", "[loss][parity]") {
    compare_everywhere<double>(clipped, 1);
}
TEST_CASE("ppo_clip with dual clip, token weight truncated, KL k3 on all tokens: f32", "[loss][parity]") {
    compare_everywhere<float>(clipped, 1);
}

TEST_CASE("policy gradient, geometric weight inside a band, KL k1 on all, squared log-ratio on kept",
          "[loss][parity]") {
    compare_everywhere<double>(
        masked_loss{mask, policy_gradient{}, token_sum{}, sequence_weight{stat::mean, zero_outside(0.93, 1.09)},
                    kl_penalty{k1{}, 0.05}, squared_log_ratio{0.01, sees::kept_tokens}},
        1);
}

namespace {
masked_loss const product{mask,
                          over<ratio_kind::current_over_rollout>(ppo_clip{}),
                          token_mean{over_kept},
                          sequence_weight{stat::sum, clamp_to(0.4, 2.5)},
                          kl_penalty{k2{}, 0.2},
                          kl_penalty{abs_log_ratio{}, 0.3, sees::kept_tokens},
                          squared_log_ratio{0.02, sees::kept_tokens}};
}
TEST_CASE("product weight clamped, other ratio, KL k2 and abs, squared log-ratio on kept", "[loss][parity]") {
    compare_everywhere<double>(product, 1);
}
TEST_CASE("every aggregation and denominator", "[loss][parity]") {
    auto const b = batches::make<double>({batches::short_lengths(150, 3), true, 0.3, 0.003}, 9);
    masked_loss loss{token_mask{k3{}, at_most(0.131)} && sequence_mask{k2{}, stat::max, at_most(0.71)},
                     importance_ratio{},
                     token_mean{},
                     no_weight{},
                     kl_penalty{k3{}, 0.1},
                     squared_log_ratio{0.05, sees::kept_tokens}};
    auto pieces = batches::whole_sequences(b.cu);
    batches::random r(4);
    auto const split = batches::segmented(b, batches::cut(b.cu, 3, r));
    for (aggregation const& a : aggregations()) {
        INFO("aggregation " << int(a.which) << " denominator " << int(a.divide_by.which));
        loss.aggregate = a;
        parity::compare<double>(loss, b.view(), 1e-12, 3.5);
        parity::compare<double>(loss, split.view(), 1e-12, -0.25);
    }
}

namespace {

/// The same loss on another vector unit: same decisions, and terms equal up to rounding.
template <class T, class Arch, class Loss, class S>
void compare_arch(Loss const& loss, trm::batch_view<S> const& view, parity::run<T> const& want,
                  reference::evaluation const& oracle) {
    if constexpr (simd::is_supported<Arch>) {
        if (!simd::check_unit<Arch>().ok()) return;  // not on this CPU
        INFO(Arch::name());
        auto const r = parity::run_of<T>(loss.on(Arch{}), view);
        parity::check(r, oracle, view, parity::bounds_of<T>.term);
        CHECK(r.keep == want.keep);
        CHECK(r.reasons == want.reasons);
        std::size_t const n = r.grad.size();
        double const bound = parity::bounds_of<T>.term;
        CHECK(parity::first(n, [&](std::size_t i) {
                  return !parity::near(double(r.grad[i]), double(want.grad[i]), oracle.grad_size[i], bound);
              }) == n);
    }
}
template <class T>
void compare_archs() {
    auto const b = batches::make<T>(ordinary(), 1);
    auto const view = b.view();
    auto const want = parity::run_of<T>(clipped, view);
    auto const oracle = reference::evaluate(clipped, view);
    compare_arch<T, simd::scalar>(clipped, view, want, oracle);
    if constexpr (sizeof(T) == 4) {
        compare_arch<T, simd::sse2>(clipped, view, want, oracle);
        compare_arch<T, simd::avx2>(clipped, view, want, oracle);
        compare_arch<T, simd::avx512>(clipped, view, want, oracle);
    }
}

}  // namespace

TEST_CASE("every vector unit gives the same decisions and the same terms up to rounding", "[loss][parity]") {
    SECTION("f32") { compare_archs<float>(); }
    SECTION("f64") { compare_archs<double>(); }
}
