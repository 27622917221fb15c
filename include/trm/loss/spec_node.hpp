// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>
#include <string_view>
#include <vector>
#include <version>

#ifndef __cpp_lib_to_chars
#include <trm/loss/number_by_stream.hpp>  // takes compilers as long as all of this header
#endif

/// \file
/// What text and JSON have in common: a spec as a tree of words and numbers, and the first thing that is wrong with it.

TRM_NAMESPACE_BEGIN
namespace detail {

/// `key=text@over(items) <band>`, a number, or a list of numbers. Numbers stay text until it is known what they are for.
struct spec_node {
    enum class kind : std::uint8_t { word, number, list };
    kind is = kind::word;
    bool bare = false;  ///< printed without its key
    std::string key, text, over;
    std::vector<spec_node> items;
    std::string lower, upper;  ///< of a band; empty: that side is open
    bool has_band = false;
    std::size_t at = 0, over_at = 0, band_at = 0;  ///< where it stands: bytes of a text, places of a JSON document
};

/// `key: item && item`.
struct spec_section {
    std::string key;
    std::size_t at = 0;
    std::vector<spec_node> items;
    char joint = 0;  ///< what joins items: '&', '+' or '*'
    std::size_t joint_at = 0;
};

/// The first problem wins.
struct spec_problem {
    bool found = false;
    std::size_t at = 0;
    std::string message, suggestion;
    void set(std::size_t where, std::string what, std::string instead = {}) {
        if (found) return;
        found = true;
        at = where;
        message = std::move(what);
        suggestion = std::move(instead);
    }
};

/// The shortest text that reads back as the same number, independent of locale.
[[nodiscard]] inline std::string spec_number(double v) {
    char buffer[32];
    auto const end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
    return {buffer, end};
}
template <class T>
    requires std::is_integral_v<T>
[[nodiscard]] std::string spec_number(T v) {
    char buffer[24];
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr};
}
/// The whole text as a number; never NaN.
template <class T>
[[nodiscard]] std::errc to_number(std::string_view text, T& v) {
    if constexpr (std::is_same_v<T, double>) {
        bool const negative = !text.empty() && text[0] == '-';
        if (text.substr(negative) == "inf") {
            v = negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
            return {};
        }
        std::size_t const first = negative;
        if (text.size() > first && text[first] != '.' && (text[first] < '0' || text[first] > '9'))
            return std::errc::invalid_argument;  // from_chars reads "nan" and "infinity"
    }
    char const* const end = text.data() + text.size();
    if constexpr (requires(T& to) { std::from_chars(end, end, to); }) {
        auto const r = std::from_chars(text.data(), end, v);
        if (r.ec != std::errc{}) return r.ec;
        return r.ptr == end ? std::errc{} : std::errc::invalid_argument;
    } else {
        return to_number_by_stream(text, v);
    }
}

[[nodiscard]] inline std::string quoted(std::string_view text) {
    std::string q = "\"";
    q += text.substr(0, 60);
    return q += text.size() > 60 ? "...\"" : "\"";
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn a into b.
[[nodiscard]] inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = (std::min)({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = (std::min)(row[j], before[j - 2] + 1);
        }
        std::swap(before, last);
        std::swap(last, row);
    }
    return last[b.size()];
}

/// The known word that was probably meant, or nothing.
[[nodiscard]] inline std::string_view nearest_word(std::string_view word, std::vector<std::string> const& known) {
    word = word.substr(0, 64);
    std::string_view best;
    std::size_t best_distance = word.size() / 3 + 2;
    for (std::string const& k : known) {
        std::size_t distance = detail::edit_distance(word, k);
        if (word.size() >= 3 && k.find(word) != std::string::npos) distance = (std::min<std::size_t>)(distance, 2);
        if (distance < best_distance) {
            best_distance = distance;
            best = k;
        }
    }
    return best;
}

/// Complains about a word, with the nearest known one or, if none is near, all of them (`list`, if there are many).
inline void unknown_word(spec_problem& problem, std::size_t at, std::string const& what, std::string_view word,
                         std::vector<std::string> const& known, std::string list = {}) {
    if (problem.found) return;
    std::string_view const closest = detail::nearest_word(word, known);
    std::string text = "unknown " + what + " " + detail::quoted(word);
    if (!closest.empty()) {
        text += ", did you mean " + detail::quoted(closest) + "?";
    } else if (!known.empty()) {
        if (list.empty())
            for (std::string const& k : known) list += (list.empty() ? "" : ", ") + k;
        text += "; known: " + list;
    }
    problem.set(at, std::move(text), std::string(closest));
}

}  // namespace detail
TRM_NAMESPACE_END
