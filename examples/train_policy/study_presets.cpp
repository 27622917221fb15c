// SPDX-License-Identifier: Apache-2.0
#include "methods.hpp"
#include "study.hpp"

#include <stdexcept>

namespace {

std::vector<std::string> all_methods() {
    std::vector<std::string> names;
    for (named_method const& m : methods()) names.push_back(m.name);
    return names;
}

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

/// Ten methods: no correction, the plain ratio, rules with the sign of the advantage, and masks of whole sequences.
names chosen() {
    return {"none", "ratio", "ppo", "dppo", "opsm", "trm-max", "trm-max-1", "trm-mean", "trm-mean-0.1", "ln-trm"};
}

std::vector<grid> quick() {
    grid ages = small_batches();
    ages.staleness = {0, 8, 32};
    grid lengths = small_batches();
    lengths.methods = chosen();
    lengths.horizons = {16, 256};
    lengths.staleness = {32};
    return {ages, lengths};
}

/// The headline's setting at other horizons, with fewer seeds where a run takes long, and 8 updates behind.
std::vector<grid> horizons() {
    grid shorter = small_batches();
    shorter.methods = chosen();
    shorter.staleness = {32};
    shorter.horizons = {16};
    shorter.seeds = 20;
    grid longer = shorter, fresher = shorter;
    longer.horizons = {64, 256, 1024};
    longer.seeds = 5;
    fresher.staleness = {8};
    fresher.horizons = {16, 64};
    fresher.seeds = 5;
    return {shorter, longer, fresher};
}

/// Plain gradient descent against Adam, each at several step sizes: Adam makes full-size steps of however small a gradient.
/// More seeds where gradient descent is at its best and where it goes too far.
std::vector<grid> sgd() {
    grid adam = small_batches();
    adam.methods = chosen();
    adam.staleness = {32};
    adam.learning_rates = {0.003, 0.01, 0.03, 0.1};
    grid slow = adam;
    slow.optimisers = {"sgd"};
    slow.learning_rates = {1, 3};
    grid fast = slow;
    fast.learning_rates = {10, 30};
    fast.seeds = 16;
    return {adam, slow, fast};
}

/// Fresh weights and random errors of the engine's logits: a mismatch that does not depend on the course of a run.
std::vector<grid> noise() {
    grid levels = small_batches();
    levels.methods = chosen();
    levels.noises = {0.3, 1};
    grid shorter = levels;
    shorter.noises = {0.3};
    shorter.horizons = {16};
    return {levels, shorter};
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

std::vector<std::string> study_names() { return {"quick", "full", "horizons", "sgd", "noise", "smoke"}; }

std::vector<run_settings> study_preset(std::string const& name) {
    std::vector<grid> grids;
    if (name == "smoke") grids = smoke();
    if (name == "quick") grids = quick();
    if (name == "full") grids = full();
    if (name == "horizons") grids = horizons();
    if (name == "sgd") grids = sgd();
    if (name == "noise") grids = noise();
    std::string known;
    for (std::string const& n : study_names()) known += (known.empty() ? "" : ", ") + n;
    if (grids.empty()) throw std::invalid_argument("unknown study \"" + name + "\": " + known);
    std::vector<run_settings> runs;
    for (grid const& g : grids)
        for (run_settings const& s : runs_of(g)) runs.push_back(s);
    return runs;
}
