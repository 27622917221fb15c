// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/options.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/policy/aggregation.hpp>
#include <trm/policy/catalogue.hpp>
#include <trm/policy/clamp.hpp>

#include <concepts>
#include <variant>
#include <vector>

/// \file
/// Policies chosen at run time: those of policy/catalogue.hpp, the same structs, in variants.

TRM_NAMESPACE_BEGIN

/// Any divergence of the catalogue over any pair of policies: `any_divergence{k2{}}`, `any_divergence::of<k2>()`.
struct any_divergence {
    std::size_t index = 0;  ///< in `catalogue::divergences`
    ratio_kind over = ratio_kind::current_over_rollout;

    constexpr any_divergence() = default;
    template <class D>
        requires is_listed<catalogue::divergences, D>
    constexpr any_divergence(D const& d) noexcept : any_divergence(d, d.over) {}
    template <class D>
        requires is_listed<catalogue::divergences, D>
    constexpr any_divergence(D const&, ratio_kind kind) noexcept
        : index(index_of<catalogue::divergences, D>), over(kind) {}
    template <class D>
    [[nodiscard]] static constexpr any_divergence of(ratio_kind kind = D::over) noexcept {
        return {D{}, kind};
    }
    [[nodiscard]] constexpr char const* name() const noexcept { return names_in<catalogue::divergences>[index]; }
    friend constexpr bool operator==(any_divergence, any_divergence) = default;
};
/// Its value has been worked out, by the function of its index, before the policy is asked: see `set_divergence`.
template <class V, bool P>
TRM_INLINE V divergence_of(any_divergence const&, token<V, P> const& t) noexcept {
    return t.divergence;
}
namespace detail {

template <class D, class V, bool P>
TRM_INLINE V listed_divergence(token<V, P> const& t, log_ratio<V> const& l) noexcept {
    if constexpr (std::is_same_v<D, given>) {
        return t.given;
    } else {
        return D{}(l);
    }
}

}  // namespace detail
/// Sets the divergence of a token for a policy that looks at one chosen at run time.
template <class V, bool P>
void set_divergence(any_divergence const& d, token<V, P>& t) noexcept {
    at_type(catalogue::divergences{}, d.index,
            [&]<class D>(std::type_identity<D>) { t.divergence = detail::listed_divergence<D>(t, t[d.over]); });
}
/// As for the divergence itself: `given` looks at no log-ratio.
[[nodiscard]] constexpr unsigned needs_of(any_divergence const& d) noexcept {
    unsigned bits = 0;
    at_type(catalogue::divergences{}, d.index, [&]<class D>(std::type_identity<D>) {
        if constexpr (!requires { D::reads_ratio; }) bits |= need::ratio(d.over);
        if constexpr (requires { D::needs(); }) bits |= D::needs();
    });
    return bits;
}

/// As for the divergence itself.
[[nodiscard]] constexpr unsigned exp_needs_of(any_divergence const& d) noexcept {
    unsigned bits = 0;
    at_type(catalogue::divergences{}, d.index, [&]<class D>(std::type_identity<D>) {
        if constexpr (reads_exp<D>) bits = need::ratio(d.over);
    });
    return bits;
}

/// A divergence that is also a KL estimate with a slope: `any_estimator{k3{}}`.
struct any_estimator {
    std::size_t index = index_of<catalogue::estimators, k3>;  ///< in `catalogue::estimators`

    constexpr any_estimator() = default;
    template <class D>
        requires is_listed<catalogue::estimators, D>
    constexpr any_estimator(D const&) noexcept : index(index_of<catalogue::estimators, D>) {}
    [[nodiscard]] constexpr char const* name() const noexcept { return names_in<catalogue::estimators>[index]; }
    friend constexpr bool operator==(any_estimator, any_estimator) = default;

    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l) const noexcept {
        V value = detail::zero<V>();
        at_type(catalogue::estimators{}, index,
                [&]<class D>(std::type_identity<D>) TRM_INLINE_LAMBDA { value = D{}(l); });
        return value;
    }
    template <class V>
    TRM_INLINE V slope(log_ratio<V> const& l) const noexcept {
        V value = detail::zero<V>();
        at_type(catalogue::estimators{}, index,
                [&]<class D>(std::type_identity<D>) TRM_INLINE_LAMBDA { value = D{}.slope(l); });
        return value;
    }
    template <class V>
    TRM_INLINE V value_minus_slope(log_ratio<V> const& l) const noexcept {
        V value = detail::zero<V>();
        at_type(catalogue::estimators{}, index,
                [&]<class D>(std::type_identity<D>) TRM_INLINE_LAMBDA { value = detail::value_minus_slope(D{}, l); });
        return value;
    }
};

using any_criterion = variant_of<catalogue::criteria<any_divergence>>;
using any_penalty = variant_of<catalogue::penalties<any_estimator>>;

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
        : policy(normalised<W>{static_cast<W const&>(w.weight), w.when, w.tokens, w.rows}), over(Kind) {}
};

using any_surrogate = any_over<variant_of<catalogue::surrogates>>;
using any_weight = any_over<variant_of<catalogue::weights>>;
using any_weight_factor = any_over<variant_of<catalogue::weight_factors>>;

/// Everything that a loss is made of, as data.
struct loss_spec {
    std::vector<any_criterion> mask;
    any_weight weight;
    std::vector<any_weight_factor> weight_factors{};  ///< each multiplies the weight of every token
    any_surrogate surrogate;
    std::vector<any_penalty> penalties;
    aggregation aggregate;
    log_ratio_clamps log_ratio_clamp{};  ///< as in loss_options
    mean_epsilons mean_epsilon{};  ///< as in loss_options
    bool strict = false;
};

namespace detail {

/// As for types. The surrogate says two things, so that nothing is compiled for each pair.
[[nodiscard]] inline status check_pair(any_surrogate const& surrogate, any_weight const& weight) noexcept {
    bool shares = false, folds = false;
    at_type(catalogue::surrogates{}, surrogate.policy.index(), [&]<class S>(std::type_identity<S>) {
        shares = shares_gradient<S>;
        folds = folds_weight<S>;
    });
    return std::visit([&](auto const& w) { return check_pair(shares, folds, w); }, weight.policy);
}

}  // namespace detail

TRM_NAMESPACE_END
