// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/spec_node.hpp>

#include <array>
#include <optional>

/// \file
/// Words, numbers, bands and other single values from nodes, and back.

TRM_NAMESPACE_BEGIN
namespace detail {

template <class T>
inline constexpr bool has_words = std::is_array_v<std::remove_const_t<decltype(enum_words<T>)>>;

template <class T>
[[nodiscard]] std::optional<T> word_value(std::string_view word) noexcept {
    for (auto const& w : enum_words<T>)
        if (w.word == word) return w.value;
    return {};
}
template <class T>
[[nodiscard]] std::string word_of(T value) {
    for (auto const& w : enum_words<T>)
        if (w.value == value) return std::string(w.word);
    return {};
}
template <class T>
[[nodiscard]] std::vector<std::string> words_of() {
    std::vector<std::string> all;
    for (auto const& w : enum_words<T>) all.emplace_back(w.word);
    return all;
}
/// The policy of a list that has this name, by index.
template <class List>
[[nodiscard]] std::optional<std::size_t> index_of_name(std::string_view name) noexcept {
    for (std::size_t i = 0; i < List::size; ++i)
        if (names_in<List>[i] == name) return i;
    return {};
}
/// The names of a list's policies, each once; those without a name of their own left out.
template <class List>
[[nodiscard]] std::vector<std::string> names_of() {
    std::vector<std::string> all;
    for (std::string_view const name : names_in<List>)
        if (!name.empty() && (all.empty() || all.back() != name)) all.emplace_back(name);
    return all;
}

[[nodiscard]] inline bool is_plain_word(spec_node const& n) noexcept {
    return n.is == spec_node::kind::word && n.items.empty() && !n.has_band;
}
void read_over(auto const& n, ratio_kind& over, spec_problem& problem) {
    if (n.over.empty()) return;
    if (auto const kind = word_value<ratio_kind>(n.over)) {
        over = *kind;
    } else {
        unknown_word(problem, n.over_at, "ratio", n.over, words_of<ratio_kind>());
    }
}
inline void refuse_over(spec_node const& n, spec_problem& problem) {
    if (!n.over.empty()) problem.set(n.over_at, n.text + " has no choice of ratio");
}
/// One value of the right kind. `what`: the parameter that it is for.
template <class T>
void read_value(spec_node const& n, T& to, std::string const& what, spec_problem& problem) {
    if constexpr (std::is_same_v<T, any_divergence>) {
        auto const index = is_plain_word(n) ? detail::index_of_name<catalogue::divergences>(n.text) : std::nullopt;
        if (!index)
            return detail::unknown_word(problem, n.at, "divergence", n.text, names_of<catalogue::divergences>());
        to = {};
        to.index = *index;
        read_over(n, to.over, problem);
    } else if constexpr (std::is_same_v<T, any_estimator>) {
        refuse_over(n, problem);
        auto const index = is_plain_word(n) ? detail::index_of_name<catalogue::estimators>(n.text) : std::nullopt;
        if (!index) return detail::unknown_word(problem, n.at, what, n.text, names_of<catalogue::estimators>());
        to.index = *index;
    } else if constexpr (has_words<T>) {
        refuse_over(n, problem);
        auto const value = is_plain_word(n) ? word_value<T>(n.text) : std::nullopt;
        if (!value) return unknown_word(problem, n.at, what, n.text, words_of<T>());
        to = *value;
    } else {
        if (n.is != spec_node::kind::number) return problem.set(n.at, what + " takes a number");
        T value{};
        if (to_number(n.text, value) != std::errc{})
            return problem.set(n.at, what + " takes " + (std::is_same_v<T, double> ? "a number" : "a whole number") +
                                         ", not " + n.text);
        to = value;
    }
}
/// A band: lower <= upper, each side may be open.
void read_band(auto const& n, band& to, spec_problem& problem) {
    band b;
    if (!n.lower.empty()) (void)to_number(n.lower, b.lower);
    if (!n.upper.empty()) (void)to_number(n.upper, b.upper);
    if (!b.ok()) return problem.set(n.band_at, "the band is empty: " + n.lower + " > " + n.upper);
    to = b;
}
inline constexpr std::array<std::string_view, 4> bound_keys = {"truncate_above", "clamp", "zero_outside", "bound"};
void read_bound(auto const& n, weight_bound& to, spec_problem& problem) {
    double v[4] = {};
    std::size_t const wanted = n.key == "bound" ? 4 : n.key == "truncate_above" ? 1 : 2;
    if (wanted == 1) {
        read_value(n, v[0], n.key, problem);
    } else if (n.is != spec_node::kind::list || n.items.size() != wanted) {
        problem.set(n.at, n.key + (wanted == 2 ? " takes [lower, upper]" : " takes [lower, upper, below, above]"));
    } else {
        for (std::size_t i = 0; i < wanted; ++i) read_value(n.items[i], v[i], n.key, problem);
    }
    to = wanted == 1        ? truncate_above(v[0])
         : wanted == 4      ? weight_bound{v[0], v[1], v[2], v[3]}
         : n.key == "clamp" ? clamp_to(v[0], v[1])
                            : zero_outside(v[0], v[1]);
    if (!to.ok()) problem.set(n.at, "the band of " + n.key + " is empty");
}

[[nodiscard]] inline spec_node word_node(std::string text) {
    spec_node n;
    n.text = std::move(text);
    return n;
}
template <class T>
[[nodiscard]] spec_node number_node(T v) {
    spec_node n;
    n.is = spec_node::kind::number;
    n.text = spec_number(v);
    return n;
}
inline void write_band(band b, spec_node& n) {
    n.has_band = true;
    bool const open_below = b.lower == -std::numeric_limits<double>::infinity();
    bool const open_above = b.upper == std::numeric_limits<double>::infinity();
    if (!open_below || open_above) n.lower = spec_number(b.lower);
    if (!open_above || open_below) n.upper = spec_number(b.upper);
    if (open_above && !open_below) n.upper.clear();
    if (open_below && !open_above) n.lower.clear();
}
template <class T>
[[nodiscard]] spec_node value_node(T const& v) {
    if constexpr (std::is_same_v<T, any_divergence>) {
        spec_node n = word_node(v.name());
        if (v.over != ratio_kind::current_over_rollout) n.over = word_of(v.over);
        n.bare = true;
        return n;
    } else if constexpr (std::is_same_v<T, any_estimator>) {
        spec_node n = word_node(v.name());
        n.bare = true;
        return n;
    } else if constexpr (has_words<T>) {
        return word_node(word_of(v));
    } else if constexpr (std::is_same_v<T, weight_bound>) {
        auto const same = [&](weight_bound const& b) {
            return b.lower == v.lower && b.upper == v.upper && b.below == v.below && b.above == v.above;
        };
        spec_node n;
        if (same(truncate_above(v.upper))) {
            n = number_node(v.upper);
            n.key = "truncate_above";
            return n;
        }
        n.is = spec_node::kind::list;
        n.items = {number_node(v.lower), number_node(v.upper)};
        n.key = same(clamp_to(v.lower, v.upper))       ? "clamp"
                : same(zero_outside(v.lower, v.upper)) ? "zero_outside"
                                                       : "bound";
        if (n.key == "bound") n.items.insert(n.items.end(), {number_node(v.below), number_node(v.above)});
        return n;
    } else {
        return number_node(v);
    }
}

}  // namespace detail
TRM_NAMESPACE_END
