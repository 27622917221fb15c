// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/trajectories.hpp>
#include <trm/core/batch_view.hpp>
#include <trm/core/dtype.hpp>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

/// Logged rollouts in the ragged arrays that the library views. Fields: examples/data/README.md. Streams that the file
/// does not have are empty. Values may be NaN or infinite, at masked slots and elsewhere.
struct rollouts {
    std::vector<std::int64_t> offsets{0};
    std::vector<double> logp, rollout_logp, proximal_logp, kl, tv;  // one a token
    std::vector<std::uint8_t> loss_mask;
    std::vector<double> token_advantage;    // one a token, or
    std::vector<double> advantage, reward;  // one a sequence
    std::vector<std::int64_t> group, updates_behind;

    [[nodiscard]] std::size_t size() const { return offsets.size() - 1; }
    [[nodiscard]] std::size_t sampled() const;
    /// The policy sampled token t, and both log-probabilities are finite.
    [[nodiscard]] bool usable(std::size_t t) const {
        return (loss_mask.empty() || loss_mask[t] != 0) && trm::is_finite(logp[t]) && trm::is_finite(rollout_logp[t]);
    }

    /// The paper's surrogate measures the current policy against the rollout policy, so proximal_logp stays out.
    [[nodiscard]] trm::batch_view<double> view() const {
        return {.logp = logp,
                .rollout_logp = rollout_logp,
                .advantages = token_advantage,
                .sequence_advantages = advantage,
                .given = kl,
                .loss_mask = loss_mask,
                .layout = trm::packed{offsets}};
    }
    [[nodiscard]] trm::bounds::trajectories<double> trajectories() const {
        auto t = trm::bounds::trajectories_of(view());
        t.kl = kl;
        t.tv = tv;
        t.rewards = reward;
        t.groups = group;
        return t;
    }

    /// The distinct values of updates_behind, ascending; one 0 if the file does not have the field.
    [[nodiscard]] std::vector<std::int64_t> ages() const;
    /// The sequences that are `age` updates behind; everything if the file does not say.
    [[nodiscard]] rollouts of_age(std::int64_t age) const;
};

/// Bad input: the sentence names file, line and field.
struct input_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
