// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loss_batch.hpp"

#include <trm/loss/spec.hpp>

#include <bit>
#include <functional>
#include <iterator>

/// Random losses over every policy and parameter that has a name, and what makes two of them the same.
namespace specs {

using batches::random;

/// A number that is hard to print: of any size, sometimes an end of a range.
inline double number(random& r) {
    switch (r.below(8)) {
        case 0:
            return 0;
        case 1:
            return static_cast<double>(r.below(100)) / 10;
        case 2:
            return r.uniform();
        case 3:
            return -r.uniform();
        case 4:
            return std::ldexp(r.uniform(), static_cast<int>(r.below(2000)) - 1000);
        case 5:
            return r.uniform() < 0.5 ? batches::inf : -batches::inf;
        case 6:
            return 1 + 5 * r.uniform();
        default:
            return 0.01 * r.normal();
    }
}
inline trm::band any_band(random& r) {
    trm::band b;
    double const x = number(r), y = number(r);
    if (r.below(3) > 0) b.upper = std::fmax(x, y);
    if (r.below(3) > 0) b.lower = std::fmin(x, y);
    return b;
}

template <class T>
void fill(T& value, random& r) {
    if constexpr (std::is_same_v<T, trm::any_divergence>) {
        value.index = static_cast<std::size_t>(r.below(trm::catalogue::divergences::size));
        fill(value.over, r);
    } else if constexpr (std::is_same_v<T, trm::any_estimator>) {
        value.index = static_cast<std::size_t>(r.below(trm::catalogue::estimators::size));
    } else if constexpr (trm::detail::has_words<T>) {
        auto const i = r.below(static_cast<std::int64_t>(std::size(trm::enum_words<T>)));
        value = trm::enum_words<T>[i].value;
    } else if constexpr (std::is_same_v<T, trm::band>) {
        value = any_band(r);
    } else if constexpr (std::is_same_v<T, trm::weight_bound>) {
        double const a = std::fabs(number(r)), b = a + std::fabs(number(r));
        switch (r.below(5)) {
            case 0:
                value = trm::unbounded;
                break;
            case 1:
                value = trm::truncate_above(b);
                break;
            case 2:
                value = trm::clamp_to(a, b);
                break;
            case 3:
                value = trm::zero_outside(a, b);
                break;
            default:
                value = {a, b, number(r), number(r)};
        }
    } else if constexpr (std::is_same_v<T, double>) {
        value = number(r);
    } else if constexpr (std::is_signed_v<T>) {
        value = static_cast<T>(r.below(1000));
    } else {
        value = static_cast<T>(r());
    }
}
/// A policy with random parameters that it accepts.
template <class P>
P policy(random& r) {
    for (;;) {
        P p{};
        trm::each_field<P>([&](char const*, auto where, bool = false) { fill(std::invoke(where, p), r); });
        if constexpr (requires { p.divergence; }) fill(p.divergence, r);
        if constexpr (requires { p.keep; }) p.keep = any_band(r);
        if constexpr (requires { p.positive = trm::band{}; }) p.positive = any_band(r);
        if (p.validate().ok()) return p;
    }
}
template <class Variant>
Variant alternative(std::size_t which, random& r) {
    Variant v;
    std::size_t i = 0;
    trm::any_type(trm::alternatives_of<Variant>{}, [&](auto type) {
        if (i++ != which) return false;
        v = policy<typename decltype(type)::type>(r);
        return true;
    });
    return v;
}
template <class Variant>
trm::any_over<Variant> alternative_over(std::size_t which, random& r) {
    auto p = alternative<Variant>(which, r);
    auto over = std::visit([](auto const& q) { return q.over; }, p);
    if (p.index() > 0 && r.below(3) == 0) fill(over, r);
    return {p, over};
}
template <class T>
std::size_t size_of = std::variant_size_v<T>;

/// Number n of a sequence of losses that goes through all policies.
inline trm::loss_spec make(std::size_t n, random& r) {
    using weights = decltype(trm::any_weight::policy);
    using surrogates = decltype(trm::any_surrogate::policy);
    trm::loss_spec s;
    for (std::size_t i = 0, k = static_cast<std::size_t>(r.below(4)); i < k; ++i) {
        auto c = alternative<trm::any_criterion>((n + 7 * i) % size_of<trm::any_criterion>, r);
        auto with = s.mask;
        with.push_back(c);
        trm::detail::spec_problem problem;
        trm::detail::refuse_contradiction(with, s.mask.size(), 0, problem);
        if (!problem.found) s.mask = with;
    }
    s.weight = alternative_over<weights>(n % size_of<weights>, r);
    using factors = decltype(trm::any_weight_factor::policy);
    for (std::size_t i = 0, k = n % 4 == 3 ? 1 + static_cast<std::size_t>(r.below(2)) : 0; i < k; ++i)
        s.weight_factors.push_back(alternative_over<factors>((n / 4 + i) % size_of<factors>, r));
    s.surrogate = alternative_over<surrogates>(n % size_of<surrogates>, r);
    while (!trm::detail::check_pair(s.surrogate, s.weight).ok())
        s.weight = alternative_over<weights>((s.weight.policy.index() + 1) % size_of<weights>, r);
    for (std::size_t i = 0, k = static_cast<std::size_t>(r.below(3)); i < k; ++i)
        s.penalties.push_back(alternative<trm::any_penalty>((n + 3 * i) % size_of<trm::any_penalty>, r));
    fill(s.aggregate.which, r);
    if (s.aggregate.which == trm::aggregation::kind::seq_mean_token_sum_norm)
        s.aggregate.length = 0.5 + 1000 * r.uniform();
    if (s.aggregate.which != trm::aggregation::kind::token_sum)
        s.aggregate.divide_by = r.below(3) == 0   ? trm::over_kept
                                : r.below(2) == 0 ? trm::over_all
                                                  : trm::over_count(1000 * r.uniform());
    s.log_ratio_clamp = 80 * r.uniform();
    if (r.below(2) == 0)
        trm::log_ratio_clamps::fields([&](char const*, auto stage) {
            if (r.below(3) == 0) s.log_ratio_clamp.*stage = {-80 * r.uniform(), 80 * r.uniform()};
        });
    if (r.below(3) == 0)
        trm::mean_epsilons::fields([&](char const*, auto which) { s.mean_epsilon.*which = 1e-8 * r.uniform(); });
    s.strict = r.below(2) == 0;
    return s;
}

template <class T>
bool same_value(T const& a, T const& b) {
    if constexpr (std::is_same_v<T, double>) {
        return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
    } else if constexpr (std::is_same_v<T, trm::band>) {
        return same_value(a.lower, b.lower) && same_value(a.upper, b.upper);
    } else if constexpr (std::is_same_v<T, trm::weight_bound>) {
        return same_value(a.lower, b.lower) && same_value(a.upper, b.upper) && same_value(a.below, b.below) &&
               same_value(a.above, b.above);
    } else {
        return a == b;
    }
}
template <class P>
bool same_policy(P const& a, P const& b) {
    bool same = true;
    trm::each_field<P>([&](char const*, auto where, bool = false) {
        same = same && same_value(std::invoke(where, a), std::invoke(where, b));
    });
    if constexpr (requires { a.divergence; }) same = same && a.divergence == b.divergence;
    if constexpr (requires { a.keep; }) same = same && same_value(a.keep, b.keep);
    if constexpr (requires { a.positive; }) same = same && same_value(a.positive, b.positive);
    return same;
}
template <class... P>
bool same_policy(std::variant<P...> const& a, std::variant<P...> const& b) {
    return a.index() == b.index() &&
           std::visit([&](auto const& p) { return same_policy(p, std::get<std::remove_cvref_t<decltype(p)>>(b)); }, a);
}
/// The same policies with the same bits.
inline bool same(trm::loss_spec const& a, trm::loss_spec const& b) {
    auto const all = [](auto const& x, auto const& y) {
        bool equal = x.size() == y.size();
        for (std::size_t i = 0; equal && i < x.size(); ++i) equal = same_policy(x[i], y[i]);
        return equal;
    };
    bool factors = a.weight_factors.size() == b.weight_factors.size();
    for (std::size_t i = 0; factors && i < a.weight_factors.size(); ++i)
        factors = same_policy(a.weight_factors[i].policy, b.weight_factors[i].policy) &&
                  a.weight_factors[i].over == b.weight_factors[i].over;
    return factors && all(a.mask, b.mask) && all(a.penalties, b.penalties) &&
           same_policy(a.weight.policy, b.weight.policy) && a.weight.over == b.weight.over &&
           same_policy(a.surrogate.policy, b.surrogate.policy) && a.surrogate.over == b.surrogate.over &&
           a.aggregate.which == b.aggregate.which && same_value(a.aggregate.length, b.aggregate.length) &&
           a.aggregate.divide_by.which == b.aggregate.divide_by.which &&
           same_value(a.aggregate.divide_by.n, b.aggregate.divide_by.n) && a.log_ratio_clamp == b.log_ratio_clamp &&
           a.mean_epsilon == b.mean_epsilon && a.strict == b.strict;
}

}  // namespace specs
