// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/spec_clamp.hpp>
#include <trm/loss/spec_mask.hpp>

#include <algorithm>

/// \file
/// The sections of a spec to a loss_spec, and back.

TRM_NAMESPACE_BEGIN
namespace detail {

void read_aggregate(auto const& n, aggregation& to, spec_problem& problem) {
    using kind = aggregation::kind;
    auto const which = n.is == spec_node::kind::word ? word_value<kind>(n.text) : std::nullopt;
    if (!which) return unknown_word(problem, n.at, "aggregation", n.text, words_of<kind>());
    refuse_over(n, problem);
    refuse_band(n, problem);
    to.which = *which;
    if (*which != kind::seq_mean_token_sum_norm) return refuse_arguments(n, problem);
    if (n.items.size() != 1 || !(n.items[0].key.empty() || n.items[0].key == "length"))
        return problem.set(n.at, n.text + " takes one argument: length");
    read_value(n.items[0], to.length, "length", problem);
    if (!(to.length > 0 && is_finite(to.length))) problem.set(n.items[0].at, "length must be positive and finite");
}
void read_denominator(auto const& n, denominator& to, spec_problem& problem) {
    if (is_plain_word(n) && n.over.empty() && n.text == "all") {
        to = over_all;
    } else if (is_plain_word(n) && n.over.empty() && n.text == "kept") {
        to = over_kept;
    } else if (n.is == spec_node::kind::number) {
        to.which = denominator::kind::given;
        read_value(n, to.n, "divide_by", problem);
        if (!(to.n >= 0 && is_finite(to.n))) problem.set(n.at, "divide_by must be finite and not negative");
    } else {
        problem.set(n.at, "divide_by takes all, kept or a number");
    }
}
/// Two criteria that look at the same thing and leave nothing.
template <class Criterion>
void refuse_contradiction(std::vector<Criterion> const& mask, std::size_t added, std::size_t at,
                          spec_problem& problem) {
    for (std::size_t i = 0; i < added; ++i)
        for (std::size_t j = added; j < mask.size(); ++j)
            std::visit(
                [&](auto const& b) {
                    using M = std::remove_cvref_t<decltype(b)>;
                    if constexpr (M::form == criterion_form::measured) {
                        auto const* a = std::get_if<M>(&mask[i]);
                        if (a != nullptr && a->divergence == b.divergence &&
                            (a->keep.upper < b.keep.lower || b.keep.upper < a->keep.lower))
                            problem.set(at,
                                        "contradicts criterion " + spec_number(i + 1) + ": nothing is in both bands");
                    }
                },
                mask[j]);
}

/// One weight at most, and any number of factors.
template <class Spec>
void read_weights(std::vector<spec_node> const& items, Spec& spec, spec_problem& problem) {
    bool has_weight = false;
    for (spec_node const& n : items) {
        if (index_of_name<catalogue::weight_factors>(n.text)) {
            read_policy_over(n, "weight", spec.weight_factors.emplace_back(), problem);
        } else if (has_weight && index_of_name<catalogue::weights>(n.text)) {
            problem.set(n.at, "a loss has one of these weights; what may be joined by *: suffix, segment, surprise");
        } else {
            has_weight = true;
            read_policy_over(n, "weight", spec.weight, problem, names_of<catalogue::weight_factors>());
        }
    }
}

template <class Spec>
void read_sections(std::vector<spec_section> const& sections, Spec& spec, spec_problem& problem) {
    std::vector<std::string> keys = {"mask",      "weight",    "surrogate",       "penalty",
                                     "aggregate", "divide_by", "log_ratio_clamp", "strict"};
    log_ratio_clamps::fields([&](char const* stage, auto) { keys.push_back(stage); });
    keys.push_back("mean_epsilon");
    mean_epsilons::fields([&](char const* which, auto) { keys.push_back(which); });
    std::vector<std::string_view> seen;
    std::size_t divided_at = 0, weight_at = 0;
    for (spec_section const& s : sections) {
        if (std::find(keys.begin(), keys.end(), s.key) == keys.end())
            return detail::unknown_word(problem, s.at, "key", s.key, keys);
        if (std::find(seen.begin(), seen.end(), s.key) != seen.end())
            return problem.set(s.at, s.key + " is given twice");
        seen.push_back(s.key);
        char const joint = s.key == "mask" ? '&' : s.key == "penalty" ? '+' : s.key == "weight" ? '*' : '\0';
        if (s.joint != 0 && s.joint != joint)
            return problem.set(s.joint_at, joint == '&'   ? "criteria are joined by &&"
                                           : joint == '+' ? "penalties are joined by +"
                                           : joint == '*' ? "weights are joined by *"
                                                          : s.key + " takes one value");
        spec_node const& first = s.items[0];
        bool const none = s.items.size() == 1 && is_plain_word(first) && first.over.empty() && first.text == "none";
        if (s.key == "mask" && !none) {
            for (spec_node const& n : s.items) {
                std::size_t const before = spec.mask.size();
                read_criterion(n, spec.mask, problem);
                if (spec.mask.size() > static_cast<std::size_t>(max_criteria)) {
                    problem.set(n.at, "a mask has at most 15 criteria");
                    break;  // each is compared with all others: the time of a text may not grow with its square
                }
                refuse_contradiction(spec.mask, before, n.at, problem);
            }
        } else if (s.key == "penalty" && !none) {
            for (spec_node const& n : s.items) {
                refuse_over(n, problem);
                read_policy(n, "penalty", spec.penalties.emplace_back(), problem);
            }
        } else if (s.key == "weight") {
            weight_at = first.at;
            read_weights(s.items, spec, problem);
        } else if (s.key == "surrogate") {
            read_policy_over(first, "surrogate", spec.surrogate, problem);
        } else if (s.key == "aggregate") {
            read_aggregate(first, spec.aggregate, problem);
        } else if (s.key == "divide_by") {
            divided_at = s.at;
            read_denominator(first, spec.aggregate.divide_by, problem);
        } else if (s.key == "strict") {
            read_value(first, spec.strict, s.key, problem);
        } else if (s.key == "log_ratio_clamp") {
            clamp_range all;
            read_clamp(first, all, s.key, problem);
            spec.log_ratio_clamp = all;
        } else if (s.key == "mean_epsilon") {
            double all = 0;
            read_epsilon(first, all, s.key, problem);
            spec.mean_epsilon = all;
        }
        if (problem.found) return;
    }
    for (spec_section const& s : sections)  // after the clamp of all stages, wherever that stands
        log_ratio_clamps::fields([&](std::string_view stage, auto of) {
            if (s.key == stage) read_clamp(s.items[0], spec.log_ratio_clamp.*of, s.key, problem);
        });
    for (spec_section const& s : sections)
        mean_epsilons::fields([&](std::string_view which, auto of) {
            if (s.key == which) read_epsilon(s.items[0], spec.mean_epsilon.*of, s.key, problem);
        });
    if (status const pair = check_pair(spec.surrogate, spec.weight); !pair.ok()) problem.set(weight_at, pair.what);
    bool const divided = std::find(seen.begin(), seen.end(), "divide_by") != seen.end();
    if (divided && spec.aggregate.which == aggregation::kind::token_sum)
        problem.set(divided_at, "divide_by contradicts token_sum, which divides by nothing");
}

template <class Spec>
[[nodiscard]] std::vector<spec_section> sections_of(Spec const& spec) {
    std::vector<spec_section> all;
    auto const add = [&](char const* key, std::vector<spec_node> items, char joint = 0) {
        spec_section s;
        s.key = key;
        s.items = std::move(items);
        s.joint = joint;
        if (!s.items.empty()) all.push_back(std::move(s));
    };
    std::vector<spec_node> items;
    for (auto const& c : spec.mask) items.push_back(criterion_node(c));
    add("mask", std::move(items), '&');
    items.clear();
    if (spec.weight.policy.index() != 0) items.push_back(policy_node_over(spec.weight));
    for (auto const& f : spec.weight_factors) items.push_back(policy_node_over(f));
    add("weight", std::move(items), spec.weight_factors.empty() ? '\0' : '*');
    items.clear();
    add("surrogate", {policy_node_over(spec.surrogate)});
    items.clear();
    for (auto const& p : spec.penalties) items.push_back(std::visit([](auto const& q) { return policy_node(q); }, p));
    add("penalty", std::move(items), '+');
    spec_node aggregate = word_node(word_of(spec.aggregate.which));
    if (spec.aggregate.which == aggregation::kind::seq_mean_token_sum_norm) {
        aggregate.items.push_back(number_node(spec.aggregate.length));
        aggregate.items.back().key = "length";
    }
    add("aggregate", {std::move(aggregate)});
    denominator const d = spec.aggregate.divide_by;
    if (spec.aggregate.which != aggregation::kind::token_sum)
        add("divide_by", {d.which == denominator::kind::given  ? number_node(d.n)
                          : d.which == denominator::kind::kept ? detail::word_node("kept")
                                                               : detail::word_node("all")});
    clamp_range const of_most = spec.log_ratio_clamp.mask;
    add("log_ratio_clamp", {clamp_node(of_most)});
    log_ratio_clamps::fields([&](char const* stage, auto of) {
        if (clamp_range const c = spec.log_ratio_clamp.*of; c != of_most) add(stage, {clamp_node(c)});
    });
    mean_epsilons::fields([&](char const* which, auto of) {
        if (double const e = spec.mean_epsilon.*of; e != 0) add(which, {number_node(e)});
    });
    add("strict", {word_node(word_of(spec.strict))});
    return all;
}

}  // namespace detail
TRM_NAMESPACE_END
