// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/type_list.hpp>
#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/mask_signed.hpp>
#include <trm/policy/penalty_kl_sequence.hpp>
#include <trm/policy/selection_direction.hpp>
#include <trm/policy/selection_segment.hpp>
#include <trm/policy/surrogates.hpp>
#include <trm/policy/token_weight.hpp>

/// \file
/// Every policy, one list per kind: the only place that enumerates them. What is listed here can be chosen at run time, by text
/// and by JSON; the tests go through the lists, compare each entry with the oracle and refuse one that the oracle lacks.

TRM_NAMESPACE_BEGIN
namespace catalogue {

using divergences = type_list<k1,  // -x
                              k2,  // x^2 / 2
                              k3,  // r - 1 - x
                              abs_log_ratio,  // |x|
                              ratio,  // r
                              binary_tv,  // |p - mu|
                              probability_change,  // p - mu
                              ratio_either_way,  // max(r, 1 / r)
                              k3_reversed,  // 1 / r - 1 + x
                              binary_kl,  // KL of "this token or another one"
                              bidirectional_binary_kl,  // both ways
                              given,  // the batch's own stream
                              jensen_shannon,  // log cosh(x / 2)
                              ratio_change,  // |r - 1|
                              target_probability,  // p
                              behaviour_probability  // mu
                              >;

/// The divergences that serve as KL penalties: those that have `slope`.
using estimators = list_filtered<is_estimator, divergences>;

using statistics = type_list<stat::sum_t, stat::mean_t, stat::max_t, stat::min_t>;

/// Criteria of a mask that look at a divergence of type D, or at none; those of sequences with each statistic. The first is what an
/// empty `any_criterion` holds. (Written out: where a template takes constrained templates, such as sequence_mask, as arguments,
/// g++ 12 may from then on take every type for a divergence.)
template <divergence_policy D, class... Ss>
type_list<token_mask<D>,  // tokens
          sequence_mask<D, Ss>...,  // sequences
          passing_sequence_mask<D, Ss>...,  // sequences, by what token criteria leave
          advantage_signed<D>,  // tokens that move away
          likely_signed<D>,  // of these, those that were likely
          prefix_mask<D>,  // selections from here on
          group_mask<D, Ss>...,  //
          signed_sequence_mask<D, Ss>...,  //
          quantile_mask<D>, top_mean_mask<D>, budget_mask<D>, top_share_mask<D>,  //
          clip_cov, length_neutral_mask, segment_mask<D, Ss>...,  //
          away_sequence_mask<D, Ss>...,  //
          away_budget_mask<D>, running_budget_mask<D>>
    criteria_by(type_list<Ss...>);
template <divergence_policy D>
using criteria = decltype(criteria_by<D>(statistics{}));

using weights = type_list<no_weight, token_weight, sequence_weight<stat::sum_t>, sequence_weight<stat::mean_t>,
                          normalised<token_weight>, normalised<sequence_weight<stat::sum_t>>,
                          normalised<sequence_weight<stat::mean_t>>, constant_weight>;

/// What a weight is multiplied with: factors of tokens by other tokens of their sequence or batch.
using weight_factors = type_list<suffix_weight, segment_weight, surprise_weight>;

using surrogates = type_list<importance_ratio, ppo_clip, policy_gradient, cispo, reference_gap, gspo, gspo_token, gmpo,
                             sapo, dro, kl_cov, vespo, topr, spo, drpo, up_grpo, delight, topr_token, topr_geometric,
                             sapo_sequence, cispo_sequence, vespo_folded>;

/// Penalties whose KL is estimated by E.
template <class E>
using penalties = type_list<kl_penalty<E>, squared_log_ratio, reference_kl<E, kl_gradient::pathwise>,
                            reference_kl<E, kl_gradient::straight_through>,
                            reference_kl<E, kl_gradient::score_function>, reference_kl<E, kl_gradient::importance<>>,
                            reference_kl<E, kl_gradient::importance<ratio_kind::current_over_rollout>>,
                            reference_kl<E, kl_gradient::importance_of_sequence>>;

}  // namespace catalogue

/// Position of a policy in a list, whatever pair of policies it looks at (`trm::over`); the size of the list if it is not there.
template <class List, class Policy>
inline constexpr std::size_t index_of = index_in<typename without_over<Policy>::type>(List{});
/// Is a policy, whatever pair of policies it looks at, in a list of the catalogue?
template <class List, class Policy>
concept is_listed = index_of<List, Policy> < List::size;

/// The names of a list's policies, by index.
template <class List>
inline constexpr char const* const* names_in = nullptr;
template <class... Ps>
inline constexpr char const* names_in<type_list<Ps...>>[] = {Ps::name...};

TRM_NAMESPACE_END
