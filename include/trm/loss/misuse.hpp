// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/aggregation.hpp>
#include <trm/policy/penalty.hpp>

#include <tuple>

/// \file
/// What the compiler says about policies that do not make a loss, in one sentence.

TRM_NAMESPACE_BEGIN
namespace detail {

enum class mistake {
    none,
    too_few,
    surrogate_first,
    divergence_as_mask,
    no_mask_first,
    masks_apart,
    no_surrogate,
    no_aggregation,
    penalty_as_weight,
    no_weight_fourth,
    two_weights,
    divergence_as_penalty,
    no_penalty,
    spelled_mask
};

/// What a penalty's place holds.
template <class P>
constexpr mistake penalty_mistake = penalty_policy<P>      ? mistake::none
                                    : weight_policy<P>     ? mistake::two_weights
                                    : divergence_policy<P> ? mistake::divergence_as_penalty
                                                           : mistake::no_penalty;

/// The first mistake in the arguments of masked_loss.
template <class M, class S, class A, class W, class... Ps>
[[nodiscard]] consteval mistake mistake_in() noexcept {
    if (surrogate_policy<M>) return mistake::surrogate_first;
    if (divergence_policy<M>) return mistake::divergence_as_mask;
    if (!mask_policy<M>) return mistake::no_mask_first;
    if (mask_policy<S>) return mistake::masks_apart;
    if (!surrogate_policy<S>) return mistake::no_surrogate;
    if (!std::convertible_to<A, aggregation>) return mistake::no_aggregation;
    if (penalty_policy<W>) return mistake::penalty_as_weight;
    if (!weight_policy<W>) return mistake::no_weight_fourth;
    mistake first = mistake::none;
    ((first = first == mistake::none ? penalty_mistake<Ps> : first), ...);
    return first;
}
template <class... Args>
inline constexpr mistake mistake_of = mistake::too_few;
template <class M, class S, class A>
inline constexpr mistake mistake_of<M, S, A> = mistake_in<M, S, A, no_weight>();
template <class M, class S, class A, class W, class... Ps>
inline constexpr mistake mistake_of<M, S, A, W, Ps...> = mistake_in<M, S, A, W, Ps...>();
/// Of template arguments that somebody wrote down.
template <class M, class S, class W, class... Ps>
inline constexpr mistake spelled_mistake =
    mistake_of<M, S, aggregation, W, Ps...> == mistake::none ? mistake::spelled_mask
                                                             : mistake_of<M, S, aggregation, W, Ps...>;

/// Says which mistake it is.
template <mistake m>
struct explained {
    static_assert(m != mistake::too_few,
                  "trm: masked_loss takes a mask, a surrogate and an aggregation, for example "
                  "masked_loss{token_mask{k3{}, at_most(0.1)}, ppo_clip{}, token_mean{}}");
    static_assert(
        m != mistake::surrogate_first,
        "trm: the surrogate is the second argument of masked_loss; the mask comes first (no_mask{} for none)");
    static_assert(
        m != mistake::divergence_as_mask,
        "trm: a divergence alone is not a mask; give it a band, for example token_mask{k3{}, at_most(0.1)} or "
        "sequence_mask{k2{}, stat::max, at_most(0.05)}");
    static_assert(
        m != mistake::no_mask_first,
        "trm: the first argument of masked_loss is the mask: a criterion, criteria joined by &&, or no_mask{}");
    static_assert(m != mistake::masks_apart,
                  "trm: the second argument of masked_loss is the surrogate; criteria of one mask are joined by &&");
    static_assert(m != mistake::no_surrogate,
                  "trm: the second argument of masked_loss is the surrogate, for example ppo_clip{}");
    static_assert(m != mistake::no_aggregation,
                  "trm: the third argument of masked_loss is the aggregation, for example token_mean{}");
    static_assert(
        m != mistake::penalty_as_weight,
        "trm: the fourth argument of masked_loss is the weight, and penalties follow it; without a weight write "
        "masked_loss{mask, surrogate, aggregation, no_weight{}, penalty}");
    static_assert(m != mistake::no_weight_fourth,
                  "trm: the fourth argument of masked_loss is the weight, for example token_weight{truncate_above(2)}");
    static_assert(m != mistake::two_weights, "trm: a loss has one weight, the fourth argument; penalties follow it");
    static_assert(
        m != mistake::divergence_as_penalty,
        "trm: a divergence alone is not a penalty; give it a coefficient, for example kl_penalty{k3{}, 0.001}");
    static_assert(m != mistake::no_penalty,
                  "trm: from the fifth argument on masked_loss takes penalties, for example kl_penalty{k3{}, 0.001}");
    static_assert(m != mistake::spelled_mask,
                  "trm: the template arguments of masked_loss are all_of<Criteria...>, the surrogate, the weight and "
                  "std::tuple<Penalties...>; let masked_loss{...} deduce them");
};

/// Arguments of masked_loss that are not a loss themselves and do not make one.
template <class... Args>
concept mistaken_policies = sizeof...(Args) != 1 && mistake_of<Args...> != mistake::none;

}  // namespace detail
TRM_NAMESPACE_END
