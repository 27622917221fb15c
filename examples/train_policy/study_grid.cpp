// SPDX-License-Identifier: Apache-2.0
#include "methods.hpp"
#include "study.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace {

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
                    for (double noise : g.noises)
                        for (int staleness : g.staleness)
                            for (std::string const& optimiser : g.optimisers)
                                for (double rate : g.learning_rates)
                                    for (std::string const& method : g.methods) {
                                        s.seed = static_cast<std::uint64_t>(seed);
                                        s.task = task;
                                        s.horizon = horizon;
                                        set_engine(s, engine);
                                        s.noise = noise;
                                        s.staleness = staleness;
                                        s.optimiser = optimiser;
                                        s.learning_rate = rate;
                                        s.method = method;
                                        validate(s);
                                        out.push_back(s);
                                    }
    return out;
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
