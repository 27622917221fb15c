// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/blocks.hpp>
#include <trm/pipeline/tally.hpp>
#include <trm/simd/math.hpp>

#include <cmath>

TRM_NAMESPACE_BEGIN
namespace detail {

/// e^v within 1 ulp, in a tenth of std::exp's time.
[[nodiscard]] inline double quick_exp(double v) noexcept {
    using one = simd::vec<double, simd::scalar>;
    return simd::exp(one(v < -700 ? -700 : v > 700 ? 700 : v)).r;
}

/// The terms that exist once per sequence, each run adding its share: perplexities and the product of ratios. x, logp: sums
/// over the whole sequence.
inline void describe_sequence(struct diagnostics& d, double share, double finite, double x, double logp,
                              clamp_range clamp) noexcept {
    double const current = -logp / finite, difference = x / finite, rollout = current + difference;
    double const seq_ratio = quick_exp(clamp(x));
    d.measured_sequences = share;
    d.sum_log_ppl = share * current;
    d.sum_rollout_log_ppl = share * rollout;
    d.sum_ppl = share * quick_exp(current);
    d.sum_rollout_ppl = share * quick_exp(rollout);
    d.sum_ppl_ratio = share * quick_exp(-difference);
    d.sum_log_ppl_abs_diff = share * std::fabs(difference);
    d.max_log_ppl_diff = d.min_log_ppl_diff = -difference;
    d.sum_seq_ratio = share * seq_ratio;
    d.sum_seq_ratio_squared = share * seq_ratio * seq_ratio;
}

/// Adds one run to the diagnostics: its tokens, and its share of what its sequence, `whole`, is. x, logp: sums over the whole
/// sequence.
template <class Core>
void describe_run(Core const& core, clamp_range clamp, struct diagnostics& to, run_tally<Core> const& t,
                  decision const& decided, sequence_total const& whole, double x, double logp) noexcept {
    if (t.tokens == 0) return;
    double const share = static_cast<double>(t.tokens) / whole.tokens;
    struct diagnostics add;
    add.tokens = static_cast<double>(t.tokens);
    add.nonfinite_tokens = static_cast<double>(t.tokens - t.finite);
    add.positive_logp_tokens = static_cast<double>(t.positive_logp);
    add.sequences = share;
    add.sum_x = t.x;
    add.sum_k3 = t.k3;
    add.sum_r_squared = t.r_squared;
    add.sum_logp = t.logp;
    add.max_x = t.max_x;
    add.min_x = -t.max_negative_x;
    if (decided.keep) {
        bool const split = t.passing != t.finite;
        add.kept_sequences = whole.passing > 0 ? share : 0.0;
        add.kept_tokens = static_cast<double>(t.passing);
        add.kept_x = split ? t.passing_x : t.x;
        add.kept_k3 = split ? t.passing_k3 : t.k3;
        add.positive_tokens = t.positive;
        add.negative_tokens = t.negative;
        add.clipped_positive = t.clipped_positive;
        add.clipped_negative = t.clipped_negative;
        add.sum_weight = core.has_weight() ? t.weight : add.kept_tokens;
        add.sum_weight_squared = core.has_weight() ? t.weight_squared : add.kept_tokens;
        add.max_weight = core.has_weight() ? t.max_weight : add.kept_tokens > 0 ? 1.0 : 0.0;
    }
    for (int i = 0; i < core.criteria(); ++i) {
        bool const all = (decided.reasons >> i & 1u) != 0;
        add.rejected_tokens[i] = static_cast<double>(all ? t.finite : t.rejected[i]);
        add.rejected_sequences[i] = all || t.rejected[i] > 0 ? share : 0.0;
    }
    if (whole.finite > 0) describe_sequence(add, share, whole.finite, x, logp, clamp);
    to.merge(add, core.criteria());
}

}  // namespace detail
TRM_NAMESPACE_END
