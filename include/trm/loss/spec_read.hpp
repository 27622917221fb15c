// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/spec_node.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Text to sections. Knows the grammar of loss/README.md and no policy. (A template so that only parse_spec compiles it.)
template <class Problem>
class spec_reader {
public:
    spec_reader(std::string_view text, Problem& problem) noexcept : text_(text), problem_(problem) {}

    [[nodiscard]] std::vector<spec_section> sections() {
        std::vector<spec_section> all;
        skip();
        version();
        while (good() && at_ < text_.size()) {
            spec_section s;
            s.at = at_;
            s.key = word();
            if (s.key.empty()) return fail("expected a key such as surrogate"), all;
            if (!take(':')) return fail("expected ':' after " + detail::quoted(s.key)), all;
            s.items.push_back(node(0));
            while (good() && (next_is("&&") || next_is("+") || next_is("*"))) {
                char const joint = text_[at_];
                if (s.joint != 0 && joint != s.joint)
                    return fail("criteria are joined by &&, penalties by +, weights by *"), all;
                s.joint = joint;
                s.joint_at = at_;
                at_ += joint == '&' ? 2 : 1;
                skip();
                s.items.push_back(node(0));
            }
            all.push_back(std::move(s));
            if (good() && at_ < text_.size() && !take(';')) fail("expected ';' between sections");
        }
        if (all.empty()) fail("expected a section such as surrogate: importance_ratio");
        return all;
    }

private:
    static constexpr int deepest = 4;
    std::string_view text_;
    Problem& problem_;
    std::size_t at_ = 0;

    [[nodiscard]] bool good() const noexcept { return !problem_.found; }
    [[nodiscard]] static bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
    [[nodiscard]] static bool is_letter(char c) noexcept {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    }
    [[nodiscard]] char peek(std::size_t ahead = 0) const noexcept {
        return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
    }
    /// Passes white space and comments.
    void skip() noexcept {
        while (at_ < text_.size()) {
            char const c = text_[at_];
            if (c == '#') {
                while (at_ < text_.size() && text_[at_] != '\n') ++at_;
            } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
                ++at_;
            } else {
                return;
            }
        }
    }
    [[nodiscard]] bool next_is(std::string_view s) const noexcept { return text_.substr(at_, s.size()) == s; }
    [[nodiscard]] bool take(char c) noexcept {
        if (peek() != c || at_ >= text_.size()) return false;
        ++at_;
        skip();
        return true;
    }
    void fail(std::string what) {
        if (at_ >= text_.size()) return problem_.set(text_.size(), std::move(what) + ", found the end");
        char const c = text_[at_];
        std::string found = "a byte that is not ASCII";
        if (is_letter(c) || is_digit(c)) {
            std::size_t n = 1;
            while (is_letter(peek(n)) || is_digit(peek(n))) ++n;
            found = detail::quoted(text_.substr(at_, n));
        } else if (c >= 32 && c < 127) {
            found = {'\'', c, '\''};
        }
        problem_.set(at_, std::move(what) + ", found " + found);
    }
    /// A word, or nothing; skips what follows.
    [[nodiscard]] std::string word() {
        std::size_t n = 0;
        if (is_letter(peek()))
            while (is_letter(peek(n)) || is_digit(peek(n))) ++n;
        std::string w(text_.substr(at_, n));
        at_ += n;
        skip();
        return w;
    }
    void version() {
        std::size_t const start = at_;
        std::string const w = word();
        if (w.substr(0, 3) == "trm" && peek() == ':') {
            if (w != "trm1")
                problem_.set(start, "this is version " + detail::quoted(w) + " of the language, known: trm1", "trm1");
            (void)take(':');
        } else {
            at_ = start;
        }
    }
    [[nodiscard]] bool at_number() const noexcept {
        std::size_t const sign = peek() == '-';
        char const c = peek(sign);
        return is_digit(c) || c == '.' || (text_.substr(at_ + sign, 3) == "inf" && !is_letter(peek(sign + 3)));
    }
    [[nodiscard]] std::string number() {
        if (!at_number()) return fail("expected a number"), std::string{};
        std::size_t n = 1;
        while (is_digit(peek(n)) || is_letter(peek(n)) || peek(n) == '.' ||
               ((peek(n) == '-' || peek(n) == '+') && (peek(n - 1) == 'e' || peek(n - 1) == 'E')))
            ++n;
        std::string digits(text_.substr(at_, n));
        double value = 0;
        if (auto const e = detail::to_number(digits, value); e == std::errc::result_out_of_range) {
            problem_.set(at_, detail::quoted(digits) + " is out of range");
        } else if (e != std::errc{}) {
            problem_.set(at_, detail::quoted(digits) + " is not a number");
        }
        at_ += n;
        skip();
        return digits;
    }
    void numbers(spec_node& n) {
        if (!take('[')) return fail("expected '['");
        do {
            spec_node v;
            v.is = spec_node::kind::number;
            v.at = at_;
            v.text = number();
            n.items.push_back(std::move(v));
        } while (good() && take(','));
        if (good() && !take(']')) fail("expected ']'");
    }
    [[nodiscard]] spec_node node(int depth) {
        spec_node n;
        n.at = at_;
        if (peek() == '[') {
            n.is = spec_node::kind::list;
            numbers(n);
        } else if (at_number()) {
            n.is = spec_node::kind::number;
            n.text = number();
        } else {
            n.text = word();
            if (n.text.empty()) return fail("expected a name or a number"), n;
            rest_of_word(n, depth);
        }
        return n;
    }
    /// What may follow a name: @ratio, arguments, band.
    void rest_of_word(spec_node& n, int depth) {
        if (take('@')) {
            n.over_at = at_;
            n.over = word();
            if (n.over.empty()) return fail("expected a ratio such as current_over_rollout after '@'");
        }
        if (peek() == '(' && depth == deepest) return fail("too deeply nested");
        if (take('(') && !take(')')) {
            do n.items.push_back(argument(depth + 1));
            while (good() && take(','));
            if (good() && !take(')')) fail("expected ',' or ')'");
        }
        if (good()) band(n);
    }
    [[nodiscard]] spec_node argument(int depth) {
        std::size_t const start = at_;
        std::string key = is_letter(peek()) ? word() : std::string{};
        if (!key.empty() && peek() == '=' && peek(1) != '=') {
            (void)take('=');
            spec_node n = node(depth);
            n.key = std::move(key);
            n.at = start;
            return n;
        }
        at_ = start;
        return node(depth);
    }
    void band(spec_node& n) {
        n.band_at = at_;
        if (next_is("<=") || next_is(">=")) {
            n.has_band = true;
            bool const upper = peek() == '<';
            at_ += 2;
            skip();
            (upper ? n.upper : n.lower) = number();
        } else if (peek() == '<' || peek() == '>') {
            fail("bands include their ends: expected <=, >= or in");
        } else if (next_is("in") && !is_letter(peek(2)) && !is_digit(peek(2))) {
            n.has_band = true;
            at_ += 2;
            skip();
            spec_node ends;
            numbers(ends);
            if (!good()) return;
            if (ends.items.size() != 2) return problem_.set(n.band_at, "a band has two ends: in [lower, upper]");
            n.lower = ends.items[0].text;
            n.upper = ends.items[1].text;
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
