// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "task.hpp"

#include <cstdint>
#include <span>
#include <vector>

/// What the rollout engine hands to the trainer: n responses of T tokens, one after another. Sizes in brackets.
struct rollouts {
    std::size_t sequences = 0, horizon = 0, vocabulary = 0;
    std::vector<std::int32_t> tokens;     ///< [n][T + 1]: prompt, then response
    std::vector<std::uint8_t> loss_mask;  ///< [n][T]: 0 for what the environment wrote
    std::vector<float> logits;            ///< [n][T][V]: those that the tokens were sampled from
    std::vector<float> logp;              ///< [n][T]: log-probabilities of the tokens in that distribution
    std::vector<int> experts;             ///< [n][T]: chosen by the engine's router; empty without experts
    std::vector<std::int32_t> group_of;   ///< [n]: prompt
    std::vector<double> rewards;          ///< [n]
    std::vector<float> advantages;        ///< [n]

    void resize(std::size_t n, std::size_t t, std::size_t v, bool has_experts) {
        sequences = n, horizon = t, vocabulary = v;
        tokens.resize(n * (t + 1));
        loss_mask.resize(n * t);
        logits.resize(n * t * v);
        logp.resize(n * t);
        experts.resize(has_experts ? n * t : 0);
        group_of.resize(n);
        rewards.resize(n);
        advantages.resize(n);
    }
    [[nodiscard]] std::span<std::int32_t const> response(std::size_t i) const {
        return std::span(tokens).subspan(i * (horizon + 1), horizon + 1);
    }
};
