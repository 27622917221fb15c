// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_loss.hpp>
#include <trm/loss/spec_mask.hpp>
#include <trm/loss/spec_read.hpp>

#include <concepts>
#include <new>
#if TRM_EXCEPTIONS
#include <stdexcept>
#endif

/// \file
/// Losses as text:
///
///     trm1: mask: seq_max_k2 <= 0.05 && ratio in [0.5, 2]; weight: token(truncate_above=2);
///           surrogate: ppo_clip(eps_low=0.2, eps_high=0.28); penalty: kl(k3, beta=0.01); aggregate: token_mean
///
/// Every policy and parameter of any_policies.hpp is reachable. What is left out has the default of `loss_spec` and of the
/// policy; what is unknown, given twice, contradictory or out of range is refused, with its place. Independent of locale.
/// The grammar and all names: loss/README.md.

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

template <class Spec>
void read_sections(std::vector<spec_section> const& sections, Spec& spec, spec_problem& problem) {
    std::vector<std::string> const keys = {"mask",      "weight",    "surrogate",       "penalty",
                                           "aggregate", "divide_by", "log_ratio_clamp", "strict"};
    std::vector<std::string_view> seen;
    std::size_t divided_at = 0, weight_at = 0;
    for (spec_section const& s : sections) {
        if (std::find(keys.begin(), keys.end(), s.key) == keys.end())
            return detail::unknown_word(problem, s.at, "key", s.key, keys);
        if (std::find(seen.begin(), seen.end(), s.key) != seen.end())
            return problem.set(s.at, s.key + " is given twice");
        seen.push_back(s.key);
        if (s.key == "mask" ? s.joint == '+' : s.key == "penalty" ? s.joint == '&' : s.joint != 0)
            return problem.set(s.joint_at, s.key == "mask"      ? "criteria are joined by &&"
                                           : s.key == "penalty" ? "penalties are joined by +"
                                                                : s.key + " takes one value");
        spec_node const& first = s.items[0];
        bool const none = s.items.size() == 1 && is_plain_word(first) && first.over.empty() && first.text == "none";
        if (s.key == "mask" && !none) {
            for (spec_node const& n : s.items) {
                std::size_t const before = spec.mask.size();
                read_criterion(n, spec.mask, problem);
                if (spec.mask.size() > static_cast<std::size_t>(max_criteria))
                    problem.set(n.at, "a mask has at most 15 criteria");
                refuse_contradiction(spec.mask, before, n.at, problem);
            }
        } else if (s.key == "penalty" && !none) {
            for (spec_node const& n : s.items) {
                refuse_over(n, problem);
                read_policy(n, "penalty", spec.penalties.emplace_back(), problem);
            }
        } else if (s.key == "weight") {
            weight_at = first.at;
            read_policy_over(first, "weight", spec.weight, problem);
        } else if (s.key == "surrogate") {
            read_policy_over(first, "surrogate", spec.surrogate, problem);
        } else if (s.key == "aggregate") {
            read_aggregate(first, spec.aggregate, problem);
        } else if (s.key == "divide_by") {
            divided_at = s.at;
            read_denominator(first, spec.aggregate.divide_by, problem);
        } else if (s.key == "log_ratio_clamp") {
            read_value(first, spec.log_ratio_clamp, s.key, problem);
            if (!(spec.log_ratio_clamp > 0 && spec.log_ratio_clamp <= 80))
                problem.set(first.at, "log_ratio_clamp must be in (0, 80]");
        } else if (s.key == "strict") {
            read_value(first, spec.strict, s.key, problem);
        }
        if (problem.found) return;
    }
    if (status const pair = std::visit([](auto const& s, auto const& w) { return check_pair(s, w); },
                                       spec.surrogate.policy, spec.weight.policy);
        !pair.ok())
        problem.set(weight_at, pair.what);
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
    if (spec.weight.policy.index() != 0) add("weight", {policy_node_over(spec.weight)});
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
    add("log_ratio_clamp", {number_node(spec.log_ratio_clamp)});
    add("strict", {word_node(word_of(spec.strict))});
    return all;
}

