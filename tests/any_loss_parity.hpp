// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "every_divergence.hpp"
#include "loss_parity.hpp"

#include <trm/loss/spec.hpp>
#include <trm/loss/to_spec.hpp>

#include <bit>
#include <cstring>
#include <set>
#include <string_view>
#include <type_traits>

/// Losses written twice, as text and as types, must be the same spec and agree in every bit. Between them the losses use
/// every policy, in float; in double those of `recent_policies` are left out, for the time that they take to compile.
namespace any_parity {

using namespace trm;

inline batches::shape shape() {
    return {
        {0, 1, 16, 17, 5, 31, 0, 33, 64, 2, 3, 50, 90, 7, 130, 300, 1, 200, 12, 1030, 40, 41, 42, 5}, true, 0.3, 0.004};
}

/// First output in which two runs differ, or nothing.
template <class T>
std::string difference(parity::run<T> const& a, parity::run<T> const& b) {
    auto const differs = [](auto const& x, auto const& y) {
        return x.size() != y.size() || (!x.empty() && std::memcmp(x.data(), y.data(), x.size() * sizeof x[0]) != 0);
    };
    if (std::bit_cast<std::uint64_t>(a.result.loss) != std::bit_cast<std::uint64_t>(b.result.loss)) return "loss";
    if (differs(a.grad, b.grad)) return "grad";
    if (differs(a.keep, b.keep)) return "keep";
    if (differs(a.reasons, b.reasons)) return "reasons";
    if (differs(a.weights, b.weights)) return "weights";
    if (std::memcmp(&a.result.diagnostics, &b.result.diagnostics, sizeof a.result.diagnostics) != 0)
        return "diagnostics";
    return {};
}

/// Without the other outputs: then tokens without exceptions take a shorter way.
template <class T, class Loss>
parity::run<T> gradient_of(Loss const& loss, batch_view<T> const& view, selection_view const& chosen) {
    parity::run<T> r(static_cast<std::size_t>(view.layout.extent()));
    outputs<T> out;
    out.grad = r.grad;
    r.result = loss(view, chosen, out);
    REQUIRE(r.result.status.ok());
    return r;
}

/// The names of surrogates and criteria that `same` has seen.
inline std::set<std::string_view>& seen() {
    static std::set<std::string_view> names;
    return names;
}
inline void note(loss_spec const& spec) {
    std::visit([](auto const& s) { seen().insert(s.name); }, spec.surrogate.policy);
    for (any_criterion const& c : spec.mask)
        std::visit(
            [](auto const& m) {
                if constexpr (requires { m.name; }) seen().insert(m.name);
            },
            c);
}
template <class... Ms>
void check_seen(type_list<Ms...>) {
    auto const check = []<class M>(std::type_identity<M>) {
        if constexpr (requires { M::name; }) {
            INFO(M::name);
            CHECK(seen().contains(M::name));
        }
    };
    (check(std::type_identity<Ms>{}), ...);
}

/// Most tiles then take the shorter way, also with streams that few calls have: token_weights, marks, tokens rejected beforehand.
template <class T, class Loss>
void without_exceptions(Loss const& fixed, any_loss const& dynamic, std::uint64_t seed) {
    auto const whole = batches::make<T>({shape().lengths, false, 0.1, 0.0}, seed);
    std::vector<std::uint8_t> marks(whole.tokens());
    std::vector<std::uint16_t> rejected(whole.tokens());
    for (std::size_t t = 0; t < marks.size(); ++t) marks[t] = t % 7 == 3, rejected[t] = t % 9 == 4;
    auto weights = whole.token_weights;
    for (std::size_t t : {weights.size() - 700, weights.size() / 2}) weights[t] = batches::nan;
    enum class rare { nothing, finite_weights, weights_with_nan, given_marks, given_reasons };
    for (bool const with_mask : {true, false})
        for (rare const has :
             {rare::nothing, rare::finite_weights, rare::weights_with_nan, rare::given_marks, rare::given_reasons}) {
            INFO((with_mask ? "loss_mask of ones" : "no loss_mask") << ", rare streams: " << static_cast<int>(has));
            auto view = whole.view();
            if (!with_mask) view.loss_mask = {};
            if (has == rare::weights_with_nan) view.token_weights = weights;
            else if (has != rare::finite_weights) view.token_weights = {};
            selection_view chosen;
            if (has == rare::given_marks) chosen.marks = marks;
            if (has == rare::given_reasons) chosen.reasons = rejected;
            CHECK(difference(gradient_of<T>(fixed, view, chosen), gradient_of<T>(dynamic, view, chosen)) == "");
        }
}

template <class T, class Loss>
void same(Loss const& fixed, char const* text, std::uint64_t seed) {
    spec_result const parsed = parse_spec(text);
    INFO(text << "\n" << parsed.message);
    REQUIRE(parsed.ok());
    CHECK(print_spec(to_spec(fixed)) == print_spec(parsed.spec));
    note(parsed.spec);
    any_loss const dynamic{parsed.spec};
    auto b = batches::make<T>(shape(), seed);
    batches::random r(seed);
    b.logp[b.logp.size() / 2] = T(batches::nan);
    b.mask[b.logp.size() / 2] = 1;
    auto const pieces = batches::cut(b.cu, 3, r);
    batches::ragged<T> const layouts[] = {b, batches::padded(b, 3), batches::segmented(b, pieces)};
    for (std::size_t i = 0; i < 3; ++i)
        for (bool const with_proximal : {true, false}) {
            INFO("layout " << i << (with_proximal ? ", proximal" : ""));
            auto view = layouts[i].view();
            std::vector<std::uint8_t> marks(layouts[i].tokens());
            for (std::size_t t = 0; t < marks.size(); ++t) marks[t] = layouts[i].origin[t] % 7 == 3;
            selection_view const chosen{.marks = marks};
            if (!with_proximal) view.proximal_logp = {};
            auto const one = parity::run_of<T>(fixed, view, 1, chosen),
                       other = parity::run_of<T>(dynamic, view, 1, chosen);
            CHECK(difference(one, other) == "");
            CHECK(difference(gradient_of<T>(fixed, view, chosen), gradient_of<T>(dynamic, view, chosen)) == "");
            double const kept = other.result.diagnostics.kept_tokens;
            CHECK(kept > 0);
            CHECK((kept < other.result.diagnostics.tokens - 1 || parsed.spec.mask.empty()));
            CHECK(other.result.loss != 0);
        }
    without_exceptions<T>(fixed, dynamic, seed);
}

/// `select` and three phases give what one call gives.
template <class T>
void phases(char const* text, std::uint64_t seed) {
    any_loss const loss{parse_spec(text)};
    INFO(text);
    auto const b = batches::make<T>(shape(), seed);
    auto const view = b.view();
    auto const whole = parity::run_of<T>(loss, view);
    selection chosen;
    REQUIRE(loss.select(view, chosen).ok());
    sequence_totals stats;
    CHECK(loss.measure(view, stats).code == errc::missing_stream);
    REQUIRE(loss.measure(view, chosen, stats).ok());
    counts total;
    REQUIRE(loss.count(view, chosen, stats, total).ok());
    parity::run<T> parts(b.tokens());
    parts.result = loss.apply(view, chosen, stats, total, parts.outputs());
    REQUIRE(parts.result.status.ok());
    CHECK(std::fabs(parts.result.loss - whole.result.loss) <= 1e-14 * std::fabs(whole.result.loss));
    parts.result = whole.result;
    CHECK(difference(parts, whole) == "");
}

/// Every divergence of the catalogue per token, fourteen to a loss; the text is that of to_spec.
template <class T, std::size_t First = 0>
void every_divergence() {
    using divergences = every::some<First, 14>;
    auto const mask = every::middle_of(divergences{}, batches::make<T>(shape(), 1).view());
    std::conditional_t<First == 0, importance_ratio, spo> const surrogate{};
    masked_loss const loss{mask, surrogate, token_mean{over_kept}};
    std::string const text = print_spec(to_spec(loss));
    for (std::size_t i = First; i < First + divergences::size; ++i)
        CHECK(text.find(std::string(" ") + names_in<catalogue::divergences>[i] + " in [") != std::string::npos);
    same<T>(loss, text.c_str(), 1);
    if constexpr (First + 14 < catalogue::divergences::size) every_divergence<T, First + 14>();
}

template <class T>
void every_policy() {
    every_divergence<T>();
    // sequence criteria; every statistic and pair of policies that needs no proximal policy
    same<T>(
        masked_loss{sequence_mask{k2{}, stat::max, at_most(2.0)} && sequence_mask{k3{}, stat::mean, at_most(0.07)} &&
                        sequence_mask{k1{}, stat::sum, within(-8, 8)} &&
                        sequence_mask{ratio{}, stat::min, at_least(0.1)} && geometric_ratio_within(0.7, 1.4) &&
                        product_ratio_within(1e-4, 1e4) &&
                        sequence_mask{over<ratio_kind::surrogate>(k3{}), stat::mean, at_most(0.08)} &&
                        sequence_mask{over<ratio_kind::correction>(binary_kl{}), stat::mean, at_most(0.05)} &&
                        token_mask{abs_log_ratio{}, at_most(0.7)} &&
                        over_passing(sequence_mask{k2{}, stat::max, at_most(0.24)}) &&
                        over_passing(sequence_mask{k1{}, stat::mean, within(-0.2, 0.2)}) &&
                        over_passing(sequence_mask{k3{}, stat::sum, at_most(20.0)}) &&
                        over_passing(sequence_mask{ratio{}, stat::min, at_least(0.51)}) &&
                        advantage_signed{binary_tv{}, at_most(0.11), at_most(0.13), zero_advantage::keep} &&
                        only_away(token_mask{given{}, at_most(0.08)}),
                    ppo_clip{0.2, 0.28, 1.5}, seq_mean_token_mean{}, token_weight{truncate_above(1.2)}},
        "mask: seq_max_k2 <= 2 && seq_mean_k3 <= 0.07 && seq_sum_k1 in [-8, 8] && seq_min_ratio >= 0.1 && "
        "geometric_ratio in [0.7, 1.4] && product_ratio in [1e-4, 1e4] && seq_mean_k3@surrogate <= 0.08 && "
        "seq_mean_binary_kl@correction <= 0.05 && abs_log_ratio <= 0.7 && passing(seq_max_k2 <= 0.24) && "
        "passing(seq_mean_k1 in [-0.2, 0.2]) && passing(seq_sum_k3 <= 20) && passing(seq_min_ratio >= 0.51) && "
        "away(binary_tv <= 0.11, negative <= 0.13, zero=keep) && away(given <= 0.08); "
        "surrogate: ppo_clip(0.2, 0.28, 1.5); "
        "weight: token(truncate_above=1.2); aggregate: seq_mean_token_mean",
        2);
    // selections
    same<T>(
        masked_loss{prefix_mask{k2{}, at_most(1.5)} && group_mask{k3{}, stat::mean, at_most(0.12)} &&
                        group_mask{k2{}, stat::max, at_most(250.0)} && group_mask{k1{}, stat::sum, at_most(90.0)} &&
                        group_mask{ratio{}, stat::min, at_least(1e-13)},
                    policy_gradient{}, prompt_mean{}, sequence_weight{stat::sum, clamp_to(0.5, 2), sees::kept_tokens}},
        "mask: prefix(k2 <= 1.5) && group(seq_mean_k3 <= 0.12) && group(seq_max_k2 <= 250) && "
        "group(seq_sum_k1 <= 90) && group(seq_min_ratio >= 1e-13); surrogate: policy_gradient; "
        "weight: product(clamp=[0.5, 2], ratios=kept); aggregate: prompt_mean",
        3);
    same<T>(masked_loss{signed_sequence_mask{k1{}, stat::mean, at_most(0.02)} &&
                            signed_sequence_mask{k1{}, stat::sum, at_most(1.0), advantage_sign::positive} &&
                            signed_sequence_mask{k2{}, stat::max, at_most(1.0)} &&
                            signed_sequence_mask{ratio{}, stat::min, at_least(0.3)} &&
                            quantile_mask{over<ratio_kind::surrogate>(k2{}), 0.9, at_most(0.3)} &&
                            top_mean_mask{k3{}, 3, at_most(2.0)} && budget_mask{k2{}, 0.05} &&
                            clip_cov{0.01, 5.0, 0.01, 0.2, 0.2, 17} && length_neutral_mask{0.35, 2000, 0.3, 0.1} &&
                            top_share_mask{given{}, 0.95},
                        cispo{0.5, 1.5}, seq_mean_token_sum{}, sequence_weight{stat::mean, zero_outside(0.5, 1.5)}},
            "mask: signed(seq_mean_k1 <= 0.02) && signed(seq_sum_k1 <= 1, positive) && signed(seq_max_k2 <= 1) && "
            "signed(seq_min_ratio >= 0.3) && quantile(k2@surrogate, 0.9) <= 0.3 && top_mean(k3, 3) <= 2 && "
            "budget(k2, 0.05) && clip_cov(0.01, 5, 0.01, 0.2, 0.2, 17) && "
            "length_neutral(0.35, 2000, eps=0.3, delta=0.1) && top_share(given, 0.95); surrogate: cispo(0.5, 1.5); "
            "weight: geometric(zero_outside=[0.5, 1.5]); aggregate: seq_mean_token_sum",
            4);
    // the other surrogates, weights, penalties
    auto const mask = token_mask{abs_log_ratio{}, at_most(1.0)} && sequence_mask{k2{}, stat::mean, at_most(0.3)};
#define MASK "mask: abs_log_ratio <= 1 && seq_mean_k2 <= 0.3; "
    same<T>(masked_loss{mask, reference_gap{}, token_mean{},
                        over<ratio_kind::current_over_rollout>(normalised{token_weight{truncate_above(1.5)}}),
                        kl_penalty{k1{}, 0.1}, kl_penalty{k2{}, 0.2, sees::kept_tokens}, kl_penalty{k3{}, 0.3},
                        kl_penalty{abs_log_ratio{}, 0.4}, squared_log_ratio{0.5, sees::kept_tokens}},
            MASK
            "surrogate: reference_gap; weight: normalised_token@current_over_rollout(truncate_above=1.5); "
            "penalty: kl(k1, 0.1) + "
            "kl(k2, 0.2, kept) + kl(k3, 0.3) + kl(abs_log_ratio, 0.4) + squared_log_ratio(0.5, kept)",
            5);
    using namespace kl_gradient;
    same<T>(masked_loss{mask, gspo{0.05, 0.04, 1.2}, seq_mean_token_mean{},
                        normalised{sequence_weight{stat::mean, truncate_above(1.5)}, normalise::before_bound},
                        reference_kl{k3{}, 0.1, pathwise{}, sees::all_tokens, 0.9, 0.2},
                        reference_kl{k3{}, 0.2, straight_through{}, sees::kept_tokens, 5.0, 1.0},
                        reference_kl{k2{}, 0.3, score_function{}}, reference_kl{k3{}, 0.4, importance<>{}},
                        reference_kl{k2{}, 0.5, importance<ratio_kind::current_over_rollout>{}}},
            MASK
            "surrogate: gspo(0.05, 0.04, 1.2); weight: normalised_geometric(truncate_above=1.5, when=before_bound); "
            "aggregate: seq_mean_token_mean; penalty: reference_kl(k3, 0.1, input_clamp=0.9, output_clamp=0.2) + "
            "reference_kl(k3, 0.2, kept, 5, 1, gradient=straight_through) + "
            "reference_kl(k2, 0.3, gradient=score_function) + reference_kl(k3, 0.4, gradient=importance) + "
            "reference_kl(k2, 0.5, gradient=importance_over_rollout)",
            6);
    same<T>(masked_loss{mask, gspo_token{0.05, 0.04, 1.2}, seq_mean_token_sum_norm{100.0, over_kept},
                        normalised{sequence_weight{stat::sum, clamp_to(0.2, 3)}, normalise::after_bound,
                                   sees::kept_tokens}},
            MASK
            "surrogate: gspo_token(0.05, 0.04, 1.2); aggregate: seq_mean_token_sum_norm(100); divide_by: kept; "
            "weight: normalised_product(clamp=[0.2, 3], sees=kept)",
            7);
    same<T>(masked_loss{mask, gmpo{0.2, 0.3}, token_sum{}, over<ratio_kind::current_over_rollout>(token_weight{})},
            MASK "surrogate: gmpo(0.2, 0.3); aggregate: token_sum; weight: token@current_over_rollout", 8);
    same<T>(masked_loss{mask, sapo{3.0, 2.0}, token_mean{over_count(512)}, constant_weight{0.3}},
            MASK "surrogate: sapo(3, 2); divide_by: 512; weight: constant(0.3)", 9);
    same<T>(masked_loss{no_mask{}, dro{0.7}, token_mean{}}, "surrogate: dro(0.7)", 10);
    same<T>(masked_loss{mask, kl_cov{0.1}, token_mean{}}, MASK "surrogate: kl_cov(0.1)", 11);
    same<T>(masked_loss{mask, vespo{1.5, 2.5, 2.0, 1.0}, token_mean{}}, MASK "surrogate: vespo(1.5, 2.5, 2, 1)", 12);
    same<T>(masked_loss{mask, over<ratio_kind::current_over_rollout>(topr{0.5, 1.5, 0.25, 0.9}), token_mean{}},
            MASK "surrogate: topr@current_over_rollout(0.5, 1.5, 0.25, 0.9)", 13);
    same<T>(masked_loss{mask && likely_signed{ratio{}, at_most(1.28), at_least(0.8), 0.3, 0.1},
                        sapo_sequence{3, 2, sees::all_tokens}, token_mean{}, token_weight{truncate_above(1.5)},
                        kl_penalty{k1{}, 0.1, sees::kept_tokens}},
            "mask: abs_log_ratio <= 1 && seq_mean_k2 <= 0.3 && away_likely(ratio <= 1.28, negative >= 0.8, 0.3, 0.1); "
            "surrogate: sapo_sequence(3, 2, all); weight: token(truncate_above=1.5); penalty: kl(k1, 0.1, kept)",
            14);
    same<T>(masked_loss{mask && token_mask{behaviour_probability{}, at_least(0.01)} &&
                            token_mask{target_probability{}, at_least(0.01)},
                        cispo_sequence{0.9, 1.01}, token_mean{},
                        normalised{sequence_weight{stat::sum, truncate_above(1.5)}, normalise::after_bound,
                                   sees::all_tokens, averaged_rows::all}},
            "mask: abs_log_ratio <= 1 && seq_mean_k2 <= 0.3 && behaviour_probability >= 0.01 && target_probability >= "
            "0.01; "
            "surrogate: cispo_sequence(0.9, 1.01); weight: normalised_product(truncate_above=1.5, rows=all)",
            15);
    same<T>(masked_loss{mask, vespo_folded{}, token_mean{}, token_weight{truncate_above(1.1)}, kl_penalty{k1{}, 0.1},
                        reference_kl{k3{}, 0.2, importance_of_sequence{}, sees::kept_tokens, 5.0, 1.0}},
            MASK
            "surrogate: vespo_folded; weight: token(truncate_above=1.1); penalty: kl(k1, 0.1) + "
            "reference_kl(k3, 0.2, kept, 5, 1, gradient=importance_of_sequence)",
            16);
    same<T>(masked_loss{mask, gspo{0.05, 0.04, 1.2, sees::all_tokens}, token_mean{}},
            MASK "surrogate: gspo(0.05, 0.04, 1.2, all)", 17);
#undef MASK
}

template <class T>
void recent_policies() {
    same<T>(masked_loss{away_sequence_mask{ratio_change{}, stat::mean, at_most(0.2)} && away_budget_mask{k2{}, 0.01} &&
                            running_budget_mask{binary_tv{}, 0.15, 400} &&
                            segment_mask{k1{}, stat::mean, within(-0.2, 0.2), 30},
                        drpo{}, token_mean{}},
            "mask: away_in(seq_mean_ratio_change <= 0.2) && away_budget(k2, 0.01) && "
            "running_budget(binary_tv, 0.15, horizon=400) && segment(seq_mean_k1 in [-0.2, 0.2], length=30); "
            "surrogate: drpo",
            18);
    same<T>(masked_loss{no_mask{}, up_grpo{}, token_mean{}}, "surrogate: up_grpo", 19);
    same<T>(masked_loss{no_mask{}, delight{}, token_mean{}}, "surrogate: delight", 20);
    same<T>(masked_loss{no_mask{}, topr_token{}, token_mean{}}, "surrogate: topr_token", 21);
    same<T>(masked_loss{no_mask{}, topr_geometric{}, token_mean{}}, "surrogate: topr_geometric", 22);
}

template <class T>
void every_phase() {
    phases<T>(
        "mask: prefix(k2 <= 1.5) && seq_max_k2 <= 2 && quantile(k3, 0.9) <= 0.3 && ratio in [0.5, 2]; "
        "surrogate: ppo_clip; aggregate: token_mean; divide_by: kept",
        21);
    phases<T>(
        "mask: budget(k2, 0.05) && length_neutral(0.3, 2000); surrogate: gspo; aggregate: seq_mean_token_mean; "
        "weight: normalised_token(truncate_above=2)",
        22);
}

}  // namespace any_parity
