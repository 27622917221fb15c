// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "settings.hpp"

#include <string>
#include <vector>

/// Every combination of what it lists.
struct grid {
    std::vector<std::string> tasks{"branch"};
    std::vector<int> horizons{64};
    std::vector<std::string> engines{"bf16"};  ///< precision, then "-moe" for four experts: bf16, int8, int8-moe
    std::vector<int> staleness{0};
    std::vector<std::string> optimisers{"adam"};
    std::vector<double> learning_rates{0.01};
    std::vector<double> noises{0};  ///< of the engine's logits, nats
    std::vector<std::string> methods{"none"};
    int seeds = 5;
    int first_seed = 0;
    run_settings rest{};  ///< everything else
};

/// The runs of a grid, method by method within each seed, so that an interrupted study has compared all methods.
std::vector<run_settings> runs_of(grid const& g);

/// A study by name. Throws std::invalid_argument.
std::vector<run_settings> study_preset(std::string const& name);
std::vector<std::string> study_names();

/// The settings that say which method is compared with which: equal for runs that differ in method and seed only.
std::string scenario_of(run_settings const& s);
/// The engine in the words of `grid::engines`.
std::string engine_of(run_settings const& s);
/// A file name for the run. Distinct for distinct runs of a study.
std::string run_name(run_settings const& s);
std::string to_json(run_settings const& s);

struct study_options {
    std::string directory = "study";
    int threads = 2;
    bool progress = false;  ///< a bar on standard error
    int abort_after = -1;   ///< for tests: die without cleaning up, in the middle of writing, after so many runs
};

/// Runs what `directory` does not hold yet and writes
///
///     study.json   the runs; a directory with another study is refused
///     runs/        a CSV for each, which appears when it is complete
///     steps.csv    all of them, one row for each update
///
/// Runs go to threads one by one, in order; their numbers depend on neither threads nor interruptions.
void run_study(std::vector<run_settings> const& runs, study_options const& options);
