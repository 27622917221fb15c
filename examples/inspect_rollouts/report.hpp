// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rollouts.hpp"

#include <optional>
#include <span>
#include <string>
#include <vector>

struct settings {
    double delta = 0.05;                      ///< threshold of the maximum criteria, nats
    std::vector<double> keep{0.9, 0.7, 0.5};  ///< keep rates at which detectors are compared
    double reward_min = 0.0, reward_max = 1.0;
    std::optional<double> calibrate;  ///< target of the error on what a mask keeps
};

/// Sizes, divergences and effective sample sizes, one line for each age.
std::string summary(rollouts const& all);

/// What common masks and weights leave of the batch, and their loss and gradient.
std::string presets(rollouts const& all, settings const& s);
/// The same for a range of thresholds of each criterion.
std::string thresholds(rollouts const& all);

/// One threshold of one criterion.
struct kept {
    double threshold;
    double tokens;     ///< fraction
    double sequences;  ///< fraction
};
struct criterion_sweep {
    std::string name;
    std::vector<kept> points;
};
/// Kept fractions over a fine grid: criteria in nats (KL, k2, k3), or bands [1/c, c] on ratios.
std::vector<criterion_sweep> sweep_nats(rollouts const& of_one_age);
std::vector<criterion_sweep> sweep_ratios(rollouts const& of_one_age);

/// How well statistics of sampled tokens stand in for the largest exact KL and TV of a sequence. Empty without kl.
std::string detectors(rollouts const& all, settings const& s);
/// Per sequence, in order.
struct maxima {
    std::vector<double> exact_kl, k2;
};
maxima maxima_of(rollouts const& of_one_age);

/// For each age, the threshold of each criterion that meets `s.calibrate`, and what it costs.
std::string calibration(rollouts const& all, settings const& s);

/// The certificate of each age.
std::string certificates(rollouts const& all, settings const& s);
