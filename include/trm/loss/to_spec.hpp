// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/presets_verl.hpp>

#include <string_view>

/// \file
/// From policies chosen at compile time, presets for instance, to the same policies as data: `any_loss(to_spec(loss))` gives the
/// bits of `loss`, and `print_spec(to_spec(loss))` its text.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Copies the fields that have the same name and kind.
template <class From, class To>
void copy_fields(From const& from, To& to) {
    each_field<To>([&](std::string_view name, auto to_where, bool = false) {
        auto& target = field_of(to_where, to);
        each_field<From>([&](std::string_view from_name, auto from_where, bool = false) {
            auto const& source = field_of(from_where, from);
            using T = std::remove_reference_t<decltype(target)>;
            using S = std::remove_cvref_t<decltype(source)>;
            if constexpr (std::is_same_v<T, S> ||
                          (std::is_class_v<T> && std::is_class_v<S> && std::is_convertible_v<S, T>))
                if (name == from_name) target = source;
        });
    });
}
/// The policy of the same place in the list `To`, whose divergences and estimators are chosen at run time.
template <class From, class To, class P>
[[nodiscard]] auto as_listed(P const& from) {
    static_assert(is_listed<From, P>, "trm: a loss as data has only policies that policy/catalogue.hpp lists");
    type_in<index_of<From, P>, To> to{};
    copy_fields(from, to);
    // What a criterion takes from its band or from the criterion inside is not among its fields.
    if constexpr (requires { to.divergence = from.divergence; }) to.divergence = from.divergence;
    if constexpr (requires { to.keep = from.keep; }) to.keep = from.keep;
    if constexpr (requires { to.positive = from.positive; }) to.positive = from.positive;
    return to;
}

template <class M>
[[nodiscard]] any_criterion as_any_criterion(M const& m) {
    using to = catalogue::criteria<any_divergence>;
    if constexpr (requires { m.divergence; }) {
        using D = decltype(m.divergence);
        static_assert(std::is_same_v<D, any_divergence> || is_listed<catalogue::divergences, D>,
                      "trm: a loss as data has only divergences that policy/catalogue.hpp lists");
        return as_listed<catalogue::criteria<D>, to>(m);
    } else {
        return as_listed<to, to>(m);
    }
}
template <class P>
[[nodiscard]] any_penalty as_any_penalty(P const& p) {
    using to = catalogue::penalties<any_estimator>;
    if constexpr (requires { p.estimator; }) {
        using E = decltype(p.estimator);
        static_assert(std::is_same_v<E, any_estimator> || is_listed<catalogue::estimators, E>,
                      "trm: a loss as data has only estimators that policy/catalogue.hpp lists");
        return as_listed<catalogue::penalties<E>, to>(p);
    } else {
        return as_listed<to, to>(p);
    }
}

}  // namespace detail

/// The policies, denominators and options of a loss as data. Allocates.
template <class... Ms, class Surrogate, class Weight, class... Ps, class Arch>
[[nodiscard]] loss_spec to_spec(masked_loss<all_of<Ms...>, Surrogate, Weight, std::tuple<Ps...>, Arch> const& loss) {
    loss_spec spec;
    std::apply([&](auto const&... m) { (spec.mask.push_back(detail::as_any_criterion(m)), ...); }, loss.mask.criteria);
    std::apply([&](auto const&... p) { (spec.penalties.push_back(detail::as_any_penalty(p)), ...); }, loss.penalties);
    spec.weight = loss.weight;
    spec.surrogate = loss.surrogate;
    spec.aggregate = loss.aggregate;
    spec.log_ratio_clamp = loss.options.log_ratio_clamp;
    spec.strict = loss.options.strict;
    spec.mean_epsilon = loss.options.mean_epsilon;
    return spec;
}

namespace presets {

/// verl's criteria as part of a mask. Decoupled mode corrects proximal over rollout, bypass mode current over rollout:
/// `correction` is either, by whether the batch has proximal_logp.
[[nodiscard]] inline std::vector<any_criterion> criteria_of(verl_rejection const& rs,
                                                            ratio_kind over = ratio_kind::correction) {
    std::vector<any_criterion> mask;
    for (int i = 0; i < rs.size; ++i) {
        verl_criterion const& c = rs.criteria[i];
        auto const d = c.k == 1   ? any_divergence::of<k1>(over)
                       : c.k == 2 ? any_divergence::of<k2>(over)
                                  : any_divergence::of<k3>(over);
        switch (c.level) {
            case verl_level::token:
                mask.push_back(token_mask<any_divergence>{d, c.keep});
                break;
            case verl_level::seq_sum:
                mask.push_back(sequence_mask<any_divergence, stat::sum_t>{d, {}, c.keep});
                break;
            case verl_level::seq_mean:
                mask.push_back(sequence_mask<any_divergence, stat::mean_t>{d, {}, c.keep});
                break;
            case verl_level::seq_max:
                mask.push_back(sequence_mask<any_divergence, stat::max_t>{d, {}, c.keep});
                break;
        }
    }
    return mask;
}

}  // namespace presets
TRM_NAMESPACE_END
