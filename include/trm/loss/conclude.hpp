// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/blocks.hpp>
#include <trm/loss/tally.hpp>
#include <trm/loss/validate.hpp>

#include <cmath>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Books one run: its loss, and its share of the sequence's diagnostics.
template <class Core>
void conclude(Core const& core, loss_options const& options, partial& to, run_tally<Core> const& t,
              sequence_verdict verdict, double scale, double tokens, double finite, double passing, double x,
              double logp) noexcept {
    to.loss += scale * (t.objective + t.regulariser);
    if (!options.diagnose || t.tokens == 0) return;
    struct diagnostics& d = to.diagnostics;
    double const share = static_cast<double>(t.tokens) / tokens;
    struct diagnostics add;
    add.tokens = static_cast<double>(t.tokens);
    add.nonfinite_tokens = static_cast<double>(t.tokens - t.finite);
    add.positive_logp_tokens = t.positive_logp;
    add.sequences = share;
    add.sum_x = t.x;
    add.sum_k3 = t.k3;
    add.sum_r_squared = t.r_squared;
    add.sum_logp = t.logp;
    add.max_x = t.max_x;
    add.min_x = -t.max_negative_x;
    if (verdict.keep) {
        bool const split = t.passing != t.finite;
        add.kept_sequences = passing > 0 ? share : 0.0;
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
        bool const whole = (verdict.reasons >> i & 1u) != 0;
        add.rejected_tokens[i] = static_cast<double>(whole ? t.finite : t.rejected[i]);
        add.rejected_sequences[i] = whole || t.rejected[i] > 0 ? share : 0.0;
    }
    if (finite > 0) {
        auto const exp = [&](double v) {  // within 1 ulp, a tenth of std::exp's time
            using one = simd::vec<double, simd::scalar>;
            return simd::exp(one(v < -700 ? -700 : v > 700 ? 700 : v)).r;
        };
        double const limit = options.log_ratio_clamp;
        double const current = -logp / finite, difference = x / finite, rollout = current + difference;
        double const seq_ratio = exp(x < -limit ? -limit : x > limit ? limit : x);
        add.measured_sequences = share;
        add.sum_log_ppl = share * current;
        add.sum_rollout_log_ppl = share * rollout;
        add.sum_ppl = share * exp(current);
        add.sum_rollout_ppl = share * exp(rollout);
        add.sum_ppl_ratio = share * exp(-difference);
        add.sum_log_ppl_abs_diff = share * std::fabs(difference);
        add.max_log_ppl_diff = add.min_log_ppl_diff = -difference;
        add.sum_seq_ratio = share * seq_ratio;
        add.sum_seq_ratio_squared = share * seq_ratio * seq_ratio;
    }
    d.merge(add, core.criteria());
}

}  // namespace detail
TRM_NAMESPACE_END
