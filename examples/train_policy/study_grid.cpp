// SPDX-License-Identifier: Apache-2.0
#include "methods.hpp"
#include "study.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace {

std::vector<std::string> all_methods() {
    std::vector<std::string> names;
    for (named_method const& m : methods()) names.push_back(m.name);
    return names;
}

std::string number(double x) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%g", x);
    return buffer;
}

/// FNV-1a, for methods that have no name.
std::string hash(std::string const& text) {
    std::uint64_t h = 14695981039346656037ULL;
    for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(h));
    return buffer;
}

}  // namespace

std::vector<run_settings> runs_of(grid const& g) {
    std::vector<run_settings> out;
    run_settings s = g.rest;
    for (int seed = g.first_seed; seed < g.first_seed + g.seeds; ++seed)
        for (std::string const& task : g.tasks)
            for (int horizon : g.horizons)
                for (std::string const& engine : g.engines)
                    for (int staleness : g.staleness)
                        for (std::string const& optimiser : g.optimisers)
                            for (double rate : g.learning_rates)
                                for (std::string const& method : g.methods) {
                                    s.seed = static_cast<std::uint64_t>(seed);
                                    s.task = task;
                                    s.horizon = horizon;
                                    set_engine(s, engine);
                                    s.staleness = staleness;
                                    s.optimiser = optimiser;
                                    s.learning_rate = rate;
                                    s.method = method;
                                    validate(s);
                                    out.push_back(s);
                                }
    return out;
}

namespace {

using names = std::vector<std::string>;

/// Four prompts of eight responses: 32 sequences an update.
grid small_batches() {
    grid g;
    g.rest.prompts = 4;
    g.learning_rates = {0.03};
    g.methods = all_methods();
    return g;
}

std::vector<grid> smoke() {
    grid g = small_batches();
    g.horizons = {16};
    g.staleness = {0, 4};
    g.learning_rates = {0.01};
    g.methods = {"none", "geometric", "trm-max"};
    g.seeds = 2;
    g.rest.updates = 10;
    g.rest.warm_start = 5;
    return {g};
}

std::vector<grid> quick() {
    grid g = small_batches();
    g.staleness = {0, 8, 32};
    return {g};
}

/// The study of README.md: a headline with twenty seeds and batches of 32, then other settings with batches of 64.
std::vector<grid> full() {
    grid headline = small_batches();
    headline.staleness = {32};
    headline.seeds = 20;

    grid fresher, addition, experts;
    fresher.staleness = {8};
    fresher.learning_rates = {0.03};
    fresher.methods = {"none", "ratio",   "ppo",       "tis",     "centered", "token-mask", "dppo",
                       "gspo", "seq-tis", "geometric", "trm-max", "trm-mean", "trm-exact",  "ln-trm"};
    addition.tasks = {"addition"};
    addition.staleness = {8, 32};
    addition.learning_rates = {0.02};
    addition.methods = {"none", "ratio",     "ppo",     "centered", "token-mask", "dppo",
                        "gspo", "geometric", "trm-max", "trm-mean", "trm-exact"};
    addition.rest.warm_start = 0;

    experts.engines = {"int8-moe"};
    experts.staleness = {0, 2};
    experts.learning_rates = {0.03};
    experts.methods = {"none",    "ratio",    "ppo",       "dppo",      "token-mask", "geometric",
                       "trm-max", "trm-mean", "trm-exact", "trm-max-1", "opsm"};

    return {headline, fresher, addition, experts};
}

}  // namespace

std::vector<std::string> study_names() { return {"quick", "full", "smoke"}; }

std::vector<run_settings> study_preset(std::string const& name) {
    std::vector<grid> grids;
    if (name == "smoke") grids = smoke();
    if (name == "quick") grids = quick();
    if (name == "full") grids = full();
    std::string known;
    for (std::string const& n : study_names()) known += (known.empty() ? "" : ", ") + n;
    if (grids.empty()) throw std::invalid_argument("unknown study \"" + name + "\": " + known);
    std::vector<run_settings> runs;
    for (grid const& g : grids)
        for (run_settings const& s : runs_of(g)) runs.push_back(s);
    return runs;
}

std::string engine_of(run_settings const& s) {
    return s.rollout + (s.experts > 0 ? "-moe" : "") + (s.noise > 0 ? "-noise" + number(s.noise) : "");
}

std::string scenario_of(run_settings const& s) {
    return s.task + "-T" + std::to_string(s.horizon) + "-" + engine_of(s) + "-k" + std::to_string(s.staleness) + "-" +
           s.optimiser + number(s.learning_rate);
}

std::string run_name(run_settings const& s) {
    auto const known = methods();
    bool const named = std::any_of(known.begin(), known.end(), [&](auto const& m) { return m.name == s.method; });
    return scenario_of(s) + "-" + (named ? s.method : hash(s.method)) + "-seed" + std::to_string(s.seed);
}

std::string to_json(run_settings const& s) {
    return nlohmann::ordered_json{{"task", s.task},
                                  {"horizon", s.horizon},
                                  {"method", s.method},
                                  {"loss", text_of(s.method)},
                                  {"advantage", s.advantage},
                                  {"rollout", s.rollout},
                                  {"staleness", s.staleness},
                                  {"noise", s.noise},
                                  {"hidden", s.hidden},
                                  {"experts", s.experts},
                                  {"prompts", s.prompts},
                                  {"responses", s.responses},
                                  {"warm_start", s.warm_start},
                                  {"slips", s.slips},
                                  {"updates", s.updates},
                                  {"optimiser", s.optimiser},
                                  {"learning_rate", s.learning_rate},
                                  {"max_gradient", s.max_gradient},
                                  {"seed", s.seed}}
        .dump();
}
