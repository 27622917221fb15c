// SPDX-License-Identifier: Apache-2.0
#include "line_reader.hpp"
#include "rollouts.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <system_error>

namespace {

using namespace fields;

/// What the parser cannot see: missing fields, lengths, ranges.
std::string check(line_reader const& line, std::array<bool, count> const& expected, bool first) {
    std::size_t const tokens = line.values[logp].size();
    for (std::size_t f = 0; f < count; ++f) {
        auto const [name, per_token, required, integer] = known[f];
        if (!line.seen[f] && required) return text("%s is missing", name);
        if (!first && expected[f] && !line.seen[f]) return text("%s is missing (the first line has it)", name);
        if (!first && !expected[f] && line.seen[f]) return text("%s was not in the first line", name);
        if (line.seen[f] && per_token && line.values[f].size() != tokens)
            return text("%s has %zu values, logp has %zu", name, line.values[f].size(), tokens);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
        double const mask = line.seen[loss_mask] ? line.values[loss_mask][t] : 1;
        if (mask != 0 && mask != 1) return text("loss_mask[%zu] is neither 0 nor 1", t);
        for (std::size_t f : {logp, rollout_logp, proximal_logp})
            if (mask == 1 && line.seen[f] && line.values[f][t] > 1e-4)
                return text("%s[%zu] is positive, expected the logarithm of a probability", known[f].name, t);
    }
    return {};
}

template <class T>
void append(std::vector<T>& to, std::vector<double> const& from) {
    std::transform(from.begin(), from.end(), std::back_inserter(to), [](double x) { return static_cast<T>(x); });
}

void append(rollouts& to, line_reader const& line) {
    auto const& v = line.values;
    append(to.logp, v[logp]);
    append(to.rollout_logp, v[rollout_logp]);
    append(to.proximal_logp, v[proximal_logp]);
    append(to.kl, v[kl]);
    append(to.tv, v[tv]);
    append(to.loss_mask, v[loss_mask]);
    append(to.advantage, v[advantage]);
    append(to.reward, v[reward]);
    append(to.group, v[group]);
    append(to.updates_behind, v[updates_behind]);
    to.offsets.push_back(static_cast<std::int64_t>(to.logp.size()));
}

}  // namespace

rollouts read_rollouts(std::string const& path, std::function<void(double, double)> const& progress) {
    errno = 0;
    std::ifstream in(path, std::ios::binary);
    if (!in || in.peek() == std::ifstream::traits_type::eof()) {
        bool const opened = in.is_open() && errno == 0;
        throw input_error(path + ": " + (opened ? "the file is empty" : std::strerror(errno)));
    }
    in.seekg(0, std::ios::end);
    auto const total = static_cast<double>(in.tellg());
    in.seekg(0);

    rollouts all;
    std::array<bool, count> expected{};
    std::string raw;
    double read = 0;
    for (std::size_t number = 1; std::getline(in, raw); ++number) {
        read += static_cast<double>(raw.size()) + 1;
        if (raw.find_first_not_of(" \t\r") == std::string::npos) continue;
        line_reader line;
        std::string error;
        if (!nlohmann::json::sax_parse(raw, &line)) {
            error = line.error;
        } else {
            error = check(line, expected, all.size() == 0);
        }
        if (!error.empty()) throw input_error(text("%s:%zu: %s", path.c_str(), number, error.c_str()));
        if (all.size() == 0) expected = line.seen;
        append(all, line);
        if (progress) progress(read, total);
    }
    if (in.bad()) throw input_error(path + ": " + std::strerror(errno));
    if (all.sampled() == 0) throw input_error(path + ": no token that the policy sampled");
    return all;
}

std::size_t rollouts::sampled() const {
    return loss_mask.empty() ? logp.size()
                             : static_cast<std::size_t>(std::count(loss_mask.begin(), loss_mask.end(), 1));
}

std::vector<std::int64_t> rollouts::ages() const {
    std::set<std::int64_t> const distinct(updates_behind.begin(), updates_behind.end());
    if (distinct.empty()) return {0};
    return {distinct.begin(), distinct.end()};
}

rollouts rollouts::of_age(std::int64_t age) const {
    if (updates_behind.empty()) return *this;
    rollouts out;
    for (std::size_t i = 0; i < size(); ++i) {
        if (updates_behind[i] != age) continue;
        auto const tokens = [&](auto& to, auto const& from) {
            if (!from.empty()) to.insert(to.end(), from.begin() + offsets[i], from.begin() + offsets[i + 1]);
        };
        auto const sequence = [&](auto& to, auto const& from) {
            if (!from.empty()) to.push_back(from[i]);
        };
        tokens(out.logp, logp);
        tokens(out.rollout_logp, rollout_logp);
        tokens(out.proximal_logp, proximal_logp);
        tokens(out.kl, kl);
        tokens(out.tv, tv);
        tokens(out.loss_mask, loss_mask);
        sequence(out.advantage, advantage);
        sequence(out.reward, reward);
        sequence(out.group, group);
        sequence(out.updates_behind, updates_behind);
        out.offsets.push_back(static_cast<std::int64_t>(out.logp.size()));
    }
    return out;
}
