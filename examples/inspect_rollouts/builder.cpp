// SPDX-License-Identifier: Apache-2.0
#include "builder.hpp"

#include "../text.hpp"

#include <algorithm>
#include <bit>

using namespace fields;

namespace {

/// Rounding of a log-softmax in low precision may give a little more than 0.
constexpr double rounding = 0.01;

char const* kind_of(record::values const& v, std::size_t t) {
    if (std::binary_search(v.nulls.begin(), v.nulls.end(), t)) return "null";
    // By bits, so that it also holds with -ffast-math.
    auto const bits = std::bit_cast<std::uint64_t>(v.numbers[t]);
    if ((bits << 12) != 0) return "NaN";
    return (bits >> 63) != 0 ? "-Infinity" : "Infinity";
}

/// One for all tokens, also written as a list of one.
bool is_scalar(record::values const& v, std::size_t tokens) {
    return !v.list || (v.numbers.size() == 1 && tokens != 1);
}

}  // namespace

std::string finding::places() const {
    std::string out;
    for (std::string const& place : first) out += (out.empty() ? "" : ", ") + place;
    if (count > first.size()) out += text(" and %zu more", count - first.size());
    return out;
}

void rollout_builder::fail(record const& r, std::string const& sentence) const {
    throw input_error(text("%s:%zu: %s", name.c_str(), r.line, sentence.c_str()));
}

/// The field's name, and where the file has it if that is elsewhere.
std::string rollout_builder::called(std::size_t f) const {
    std::string const own(known[f].name);
    if (names.paths[f].empty()) return own;
    std::string const elsewhere = to_text(names.paths[f].front());
    return elsewhere == own ? own : own + " (" + elsewhere + ")";
}

void rollout_builder::check_fields(record const& r, std::set<std::string> const& line_has) const {
    bool const first = all.size() == 0;
    std::size_t const tokens = r.of[logp].numbers.size();
    for (std::size_t f = 0; f < fields::count; ++f) {
        record::values const& v = r.of[f];
        if (f == id || f == token_ids) continue;  // only a join wants them
        if (!v.seen && (f == logp || f == rollout_logp || f == advantage))
            fail(r, called(f) + " is missing" + advice(f, names, line_has, ""));
        if (!first && expected[f] && !v.seen) fail(r, called(f) + " is missing (the first line has it)");
        if (!first && !expected[f] && v.seen) fail(r, called(f) + " was not in the first line");
        bool const one = known[f].is == shape::either && is_scalar(v, tokens);
        if (v.seen && per_token(f) && !one && v.numbers.size() != tokens)
            fail(r, text("%s has %zu values, %s has %zu", called(f).c_str(), v.numbers.size(), called(logp).c_str(),
                         tokens));
    }
}

void rollout_builder::check_values(record const& r, std::vector<std::uint8_t> const& mask, std::string const& from) {
    auto const note = [&](finding& to, std::size_t f, std::size_t t, char const* what, bool indexed) {
        std::string const which = std::string(known[f].name) + (indexed ? text("[%zu]", t) : "");
        std::string const sentence = which + " is " + what;
        if (strict)
            fail(r, sentence + (per_token(f) && indexed ? ", and the policy sampled the token" : "") + " (--strict)");
        to.add(text("line %zu ", r.line) + sentence + (f == rollout_logp ? from : ""));
    };
    for (std::size_t f : {logp, rollout_logp, proximal_logp, kl, tv, advantage, reward}) {
        record::values const& v = r.of[f];
        bool const indexed = v.numbers.size() == mask.size() && v.list;
        for (std::size_t t = 0; t < v.numbers.size(); ++t) {
            if (indexed && mask[t] == 0) continue;
            if (!trm::is_finite(v.numbers[t])) {
                note(not_finite, f, t, kind_of(v, t), indexed);
            } else if (f <= proximal_logp && v.numbers[t] > rounding) {
                note(positive, f, t, "positive", true);
            }
        }
    }
}

void rollout_builder::append_advantage(record const& r, std::size_t tokens) {
    record::values const& v = r.of[advantage];
    bool const scalar = is_scalar(v, tokens), first = all.size() == 0;
    if (first ? scalar : all.token_advantage.empty() && !all.advantage.empty()) {
        if (!scalar) {
            fail(r, called(advantage) + " has a value for each token, in the first line it is one number");
        }
        all.advantage.push_back(v.numbers[0]);
    } else if (scalar) {
        all.token_advantage.insert(all.token_advantage.end(), tokens, v.numbers[0]);
    } else {
        all.token_advantage.insert(all.token_advantage.end(), v.numbers.begin(), v.numbers.end());
    }
}

void rollout_builder::add(record const& r, std::set<std::string> const& line_has, std::string const& from) {
    check_fields(r, line_has);
    std::size_t const tokens = r.of[logp].numbers.size();
    std::vector<std::uint8_t> mask(tokens, r.of[sample_mask].seen && r.of[sample_mask].numbers[0] == 0 ? 0 : 1);
    for (std::size_t t = 0; t < r.of[loss_mask].numbers.size(); ++t)
        if (r.of[loss_mask].numbers[t] == 0) mask[t] = 0;
    check_values(r, mask, from);

    append_advantage(r, tokens);
    auto const append = [&](std::vector<double>& to, std::size_t f) {
        to.insert(to.end(), r.of[f].numbers.begin(), r.of[f].numbers.end());
    };
    append(all.logp, logp);
    append(all.rollout_logp, rollout_logp);
    append(all.proximal_logp, proximal_logp);
    append(all.kl, kl);
    append(all.tv, tv);
    append(all.reward, reward);
    if (r.of[loss_mask].seen || r.of[sample_mask].seen)
        all.loss_mask.insert(all.loss_mask.end(), mask.begin(), mask.end());
    if (r.of[updates_behind].seen)
        all.updates_behind.push_back(static_cast<std::int64_t>(r.of[updates_behind].numbers[0]));
    if (r.of[group].seen)
        all.group.push_back(groups.try_emplace(r.label(group), static_cast<std::int64_t>(groups.size())).first->second);
    if (all.size() == 0)
        for (std::size_t f = 0; f < fields::count; ++f) expected[f] = r.of[f].seen;
    all.offsets.push_back(static_cast<std::int64_t>(all.logp.size()));
}
