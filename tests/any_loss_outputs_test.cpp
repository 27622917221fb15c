// SPDX-License-Identifier: Apache-2.0
// A loss chosen at run time that only wants a gradient gives the bits of one that wants every output, and of one with a criterion
// more: the first may go through the fused loop of frequent policies, the others go through tiles.
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/any_loss_extern.hpp>

#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

namespace {

/// Tokens and sequences by every divergence and statistic that the fused loop takes, and some that it does not.
std::vector<std::string> every_criterion() {
    return {"k1 in [-0.6, 0.5]",
            "ratio in [0.6, 1.7]",
            "k3 <= 0.1",
            "abs_log_ratio <= 0.6",
            "k2 <= 0.2",
            "given <= 0.9",
            "binary_tv <= 0.2",
            "probability_change >= -0.1",
            "seq_sum_k1 in [-4, 3]",
            "seq_mean_k1 in [-0.05, 0.06]",
            "seq_mean_k3 <= 0.045",
            "seq_sum_k3 <= 5",
            "seq_max_k1 <= 0.8",
            "seq_min_k1 >= -0.9",
            "seq_max_k2 <= 0.4",
            "seq_max_abs_log_ratio <= 0.9",
            "seq_max_given <= 0.99",
            "passing(seq_mean_k1 in [-0.05, 0.06])",
            "passing(seq_sum_k3 <= 4)",
            "seq_mean_k2 <= 0.05",
            "seq_max_ratio <= 2",
            "seq_mean_k1@correction in [-0.05, 0.06]",
            "seq_max_k2@correction <= 0.4"};
}
std::array<std::string, 11> const surrogates{"ppo_clip(eps_low=0.1, eps_high=0.3, dual_clip=3)",
                                             "importance_ratio",
                                             "policy_gradient",
                                             "cispo(lower=0.5, upper=1.5)",
                                             "ppo_clip@current_over_rollout",
                                             "sapo",
                                             "gspo(eps_low=0.02, eps_high=0.03)",
                                             "gspo(eps_low=0.02, eps_high=0.03, ratios=all)",
                                             "gspo_token(dual_clip=1.01)",
                                             "gspo_token@current_over_rollout(ratios=all)",
                                             "dro(beta=0.1)"};
std::array<std::string, 9> const weights{"none",
                                         "token(truncate_above=1.2)",
                                         "constant(factor=0.5)",
                                         "product(truncate_above=2)",
                                         "geometric(zero_outside=[0.9, 1.1])",
                                         "product(truncate_above=2, ratios=kept)",
                                         "token@current_over_rollout(zero_outside=[0.5, 2])",
                                         "normalised_token(clamp=[0.5, 2])",
                                         "normalised_token(truncate_above=1.2, sees=kept)"};
std::array<std::string, 6> const penalties{"kl(k3, beta=0.1)",
                                           "kl(abs_log_ratio, beta=-0.2, sees=kept)",
                                           "squared_log_ratio(0.3)",
                                           "reference_kl(k2, beta=0.3, input_clamp=0.4)",
                                           "reference_kl(k1, beta=0.1, gradient=score_function, output_clamp=0.2)",
                                           "reference_kl(k3, beta=0.1, gradient=importance)"};

/// Each number pairs another surrogate with another weight and penalty.
std::string spec_text(std::string const& mask, std::size_t number) {
    std::string text = "weight: " + weights[number % weights.size()] +
                       "; surrogate: " + surrogates[number / weights.size() % surrogates.size()] +
                       "; aggregate: " + (number % 3 == 0 ? "token_mean" : "seq_mean_token_mean");
    if (number % 5 == 4) text += "; penalty: " + penalties[number / 5 % penalties.size()];
    if (mask != "none") text += "; mask: " + mask;
    return text;
}

template <class T>
struct outcome {
    trm::result result;
    std::vector<T> grad;
};
template <class T, class S>
outcome<T> evaluate(trm::any_loss const& loss, trm::batch_view<S> const& view, trm::selection_view const& chosen,
                    bool every_output) {
    auto const n = static_cast<std::size_t>(view.layout.extent());
    outcome<T> o{{}, std::vector<T>(n, T(7))};
    std::vector<std::uint8_t> keep(n);
    std::vector<std::uint16_t> reasons(n);
    std::vector<T> weight(n);
    trm::outputs<T> out;
    out.grad = o.grad;
    if (every_output) out.keep = keep, out.reasons = reasons, out.weights = weight;
    o.result = loss(view, chosen, out);
    REQUIRE(o.result.status.ok());
    return o;
}
template <class T>
void check_same(outcome<T> const& a, outcome<T> const& b) {
    CHECK(std::bit_cast<std::uint64_t>(a.result.loss) == std::bit_cast<std::uint64_t>(b.result.loss));
    CHECK(std::memcmp(a.grad.data(), b.grad.data(), a.grad.size() * sizeof(T)) == 0);
    CHECK(std::memcmp(&a.result.diagnostics, &b.result.diagnostics, sizeof a.result.diagnostics) == 0);
}

/// The same loss with a criterion more, which all tokens pass and the fused loop does not know.
std::string through_tiles(std::string const& text) {
    auto const of_correction = text.find("@correction") != std::string::npos;
    return text + (of_correction ? " && jensen_shannon@correction <= 1000" : " && jensen_shannon <= 1000");
}
/// With and without a proximal policy, loss_mask, diagnostics, and tokens that were rejected beforehand. The text ends with the mask,
/// if it has one.
template <class T>
void same_both_ways(std::string const& text, batches::ragged<T> const& b) {
    trm::any_loss loss{trm::parse_spec(text)};
    bool const has_mask = !loss.spec.mask.empty();
    trm::any_loss tiles{trm::parse_spec(has_mask ? through_tiles(text) : text)};
    INFO(text);
    std::vector<std::uint16_t> rejected(b.tokens());
    for (std::size_t t = 0; t < rejected.size(); ++t) rejected[t] = t % 9 == 4;
    for (bool const with_proximal : {false, true})
        for (bool const with_mask : {false, true})
            for (bool const diagnose : {false, true})
                for (bool const rejects : {false, true}) {
                    INFO((with_proximal ? "proximal " : "")
                         << (with_mask ? "mask " : "") << (diagnose ? "diagnostics " : "")
                         << (rejects ? "rejected" : ""));
                    auto view = b.view();
                    view.token_weights = {};
                    if (!with_proximal) view.proximal_logp = {};
                    if (!with_mask) view.loss_mask = {};
                    trm::selection_view chosen;
                    if (rejects) chosen.reasons = rejected;
                    loss.diagnose = tiles.diagnose = diagnose;
                    auto const alone = evaluate<T>(loss, view, chosen, false);
                    check_same(alone, evaluate<T>(loss, view, chosen, true));
                    if (has_mask) check_same(alone, evaluate<T>(tiles, view, chosen, false));
                }
}

}  // namespace

