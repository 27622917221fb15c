// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/spec.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <new>

/// \file
/// Losses as JSON (nlohmann), with the names of the text form:
///
///     {"trm": 1,
///      "mask": [{"name": "seq_max_k2", "at_most": 0.05}, {"name": "prefix", "of": {"name": "k3", "at_most": 0.1}}],
///      "weight": {"name": "token", "truncate_above": 2},
///      "surrogate": {"name": "ppo_clip", "eps_low": 0.2, "eps_high": 0.28},
///      "penalty": [{"name": "kl", "estimator": "k3", "beta": 0.01}],
///      "aggregate": "token_mean", "divide_by": "kept", "log_ratio_clamp": 20, "strict": false}
///
/// A policy without arguments may be a string; "over" is what follows @ in text; "at_least" and "at_most" are the ends of a
/// band; infinities are the strings "inf" and "-inf". Of a key given twice nlohmann keeps the last, without a word.

TRM_NAMESPACE_BEGIN
namespace detail {

template <class Json>
[[nodiscard]] Json json_of_number(std::string const& text) {
    std::int64_t whole = 0;
    std::uint64_t large = 0;
    double v = 0;
    if (detail::to_number(text, whole) == std::errc{}) return whole;
    if (detail::to_number(text, large) == std::errc{}) return large;
    (void)detail::to_number(text, v);
    return is_finite(v) ? Json(v) : Json(text);
}
template <class Json>
[[nodiscard]] Json json_of_node(spec_node const& n) {
    if (n.is == spec_node::kind::number) return json_of_number<Json>(n.text);
    if (n.is == spec_node::kind::list) {
        Json list = Json::array();
        for (spec_node const& v : n.items) list.push_back(json_of_node<Json>(v));
        return list;
    }
    if (n.items.empty() && n.over.empty() && !n.has_band) return n.text;
    Json object = Json::object();
    object["name"] = n.text;
    if (!n.over.empty()) object["over"] = n.over;
    if (!n.lower.empty()) object["at_least"] = json_of_number<Json>(n.lower);
    if (!n.upper.empty()) object["at_most"] = json_of_number<Json>(n.upper);
    for (spec_node const& a : n.items) {
        Json value = json_of_node<Json>(a);
        if (a.key.empty()) value.erase("name");  // a band is named by its key
        object[a.key.empty() ? a.text : a.key] = std::move(value);
    }
    return object;
}

/// JSON to sections; remembers the place of every node as a JSON pointer.
class json_reader {
public:
    explicit json_reader(spec_problem& problem) : problem_(problem) {}
    std::vector<std::string> places{""};

    template <class Json>
    [[nodiscard]] std::vector<spec_section> sections(Json const& document) {
        std::vector<spec_section> all;
        if (!document.is_object()) return problem_.set(0, "expected an object"), all;
        for (auto const& [key, value] : document.items()) {
            if (key == "trm") {
                if (!(value.is_number() && value == 1)) problem_.set(place("/trm"), "this library reads version 1");
                continue;
            }
            spec_section s;
            s.key = key;
            s.at = place("/" + key);
            s.joint_at = s.at;
            if (value.is_array() && (key == "mask" || key == "penalty" || key == "weight")) {
                s.joint = value.size() < 2 ? '\0' : key == "mask" ? '&' : key == "weight" ? '*' : '+';
                for (std::size_t i = 0; i < value.size(); ++i)
                    s.items.push_back(node(value[i], "/" + key + "/" + spec_number(i), 0));
                if (s.items.empty()) s.items.push_back(detail::word_node("none"));
            } else {
                s.items.push_back(node(value, "/" + key, 0));
            }
            all.push_back(std::move(s));
        }
        return all;
    }

private:
    static constexpr int deepest = 4;
    spec_problem& problem_;

