// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/type_list.hpp>
#include <trm/policy/divergence.hpp>

/// \file
/// Every policy, one list per kind: the only place that enumerates them. What is listed here can be chosen at run time, by text
/// and by JSON, is named in messages, and is compared with the oracle by the tests, which go through the lists.

TRM_NAMESPACE_BEGIN

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
                              jensen_shannon  // log cosh(x / 2)
                              >;

/// The divergences that serve as KL penalties: those that have `slope`.
template <class D>
struct is_estimator : std::bool_constant<estimator_policy<D>> {};
using estimators = list_filter<is_estimator, divergences>::type;

/// Position of a policy in a list, whatever pair of policies it looks at (`trm::over`); the size of the list if it is not there.
template <class List, class Policy>
inline constexpr std::size_t index_of = index_in<typename without_over<Policy>::type>(List{});
template <class List, class Policy>
concept is_listed = index_of<List, Policy> < List::size;

/// The names of a list's policies, by index.
template <class List>
inline constexpr char const* const* names_in = nullptr;
template <class... Ps>
inline constexpr char const* names_in<type_list<Ps...>>[] = {Ps::name...};

TRM_NAMESPACE_END