TEST_CASE("the gradient alone has the bits of a call with every output", "[loss][parity]") {
    auto const criteria = every_criterion();
    // Lengths of their own: with and without whole registers, pairs of them, and the stretches that are summed in float.
    auto const b =
        batches::make<float>({{0, 1, 16, 17, 31, 33, 64, 2, 130, 1, 1030, 41, 5, 2500}, true, 0.3, 0.002}, 3);
    std::size_t n = 0;
    for (std::size_t i = 0; i < criteria.size(); ++i)
        for (std::size_t j = i; j < criteria.size(); ++j, ++n) {
            std::string const mask = i == j ? criteria[i] : criteria[i] + " && " + criteria[j];
            same_both_ways(spec_text(mask, n), b);
        }
    for (std::size_t k = 0; k < 2 * surrogates.size() * weights.size(); ++k) same_both_ways(spec_text("none", k), b);
    same_both_ways(
        "weight: normalised_token(truncate_above=1.2, when=before_bound, sees=kept); surrogate: ppo_clip; "
        "mask: seq_max_k1 <= 0.8 && k1 in [-0.6, 0.5]",
        b);
    for (std::string const& mask : criteria)  // measured for a weight of sequences
        same_both_ways("surrogate: ppo_clip; weight: product(truncate_above=2); mask: " + mask, b);
    for (std::string const mask :
         {"seq_max_abs_log_ratio <= 0.9 && seq_max_k1 <= 0.3", "seq_max_given <= 0.99 && seq_min_k1 >= -0.3"})
        same_both_ways("surrogate: ppo_clip; mask: " + mask, b);
    for (std::string const weight : {"token(truncate_above=1.2)", "product(truncate_above=2, ratios=kept)"}) {
        std::string const text =
            "surrogate: ppo_clip; weight: " + weight + "; mask: seq_min_k1 >= -0.9 && k1 in [-0.6, 0.5] && ";
        same_both_ways(text + "seq_max_k1 <= 0.8 && passing(seq_mean_k1 in [-0.05, 0.06])", b);
        same_both_ways(text + "passing(seq_sum_k1 in [-3, 2]) && passing(seq_mean_k3 <= 0.04)", b);
        same_both_ways(text + "seq_mean_k3 <= 0.045 && passing(seq_mean_k1 in [-0.05, 0.06])", b);
    }
}
TEST_CASE("the same where stages clamp log-ratios differently", "[loss][parity]") {
    auto const criteria = every_criterion();
    auto const b = batches::make<double>({{5, 70, 1, 300, 16, 1100}, true, 0.5, 0.02}, 4);
    for (std::size_t i = 0; i < criteria.size(); ++i)
        same_both_ways("log_ratio_clamp: 3; weight_clamp: 1; surrogate_clamp: 0.5; " + spec_text(criteria[i], i), b);
}
TEST_CASE("chosen at run time: an advantage that no policy looks at may be anything", "[loss]") {
    auto const b = batches::make<float>({{500, 37, 64}, false, 0.1, 0.0}, 3);
    std::vector<float> const none(b.tokens(), static_cast<float>(batches::nan));
    std::string const text =
        GENERATE("surrogate: reference_gap", "surrogate: reference_gap; mask: probability_change >= -1",
                 "surrogate: reference_gap; penalty: squared_log_ratio(0.3); weight: token");
    for (bool const diagnose : {false, true}) {
        INFO(text << (diagnose ? ", diagnostics" : ""));
        trm::any_loss loss{trm::parse_spec(text)};
        loss.diagnose = diagnose;
        auto view = b.view();
        view.loss_mask = {};
        view.token_weights = {};
        auto const with = evaluate<float>(loss, view, {}, false);
        view.advantages = none;
        auto const without = evaluate<float>(loss, view, {}, false);
        CHECK(with.result.loss == without.result.loss);
        CHECK(with.grad == without.grad);
        CHECK(without.result.diagnostics.nonfinite_tokens == 0);
        CHECK(with.result.diagnostics.positive_tokens == without.result.diagnostics.positive_tokens);
        CHECK(with.result.diagnostics.positive_tokens == 0);
        CHECK(with.result.diagnostics.negative_tokens == 0);
    }
}