void print_node(auto const& n, std::string& to) {
    if (!n.key.empty() && !n.bare) to += n.key + "=";
    bool const list = n.is == spec_node::kind::list;
    to += n.text;
    if (!n.over.empty()) to += "@" + n.over;
    if (list || !n.items.empty()) {
        to += list ? "[" : "(";
        for (std::size_t i = 0; i < n.items.size(); ++i) {
            if (i > 0) to += ", ";
            print_node(n.items[i], to);
        }
        to += list ? "]" : ")";
    }
    if (!n.has_band) return;
    if (!n.lower.empty() && !n.upper.empty()) {
        to += " in [" + n.lower + ", " + n.upper + "]";
    } else {
        to += n.lower.empty() ? " <= " + n.upper : " >= " + n.lower;
    }
}

}  // namespace detail

#if TRM_EXCEPTIONS
/// Thrown where a spec_result that holds no spec is used as one.
class spec_error : public std::invalid_argument {
public:
    spec_error(std::string const& what, std::size_t at, std::string instead)
        : std::invalid_argument("trm: " + what), position(at), suggestion(std::move(instead)) {}
    std::size_t position;
    std::string suggestion;
};
#endif

/// A loss_spec, or what is wrong with the text. `position` counts bytes from 0, line and column from 1; `message` is a sentence
/// that starts with the place. Converts to loss_spec, so that `any_loss{parse_spec(text)}` works; if there is none it
/// throws spec_error (without exceptions there is no conversion: look at `status`, then take `spec`).
struct spec_result {
    loss_spec spec;
    struct status status;
    std::size_t position = 0, line = 1, column = 1;
    std::string message;
    std::string suggestion;  ///< the known word nearest to an unknown one, or empty

    [[nodiscard]] bool ok() const noexcept { return status.ok(); }
#if TRM_EXCEPTIONS
    template <std::same_as<loss_spec> Spec>  // a template so that only those who convert compile the copy
    [[nodiscard]] operator Spec() const {
        if (!ok()) throw spec_error(message, position, suggestion);
        return spec;
    }
#endif
};

namespace detail {

template <class Spec>
void parse_spec(std::string_view text, spec_result& r) {
    spec_problem problem;
    auto const sections = spec_reader(text, problem).sections();
    if (!problem.found) read_sections<Spec>(sections, r.spec, problem);
    if (!problem.found) return;
    r.spec = {};
    r.status = {errc::bad_spec, -1, -1, "spec"};
    r.position = (std::min)(problem.at, text.size());
    for (char c : text.substr(0, r.position)) {
        r.line += c == '\n';
        r.column = c == '\n' ? 1 : r.column + 1;
    }
    r.message = "line " + spec_number(r.line) + ", column " + spec_number(r.column) + ": " + problem.message;
    r.suggestion = std::move(problem.suggestion);
}

}  // namespace detail

/// The loss that a text describes. Never throws. (A template so that only those who call it pay for compiling it.)
template <class Spec = loss_spec>
[[nodiscard]] spec_result parse_spec(std::string_view text) noexcept {
    spec_result r;
#if TRM_EXCEPTIONS
    try {
        detail::parse_spec<Spec>(text, r);
    } catch (std::bad_alloc const&) {
        r = {};
        r.status = {errc::out_of_memory, -1, -1, "spec"};
    }
#else
    detail::parse_spec<Spec>(text, r);
#endif
    return r;
}

/// The canonical text of a spec: every parameter spelled out, numbers as short as they read back exactly. Parsing it gives the
/// same spec.
template <class Spec = loss_spec>
[[nodiscard]] std::string print_spec(std::type_identity_t<Spec> const& spec) {
    std::string text = "trm1:";
    for (auto const& section : detail::sections_of(spec)) {
        text += text.size() > 5 ? "; " : " ";
        text += section.key + ": ";
        for (std::size_t i = 0; i < section.items.size(); ++i) {
            if (i > 0) text += section.joint == '&' ? " && " : " + ";
            detail::print_node(section.items[i], text);
        }
    }
    return text;
}

TRM_NAMESPACE_END
