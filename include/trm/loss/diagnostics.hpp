// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

TRM_NAMESPACE_BEGIN

/// What a batch looked like to the loss: counts, sums and extrema that `merge` adds over threads, micro-batches and ranks,
/// and means named after trainers' dashboards. x is the log-ratio of the mask's first criterion, else of
/// the weight, else log current - log rollout; r = e^x; clamped as in the loss. Tokens are loss_mask tokens; means over an empty set are 0.
/// Means are in the range of what they estimate, whatever the rounding of the sums: k3 and chi2 >= 0, fractions in [0, 1],
/// effective sample sizes in (0, 1].
struct diagnostics {
    // tokens
    double tokens = 0;  ///< loss_mask tokens
    double nonfinite_tokens = 0;  ///< of these, with a non-finite input: masked
    double positive_logp_tokens = 0;  ///< finite, with a log-probability above `positive_tolerance`
    double kept_tokens = 0;  ///< tokens that reach the loss
    double sum_x = 0, sum_k3 = 0, sum_r_squared = 0, sum_logp = 0;  ///< over finite tokens
    double kept_x = 0, kept_k3 = 0;  ///< over kept tokens
    double max_x = 0, min_x = 0;  ///< 0 when no token is finite
    double positive_tokens = 0, negative_tokens = 0;  ///< kept, by the sign of the advantage
    double clipped_positive = 0, clipped_negative = 0;  ///< kept tokens whose surrogate is clipped
    double sum_weight = 0, sum_weight_squared = 0, max_weight = 0;  ///< importance weights of kept tokens
    // sequences with at least one finite token
    double sequences = 0;  ///< non-empty sequences
    double kept_sequences = 0;  ///< with at least one kept token
    double sum_log_ppl = 0, sum_rollout_log_ppl = 0;  ///< -mean log-probability of each sequence, summed
    double sum_ppl = 0, sum_rollout_ppl = 0, sum_ppl_ratio = 0;
    double sum_log_ppl_abs_diff = 0, max_log_ppl_diff = 0, min_log_ppl_diff = 0;  ///< rollout minus current mean logp
    double sum_seq_ratio = 0, sum_seq_ratio_squared = 0;  ///< prod r, log clamped
    double measured_sequences = 0;  ///< sequences that these sums cover
    // criteria of the mask, in the order written
    double rejected_tokens[max_criteria] = {};  ///< tokens that criterion i rejects, alone or not
    double rejected_sequences[max_criteria] =
        {};  ///< sequences in which criterion i rejects something; of a sequence in
    ///< several runs, a token criterion counts the share of those runs

    [[nodiscard]] double finite_tokens() const noexcept { return tokens - nonfinite_tokens; }
    [[nodiscard]] double kept_fraction() const noexcept { return fraction(kept_tokens, tokens); }
    [[nodiscard]] double kept_sequence_fraction() const noexcept { return fraction(kept_sequences, sequences); }
    [[nodiscard]] double kl_k1() const noexcept { return over(-sum_x, finite_tokens()); }
    [[nodiscard]] double kl_k3() const noexcept { return over(sum_k3, finite_tokens()); }
    [[nodiscard]] double kl_k1_kept() const noexcept { return over(-kept_x, kept_tokens); }
    [[nodiscard]] double kl_k3_kept() const noexcept { return over(kept_k3, kept_tokens); }
    [[nodiscard]] double kl_k1_masked() const noexcept { return over(kept_x - sum_x, finite_tokens() - kept_tokens); }
    [[nodiscard]] double kl_k3_masked() const noexcept {
        return over(std::fmax(sum_k3 - kept_k3, 0), finite_tokens() - kept_tokens);
    }
    /// Mean ratio, between the smallest and the largest: 1 in expectation when samples come from the rollout policy. Uses
    /// r = k3 + 1 + x: absolute error 2e-6 mean |x| (float).
    [[nodiscard]] double mean_ratio() const noexcept { return over(sum_ratio(), finite_tokens()); }
    [[nodiscard]] double max_ratio() const noexcept { return finite_tokens() > 0 ? std::exp(max_x) : 0.0; }
    [[nodiscard]] double min_ratio() const noexcept { return finite_tokens() > 0 ? std::exp(min_x) : 0.0; }
    /// Largest k2 and k3, which sit at an extreme log-ratio because both are convex with minimum 0.
    [[nodiscard]] double max_k2() const noexcept {
        double const x = max_x > -min_x ? max_x : min_x;
        return x * x / 2;
    }
    [[nodiscard]] double max_k3() const noexcept {
        auto const k3 = [](double x) { return simd::exp_k3(simd::vec<double, simd::scalar>(x)).k3.r; };
        return std::fmax(k3(max_x), k3(min_x));
    }
    /// chi^2(target || behaviour) from samples: mean r^2 - 1, which a sample may have below 0; then 0.
    [[nodiscard]] double chi2_token() const noexcept {
        return finite_tokens() > 0 ? std::fmax(sum_r_squared / finite_tokens() - 1, 0) : 0.0;
    }
    [[nodiscard]] double chi2_sequence() const noexcept {
        return measured_sequences > 0 ? std::fmax(sum_seq_ratio_squared / measured_sequences - 1, 0) : 0.0;
    }
    /// Effective sample size of the token ratios as a fraction of the tokens: (sum r)^2 / (n sum r^2), in (0, 1].
    [[nodiscard]] double ess() const noexcept {
        double const n = finite_tokens(), r = sum_ratio();
        return n > 0 ? std::fmax(fraction(r * r, n * sum_r_squared), 1 / n) : 0.0;
    }
    /// The same for whole sequences and the product of their ratios.
    [[nodiscard]] double ess_sequence() const noexcept {
        return fraction(sum_seq_ratio * sum_seq_ratio, measured_sequences * sum_seq_ratio_squared);
    }
    /// The same for the importance weights that were applied to kept tokens; 1 without a weight policy, 0 if all are 0.
    [[nodiscard]] double ess_weight() const noexcept {
        return fraction(sum_weight * sum_weight, kept_tokens * sum_weight_squared);
    }
    [[nodiscard]] double mean_weight() const noexcept { return over(sum_weight, kept_tokens); }
    [[nodiscard]] double clip_fraction() const noexcept {
        return fraction(clipped_positive + clipped_negative, kept_tokens);
    }
    [[nodiscard]] double clip_fraction_positive() const noexcept { return fraction(clipped_positive, positive_tokens); }
    [[nodiscard]] double clip_fraction_negative() const noexcept { return fraction(clipped_negative, negative_tokens); }
    [[nodiscard]] double log_ppl() const noexcept { return over(sum_log_ppl, measured_sequences); }
    [[nodiscard]] double rollout_log_ppl() const noexcept { return over(sum_rollout_log_ppl, measured_sequences); }
    [[nodiscard]] double ppl() const noexcept { return over(sum_ppl, measured_sequences); }
    [[nodiscard]] double rollout_ppl() const noexcept { return over(sum_rollout_ppl, measured_sequences); }
    [[nodiscard]] double ppl_ratio() const noexcept { return over(sum_ppl_ratio, measured_sequences); }
    /// Mean over sequences of mean log mu - mean log p.
    [[nodiscard]] double log_ppl_diff() const noexcept {
        return over(sum_log_ppl - sum_rollout_log_ppl, measured_sequences);
    }
    [[nodiscard]] double log_ppl_abs_diff() const noexcept { return over(sum_log_ppl_abs_diff, measured_sequences); }
    [[nodiscard]] double rejected_token_fraction(int criterion) const noexcept {
        return fraction(rejected_tokens[criterion], tokens);
    }
    [[nodiscard]] double rejected_sequence_fraction(int criterion) const noexcept {
        return fraction(rejected_sequences[criterion], sequences);
    }

