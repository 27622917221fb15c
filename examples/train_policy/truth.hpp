// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "settings.hpp"

#include <string>
#include <vector>

/// One method at one moment of a run, against the policy gradient of the current policy; everything by enumeration of all
/// responses. Norms are relative to the norm of the true gradient.
struct truth_row {
    std::string engine, method;
    int staleness = 0;
    std::uint64_t seed = 0;
    double bias = 0;  ///< |E g - G|
    double deviation = 0;  ///< sqrt(E |g - E g|^2) of one response
    double error = 0;  ///< sqrt(bias^2 + deviation^2 / n), n = the responses of an update: root mean squared error
    double cosine = 0;  ///< of E g and G
    double kept = 0;  ///< probability of a response that is not rejected
};

/// The surrogate L at the same moment: J(pi) - J(mu) - L and what bounds it.
struct error_row {
    std::string engine;
    int staleness = 0;
    std::uint64_t seed = 0;
    double error = 0;  ///< |J(pi) - J(mu) - L|, measured
    double worst_reward = 0;  ///< the largest that any reward in [0, 1] could make it
    double second_moment = 0, adaptive = 0, mixed_kl = 0, pinsker = 0, classical = 0;  ///< bounds, exact
    double max_kl = 0, sequence_kl = 0;
};

struct truth_table {
    std::vector<truth_row> gradients;
    std::vector<error_row> errors;
};

struct truth_options {
    run_settings run;  ///< how the policy gets where it is looked at; horizon and vocabulary must be small
    std::vector<std::string> engines{"bf16", "int8-moe"}, methods;
    std::vector<int> staleness{0, 1, 2, 4, 8, 16, 32};
    int seeds = 5;
    int threads = 2;
};

/// Trains on `run` for every seed, then compares the policy reached (pi) with engines (mu) that have weights of before.
truth_table compare_with_truth(truth_options const& o);

/// Writes truth_gradients.csv and truth_bounds.csv, a row for every seed, and returns means over seeds for people.
std::string report(truth_table const& t, std::string const& directory);
