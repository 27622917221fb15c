// SPDX-License-Identifier: Apache-2.0
#include "mapping.hpp"

#include "../text.hpp"
#include "rollouts.hpp"

#include <algorithm>

namespace {

std::vector<std::string_view> split(std::string_view text, char at) {
    std::vector<std::string_view> out;
    while (true) {
        std::size_t const end = text.find(at);
        out.push_back(text.substr(0, end));
        if (end == text.npos) return out;
        text.remove_prefix(end + 1);
    }
}

std::size_t find_field(std::string_view name) {
    auto const found = std::find_if(fields::known.begin(), fields::known.end(),
                                    [&](fields::field const& f) { return f.name == name; });
    if (found != fields::known.end()) return static_cast<std::size_t>(found - fields::known.begin());
    std::string names;
    for (fields::field const& f : fields::known) names += " " + std::string(f.name) + ",";
    throw input_error("--fields: there is no field '" + std::string(name) + "', fields are" + names + " and each");
}

/// A path without what differs between a list of numbers, a list of one such list, and one element of them.
std::string stem(std::string_view text) {
    std::string out;
    for (std::size_t at = 0; at < text.size(); ++at) {
        out += text[at];
        if (text[at] == '[') at = text.find(']', at) - 1;
    }
    while (out.ends_with("[]")) out.resize(out.size() - 2);
    return out;
}

/// How many of the mapping's paths a line has.
std::size_t matches(mapping const& m, std::set<std::string> const& line_has) {
    std::set<std::string> stems;
    for (std::string const& has : line_has) stems.insert(stem(has));
    std::size_t n = 0;
    for (auto const& paths : m.paths)
        for (field_path const& p : paths) n += stems.contains(stem(to_text(p)));
    return n;
}

}  // namespace

std::string mapping::text() const {
    std::string out = each.empty() ? "" : "each=" + to_text(each);
    for (std::size_t f = 0; f < fields::count; ++f) {
        if (paths[f].empty()) continue;
        out += (out.empty() ? "" : ",") + std::string(fields::known[f].name);
        for (std::size_t k = 0; k < paths[f].size(); ++k) out += (k == 0 ? '=' : '+') + to_text(paths[f][k]);
    }
    return out;
}

mapping find_mapping(std::string_view name) {
    std::string names;
    for (named_mapping const& known : named_mappings()) {
        names += (names.empty() ? "" : ", ") + std::string(known.name);
        if (known.name != name) continue;
        mapping m;
        m.name = name;
        replace_fields(m, known.fields);
        return m;
    }
    throw input_error("there is no mapping '" + std::string(name) + "', mappings are " + names);
}

void replace_fields(mapping& m, std::string_view list) {
    if (list.empty()) return;
    for (std::string_view const item : split(list, ',')) {
        std::size_t const equal = item.find('=');
        if (equal == item.npos) throw input_error("--fields: '" + std::string(item) + "' is not field=name");
        if (item.substr(0, equal) == "each") {
            m.each = parse_path(item.substr(equal + 1));
            if (m.each.back().is != path_step::kind::every)
                throw input_error("--fields: each=" + to_text(m.each) + " must end in []");
            continue;
        }
        std::size_t const f = find_field(item.substr(0, equal));
        std::vector<field_path> paths;
        for (std::string_view const part : split(item.substr(equal + 1), '+')) paths.push_back(parse_path(part));
        if (paths.size() > 1 && fields::known[f].is != fields::shape::label)
            throw input_error("--fields: only id and group are made of several names");
        m.paths[f] = std::move(paths);
    }
}

std::string advice(std::size_t field, mapping const& used, std::set<std::string> const& line_has,
                   std::string const& option) {
    std::string const name(fields::known[field].name);
    std::string out;
    if (line_has.empty()) {
        out += "\n  the line has no names at all";
    } else {
        out += "\n  the line has: ";
        for (std::string const& has : line_has) out += (has == *line_has.begin() ? "" : ", ") + has;
    }
    named_mapping const* nearest = nullptr;
    std::size_t best = 1;  // one name alone is a coincidence
    for (named_mapping const& known : named_mappings()) {
        mapping const m = find_mapping(known.name);
        std::size_t const n = matches(m, line_has);
        bool const helps = !m.paths[field].empty() && m.paths[field] != used.paths[field];
        if (helps && n > best && matches(used, line_has) < n) best = n, nearest = &known;
    }
    if (nearest != nullptr)
        out += text("\n  %zu of these are names of %s: try --%smapping %s", best, std::string(nearest->name).c_str(),
                    option.c_str(), std::string(nearest->name).c_str());
    out += "\n  if it is there under another name: --" + option + "fields " + name + "=NAME";
    out += "\n  if not, log " + std::string(fields::known[field].log_this);
    return out;
}

std::string describe_mappings() {
    std::string out =
        "Mappings say which names of a file hold which field: --mapping NAME, or one by one with --fields, for "
        "example\n"
        "--fields logp=train.logprobs,rollout_logp=logprobs.content[].logprob,advantage=advantages[0]\n"
        "(outer.inner, [] for every element, [0] for one). Fields:\n";
    for (fields::field const& f : fields::known)
        out += text("  %-15s %s\n", std::string(f.name).c_str(), std::string(f.log_this).c_str());
    out += "  each            not a field: the list of which every element is a sequence, as choices[]\n";
    for (named_mapping const& known : named_mappings()) {
        out +=
            "\n" + std::string(known.name) + ": " + std::string(known.from) + "\n  " + std::string(known.fields) + "\n";
        for (std::string_view const line : split(known.snippet, '\n'))
            if (!line.empty()) out += "    " + std::string(line) + "\n";
    }
    return out;
}
