// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>

#include <string_view>

/// \file
/// The names of policies and of their parameters in text: one entry per policy, the only place that a new one adds to.

TRM_NAMESPACE_BEGIN

/// How a criterion is written.
enum class spec_shape : std::uint8_t {
    measured,  ///< [seq_<statistic>_]divergence <band>: without a name of its own
    banded,    ///< name(fields) <band>
    around,    ///< name(criterion, fields): divergence, statistic and band are those of the criterion inside
    plain      ///< name(fields)
};
/// A type parameter that is written like a field: `gradient=straight_through`. The first policy of a name is the default.
struct spec_choice {
    char const* field;
    char const* word;
};

/// The names of a policy. `fields` calls f(name, where, is it required? false if left out) for each parameter; `where` is a
/// pointer to member or a function of the policy. (Not a tuple: compiling those takes longer than parsing everything else.)
template <class Policy>
struct spec_of;

/// Words for the values of an enumeration.
template <class Enum>
struct spec_word {
    std::string_view word;
    Enum value;
};
template <class Enum>
inline constexpr bool spec_words = false;
template <>
inline constexpr spec_word<ratio_kind> spec_words<ratio_kind>[] = {
    {"current_over_rollout", ratio_kind::current_over_rollout},
    {"proximal_over_rollout", ratio_kind::proximal_over_rollout},
    {"current_over_proximal", ratio_kind::current_over_proximal},
    {"surrogate", ratio_kind::surrogate},
    {"correction", ratio_kind::correction}};
template <>
inline constexpr spec_word<sees> spec_words<sees>[] = {{"all", sees::all_tokens}, {"kept", sees::kept_tokens}};
template <>
inline constexpr spec_word<normalise> spec_words<normalise>[] = {{"after_bound", normalise::after_bound},
                                                                 {"before_bound", normalise::before_bound}};
template <>
inline constexpr spec_word<advantage_sign> spec_words<advantage_sign>[] = {{"negative", advantage_sign::negative},
                                                                           {"positive", advantage_sign::positive}};
template <>
inline constexpr spec_word<zero_advantage> spec_words<zero_advantage>[] = {{"as_negative", zero_advantage::as_negative},
                                                                           {"keep", zero_advantage::keep}};
template <>
inline constexpr spec_word<bool> spec_words<bool>[] = {{"false", false}, {"true", true}};
template <>
inline constexpr spec_word<aggregation::kind> spec_words<aggregation::kind>[] = {
    {"token_mean", aggregation::kind::token_mean},
    {"token_sum", aggregation::kind::token_sum},
    {"seq_mean_token_sum", aggregation::kind::seq_mean_token_sum},
    {"seq_mean_token_mean", aggregation::kind::seq_mean_token_mean},
    {"seq_mean_token_sum_norm", aggregation::kind::seq_mean_token_sum_norm},
    {"prompt_mean", aggregation::kind::prompt_mean}};

/// Names of statistics inside `seq_<statistic>_<divergence>`.
template <class Stat>
inline constexpr std::string_view spec_statistic{};
template <>
inline constexpr std::string_view spec_statistic<stat::sum_t> = "sum";
template <>
inline constexpr std::string_view spec_statistic<stat::mean_t> = "mean";
template <>
inline constexpr std::string_view spec_statistic<stat::max_t> = "max";
template <>
inline constexpr std::string_view spec_statistic<stat::min_t> = "min";

// --- mask ------------------------------------------------------------------------------------------------------------

