// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

/// What the program reads of a log, whatever a file calls it. examples/data/README.md says what the native names hold.
namespace fields {

enum class shape {
    tokens,          ///< numbers, one a token
    flags,           ///< 0 or 1, or false or true, one a token
    either,          ///< a number a token, or one number for the sequence
    number,          ///< one number
    integer,         ///< one integer
    flag,            ///< one 0 or 1, or false or true
    label,           ///< one string or number that is only compared
};

struct field {
    std::string_view name;
    shape is;
    std::string_view log_this;  ///< what a trainer would have to write, as a sentence's end
};

enum : std::size_t {
    logp,
    rollout_logp,
    proximal_logp,
    kl,
    tv,
    loss_mask,
    sample_mask,
    advantage,
    reward,
    group,
    updates_behind,
    id,
    token_ids,
    count
};

inline constexpr std::array<field, count> known{{
    {"logp", shape::tokens,
     "the trainer's log-probability of every sampled token under the current policy, natural logarithm, after division "
     "by the sampling temperature"},
    {"rollout_logp", shape::tokens,
     "the log-probability of every sampled token under the policy that sampled it, as the rollout engine gave it "
     "(vLLM: "
     "logprobs=1 and logprobs_mode=processed_logprobs; SGLang: return_logprob=true)"},
    {"proximal_logp", shape::tokens, "the trainer's log-probability under the policy that sampled the tokens"},
    {"kl", shape::tokens, "KL(rollout policy || current policy) over the whole vocabulary at every token"},
    {"tv", shape::tokens, "the total variation between both policies over the whole vocabulary at every token"},
    {"loss_mask", shape::flags, "1 where the policy sampled the token, 0 for prompt, padding and tool output"},
    {"sample_mask", shape::flag, "1, or 0 for a sequence that the loss leaves out"},
    {"advantage", shape::either, "the advantage, one number for each sequence or one for each token"},
    {"reward", shape::number, "the reward of the sequence"},
    {"group", shape::label, "an id of the prompt, the same for all of its samples"},
    {"updates_behind", shape::integer, "how many updates the rollout policy lags behind the current one"},
    {"id", shape::label, "an id of the sequence, the same in both files"},
    {"token_ids", shape::tokens, "the ids of the tokens"},
}};

constexpr bool per_token(std::size_t f) {
    return known[f].is == shape::tokens || known[f].is == shape::flags || known[f].is == shape::either;
}

}  // namespace fields
