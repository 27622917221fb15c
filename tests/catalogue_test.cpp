// SPDX-License-Identifier: Apache-2.0
// The lists of policy/catalogue.hpp: the oracle has every entry, and what is made from them is what they say.
#include "catch.hpp"

#include <trm/loss/any_policies.hpp>
#include <trm/reference/loss.hpp>
#include <trm/reference/token_weights.hpp>

#include <string>

using namespace trm;

namespace {

template <class P>
constexpr bool oracle_has_divergence() {
    static_assert(
        requires(P d, reference::token const& t, reference::pair const& l) { reference::divergence(d, t, l); },
        "trm: the catalogue lists a divergence that the oracle lacks: add reference::divergence");
    if constexpr (estimator_policy<P>)
        static_assert(
            requires(P d) { reference::slope(d, 0.0); },
            "trm: a divergence has a slope that the oracle lacks: add reference::slope");
    return true;
}
template <class P>
constexpr bool oracle_has_criterion() {
    static_assert(
        requires(P m, std::vector<reference::sequence> const& b, reference::decisions& d) {
            reference::rejected(m, b, d);
        }, "trm: the catalogue lists a criterion that the oracle lacks: add reference::rejected");
    return true;
}
template <class P>
constexpr bool oracle_has_weight() {
    if constexpr (is_normalised<P>) return oracle_has_weight<decltype(P::weight)>();  // its mean is the loss's
    else
        static_assert(
            requires(P w, reference::sequence const& s, reference::decisions& d) {
                reference::weights(w, s, w.over, d);
            }, "trm: the catalogue lists a weight that the oracle lacks: add reference::weights");
    return true;
}
template <class P>
constexpr bool oracle_has_surrogate() {
    static_assert(
        requires(P p, reference::sequence const& s, reference::decisions& d) { reference::surrogates(p, s, d); },
        "trm: the catalogue lists a surrogate that the oracle lacks: add reference::surrogate");
    return true;
}
template <class P>
constexpr bool oracle_has_penalty() {
    static_assert(
        requires(P p, reference::sequence const& s) { reference::penalties(p, s); },
        "trm: the catalogue lists a penalty that the oracle lacks: add reference::penalty");
    return true;
}
template <class P>
constexpr bool oracle_has_factor() {
    static_assert(
        requires(P w, std::vector<reference::sequence> const& b) { reference::factors(w, b, w.over); },
        "trm: the catalogue lists a factor of weights that the oracle lacks: add reference::factors");
    return true;
}
/// Every entry, with the messages above.
static_assert(!any_type(catalogue::divergences{},
                        []<class P>(std::type_identity<P>) { return !oracle_has_divergence<P>(); }));
static_assert(!any_type(catalogue::criteria<k2>{},
                        []<class P>(std::type_identity<P>) { return !oracle_has_criterion<P>(); }));
static_assert(!any_type(catalogue::weights{}, []<class P>(std::type_identity<P>) { return !oracle_has_weight<P>(); }));
static_assert(!any_type(catalogue::weight_factors{},
                        []<class P>(std::type_identity<P>) { return !oracle_has_factor<P>(); }));
static_assert(!any_type(catalogue::surrogates{},
                        []<class P>(std::type_identity<P>) { return !oracle_has_surrogate<P>(); }));
static_assert(!any_type(catalogue::penalties<k3>{},
                        []<class P>(std::type_identity<P>) { return !oracle_has_penalty<P>(); }));

/// Not in the catalogue, although it is made from an entry of it.
struct twice_k2 : k2 {
    template <class V>
    V operator()(log_ratio<V> const& l) const noexcept {
        return l.value * l.value;
    }
};

}  // namespace

TEST_CASE("a divergence chosen at run time knows its name, its pair of policies and what it reads", "[unit]") {
    std::size_t i = 0;
    any_type(catalogue::divergences{}, [&]<class D>(std::type_identity<D>) {
        any_divergence const d{D{}};
        INFO(D::name);
        CHECK(d.index == i);
        CHECK(d.name() == std::string(D::name));
        CHECK(d == any_divergence::of<D>());
        CHECK(needs_of(d) == needs_of(D{}));
        auto const elsewhere = over<ratio_kind::proximal_over_rollout>(D{});
        CHECK(any_divergence{elsewhere} == any_divergence::of<D>(ratio_kind::proximal_over_rollout));
        CHECK(any_divergence{elsewhere} != d);
        CHECK(needs_of(any_divergence{elsewhere}) == needs_of(elsewhere));
        ++i;
        return false;
    });
    CHECK(i == catalogue::divergences::size);
    CHECK(any_divergence{} == any_divergence{k1{}});
    CHECK(any_estimator{} == any_estimator{k3{}});
    CHECK(any_estimator{abs_log_ratio{}}.name() == std::string("abs_log_ratio"));
}

TEST_CASE("only what the catalogue lists can be chosen at run time", "[unit]") {
    CHECK(std::is_constructible_v<any_divergence, k2>);
    CHECK(!std::is_constructible_v<any_divergence, twice_k2>);
    CHECK(!std::is_constructible_v<any_divergence, over_ratio<ratio_kind::surrogate, twice_k2>>);
    CHECK(std::is_constructible_v<any_estimator, k2>);
    CHECK(!std::is_constructible_v<any_estimator, ratio>);  // has no slope
    any_type(catalogue::divergences{}, [&]<class D>(std::type_identity<D>) {
        INFO(D::name);
        CHECK(std::is_constructible_v<any_estimator, D> == estimator_policy<D>);
        return false;
    });
}
