// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rollouts.hpp"

#include <string>
#include <vector>

/// What is probably wrong with the log, each a sentence with its evidence; nothing where the evidence is weak. Looks at
/// tokens that the policy sampled and whose log-probabilities are finite.
std::vector<std::string> sanity_warnings(rollouts const& r);

namespace sanity {

/// Placeholders, constants, probabilities or negated values instead of log-probabilities, of one policy.
void values(rollouts const& r, std::vector<std::string>& warnings);
/// Both policies the same, or one of them rounded to bfloat16.
void sameness(rollouts const& r, std::vector<std::string>& warnings);
/// rollout_logp one token early or late. True if it is.
bool shift(rollouts const& r, std::vector<std::string>& warnings);
/// One policy in logarithms to another base, or at another temperature.
void scale(rollouts const& r, std::vector<std::string>& warnings);

/// Sums for a correlation. Exact enough for thousands of millions of log-probabilities of ordinary size.
class correlation {
public:
    void add(double x, double y) {
        n += 1;
        double const dx = x - mean_x, dy = y - mean_y;
        mean_x += dx / n;
        mean_y += dy / n;
        xx += dx * (x - mean_x);
        yy += dy * (y - mean_y);
        xy += dx * (y - mean_y);
    }
    double n = 0, xx = 0, yy = 0, xy = 0;
    /// Pearson's; 0 if one side does not vary.
    [[nodiscard]] double value() const;

private:
    double mean_x = 0, mean_y = 0;
};

}  // namespace sanity
