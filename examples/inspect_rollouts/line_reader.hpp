// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>

#include "text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

/// The fields of a line that are read.
namespace fields {
struct field {
    char const* name;
    bool per_token;
    bool required;
    bool integer;
};
enum : std::size_t {
    logp,
    rollout_logp,
    proximal_logp,
    kl,
    tv,
    loss_mask,
    advantage,
    reward,
    group,
    updates_behind,
    count
};
inline constexpr std::array<field, count> known{{{"logp", true, true, false},
                                                 {"rollout_logp", true, true, false},
                                                 {"proximal_logp", true, false, false},
                                                 {"kl", true, false, false},
                                                 {"tv", true, false, false},
                                                 {"loss_mask", true, false, true},
                                                 {"advantage", false, true, false},
                                                 {"reward", false, false, false},
                                                 {"group", false, false, true},
                                                 {"updates_behind", false, false, true}}};
}  // namespace fields

/// Receives one line from the parser: keeps the numbers of known fields, skips unknown fields whatever they hold, and
/// stops at the first thing that is wrong with a sentence that names the field.
class line_reader : public nlohmann::json_sax<nlohmann::json> {
public:
    std::array<std::vector<double>, fields::count> values;
    std::array<bool, fields::count> seen{};
    std::string error;

    bool null() override { return element("null"); }
    bool boolean(bool) override { return element("true or false"); }
    bool string(string_t&) override { return element("a string"); }
    bool binary(binary_t&) override { return element("binary"); }
    bool number_integer(number_integer_t n) override { return number(static_cast<double>(n)); }
    bool number_unsigned(number_unsigned_t n) override { return number(static_cast<double>(n)); }
    bool number_float(number_float_t n, string_t const& digits) override {
        // The parser's own test of this is gone with -ffast-math.
        bool const fits = at == fields::count || trm::is_finite(n);
        return fits ? number(n) : fail(where() + " is too large: " + digits);
    }

    bool start_object(std::size_t) override { return depth++ == 0 || element("an object"); }
    bool end_object() override { return --depth, true; }
    bool start_array(std::size_t) override {
        if (depth == 0) return fail("expected an object, found an array");
        if (at < fields::count && (depth > 1 || !fields::known[at].per_token)) {
            return fail(where() + " is an array, expected a number");
        }
        ++depth;
        return true;
    }
    bool end_array() override { return --depth, true; }
    bool key(string_t& name) override {
        if (depth > 1) return true;
        key_name = name;
        at = static_cast<std::size_t>(std::find_if(fields::known.begin(), fields::known.end(),
                                                   [&](fields::field const& f) { return name == f.name; }) -
                                      fields::known.begin());
        if (at < fields::count && seen[at]) return fail(name + " appears twice");
        if (at < fields::count) seen[at] = true;
        return true;
    }
    bool parse_error(std::size_t column, std::string const& token, nlohmann::detail::exception const& e) override {
        std::string const what = e.what(), value = at < fields::count ? where() : key_name;
        std::string const in = key_name.empty() ? "" : " in " + value;
        auto const has = [&](char const* words) { return what.find(words) != std::string::npos; };
        if (has("UTF-8")) return fail(text("not UTF-8%s (column %zu)", in.c_str(), column));
        if (has("number overflow")) return fail(value + " is too large: " + token);
        if (has("unexpected end of input") || has("missing closing quote")) return fail("the line is cut short" + in);
        char const last = token.empty() ? '\0' : token.back();
        if (last == 'N' || last == 'I') return fail(value + " is not a number: JSON has no NaN and no infinity");
        return fail(text("not JSON%s (column %zu): '%s'", in.c_str(), column, token.c_str()));
    }

private:
    std::size_t at = fields::count;
    std::string key_name;
    int depth = 0;

    bool fail(std::string sentence) {
        if (error.empty()) error = std::move(sentence);
        return false;
    }
    [[nodiscard]] std::string where() const {
        bool const element = fields::known[at].per_token && depth > 1;
        return element ? text("%s[%zu]", fields::known[at].name, values[at].size()) : fields::known[at].name;
    }
    /// Something that is not a number.
    bool element(char const* what) {
        if (depth == 0) return fail(std::string("expected an object, found ") + what);
        return at == fields::count ||
               fail(where() + " is " + what + ", expected " +
                    (fields::known[at].per_token && depth < 2 ? "an array of numbers" : "a number"));
    }
    bool number(double x) {
        if (depth == 0) return fail("expected an object, found a number");
        if (at == fields::count) return true;
        if (fields::known[at].per_token && depth < 2)
            return fail(where() + " is a number, expected an array of numbers");
        if (fields::known[at].integer && !(std::fabs(x) < 1e15 && x == std::floor(x)))
            return fail(where() + " is not an integer");
        values[at].push_back(x);
        return true;
    }
};
