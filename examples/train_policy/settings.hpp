// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine.hpp"

#include <cstdint>
#include <string>

/// One training run. Everything that decides its numbers; threads do not.
struct run_settings {
    std::string task = "branch";
    int horizon = 32;
    std::string method = "none";    ///< a name of methods.hpp, or what losses.hpp reads
    std::string advantage = "grpo";  ///< or rloo
    std::string rollout = "bf16";   ///< precision of the rollout engine
    int staleness = 0;              ///< updates by which the rollout engine's weights are older than the trainer's
    double noise = 0;               ///< of the engine's logits, nats
    int hidden = 16;
    int experts = 0;
    int prompts = 8;    ///< per update
    int responses = 8;  ///< per prompt
    int warm_start = 40;   ///< updates that imitate demonstrations before reinforcement learning
    double slips = 0.3;    ///< share of random tokens in demonstrations
    int updates = 200;
    std::string optimiser = "adam";  ///< or sgd
    double learning_rate = 0.01;
    double max_gradient = 1;  ///< norm to which the gradient is cut; 0: never
    std::uint64_t seed = 0;

    [[nodiscard]] int sequences() const { return prompts * responses; }
};

/// Sets rollout and experts from the name of an engine: a precision, with "-moe" four experts.
void set_engine(run_settings& s, std::string const& engine);

/// Throws std::invalid_argument with the name of the first setting that makes no sense.
void validate(run_settings const& s);

/// The method's loss in trm's text: what a known name stands for, or the text itself.
std::string text_of(std::string const& method);
