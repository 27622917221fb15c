// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "random_stream.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

/// A response and its prompt have horizon + 1 tokens. `forced[t]` is the token that the environment writes at place t (the
/// prompt at 0; observations inside the response, which the loss must not see), or -1 where the policy writes.
struct problem {
    std::vector<std::int32_t> forced;
    int answer = 0;  ///< what the reward needs to know beside that
};

/// A task with a verifiable reward in [0, 1] that is known only when the response is complete.
class task {
public:
    virtual ~task() = default;
    [[nodiscard]] virtual int vocabulary() const = 0;
    [[nodiscard]] virtual problem make(random_stream& random) const = 0;
    /// The next token of somebody who knows the form of the task, but neither the cue's meaning nor carries.
    [[nodiscard]] virtual std::int32_t demonstrate(problem const& p, std::span<std::int32_t const> before,
                                                   random_stream& random) const = 0;
    [[nodiscard]] virtual double reward(problem const& p, std::span<std::int32_t const> tokens) const = 0;
};

/// `branch`: the prompt is one of two cues. The first token chooses one of two cycles of three tokens, and the others must
/// walk along it. Reward: the share of right steps, a quarter of it on the wrong cycle. So the first token decides what all
/// others are worth.
///
/// `addition`: two numbers in base 3, least significant digit first. The environment writes the sum of two digits, the
/// policy the digit of the result, and so on; carries go from each to the next. Reward: the share of right digits.
///
/// Horizons count observations: in `addition` the policy writes every second token. Throws std::invalid_argument.
std::unique_ptr<task const> make_task(std::string const& name, int horizon);
