// SPDX-License-Identifier: Apache-2.0
// Weights divided by their batch mean against the oracle: per token and per sequence, before and after the bound, over all
// and over kept tokens. And the marks of kl_cov, where the caller brings none.
#include "loss_parity.hpp"
#include "spec_loss.hpp"

#include <trm/loss/to_spec.hpp>

using namespace trm;

namespace {

/// A batch of which the mask below keeps about a half, with sequences whose tokens are not finite, all or some.
template <class T>
batches::ragged<T> sample(std::uint64_t seed) {
    auto b = batches::make<T>({batches::short_lengths(sizeof(T) == 8 ? 60 : 25, seed), true, 0.3, 0.003}, seed);
    for (std::size_t const s : {std::size_t{7}, std::size_t{8}, std::size_t{21}})
        for (auto i = static_cast<std::size_t>(b.cu[s]); i < static_cast<std::size_t>(b.cu[s + 1]); ++i)
            if (s != 8 || i % 2 == 0) b.logp[i] = T(batches::nan);
    return b;
}
auto const mask = token_mask{k3{}, at_most(0.0713)} && sequence_mask{k2{}, stat::mean, at_most(0.0517)};

template <class T, class Weight, class Surrogate = importance_ratio>
reference::evaluation compare(Weight const& weight, std::uint64_t seed, Surrogate s = {}) {
    auto const b = sample<T>(seed);
    batches::random r(seed);
    auto const cut = batches::segmented(b, batches::cut(b.cu, 3, r));
    masked_loss const loss{mask, s, token_mean{}, weight};
    reference::evaluation want;
    for (auto const* layout : {&b, &cut})
        for (bool const proximal : {true, false}) {
            INFO((proximal ? "proximal" : "no proximal") << (layout == &cut ? ", cut" : ""));
            auto view = layout->view();
            if (!proximal) view.proximal_logp = {};
            want = reference::evaluate(loss, view);
            parity::check(parity::run_of<T>(spec_loss(to_spec(loss)), view), want, view, parity::bounds_of<T>.product);
            CHECK(want.diagnostics.kept_tokens > 0.2 * want.diagnostics.tokens);
            CHECK(want.diagnostics.kept_tokens < 0.8 * want.diagnostics.tokens);
        }
    return want;
}

/// The four ways to normalise a weight, of which no two may give the same.
template <class W>
void four_ways(W const& weight, std::uint64_t seed) {
    std::vector<double> losses;
    for (normalise when : {normalise::after_bound, normalise::before_bound})
        for (sees tokens : {sees::all_tokens, sees::kept_tokens}) {
            INFO((when == normalise::before_bound ? "before" : "after")
                 << " the bound, " << (tokens == sees::kept_tokens ? "kept" : "all"));
            losses.push_back(compare<double>(normalised{weight, when, tokens}, seed).loss);
            INFO("f32");
            compare<float>(normalised{weight, when, tokens}, seed);
        }
    for (std::size_t i = 0; i < 4; ++i)
        for (std::size_t j = 0; j < i; ++j) CHECK(std::fabs(losses[i] - losses[j]) > 1e-4 * std::fabs(losses[i]));
}

}  // namespace

TEST_CASE("normalised token weights match the oracle", "[loss][parity]") {
    four_ways(token_weight{truncate_above(1.071)}, 10);
    four_ways(token_weight{zero_outside(0.93, 1.07)}, 22);
    four_ways(over<ratio_kind::current_over_rollout>(token_weight{clamp_to(0.9, 1.1)}), 13);
}

TEST_CASE("normalised sequence weights match the oracle", "[loss][parity]") {
    four_ways(sequence_weight{stat::mean, clamp_to(0.983, 1.019)}, 4);
    four_ways(sequence_weight{stat::sum, truncate_above(1.3)}, 5);
    four_ways(sequence_weight{stat::sum, truncate_above(1.3), sees::kept_tokens}, 6);
}

TEST_CASE("normalised weights under a shared gradient match the oracle", "[loss][parity]") {
    compare<double>(normalised{token_weight{truncate_above(1.071)}}, 7, gspo{0.02, 0.03, 1.1});
    compare<double>(
        normalised{sequence_weight{stat::mean, clamp_to(0.983, 1.019)}, normalise::before_bound, sees::kept_tokens}, 8,
        gmpo{0.2, 0.3});
}

TEST_CASE("normalised weights composed at compile time match the oracle", "[loss][parity]") {
    auto const b = sample<double>(9);
    auto const view = b.view();
    for (normalise when : {normalise::after_bound, normalise::before_bound})
        for (sees tokens : {sees::all_tokens, sees::kept_tokens}) {
            normalised const of_tokens{token_weight{truncate_above(1.071)}, when, tokens};
            parity::compare<double>(masked_loss{mask, importance_ratio{}, token_mean{}, of_tokens}, view);
            normalised const of_sequences{sequence_weight{stat::sum, truncate_above(1.3)}, when, tokens};
            parity::compare<double>(masked_loss{mask, importance_ratio{}, token_mean{}, of_sequences}, view, 1e-10);
        }
}

TEST_CASE("means that are next to nothing leave the weight alone", "[loss][parity]") {
    double const logp[] = {-30, -31, -29.5}, rollout[] = {-1, -1.5, -2}, advantage[] = {1, 1, 1};
    std::int32_t const cu[] = {0, 3};
    batch_view<double> const view{.logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = packed{cu}};
    masked_loss const loss{no_mask{}, policy_gradient{}, token_mean{}, normalised{token_weight{}}};
    parity::compare<double>(loss, view);
    CHECK(parity::run_of<double>(loss, view).weights[0] == Approx(std::exp(-20)));
}

TEST_CASE("a sequence without a finite token has no weight to average", "[loss][unit]") {
    double const nan = batches::nan;
    double const logp[] = {-1.5, -1.5, nan, nan}, rollout[] = {-2, -2, -2, -2}, advantage[] = {1, 1, 1, 1};
    std::int32_t const cu[] = {0, 2, 4};
    batch_view<double> const view{.logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = packed{cu}};
    masked_loss const loss{no_mask{}, policy_gradient{}, token_mean{}, normalised{sequence_weight{stat::sum}}};
    parity::compare<double>(loss, view);
    CHECK(parity::run_of<double>(loss, view).weights[0] == Approx(1).epsilon(1e-14));
}

TEST_CASE("marks of kl_cov that the loss works out match the oracle", "[loss][parity]") {
    auto const check = [](auto zero, double fraction) {
        using T = decltype(zero);
        auto const b = batches::make<T>({batches::short_lengths(60, 11), true, 0.3, 0.0}, 11);
        masked_loss const loss{no_mask{}, kl_cov{0.3, fraction}, token_mean{}};
        auto const view = b.view();
        auto const want =
            parity::compare<T>(loss, view, 10 * parity::bounds_of<T>.product);  // -r A and c sign x cancel
        std::vector<std::uint8_t> const none(b.tokens());
        CHECK((reference::evaluate(loss, view, 1, {.marks = none}).grad != want.grad));
    };
    for (double fraction : {0.0, 2e-4, 0.05, 1.0}) {
        INFO("fraction " << fraction);
        check(0.0, fraction);
        check(0.0f, fraction);
    }
}
