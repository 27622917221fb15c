// SPDX-License-Identifier: Apache-2.0

// The trainer's file and the rollout engine's, sequence by sequence.
#include "../text.hpp"
#include "builder.hpp"
#include "read_internal.hpp"
#include "source.hpp"

#include <algorithm>
#include <limits>
#include <unordered_map>

using namespace fields;

namespace {

/// What the engine's file has of a sequence.
struct sampled {
    std::size_t line;
    record::values logp, tokens;
};
using sampled_by_id = std::unordered_map<std::string, sampled>;

void want(record const& r, std::size_t f, input const& file, mapping const& names,
          std::set<std::string> const& line_has, std::string const& option) {
    if (r.of[f].seen) return;
    throw input_error(text("%s:%zu: %s is missing%s", file.path.c_str(), r.line, std::string(known[f].name).c_str(),
                           advice(f, names, line_has, option).c_str()));
}

[[noreturn]] void twice(input const& file, std::string const& key, std::size_t first, std::size_t second,
                        std::string const& option) {
    throw input_error(
        text("%s:%zu: the id %s is also in line %zu; ids must be different (several names make one: "
             "--%sfields id=NAME+NAME)",
             file.path.c_str(), second, key.c_str(), first, option.c_str()));
}

sampled_by_id read_sampled(input const& file, read_options const& options) {
    mapping const names = mapping_of(file);
    source in(file.path, options.progress);
    sampled_by_id out;
    read_records(in, names, [&](record& r, std::set<std::string> const& line_has) {
        want(r, rollout_logp, file, names, line_has, "rollout-");
        want(r, id, file, names, line_has, "rollout-");
        std::string const key = r.label(id);
        auto const [at, fresh] =
            out.try_emplace(key, sampled{r.line, std::move(r.of[rollout_logp]), std::move(r.of[token_ids])});
        if (!fresh) twice(file, key, at->second.line, r.line, "rollout-");
    });
    return out;
}

/// Which of the trainer's slots the engine's tokens fill: all of them; those with loss_mask 1; or the slots from the
/// first with loss_mask 1 to the last (a response with tool output in it). Empty: none of these has their number.
std::vector<std::size_t> slots_for(record const& r, std::size_t tokens) {
    std::size_t const n = r.of[logp].numbers.size();
    std::vector<double> const& mask = r.of[loss_mask].numbers;
    std::vector<std::size_t> slots;
    if (tokens == n) {
        for (std::size_t t = 0; t < n; ++t) slots.push_back(t);
    } else if (mask.size() == n) {
        for (std::size_t t = 0; t < n; ++t)
            if (mask[t] != 0) slots.push_back(t);
        if (slots.size() != tokens && !slots.empty() && slots.back() - slots.front() + 1 == tokens) {
            std::size_t const first = slots.front();
            slots.resize(tokens);
            for (std::size_t k = 0; k < tokens; ++k) slots[k] = first + k;
        }
    }
    if (slots.size() != tokens) slots.clear();
    return slots;
}

/// Fills r's rollout_logp from `s`, or says why not.
std::string fill(record& r, sampled const& s, finding& lengths, finding& tokens, std::string const& key) {
    auto const slots = slots_for(r, s.logp.numbers.size());
    if (slots.empty() && !s.logp.numbers.empty()) {
        std::vector<double> const& mask = r.of[loss_mask].numbers;
        std::string const masked =
            mask.empty()
                ? std::string()
                : text(" (%zu with loss_mask 1)", static_cast<std::size_t>(std::count(mask.begin(), mask.end(), 1.0)));
        lengths.add(text("%s: %zu tokens%s against %zu", key.c_str(), r.of[logp].numbers.size(), masked.c_str(),
                         s.logp.numbers.size()));
        return "length";
    }
    std::vector<double> const& own = r.of[token_ids].numbers;
    if (own.size() == r.of[logp].numbers.size() && s.tokens.numbers.size() == slots.size())
        for (std::size_t k = 0; k < slots.size(); ++k)
            if (own[slots[k]] != s.tokens.numbers[k]) {
                tokens.add(
                    text("%s: token %zu is %.0f against %.0f", key.c_str(), k, own[slots[k]], s.tokens.numbers[k]));
                return "tokens";
            }
    record::values& to = r.of[rollout_logp];
    to = {};
    to.seen = to.list = true;
    to.numbers.assign(r.of[logp].numbers.size(), std::numeric_limits<double>::quiet_NaN());
    for (std::size_t k = 0; k < slots.size(); ++k) to.numbers[slots[k]] = s.logp.numbers[k];
    for (std::size_t const k : s.logp.nulls) to.nulls.push_back(slots[k]);
    return {};
}

}  // namespace

read_result read_joined(input const& trainer, input const& rollout, read_options const& options) {
    sampled_by_id engine = read_sampled(rollout, options);
    std::size_t const in_engine = engine.size();
    mapping const names = mapping_of(trainer);
    source in(trainer.path, options.progress);
    rollout_builder builder(trainer.path, names, options.strict);
    finding only_trainer, only_engine, lengths, tokens;
    std::unordered_map<std::string, std::size_t> line_of;
    std::size_t joined = 0;
    read_records(in, names, [&](record& r, std::set<std::string> const& line_has) {
        want(r, logp, trainer, names, line_has, "");
        want(r, id, trainer, names, line_has, "");
        std::string const key = r.label(id);
        auto const [line, fresh] = line_of.try_emplace(key, r.line);
        if (!fresh) twice(trainer, key, line->second, r.line, "");
        auto const found = engine.find(key);
        if (found == engine.end()) return only_trainer.add(key + text(" (line %zu)", r.line));
        sampled const s = std::move(found->second);
        engine.erase(found);
        if (!fill(r, s, lengths, tokens, key).empty()) return;
        builder.add(r, line_has, text(" (%s:%zu)", rollout.path.c_str(), s.line));
        ++joined;
    });
    std::vector<std::pair<std::size_t, std::string>> left;
    for (auto const& [key, s] : engine) left.emplace_back(s.line, key);
    std::sort(left.begin(), left.end());
    for (auto const& [line, key] : left) only_engine.add(key + text(" (line %zu)", line));

    read_result out;
    std::string report = text("joined by id: %zu sequences, of %zu in %s and %zu in %s", joined, line_of.size(),
                              trainer.path.c_str(), in_engine, rollout.path.c_str());
    auto const add = [&](finding const& f, std::string const& what) {
        if (f.count > 0) report += text("\n  %s: %zu, ", what.c_str(), f.count) + f.places();
    };
    add(only_trainer, "only in " + trainer.path);
    add(only_engine, "only in " + rollout.path);
    add(lengths, "different numbers of tokens");
    add(tokens, "different tokens");
    bool const complete = only_trainer.count + only_engine.count + lengths.count + tokens.count == 0;
    if (joined == 0 || (options.strict && !complete))
        throw input_error(report + (joined == 0 ? "\n  nothing matches: name the ids with --fields id=NAME and "
                                                  "--rollout-fields id=NAME"
                                                : "\n  not everything matches (--strict)"));
    if (builder.all.sampled() == 0) throw input_error(trainer.path + ": no token that the policy sampled");
    out.notes.push_back(report);
    add_warnings(builder, out);
    out.all = std::move(builder.all);
    return out;
}
