// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/masked_loss.hpp>

#include <cmath>

/// \file
/// What presets of several trainers share.

TRM_NAMESPACE_BEGIN
namespace presets {

/// The log-ratio of rollout corrections, and both bounds of a ratio in the space of k1.
inline constexpr ratio_kind corrected = ratio_kind::correction;
[[nodiscard]] inline band ratio_band_k1(double lower, double upper) noexcept {
    return within(-std::log(upper), -std::log(lower));
}

/// The clamps of most trainers: of masks, weights, surrogates, penalties, each for tokens and sums.
[[nodiscard]] constexpr log_ratio_clamps clamps_by_stage(clamp_range mask, clamp_range weight, clamp_range surrogate,
                                                         clamp_range penalty) noexcept {
    log_ratio_clamps c;
    c.mask = mask;
    c.weight = c.weight_sequence = weight;
    c.surrogate = c.surrogate_sequence = surrogate;
    c.penalty = penalty;
    return c;
}

}  // namespace presets
TRM_NAMESPACE_END
