// SPDX-License-Identifier: Apache-2.0

// What a path leads to: is it of the field's kind?
#include "record_handler.hpp"

#include "../text.hpp"

#include <trm/core/dtype.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

using fields::shape;

void record_handler::finish() {
    // Without the list there is one sequence that lacks everything: the caller says what is missing.
    if (use_each && !each_seen) sequences.emplace_back().line = first_line;
    for (record& r : sequences)
        for (slot const& s : tree.slots) {
            if (!s.shared) continue;
            record::values const& from = shared.of[s.field];
            record::values& to = r.of[s.field];
            if (fields::known[s.field].is != shape::label) {
                to = from;
            } else if (from.seen && s.part < from.label.size()) {
                to.seen = true;
                to.label.resize(std::max(to.label.size(), s.part + 1));
                to.label[s.part] = from.label[s.part];
            }
        }
}

bool record_handler::wrong(slot const& s, char const* found) {
    auto const& field = fields::known[s.field];
    std::string const here = position(depth, true), name(field.name);
    bool const in_list = depth > 0 && frames[depth - 1].array;
    char const* wanted = "a number";
    if (field.is == shape::label) {
        wanted = "a string or a number";
    } else if (field.is == shape::flag || (field.is == shape::flags && (in_list || s.repeats))) {
        wanted = "0 or 1";
    } else if (field.is != shape::number && field.is != shape::integer && !in_list && !s.repeats) {
        wanted = field.is == shape::either ? "a number or an array of numbers" : "an array of numbers";
    }
    std::string const also = here.starts_with(name) ? "" : " (" + name + ")";
    return fail(here + also + " is " + found + ", expected " + wanted);
}

bool record_handler::several(slot const& s) {
    std::string const here = place(), name(fields::known[s.field].name);
    return fail(here + (here == name ? "" : " (" + name + ")") + " has several values, expected one");
}

record::values& record_handler::values_of(slot const& s) {
    return s.shared ? shared.of[s.field] : sequences.back().of[s.field];
}

bool record_handler::begin_value(slot const& s, record::values& to, int implied) {
    if (implied > 0 || s.repeats) return to.seen = true;
    bool const label = fields::known[s.field].is == shape::label;
    if (label ? s.part < to.label.size() && !to.label[s.part].empty() : to.seen)
        return fail(position(depth, true) + " appears twice");
    return to.seen = true;
}

bool record_handler::keep(slot const& s, value const& v, int implied) {
    record::values& to = values_of(s);
    bool const in_list = implied > 0 || s.repeats;
    shape const is = fields::known[s.field].is;
    bool const absent_as_null = is == shape::tokens || is == shape::flags || is == shape::flag || is == shape::label;
    if (v.is == kind::null && !in_list && absent_as_null) return true;
    if (!begin_value(s, to, implied)) return false;
    if (implied == 1 && top().rows) return fail(position(depth, true) + " is " + v.called + " next to a list");
    if (is == shape::label) {
        if (v.is == kind::null) return wrong(s, v.called);
        to.label.resize(std::max(to.label.size(), s.part + 1));
        if (!to.label[s.part].empty()) return several(s);
        to.label[s.part] = v.text;
        return true;
    }
    to.list = to.list || in_list;
    if (!in_list && (is == shape::tokens || is == shape::flags)) return wrong(s, v.called);
    if (!to.numbers.empty() && (is == shape::number || is == shape::integer || is == shape::flag)) return several(s);
    return keep_number(s, v, to);
}

bool record_handler::keep_number(slot const& s, value const& v, record::values& to) {
    shape const is = fields::known[s.field].is;
    bool const flag = is == shape::flags || is == shape::flag;
    if (v.is == kind::null && (flag || is == shape::integer)) return wrong(s, v.called);
    if (v.is == kind::boolean && !flag) return wrong(s, v.called);
    double x = std::numeric_limits<double>::quiet_NaN();
    if (v.is == kind::null) {
        to.nulls.push_back(to.numbers.size());
    } else {
        auto const [last, code] = std::from_chars(v.text.data(), v.text.data() + v.text.size(), x);
        // Out of range here is too small for a double: the parser has refused what is too large.
        if (code == std::errc::result_out_of_range) x = 0.0;
        bool const number = code != std::errc::invalid_argument && last == v.text.data() + v.text.size();
        // JSON libraries that refuse NaN and Infinity write them as strings.
        if (!number || (v.is == kind::string && std::isalpha(static_cast<unsigned char>(v.text.back())) == 0))
            return wrong(s, v.called);
    }
    bool const whole = trm::is_finite(x) && std::fabs(x) < 1e15 && x == std::floor(x);
    if (is == shape::integer && !whole) return fail(position(depth, true) + " is not an integer");
    if (flag && x != 0 && x != 1) return fail(position(depth, true) + " is neither 0 nor 1");
    to.numbers.push_back(x);
    return true;
}