template <class D>
struct spec_of<token_mask<D>> {
    static constexpr char const* name = "";
    static constexpr auto shape = spec_shape::measured;
    static void fields(auto) {}
};
template <class D, class Stat>
struct spec_of<sequence_mask<D, Stat>> {
    static constexpr char const* name = "";
    static constexpr auto shape = spec_shape::measured;
    static void fields(auto) {}
};
template <class D, class Stat>
struct spec_of<passing_sequence_mask<D, Stat>> {
    static constexpr char const* name = "passing";
    static constexpr auto shape = spec_shape::around;
    static void fields(auto) {}
};
template <class D>
struct spec_of<advantage_signed<D>> {
    static constexpr char const* name = "away";
    static constexpr auto shape = spec_shape::around;
    static void fields(auto f) {
        f("negative", &advantage_signed<D>::negative);
        f("zero", &advantage_signed<D>::zero);
    }
};
template <class D>
struct spec_of<prefix_mask<D>> {
    static constexpr char const* name = "prefix";
    static constexpr auto shape = spec_shape::around;
    static void fields(auto) {}
};
template <class D, class Stat>
struct spec_of<group_mask<D, Stat>> {
    static constexpr char const* name = "group";
    static constexpr auto shape = spec_shape::around;
    static void fields(auto) {}
};
template <class D, class Stat>
struct spec_of<signed_sequence_mask<D, Stat>> {
    static constexpr char const* name = "signed";
    static constexpr auto shape = spec_shape::around;
    static void fields(auto f) { f("sign", &signed_sequence_mask<D, Stat>::sign); }
};
template <class D>
struct spec_of<quantile_mask<D>> {
    static constexpr char const* name = "quantile";
    static constexpr auto shape = spec_shape::banded;
    static void fields(auto f) {
        f("divergence", &quantile_mask<D>::divergence, true);
        f("q", &quantile_mask<D>::q, true);
    }
};
template <class D>
struct spec_of<top_mean_mask<D>> {
    static constexpr char const* name = "top_mean";
    static constexpr auto shape = spec_shape::banded;
    static void fields(auto f) {
        f("divergence", &top_mean_mask<D>::divergence, true);
        f("m", &top_mean_mask<D>::m, true);
    }
};
template <class D>
struct spec_of<budget_mask<D>> {
    static constexpr char const* name = "budget";
    static constexpr auto shape = spec_shape::plain;
    static void fields(auto f) {
        f("divergence", &budget_mask<D>::divergence, true);
        f("limit", &budget_mask<D>::limit, true);
    }
};
template <class D>
struct spec_of<top_share_mask<D>> {
    static constexpr char const* name = "top_share";
    static constexpr auto shape = spec_shape::plain;
    static void fields(auto f) {
        f("divergence", &top_share_mask<D>::divergence, true);
        f("share", &top_share_mask<D>::share, true);
    }
};
template <>
struct spec_of<clip_cov> {
    static constexpr char const* name = "clip_cov";
    static constexpr auto shape = spec_shape::plain;
    static void fields(auto f) {
        f("lower", &clip_cov::lower);
        f("upper", &clip_cov::upper);
        f("fraction", &clip_cov::fraction);
        f("eps_low", &clip_cov::eps_low);
        f("eps_high", &clip_cov::eps_high);
        f("seed", &clip_cov::seed);
    }
};

template <>
struct spec_of<length_neutral_mask> {
    static constexpr char const* name = "length_neutral";
    static constexpr auto shape = spec_shape::plain;
    static void fields(auto f) {
        f("threshold", &length_neutral_mask::threshold, true);
        f("horizon", &length_neutral_mask::horizon, true);
        f("eps", &length_neutral_mask::eps);
        f("delta", &length_neutral_mask::delta);
    }
};

// --- weight ----------------------------------------------------------------------------------------------------------

template <>
struct spec_of<no_weight> {
    static constexpr char const* name = "none";
    static void fields(auto) {}
};
template <>
struct spec_of<token_weight> {
    static constexpr char const* name = "token";
    static void fields(auto f) { f("bound", &token_weight::bound); }
};
template <class Stat>
struct spec_of<sequence_weight<Stat>> {
    static constexpr char const* name = std::is_same_v<Stat, stat::sum_t> ? "product" : "geometric";
    static void fields(auto f) {
        f("bound", &sequence_weight<Stat>::bound);
        f("ratios", &sequence_weight<Stat>::ratios);
    }
};
template <>
struct spec_of<constant_weight> {
    static constexpr char const* name = "constant";
    static void fields(auto f) { f("factor", &constant_weight::factor, true); }
};
template <class W>
struct spec_of<normalised<W>> {
    static constexpr char const* name = std::is_same_v<W, token_weight>                   ? "normalised_token"
                                        : std::is_same_v<W, sequence_weight<stat::sum_t>> ? "normalised_product"
                                                                                          : "normalised_geometric";
    static void fields(auto f) {
        f("bound", [](auto& w) -> auto& { return w.weight.bound; });
        f("when", &normalised<W>::when);
        f("sees", &normalised<W>::tokens);
        if constexpr (normalised<W>::is_sequence) f("ratios", [](auto& w) -> auto& { return w.weight.ratios; });
    }
};

// --- surrogate -------------------------------------------------------------------------------------------------------

