// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "learner.hpp"
#include "optimiser.hpp"
#include "settings.hpp"

#include <deque>
#include <memory>
#include <string>

/// One update, as a row of the CSV. Rewards are of the responses that the engine sampled, so of weights `staleness` old.
struct step_row {
    int update = 0;
    double reward = 0, kept_tokens = 0, kept_sequences = 0;  ///< fractions
    double max_kl = 0, mean_kl = 0;  ///< exact, nats
    double chi2_token = 0, chi2_sequence = 0, ess_token = 0, ess_sequence = 0;
    double entropy = 0, gradient_norm = 0, expert_flips = 0;
    double certificate =
        0;  ///< bound on the surrogate's error: the block bound where it is in good order, else second moment

    static std::string header();
    [[nodiscard]] std::string csv() const;
};

/// A run of reinforcement learning: the engine samples with old weights, the trainer corrects through the method's loss.
class trainer {
public:
    explicit trainer(run_settings s);

    step_row step(parallel_for const& parallel = {});
    /// Mean reward of fresh responses to `prompts` problems that are the same for all methods, sampled without staleness and
    /// rounding: what the current policy is worth.
    [[nodiscard]] double evaluate(int prompts, parallel_for const& parallel = {}) const;

    [[nodiscard]] vector<float> const& parameters() const { return parameters_; }
    [[nodiscard]] vector<float> const& engine_parameters() const { return history_.front(); }
    [[nodiscard]] model_shape const& shape() const { return shape_; }

private:
    void warm_start();
    void sample(parallel_for const& parallel);

    run_settings settings_;
    std::unique_ptr<task const> task_;
    model_shape shape_;
    vector<float> parameters_, gradient_;
    std::deque<vector<float>> history_;  ///< oldest first; what the engine uses is at the front
    optimiser optimiser_;
    learner<float> learner_;
    rollouts batch_;
    int update_ = 0;
};
