// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/options.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/loss/result.hpp>
#include <trm/policy/aggregation.hpp>

/// \file
/// The middle of the pipeline: from what was measured of a sequence to what happens to it.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What is known of one sequence once it has been measured, whole: counts, and the sums and maxima of the loss's policies.
struct sequence_total {
    double tokens = 0;  ///< in loss_mask
    double finite = 0;  ///< of these, with finite inputs
    double passing = 0;  ///< of these, accepted by every token criterion
    double const* sums = nullptr;
    double const* maxima = nullptr;
};

/// What happens to one sequence.
struct decision {
    bool keep;
    std::uint16_t reasons;  ///< bit i: criterion i rejects the sequence
    double scale;  ///< factor of its terms: loss_scale / denominator
    double weight;  ///< importance weight of the sequence
    double weight_factor;  ///< of a normalised weight: 1 / mean
    sequence_constants constants;  ///< what its surrogate derives from its sums
    sequence_constants penalty;  ///< what its penalty does, if that is one of sequences
};
/// Of a sequence that has not been measured yet. One by one: g++ would clear the whole with `rep stos`.
TRM_INLINE void keep_so_far(decision& d) noexcept {
    d.keep = true;
    d.reasons = 0;
    d.scale = 0;
    d.weight = d.weight_factor = 1;
    for (int i = 0; i < 4; ++i) d.constants.c[i] = d.penalty.c[i] = 0;
}

/// For prompt_mean: tokens of the sequence's prompt, and prompts that have any.
struct prompt_share {
    double tokens = 0, prompts = 0;
};

/// 1 / denominator of the terms of one sequence, or 0 where the denominator is empty.
[[nodiscard]] inline double scale_of(aggregation const& aggregate, counts const& n, double tokens, double kept_tokens,
                                     prompt_share prompt, mean_epsilons const& epsilon) noexcept {
    using kind = aggregation::kind;
    bool const kept = aggregate.divide_by.which == denominator::kind::kept;
    bool const given = aggregate.divide_by.which == denominator::kind::given;
    double const sequences = given ? aggregate.divide_by.n : kept ? n.kept_sequences : n.sequences;
    double d = 1;
    switch (aggregate.which) {
        case kind::token_mean:
            d = given ? aggregate.divide_by.n : kept ? n.kept_tokens : n.tokens;
            break;
        case kind::token_sum:
            break;
        case kind::seq_mean_token_sum:
            d = sequences;
            break;
        case kind::seq_mean_token_mean:
            d = sequences * (kept ? kept_tokens : tokens);
            break;
        case kind::seq_mean_token_sum_norm:
            d = sequences * aggregate.length;
            break;
        case kind::prompt_mean:
            d = (given ? aggregate.divide_by.n : prompt.prompts) * prompt.tokens;
            break;
    }
    if (!(d > 0)) return 0.0;
    if (aggregate.which == kind::token_mean || aggregate.which == kind::seq_mean_token_sum) d += epsilon.total;
    if (aggregate.which == kind::seq_mean_token_mean)
        d = (sequences + epsilon.total) * ((kept ? kept_tokens : tokens) + epsilon.sequence);
    return 1 / d;
}

/// Keep or reject, by the criteria of sequences: what is known before the batch has been counted.
template <class Core>
[[nodiscard]] TRM_INLINE sequence_verdict verdict_of(Core const& core, loss_options const& options,
                                                     sequence_total const& s) noexcept {
    sequence_verdict verdict = core.judge(s.sums, s.maxima, s.finite, s.passing, options.mean_epsilon.mask);
    if (core.has_sequence_criteria() && s.finite < s.tokens) {
        verdict.keep = false;
        verdict.reasons |= reason_nonfinite;
    }
    return verdict;
}
/// The one place that decides: keep or reject, then the weight, the surrogate's constants and the denominator. `n` covers the
/// whole batch. `d` is written in place: a wide copy would wait for the narrow stores, and these for a gradient to reach the cache.
template <class Core>
void decide(Core const& core, aggregation const& aggregate, loss_options const& options, double loss_scale,
            sequence_total const& s, counts const& n, prompt_share prompt, decision& d) noexcept {
    keep_so_far(d);
    sequence_verdict const verdict = verdict_of(core, options, s);
    d.keep = verdict.keep;
    d.reasons = verdict.reasons;
    d.scale = loss_scale * scale_of(aggregate, n, s.tokens, d.keep ? s.passing : 0.0, prompt, options.mean_epsilon);
    if (core.normalises()) {
        double const mean = n.weight_units > 0 ? n.weight_sum / n.weight_units : 1.0;
        d.weight_factor = mean > 1e-8 ? 1 / mean : 1.0;
    }
    if (!core.two_pass()) return;
    d.weight =
        core.sequence_weight_of(s.sums, s.finite, s.passing, options.log_ratio_clamp.weight_sequence, d.weight_factor);
    d.constants = core.constants_of(s.sums, options.mean_epsilon.surrogate, options.log_ratio_clamp.surrogate_sequence,
                                    d.weight, d.weight_factor);
    d.penalty =
        core.penalty_constants_of(s.sums, options.mean_epsilon.surrogate, options.log_ratio_clamp.surrogate_sequence);
}

}  // namespace detail
TRM_NAMESPACE_END