    /// The members that add; the others are extrema. For writing a reduction over ranks.
    [[nodiscard]] static constexpr std::array<double diagnostics::*, 27> sums() noexcept {
        using d = diagnostics;
        return {&d::tokens,
                &d::nonfinite_tokens,
                &d::positive_logp_tokens,
                &d::kept_tokens,
                &d::sum_x,
                &d::sum_k3,
                &d::sum_r_squared,
                &d::sum_logp,
                &d::kept_x,
                &d::kept_k3,
                &d::positive_tokens,
                &d::negative_tokens,
                &d::clipped_positive,
                &d::clipped_negative,
                &d::sum_weight,
                &d::sum_weight_squared,
                &d::sequences,
                &d::kept_sequences,
                &d::sum_log_ppl,
                &d::sum_rollout_log_ppl,
                &d::sum_ppl,
                &d::sum_rollout_ppl,
                &d::sum_ppl_ratio,
                &d::sum_log_ppl_abs_diff,
                &d::sum_seq_ratio,
                &d::sum_seq_ratio_squared,
                &d::measured_sequences};
    }

    /// Adds another part of the batch. Associative up to rounding; parts merged in a fixed order give fixed bits. Where the
    /// number of the mask's criteria is known, the numbers of others, all 0, need not be added.
    void merge(diagnostics const& o, int criteria = max_criteria) noexcept {
        auto const extreme = [](bool mine, bool theirs, double a, double b, bool larger) {
            if (!theirs) return a;
            if (!mine) return b;
            return (a > b) == larger ? a : b;
        };
        bool const mine = finite_tokens() > 0, theirs = o.finite_tokens() > 0;
        max_x = extreme(mine, theirs, max_x, o.max_x, true);
        min_x = extreme(mine, theirs, min_x, o.min_x, false);
        max_weight = max_weight > o.max_weight ? max_weight : o.max_weight;
        bool const seen = measured_sequences > 0, seen_there = o.measured_sequences > 0;
        max_log_ppl_diff = extreme(seen, seen_there, max_log_ppl_diff, o.max_log_ppl_diff, true);
        min_log_ppl_diff = extreme(seen, seen_there, min_log_ppl_diff, o.min_log_ppl_diff, false);
        constexpr auto members = sums();
        [&]<std::size_t... Is>(std::index_sequence<Is...>) {
            ((this->*members[Is] += o.*members[Is]), ...);
        }(std::make_index_sequence<members.size()>{});
        for (int i = 0; i < criteria; ++i) {
            rejected_tokens[i] += o.rejected_tokens[i];
            rejected_sequences[i] += o.rejected_sequences[i];
        }
    }

private:
    /// Where ratios are small, k3 + 1 + x has lost them; the sums of their squares has not: sum r^2 <= (sum r)^2 <= n sum r^2.
    /// Nor can the mean leave the extremes. `slack`: what those sums are accurate to.
    [[nodiscard]] double sum_ratio() const noexcept {
        constexpr double slack = 1e-5;
        double const n = finite_tokens(), r = sum_k3 + n + sum_x;
        double const least = std::fmax(std::sqrt(sum_r_squared) * (1 - slack), n * min_ratio());
        double const most = std::fmin(std::sqrt(n * sum_r_squared) * (1 + slack), n * max_ratio());
        return std::fmax(std::fmin(r, most), std::fmin(least, most));
    }
    [[nodiscard]] static double fraction(double a, double b) noexcept { return b > 0 ? std::fmin(a / b, 1) : 0.0; }
    [[nodiscard]] static double over(double a, double b) noexcept { return b > 0 ? a / b : 0.0; }
};

TRM_NAMESPACE_END
