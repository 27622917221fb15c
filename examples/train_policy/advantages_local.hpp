// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rollouts.hpp"

#include <cmath>
#include <string>

/// Group advantages: GRPO (R - mean) / deviation, RLOO R - mean of the others. Responses to a prompt stand together.
inline void set_advantages(rollouts& r, std::size_t group, std::string const& kind) {
    for (std::size_t first = 0; first < r.sequences; first += group) {
        double sum = 0, square = 0;
        auto const n = static_cast<double>(group);
        for (std::size_t i = first; i < first + group; ++i) sum += r.rewards[i], square += r.rewards[i] * r.rewards[i];
        double const mean = sum / n, deviation = std::sqrt(std::max(square / n - mean * mean, 0.0) * n / (n - 1));
        for (std::size_t i = first; i < first + group; ++i)
            r.advantages[i] = static_cast<float>(kind == "rloo" ? r.rewards[i] - (sum - r.rewards[i]) / (n - 1)
                                                                : (r.rewards[i] - mean) / (deviation + 1e-6));
    }
}
