// SPDX-License-Identifier: Apache-2.0
#include "path.hpp"

#include "rollouts.hpp"

#include <algorithm>
#include <charconv>

namespace {

[[noreturn]] void fail(std::string_view text, std::string const& why) {
    throw input_error("'" + std::string(text) + "' is not a path of names: " + why);
}

}  // namespace

field_path parse_path(std::string_view const text) {
    field_path out;
    std::size_t at = 0;
    while (at < text.size() || out.empty()) {
        if (!out.empty() && text[at] == '[') {
            std::size_t const end = text.find(']', at);
            if (end == text.npos) fail(text, "a [ without ]");
            std::string_view const inside = text.substr(at + 1, end - at - 1);
            at = end + 1;
            if (inside.empty()) {
                out.push_back({path_step::kind::every, {}, 0});
                continue;
            }
            path_step step{path_step::kind::index, {}, 0};
            auto const [last, error] = std::from_chars(inside.data(), inside.data() + inside.size(), step.index);
            if (error != std::errc{} || last != inside.data() + inside.size())
                fail(text, "between [ and ] is neither nothing nor a number");
            out.push_back(step);
            continue;
        }
        if (!out.empty() && text[at++] != '.') fail(text, "expected . or [ after ]");
        std::size_t const end = std::min(text.find_first_of(".[", at), text.size());
        if (end == at) fail(text, "an empty name");
        out.push_back({path_step::kind::name, std::string(text.substr(at, end - at)), 0});
        at = end;
    }
    return out;
}

std::string to_text(field_path const& p) {
    std::string out;
    for (path_step const& step : p) {
        switch (step.is) {
            case path_step::kind::name:
                out += (out.empty() ? "" : ".") + step.name;
                break;
            case path_step::kind::every:
                out += "[]";
                break;
            case path_step::kind::index:
                out += "[" + std::to_string(step.index) + "]";
                break;
        }
    }
    return out;
}

bool starts_with(field_path const& longer, field_path const& prefix) {
    return longer.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), longer.begin());
}