template <>
struct spec_of<importance_ratio> {
    static constexpr char const* name = "importance_ratio";
    static void fields(auto) {}
};
template <>
struct spec_of<ppo_clip> {
    static constexpr char const* name = "ppo_clip";
    static void fields(auto f) {
        f("eps_low", &ppo_clip::eps_low);
        f("eps_high", &ppo_clip::eps_high);
        f("dual_clip", &ppo_clip::dual_clip);
    }
};
template <>
struct spec_of<policy_gradient> {
    static constexpr char const* name = "policy_gradient";
    static void fields(auto) {}
};
template <>
struct spec_of<cispo> {
    static constexpr char const* name = "cispo";
    static void fields(auto f) {
        f("lower", &cispo::lower);
        f("upper", &cispo::upper);
    }
};
template <>
struct spec_of<reference_gap> {
    static constexpr char const* name = "reference_gap";
    static void fields(auto) {}
};
template <>
struct spec_of<gspo> {
    static constexpr char const* name = "gspo";
    static void fields(auto f) {
        f("eps_low", &gspo::eps_low);
        f("eps_high", &gspo::eps_high);
        f("dual_clip", &gspo::dual_clip);
    }
};
template <>
struct spec_of<gspo_token> {
    static constexpr char const* name = "gspo_token";
    static void fields(auto f) {
        f("eps_low", &gspo_token::eps_low);
        f("eps_high", &gspo_token::eps_high);
        f("dual_clip", &gspo_token::dual_clip);
    }
};
template <>
struct spec_of<gmpo> {
    static constexpr char const* name = "gmpo";
    static void fields(auto f) {
        f("eps_low", &gmpo::eps_low);
        f("eps_high", &gmpo::eps_high);
    }
};
template <>
struct spec_of<sapo> {
    static constexpr char const* name = "sapo";
    static void fields(auto f) {
        f("tau_positive", &sapo::tau_positive);
        f("tau_negative", &sapo::tau_negative);
    }
};
template <>
struct spec_of<dro> {
    static constexpr char const* name = "dro";
    static void fields(auto f) { f("beta", &dro::beta, true); }
};
template <>
struct spec_of<kl_cov> {
    static constexpr char const* name = "kl_cov";
    static void fields(auto f) {
        f("coefficient", &kl_cov::coefficient);
        f("fraction", &kl_cov::fraction);
    }
};
template <>
struct spec_of<vespo> {
    static constexpr char const* name = "vespo";
    static void fields(auto f) {
        f("k_positive", &vespo::k_positive);
        f("lambda_positive", &vespo::lambda_positive);
        f("k_negative", &vespo::k_negative);
        f("lambda_negative", &vespo::lambda_negative);
    }
};
template <>
struct spec_of<topr> {
    static constexpr char const* name = "topr";
    static void fields(auto f) {
        f("positive_lower", &topr::positive_lower);
        f("positive_upper", &topr::positive_upper);
        f("negative_lower", &topr::negative_lower);
        f("negative_upper", &topr::negative_upper);
    }
};

// --- penalty ---------------------------------------------------------------------------------------------------------

template <class D>
struct spec_of<kl_penalty<D>> {
    static constexpr char const* name = "kl";
    static void fields(auto f) {
        f("estimator", &kl_penalty<D>::estimator, true);
        f("beta", &kl_penalty<D>::beta, true);
        f("sees", &kl_penalty<D>::tokens);
    }
};
template <>
struct spec_of<squared_log_ratio> {
    static constexpr char const* name = "squared_log_ratio";
    static void fields(auto f) {
        f("coefficient", &squared_log_ratio::coefficient, true);
        f("sees", &squared_log_ratio::tokens);
    }
};
template <class Gradient>
inline constexpr char const* spec_gradient = "pathwise";
template <>
inline constexpr char const* spec_gradient<kl_gradient::straight_through> = "straight_through";
template <>
inline constexpr char const* spec_gradient<kl_gradient::score_function> = "score_function";
template <>
inline constexpr char const* spec_gradient<kl_gradient::importance<ratio_kind::surrogate>> = "importance";
template <>
inline constexpr char const* spec_gradient<kl_gradient::importance<ratio_kind::current_over_rollout>> =
    "importance_over_rollout";
template <class D, class Gradient>
struct spec_of<reference_kl<D, Gradient>> {
    using policy = reference_kl<D, Gradient>;
    static constexpr char const* name = "reference_kl";
    static constexpr spec_choice choice{"gradient", spec_gradient<Gradient>};
    static void fields(auto f) {
        f("estimator", &policy::estimator, true);
        f("beta", &policy::beta, true);
        f("sees", &policy::tokens);
        f("input_clamp", &policy::input_clamp);
        f("output_clamp", &policy::output_clamp);
    }
};

TRM_NAMESPACE_END
