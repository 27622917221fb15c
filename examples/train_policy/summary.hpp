// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "study.hpp"

#include <optional>
#include <string>
#include <vector>

/// What is kept of a run: a few columns of its CSV.
struct run_result {
    run_settings settings;
    std::vector<double> value_at,
        value;      ///< update and mean reward of the policy, where it was measured; last: the end
    std::vector<double> kept_sequences, kept_tokens, mean_kl, max_kl, ess_sequence, certificate;  ///< each update

    [[nodiscard]] double first() const { return value.front(); }
    [[nodiscard]] double last() const { return value.back(); }
    [[nodiscard]] double best() const;
    /// Lost more than 0.1 of reward and more than half of what had been gained at best.
    [[nodiscard]] bool collapsed() const;
};

struct interval {
    double low = 0, high = 0;
};
/// Wilson's 95% interval of a rate (E. B. Wilson, JASA 22, 1927).
interval wilson(int successes, int trials);
/// 95% percentile bootstrap interval of a mean; 2000 resamples of a fixed seed.
interval bootstrap_mean(std::vector<double> const& x);
double mean_of(std::vector<double> const& x);
double deviation_of(std::vector<double> const& x);  ///< n - 1; 0 for one value

/// One method in one scenario, over seeds.
struct cell {
    std::string scenario, method;
    std::vector<run_result const*> runs;  ///< by seed
    std::vector<double> last;             ///< rewards at the end
    int collapsed = 0;
    double kept_tokens = 0, kept_sequences = 0, mean_kl = 0, max_kl = 0, ess_sequence = 0, certificate = 0;  ///< means
    std::vector<double> gain;  ///< reward at the end minus that of the first method of the scenario, same seed
};

/// The difference of two methods in one scenario, seed by seed: the problems and the first weights are the same.
struct method_pair {
    std::string scenario, method, other;
    std::vector<double> difference;  ///< reward at the end: method - other

    /// Mean of the differences divided by their deviation (Cohen's d for pairs); none if they are all equal.
    [[nodiscard]] std::optional<double> effect_size() const;
};

/// Reads the runs of a finished study.
std::vector<run_result> read_study(std::vector<run_settings> const& runs, std::string const& directory);
/// In the order of first appearance; scenarios stay together.
std::vector<cell> cells_of(std::vector<run_result> const& results);
/// Writes summary.csv and returns it as a table for people.
std::string summarise(std::vector<cell> const& cells, std::string const& directory);
/// Every two methods of every scenario.
std::vector<method_pair> pairs_of(std::vector<cell> const& cells);
/// Writes pairs.csv: each pair's mean difference, its 95% bootstrap interval, effect size, and the seeds in which `method` was better.
void write_pairs(std::vector<cell> const& cells, std::string const& directory);
