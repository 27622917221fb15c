// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/diagnostics.hpp>
#include <trm/reference/policy.hpp>

/// \file
/// Oracle of the diagnostics: one pass over the tokens of each sequence.

TRM_NAMESPACE_BEGIN
namespace reference {

/// What became of a token.
struct judged_token {
    std::uint16_t reasons;
    bool keep, clipped;
    double weight;
};
/// Adds one sequence to the diagnostics. x is the clamped log-ratio of `over`; perplexities of the behaviour policy are those
/// of the target plus mean x. Log-probabilities above `tolerance` are counted.
inline void describe(diagnostics& d, sequence const& s, std::vector<judged_token> const& judged, ratio_kind over,
                     bool has_weight, double tolerance) {
    if (s.size() == 0) return;
    bool const first = d.finite_tokens() == 0;
    d.tokens += s.size();
    d.nonfinite_tokens += static_cast<double>(s.nonfinite.size());
    d.sequences += 1;
    double x_sum = 0, logp_sum = 0, kept = 0;
    bool rejects[max_criteria] = {};
    double low = first ? infinity : d.min_x, high = first ? -infinity : d.max_x;
    for (std::size_t i = 0; i < s.tokens.size(); ++i) {
        token const& t = s.tokens[i];
        judged_token const& j = judged[i];
        double const x = pair_of(t, over, t.clamps.mask).x;
        x_sum += x;
        logp_sum += t.logp;
        d.sum_k3 += k3_of(x);
        d.sum_r_squared += std::exp(2 * x);
        d.positive_logp_tokens +=
            t.logp > tolerance || t.rollout > tolerance || (t.has_proximal && t.proximal > tolerance);
        low = std::fmin(low, x);
        high = std::fmax(high, x);
        for (int c = 0; c < max_criteria; ++c) {
            d.rejected_tokens[c] += j.reasons >> c & 1;
            rejects[c] = rejects[c] || (j.reasons >> c & 1) != 0;
        }
        if (!j.keep) continue;
        double const weight = has_weight ? j.weight : 1.0;
        kept += 1;
        d.kept_x += x;
        d.kept_k3 += k3_of(x);
        d.positive_tokens += t.advantage > 0;
        d.negative_tokens += t.advantage < 0;
        d.clipped_positive += t.advantage > 0 && j.clipped;
        d.clipped_negative += t.advantage < 0 && j.clipped;
        d.sum_weight += weight;
        d.sum_weight_squared += weight * weight;
        d.max_weight = std::fmax(d.max_weight, weight);
    }
    d.sum_x += x_sum;
    d.sum_logp += logp_sum;
    d.kept_tokens += kept;
    d.kept_sequences += kept > 0;
    for (int c = 0; c < max_criteria; ++c) d.rejected_sequences[c] += rejects[c];
    if (s.tokens.empty()) return;
    d.min_x = low;
    d.max_x = high;
    auto const n = static_cast<double>(s.tokens.size());
    double const log_p = logp_sum / n, diff = x_sum / n;  // x = log p - log mu, clamped
    double const seq_ratio = std::exp(s.tokens[0].clamps.mask(x_sum));
    d.min_log_ppl_diff = d.measured_sequences == 0 ? -diff : std::fmin(d.min_log_ppl_diff, -diff);
    d.max_log_ppl_diff = d.measured_sequences == 0 ? -diff : std::fmax(d.max_log_ppl_diff, -diff);
    d.measured_sequences += 1;
    d.sum_log_ppl += -log_p;
    d.sum_rollout_log_ppl += diff - log_p;
    d.sum_ppl += std::exp(-log_p);
    d.sum_rollout_ppl += std::exp(diff - log_p);
    d.sum_ppl_ratio += std::exp(-diff);
    d.sum_log_ppl_abs_diff += std::fabs(diff);
    d.sum_seq_ratio += seq_ratio;
    d.sum_seq_ratio_squared += seq_ratio * seq_ratio;
}

}  // namespace reference
TRM_NAMESPACE_END
