// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/spec_value.hpp>

/// \file
/// Nodes to policies and back, by the names and fields of policies.

TRM_NAMESPACE_BEGIN
namespace detail {

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

/// One of the policies of a variant, by name. `others`: more names that could have been meant.
template <class Variant>
void read_policy(spec_node const& n, char const* what, Variant& to, spec_problem& problem,
                 std::vector<std::string> others = {}) {
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
    auto all = names_of<alternatives_of<Variant>>();
    all.insert(all.end(), others.begin(), others.end());
    unknown_word(problem, n.at, what, n.text, all);
}
template <class P>
[[nodiscard]] spec_node policy_node(P const& policy) {
    spec_node n = word_node(P::name);
    write_fields(policy, n);
    return n;
}
template <class Variant>
void read_policy_over(spec_node const& n, char const* what, any_over<Variant>& to, spec_problem& problem,
                      std::vector<std::string> others = {}) {
    read_policy(n, what, to.policy, problem, std::move(others));
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
