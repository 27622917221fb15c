// SPDX-License-Identifier: Apache-2.0
#include "../text.hpp"
#include "record_handler.hpp"
#include "rollouts.hpp"

namespace {

/// NaN and infinities as Python writes them; numbers as text, so that ids of any length stay exact; no recursion.
constexpr unsigned flags = rapidjson::kParseNanAndInfFlag | rapidjson::kParseNumbersAsStringsFlag |
                           rapidjson::kParseValidateEncodingFlag | rapidjson::kParseIterativeFlag |
                           rapidjson::kParseStopWhenDoneFlag;

[[noreturn]] void fail(source const& in, std::size_t line, std::string const& sentence) {
    throw input_error(text("%s:%zu: %s", in.name().c_str(), line, sentence.c_str()));
}

/// The parser's error as a sentence.
[[noreturn]] void explain(rapidjson::ParseResult const& r, source const& in, record_handler const& object,
                          std::size_t first_line) {
    // The parser's position in a word like nan is where it stops to be null.
    std::size_t const offset = r.Code() == rapidjson::kParseErrorValueInvalid ? in.word_begin(r.Offset()) : r.Offset();
    source::place const at = in.of(offset);
    std::string const place = object.place(), where = place.empty() ? "" : " in " + place;
    bool const next_line_begins = in.Peek() == '{' && at.column == 1 && at.line > first_line;
    if (object.suspect_line != 0) fail(in, object.suspect_line, "the line is cut short");
    if (r.Code() == rapidjson::kParseErrorTermination) fail(in, object.error_line, object.error);
    if (next_line_begins || in.Peek() == '\0' ||
        (in.Peek() == '\n' && r.Code() == rapidjson::kParseErrorStringEscapeInvalid))
        fail(in, in.last_visible_line(), "the line is cut short" + where);
    std::string const excerpt = in.excerpt(offset, 20);
    switch (r.Code()) {
        case rapidjson::kParseErrorNumberTooBig:
            fail(in, at.line, text("a number%s is too large (column %zu)", where.c_str(), at.column));
        case rapidjson::kParseErrorStringInvalidEncoding:
            if (excerpt.empty() || static_cast<unsigned char>(excerpt[0]) < 0x20)
                fail(in, at.line,
                     text("a string%s has a line break or another control character in it", where.c_str()));
            fail(in, at.line, text("not UTF-8%s (column %zu)", where.c_str(), at.column));
        default:
            fail(in, at.line, text("not JSON%s (column %zu): '%s'", where.c_str(), at.column, excerpt.c_str()));
    }
}

}  // namespace

std::string record::label(std::size_t field) const {
    std::string out;
    for (std::string const& part : of[field].label) out += (&part == of[field].label.data() ? "" : "/") + part;
    return out;
}

void read_records(source& in, mapping const& names,
                  std::function<void(record&, std::set<std::string> const&)> const& use) {
    rapidjson::Reader parser;
    bool in_array = false;
    record_handler one(names, in, false), element(names, in, true);
    for (in.skip_blanks(); in.Peek() != '\0'; in.skip_blanks()) {
        if (!in_array && in.Peek() == '[') {
            in_array = true;
            in.Take();
            in.skip_blanks();
            if (in.Peek() != ']') continue;
        } else {
            record_handler& object = in_array ? element : one;
            std::size_t const line = in.line();
            object.begin();
            rapidjson::ParseResult const r = parser.Parse<flags>(in, object);
            if (!r) explain(r, in, object, line);
            object.finish();
            for (record& s : object.sequences) use(s, object.names);
            if (!in_array) continue;
            in.skip_blanks();
        }
        char const next = in.Peek();
        if (next == '\0') break;
        if (next != ',' && next != ']')
            fail(in, in.line(), std::string("expected , or ] after an object of the array, found ") + next);
        in.Take();
        in_array = next == ',';
    }
    if (in_array) fail(in, in.last_visible_line(), "the array is cut short");
}
