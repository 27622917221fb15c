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

/// The same loss without importance weights: TRL's where nothing corrects the sampler, for example.
template <class... Ms, class S, class W, class... Ps, class Arch>
[[nodiscard]] constexpr auto uncorrected(
    masked_loss<all_of<Ms...>, S, W, std::tuple<Ps...>, Arch> const& loss) noexcept {
    auto copy = std::apply(
        [&](auto... p) {
            return masked_loss<all_of<Ms...>, S, no_weight, std::tuple<Ps...>, Arch>(loss.mask, loss.surrogate,
                                                                                     loss.aggregate, no_weight{}, p...);
        },
        loss.penalties);
    copy.options = loss.options;
    return copy;
}
/// The same loss without penalties: NeMo-RL's with `reference_policy_kl_penalty` 0, for example.
template <class... Ms, class S, class W, class... Ps, class Arch>
[[nodiscard]] constexpr auto without_penalties(
    masked_loss<all_of<Ms...>, S, W, std::tuple<Ps...>, Arch> const& loss) noexcept {
    masked_loss<all_of<Ms...>, S, W, std::tuple<>, Arch> copy(loss.mask, loss.surrogate, loss.aggregate, loss.weight);
    copy.options = loss.options;
    return copy;
}

}  // namespace presets
TRM_NAMESPACE_END
