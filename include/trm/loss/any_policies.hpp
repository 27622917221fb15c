// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/aggregation.hpp>
#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/mask_signed.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogates.hpp>

#include <concepts>
#include <variant>
#include <vector>

/// \file
/// Policies chosen at run time: the same structs in variants. A policy that is listed here is reachable from `any_loss`;
/// one that also has a `spec_of` entry (loss/spec_table.hpp) is reachable from text.

TRM_NAMESPACE_BEGIN

/// Any divergence of policy/divergence.hpp over any pair of policies.
struct any_divergence {
    enum class id : std::uint8_t {
        k1,
        k2,
        k3,
        abs_log_ratio,
        ratio,
        binary_tv,
        probability_change,
        ratio_either_way,
        k3_reversed,
        binary_kl,
        bidirectional_binary_kl,
        given,
        jensen_shannon
    };
    id which = id::k1;
    ratio_kind over = ratio_kind::current_over_rollout;

    constexpr any_divergence() = default;
    constexpr any_divergence(id i, ratio_kind kind = ratio_kind::current_over_rollout) noexcept
        : which(i), over(kind) {}
    [[nodiscard]] constexpr unsigned needs() const noexcept { return which == id::given ? need::given : 0u; }
    friend constexpr bool operator==(any_divergence, any_divergence) = default;

    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        switch (which) {
            case id::k1:
                return trm::k1{}(l);
            case id::k2:
                return trm::k2{}(l);
            case id::k3:
                return trm::k3{}(l);
            case id::abs_log_ratio:
                return trm::abs_log_ratio{}(l);
            case id::ratio:
                return trm::ratio{}(l);
            case id::binary_tv:
                return trm::binary_tv{}(l);
            case id::probability_change:
                return trm::probability_change{}(l);
            case id::ratio_either_way:
                return trm::ratio_either_way{}(l);
            case id::k3_reversed:
                return trm::k3_reversed{}(l);
            case id::binary_kl:
                return trm::binary_kl{}(l);
            case id::bidirectional_binary_kl:
                return trm::bidirectional_binary_kl{}(l);
            case id::jensen_shannon:
                return trm::jensen_shannon{}(l);
            case id::given:
                break;
        }
        return detail::zero<V>();
    }
};
/// One function for all criteria: inlined into each of them it would be most of the code of a loss.
template <class V, bool P>
[[gnu::noinline]] V divergence_of(any_divergence const& d, token<V, P> const& t) noexcept {
    return d.which == any_divergence::id::given ? t.given : d(t[d.over]);
}
/// As for the divergence itself: `given` looks at no log-ratio.
[[nodiscard]] constexpr unsigned needs_of(any_divergence const& d) noexcept {
    return d.which == any_divergence::id::given ? need::given : need::ratio(d.over);
}

/// A divergence that is also a KL estimate with a slope.
struct any_estimator {
    enum class id : std::uint8_t { k1, k2, k3, abs_log_ratio };
    id which = id::k3;

    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        switch (which) {
            case id::k1:
                return trm::k1{}(l);
            case id::k2:
                return trm::k2{}(l);
            case id::k3:
                return trm::k3{}(l);
            case id::abs_log_ratio:
                break;
        }
        return trm::abs_log_ratio{}(l);
    }
    template <class V>
    TRM_INLINE V slope(log_ratio<V> const& l) const noexcept {
        switch (which) {
            case id::k1:
                return trm::k1{}.slope(l);
            case id::k2:
                return trm::k2{}.slope(l);
            case id::k3:
                return trm::k3{}.slope(l);
            case id::abs_log_ratio:
                break;
        }
        return trm::abs_log_ratio{}.slope(l);
    }
};

using any_criterion = std::variant<
    token_mask<any_divergence>, sequence_mask<any_divergence, stat::max_t>, sequence_mask<any_divergence, stat::mean_t>,
    sequence_mask<any_divergence, stat::sum_t>, sequence_mask<any_divergence, stat::min_t>,
    passing_sequence_mask<any_divergence, stat::max_t>, passing_sequence_mask<any_divergence, stat::mean_t>,
    passing_sequence_mask<any_divergence, stat::sum_t>, passing_sequence_mask<any_divergence, stat::min_t>,
    advantage_signed<any_divergence>, prefix_mask<any_divergence>, group_mask<any_divergence, stat::max_t>,
    group_mask<any_divergence, stat::mean_t>, group_mask<any_divergence, stat::sum_t>,
    group_mask<any_divergence, stat::min_t>, signed_sequence_mask<any_divergence, stat::max_t>,
    signed_sequence_mask<any_divergence, stat::mean_t>, signed_sequence_mask<any_divergence, stat::sum_t>,
    signed_sequence_mask<any_divergence, stat::min_t>, quantile_mask<any_divergence>, top_mean_mask<any_divergence>,
    budget_mask<any_divergence>, top_share_mask<any_divergence>, clip_cov, length_neutral_mask>;

/// A surrogate or weight with the pair of policies that it looks at.
template <class Variant>
struct any_over {
    Variant policy{};
    ratio_kind over = std::variant_alternative_t<0, Variant>::over;

    any_over() = default;
    template <class P>
        requires std::constructible_from<Variant, P>
    any_over(P p) noexcept : policy(p), over(p.over) {}
    any_over(Variant p, ratio_kind kind) noexcept : policy(p), over(kind) {}
    template <ratio_kind Kind, class P>
    any_over(over_ratio<Kind, P> p) noexcept : policy(static_cast<P const&>(p)), over(Kind) {}
    template <ratio_kind Kind, class W>
    any_over(normalised<over_ratio<Kind, W>> w) noexcept
        : policy(normalised<W>{static_cast<W const&>(w.weight), w.when, w.tokens}), over(Kind) {}
};

using any_surrogate = any_over<std::variant<importance_ratio, ppo_clip, policy_gradient, cispo, reference_gap, gspo,
                                            gspo_token, gmpo, sapo, dro, kl_cov, vespo, topr>>;

using any_weight =
    any_over<std::variant<no_weight, token_weight, sequence_weight<stat::sum_t>, sequence_weight<stat::mean_t>,
                          normalised<token_weight>, normalised<sequence_weight<stat::sum_t>>,
                          normalised<sequence_weight<stat::mean_t>>, constant_weight>>;

using any_penalty =
    std::variant<kl_penalty<any_estimator>, squared_log_ratio, reference_kl<any_estimator, kl_gradient::pathwise>,
                 reference_kl<any_estimator, kl_gradient::straight_through>,
                 reference_kl<any_estimator, kl_gradient::score_function>,
                 reference_kl<any_estimator, kl_gradient::importance<ratio_kind::surrogate>>,
                 reference_kl<any_estimator, kl_gradient::importance<ratio_kind::current_over_rollout>>>;

/// Everything that a loss is made of, as data.
struct loss_spec {
    std::vector<any_criterion> mask;
    any_weight weight;
    any_surrogate surrogate;
    std::vector<any_penalty> penalties;
    aggregation aggregate;
    double log_ratio_clamp = 20.0;
    bool strict = false;
};

TRM_NAMESPACE_END