    [[nodiscard]] std::size_t place(std::string pointer) {
        places.push_back(std::move(pointer));
        return places.size() - 1;
    }
    template <class Json>
    [[nodiscard]] spec_node node(Json const& value, std::string const& pointer, int depth) {
        spec_node n;
        n.at = n.over_at = n.band_at = place(pointer);
        if (value.is_boolean()) {
            n.text = value.template get<bool>() ? "true" : "false";
        } else if (value.is_string()) {
            n.text = value.template get<std::string>();
            if (n.text == "inf" || n.text == "-inf") n.is = spec_node::kind::number;
            if (auto const at = n.text.find('@'); at != std::string::npos) {
                n.over = n.text.substr(at + 1);
                n.text.resize(at);
            }
        } else if (value.is_number()) {
            n.is = spec_node::kind::number;
            n.text = value.is_number_unsigned()  ? spec_number(value.template get<std::uint64_t>())
                     : value.is_number_integer() ? spec_number(value.template get<std::int64_t>())
                                                 : spec_number(value.template get<double>());
            if (double v = 0; detail::to_number(n.text, v) != std::errc{}) problem_.set(n.at, "not a number");
        } else if (value.is_array()) {
            n.is = spec_node::kind::list;
            for (std::size_t i = 0; i < value.size() && depth < deepest; ++i)
                n.items.push_back(node(value[i], pointer + "/" + spec_number(i), depth + 1));
        } else if (value.is_object() && depth < deepest) {
            object(value, pointer, depth, n);
        } else {
            problem_.set(n.at, value.is_object() ? "too deeply nested" : "expected a name, a number or an object");
        }
        return n;
    }
    template <class Json>
    void object(Json const& value, std::string const& pointer, int depth, spec_node& n) {
        n.text = pointer.substr(pointer.rfind('/') + 1);  // of a band, unless it says otherwise
        bool named = false;
        for (auto const& [key, member] : value.items()) {
            spec_node a = node(member, pointer + "/" + key, depth + 1);
            if (key == "at_least" || key == "at_most") {
                if (a.is != spec_node::kind::number) problem_.set(a.at, key + " takes a number");
                (key == "at_least" ? n.lower : n.upper) = a.text;
                n.has_band = true;
            } else if (key == "name" || key == "over") {
                if (!member.is_string()) problem_.set(a.at, key + " takes a string");
                (key == "name" ? n.text : n.over) = a.text;
                named = named || key == "name";
            } else {
                if (member.is_object() && !member.contains("name")) {
                    a.key.clear();
                } else {
                    a.key = key;
                }
                n.items.push_back(std::move(a));
            }
        }
        if (!named && !n.has_band) problem_.set(n.at, "an object needs a name");
        // what is inside comes first, as in text
        auto place = n.items.begin();
        for (auto i = place; i != n.items.end(); ++i)
            if (i->key == "of") std::rotate(place++, i, i + 1);
    }
};

}  // namespace detail

/// The object form of a spec.
template <class Json = nlohmann::ordered_json>
[[nodiscard]] Json spec_to_json(loss_spec const& spec) {
    Json document = Json::object();
    document["trm"] = 1;
    for (auto const& s : detail::sections_of(spec)) {
        Json value = s.joint != 0 ? Json::array() : detail::json_of_node<Json>(s.items[0]);
        if (s.joint != 0)
            for (auto const& n : s.items) value.push_back(detail::json_of_node<Json>(n));
        if (s.key == "strict") value = spec.strict;
        document[s.key] = std::move(value);
    }
    return document;
}

namespace detail {

template <class Json>
void read_json(Json const& document, spec_result& r) {
    spec_problem problem;
    json_reader reader(problem);
    auto const sections = reader.sections(document);
    if (!problem.found) detail::read_sections(sections, r.spec, problem);
    if (!problem.found) return;
    std::string const& at = reader.places[problem.at];
    r.spec = {};
    r.status = {errc::bad_spec, -1, -1, "spec"};
    r.message = (at.empty() ? "the document" : at) + ": " + problem.message;
    r.suggestion = problem.suggestion;
}

}  // namespace detail

/// The loss that an object describes. Never throws. The message of a failure starts with the JSON pointer of the place.
template <class Json>
[[nodiscard]] spec_result spec_from_json(Json const& document) noexcept {
    spec_result r;
#if TRM_EXCEPTIONS
    try {
        detail::read_json(document, r);
    } catch (std::bad_alloc const&) {
        r = {};
        r.status = {errc::out_of_memory, -1, -1, "spec"};
    }
#else
    detail::read_json(document, r);
#endif
    return r;
}

/// `nlohmann::json j = spec;` and `j.get<trm::loss_spec>()`, which throws spec_error.
template <class Json>
    requires nlohmann::detail::is_basic_json<Json>::value
void to_json(Json& document, loss_spec const& spec) {
    document = spec_to_json<Json>(spec);
}
#if TRM_EXCEPTIONS
template <class Json>
    requires nlohmann::detail::is_basic_json<Json>::value
void from_json(Json const& document, loss_spec& spec) {
    spec = spec_from_json(document);
}
#endif

TRM_NAMESPACE_END
