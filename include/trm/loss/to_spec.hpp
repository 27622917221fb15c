// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/presets_verl.hpp>

/// \file
/// From policies chosen at compile time, presets for instance, to the same policies as data: `any_loss(to_spec(loss))` gives the
/// bits of `loss`, and `print_spec(to_spec(loss))` its text.

TRM_NAMESPACE_BEGIN
namespace detail {

template <class D>
[[nodiscard]] constexpr any_divergence as_any(D const& d) noexcept {
    static_assert(std::is_same_v<D, any_divergence> || is_listed<divergences, D>,
                  "trm: a loss as data has only divergences that policy/catalogue.hpp lists");
    return d;
}
template <class D>
[[nodiscard]] constexpr any_estimator as_estimator(D const& d) noexcept {
    static_assert(std::is_same_v<D, any_estimator> || is_listed<estimators, D>,
                  "trm: a loss as data has only estimators that policy/catalogue.hpp lists");
    return d;
}

template <class D>
any_criterion as_any(token_mask<D> const& m) {
    return token_mask<any_divergence>{as_any(m.divergence), m.keep};
}
template <class D, class S>
any_criterion as_any(sequence_mask<D, S> const& m) {
    return sequence_mask<any_divergence, S>{as_any(m.divergence), m.statistic, m.keep};
}
template <class D, class S>
any_criterion as_any(passing_sequence_mask<D, S> const& m) {
    return over_passing(sequence_mask{as_any(m.divergence), m.statistic, m.keep});
}
template <class D>
any_criterion as_any(advantage_signed<D> const& m) {
    return advantage_signed<any_divergence>{as_any(m.divergence), m.positive, m.negative, m.zero};
}
template <class D>
any_criterion as_any(prefix_mask<D> const& m) {
    return prefix_mask<any_divergence>{as_any(m.divergence), m.keep};
}
template <class D, class S>
any_criterion as_any(group_mask<D, S> const& m) {
    return group_mask<any_divergence, S>{as_any(m.divergence), m.statistic, m.keep};
}
template <class D, class S>
any_criterion as_any(signed_sequence_mask<D, S> const& m) {
    return signed_sequence_mask<any_divergence, S>{as_any(m.divergence), m.statistic, m.keep, m.sign};
}
template <class D>
any_criterion as_any(quantile_mask<D> const& m) {
    return quantile_mask<any_divergence>{as_any(m.divergence), m.q, m.keep};
}
template <class D>
any_criterion as_any(top_mean_mask<D> const& m) {
    return top_mean_mask<any_divergence>{as_any(m.divergence), m.m, m.keep};
}
template <class D>
any_criterion as_any(budget_mask<D> const& m) {
    return budget_mask<any_divergence>{as_any(m.divergence), m.limit};
}
template <class D>
any_criterion as_any(top_share_mask<D> const& m) {
    return top_share_mask<any_divergence>{as_any(m.divergence), m.share};
}
/// Criteria without a divergence of their own have one type only.
template <class M>
    requires(!requires(M m) { m.divergence; } && is_criterion<M>)
any_criterion as_any(M const& m) {
    return m;
}

inline any_penalty as_any(squared_log_ratio const& p) { return p; }
template <class D>
any_penalty as_any(kl_penalty<D> const& p) {
    return kl_penalty<any_estimator>{as_estimator(p.estimator), p.beta, p.tokens};
}
template <class D, class G>
any_penalty as_any(reference_kl<D, G> const& p) {
    return reference_kl<any_estimator, G>{
        as_estimator(p.estimator), p.beta, p.gradient, p.tokens, p.input_clamp, p.output_clamp};
}

}  // namespace detail

/// The policies, denominators and options of a loss as data. Allocates.
template <class... Ms, class Surrogate, class Weight, class... Ps, class Arch>
[[nodiscard]] loss_spec to_spec(masked_loss<all_of<Ms...>, Surrogate, Weight, std::tuple<Ps...>, Arch> const& loss) {
    loss_spec spec;
    std::apply([&](auto const&... m) { (spec.mask.push_back(detail::as_any(m)), ...); }, loss.mask.criteria);
    std::apply([&](auto const&... p) { (spec.penalties.push_back(detail::as_any(p)), ...); }, loss.penalties);
    spec.weight = loss.weight;
    spec.surrogate = loss.surrogate;
    spec.aggregate = loss.aggregate;
    spec.log_ratio_clamp = loss.options.log_ratio_clamp;
    spec.strict = loss.options.strict;
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
