// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/spec_node.hpp>

#include <array>
#include <optional>

/// \file
/// Nodes to policies and back, by the names and fields of policies.

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

// --- values ----------------------------------------------------------------------------------------------------------

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

// --- parameters ------------------------------------------------------------------------------------------------------

/// The parameters of a policy from the arguments of a call, of which the first `taken` have been dealt with.
template <class P>
void read_fields(spec_node const& call, std::size_t taken, P& policy, spec_problem& problem) {
    std::vector<char> used(call.items.size());
    std::fill_n(used.begin(), static_cast<std::ptrdiff_t>(taken), char{1});
    std::vector<std::string> known;
    std::size_t next = taken;  // the next argument without a name
    /// The argument called `key`, in either spelling: `key=...` or, for bands, `key <= ...`.
    auto const named = [&](std::string_view key, bool is_band) -> spec_node const* {
        spec_node const* found = nullptr;
        for (std::size_t i = 0; i < used.size(); ++i) {
            spec_node const& a = call.items[i];
            if (a.key != key && !(is_band && a.key.empty() && a.text == key && a.has_band)) continue;
            if (found != nullptr) problem.set(a.at, std::string(key) + " is given twice");
            found = &a;
            used[i] = 1;
        }
        return found;
    };
    auto const read = [&](char const* name, auto where, bool required = false) {
        auto& to = field_of(where, policy);
        using T = std::remove_cvref_t<decltype(to)>;
        spec_node const* argument = nullptr;
        if constexpr (std::is_same_v<T, weight_bound>) {
            for (std::string_view key : bound_keys) {
                known.emplace_back(key);
                spec_node const* a = named(key, false);
                if (a == nullptr) continue;
                if (argument != nullptr) return problem.set(a->at, a->key + " contradicts " + argument->key);
                argument = a;
                read_bound(*a, to, problem);
            }
            return;
        } else {
            known.emplace_back(name);
            constexpr bool is_band = std::is_same_v<T, band>;
            argument = named(name, is_band);
            if constexpr (is_band) {
                if (argument == nullptr) return;
                if (!argument->has_band || !argument->items.empty() || !argument->over.empty())
                    return problem.set(argument->at, std::string(name) + " takes a band: <=, >= or in [a, b]");
                return read_band(*argument, to, problem);
            } else {
                while (next < used.size() && used[next] != 0 && call.items[next].key.empty()) ++next;
                if (next < used.size() && used[next] == 0 && call.items[next].key.empty()) {
                    if (argument != nullptr) return problem.set(argument->at, argument->key + " is given twice");
                    argument = &call.items[next];
                    used[next] = 1;
                }
                if (argument != nullptr) return read_value(*argument, to, name, problem);
                if (required) problem.set(call.at, call.text + " needs " + name);
            }
        }
    };
    each_field<P>(read);
    if constexpr (requires { P::choice; }) {
        known.emplace_back(P::choice.field);
        (void)named(P::choice.field, false);
    }
    for (std::size_t i = 0; i < used.size(); ++i) {
        if (used[i] != 0) continue;
        spec_node const& a = call.items[i];
        if (known.empty()) {
            problem.set(a.at, call.text + " takes no arguments" + (taken > 0 ? " after the first" : ""));
        } else if (!a.key.empty()) {
            detail::unknown_word(problem, a.at, "argument of " + call.text, a.key, known);
        } else {
            problem.set(a.at,
                        call.text + " does not take this argument without a name, such as " + known.front() + "=");
        }
    }
    if (!problem.found && !policy.validate().ok())
        problem.set(call.at, "an argument of " + call.text + " is out of range");
}
template <class P>
void write_fields(P const& policy, spec_node& n) {
    auto const write = [&](char const* name, auto where, bool = false) {
        auto const& value = field_of(where, policy);
        using T = std::remove_cvref_t<decltype(value)>;
        spec_node a;
        if constexpr (std::is_same_v<T, band>) {
            a = detail::word_node(name);
            write_band(value, a);
        } else {
            if constexpr (std::is_same_v<T, weight_bound>) {
                bool const none = value.lower == unbounded.lower && value.upper == unbounded.upper;
                if (none && value.below == unbounded.below && value.above == unbounded.above) return;
            }
            a = value_node(value);
            if (a.key.empty()) a.key = name;
        }
        n.items.push_back(std::move(a));
    };
    each_field<P>(write);
    if constexpr (requires { P::choice; }) {
        spec_node a = word_node(P::choice.word);
        a.key = P::choice.field;
        n.items.push_back(std::move(a));
    }
}

/// One of the policies of a variant, by name.
template <class Variant>
void read_policy(spec_node const& n, char const* what, Variant& to, spec_problem& problem) {
    if (n.is != spec_node::kind::word) return problem.set(n.at, std::string("expected the name of a ") + what);
    if (n.has_band) return problem.set(n.band_at, n.text + " has no band");
    bool known = false;
    spec_node const* choice = nullptr;
    std::vector<std::string> choices;
    bool const done = any_type(alternatives_of<Variant>{}, [&](auto type) {
        using P = typename decltype(type)::type;
        if (n.text != P::name) return false;
        known = true;
        if constexpr (requires { P::choice; }) {
            for (spec_node const& a : n.items)
                if (a.key == P::choice.field) choice = &a;
            choices.emplace_back(P::choice.word);
            if (choice != nullptr && !(is_plain_word(*choice) && choice->text == P::choice.word)) return false;
        }
        P policy{};
        read_fields(n, 0, policy, problem);
        to = policy;
        return true;
    });
    if (done) return;
    if (known) return detail::unknown_word(problem, choice->at, choice->key, choice->text, choices);
    unknown_word(problem, n.at, what, n.text, names_of<alternatives_of<Variant>>());
}
template <class P>
[[nodiscard]] spec_node policy_node(P const& policy) {
    spec_node n = word_node(P::name);
    write_fields(policy, n);
    return n;
}
template <class Variant>
void read_policy_over(spec_node const& n, char const* what, any_over<Variant>& to, spec_problem& problem) {
    read_policy(n, what, to.policy, problem);
    to.over = std::visit([](auto const& p) { return p.over; }, to.policy);
    read_over(n, to.over, problem);
}
template <class Variant>
[[nodiscard]] spec_node policy_node_over(any_over<Variant> const& from) {
    return std::visit(
        [&](auto const& p) {
            spec_node n = policy_node(p);
            if (from.over != p.over) n.over = word_of(from.over);
            return n;
        },
        from.policy);
}

}  // namespace detail
TRM_NAMESPACE_END
