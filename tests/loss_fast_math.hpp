// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/masked_loss.hpp>

#include <cstddef>
#include <cstdint>

/// One call of `fast_math_loss`, in types that are the same with and without -ffast-math: trm's own are not.
struct fast_math_call {
    std::size_t tokens, sequences;
    float const *logp, *rollout, *advantages, *given;
    std::uint8_t const* mask;
    std::int64_t const* cu;
    float* grad;
    std::uint8_t* keep;
    std::uint16_t* reasons;
    double loss;
    double nonfinite;
};
/// Built with -ffast-math. 0: ok.
int run_fast_math(fast_math_call& call);

namespace {

/// Criteria with and without exp, log and infinite ends.
[[maybe_unused]] inline auto fast_math_loss() {
    using namespace trm;
    return masked_loss{token_mask{ratio{}, within(0.55, 1.9)} && token_mask{binary_kl{}, at_most(0.11)} &&
                           token_mask{given{}, at_least(0.011)} && sequence_mask{k2{}, stat::max, at_most(0.31)} &&
                           sequence_mask{k3{}, stat::mean, at_most(0.05)} &&
                           sequence_mask{ratio{}, stat::min, at_least(0.51)},
                       importance_ratio{}, token_mean{}, sequence_weight{stat::mean, clamp_to(0.8, 1.2)}};
}

}  // namespace
