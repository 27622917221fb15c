// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/metrics.hpp>

#include <cmath>
#include <string>

/// \file
/// Metrics of trainers that need the batch: how far the two log-probabilities of a token are apart, without a clamp, and how
/// many ratios a clip would catch, whatever the advantage. Read in double, one token at a time; not for the inner loop.

TRM_NAMESPACE_BEGIN

/// How far target and behaviour log-probabilities are apart, x = log target - log behaviour unclamped, p and mu the two
/// probabilities, over finite loss_mask tokens (0 if there are none):
///
/// | name | value |
/// |---|---|
/// | `tokens_beyond_tolerance` | share of tokens with \|x\| > tolerance: torchtitan's `ratio_tokens_different` (1e-6, the default) |
/// | `logp_diff_mean`, `logp_diff_max` | of \|x\|: tunix, TRL, slime's `train_rollout_logprob_abs_diff` |
/// | `prob_diff_mean`, `prob_diff_max`, `prob_diff_std` | of \|p - mu\|: verl's `rollout_probs_diff_*`, tunix; deviation with n - 1 |
/// | `probs_pearson_corr` | correlation of p and mu: verl's `rollout_actor_probs_pearson_corr`; 0 where one of them does not vary |
/// | `ppo_kl` | mean of -x: slime, OpenRLHF (verl clamps x at 20) |
/// | `ess_sequence_mean` | mean over sequences of (sum r)^2 / (n sum r^2): miles' `ess_ratio` |
template <storage_type S>
[[nodiscard]] metrics token_metrics(batch_view<S> const& batch, ratio_kind kind = ratio_kind::current_over_rollout,
                                    double tolerance = 1e-6) {
    struct sums {
        double n = 0, r = 0, squares = 0, top = 0;
    };
    std::vector<sums> rows(static_cast<std::size_t>(batch.layout.sequences()));
    double n = 0, beyond = 0, sum = 0, absolute = 0, largest = 0;
    double diff = 0, diff_squares = 0, diff_largest = 0, mean_p = 0, mean_mu = 0, var_p = 0, var_mu = 0, covariance = 0;
    // The largest log-ratio of each sequence first: an effective sample size does not change with a common factor.
    detail::each_pair(batch, kind, [&](double a, double b, std::size_t i, std::size_t) {
        rows[i].top = rows[i].n == 0 ? a - b : std::fmax(rows[i].top, a - b);
        rows[i].n += 1;
    });
    detail::each_pair(batch, kind, [&](double a, double b, std::size_t i, std::size_t) {
        double const x = a - b, p = std::exp(a), mu = std::exp(b), d = std::fabs(p - mu), r = std::exp(x - rows[i].top);
        n += 1;
        beyond += std::fabs(x) > tolerance;
        sum += x;
        absolute += std::fabs(x);
        largest = std::fmax(largest, std::fabs(x));
        diff += d;
        diff_squares += d * d;
        diff_largest = std::fmax(diff_largest, d);
        double const up = p - mean_p, across = mu - mean_mu;  // Welford
        mean_p += up / n;
        mean_mu += across / n;
        var_p += up * (p - mean_p);
        var_mu += across * (mu - mean_mu);
        covariance += up * (mu - mean_mu);
        rows[i].r += r;
        rows[i].squares += r * r;
    });
    double ess = 0, sequences = 0;
    for (sums const& s : rows)
        if (s.n > 0) {
            ess += s.r * s.r / (s.n * s.squares);
            sequences += 1;
        }
    using detail::share;
    double const spread = n > 1 ? std::fmax(diff_squares - diff * diff / n, 0) / (n - 1) : 0.0;
    return {{"tokens_beyond_tolerance", share(beyond, n)},
            {"logp_diff_mean", share(absolute, n)},
            {"logp_diff_max", largest},
            {"prob_diff_mean", share(diff, n)},
            {"prob_diff_max", diff_largest},
            {"prob_diff_std", std::sqrt(spread)},
            {"probs_pearson_corr", share(covariance, std::sqrt(var_p) * std::sqrt(var_mu))},
            {"ppo_kl", share(-sum, n)},
            {"ess_sequence_mean", share(ess, sequences)}};
}

/// Shares of the finite loss_mask tokens whose ratio leaves [lower, upper], over all of them, tokens with A = 0 included,
/// whatever the mask: `low`, `high` and `outside` count by the ratio alone (GMPO's `pg_clipfrac` of verl, CISPO's of slime
/// and NeMo-RL), `low_negative` and `high_positive` only where the clip acts (TRL's `clip_ratio/low_mean` and `high_mean`),
/// `outside_nonzero` is over tokens with A != 0 (Stable-RL). The batch needs advantages.
template <storage_type S>
[[nodiscard]] metrics clip_metrics(batch_view<S> const& batch, double lower, double upper,
                                   ratio_kind kind = ratio_kind::surrogate) {
    double n = 0, low = 0, high = 0, low_negative = 0, high_positive = 0, nonzero = 0, outside_nonzero = 0;
    detail::each_pair(batch, kind, [&](double a, double b, std::size_t i, std::size_t at) {
        double const r = std::exp(a - b);
        double const A = batch.sequence_advantages.empty() ? static_cast<double>(batch.advantages[at])
                                                           : static_cast<double>(batch.sequence_advantages[i]);
        bool const under = r<lower, over = r> upper;
        n += 1;
        low += under;
        high += over;
        low_negative += under && A < 0;
        high_positive += over && A > 0;
        nonzero += A != 0;
        outside_nonzero += (under || over) && A != 0;
    });
    using detail::share;
    return {{"low", share(low, n)},
            {"high", share(high, n)},
            {"outside", share(low + high, n)},
            {"low_negative", share(low_negative, n)},
            {"high_positive", share(high_positive, n)},
            {"outside_nonzero", share(outside_nonzero, nonzero)}};
}

/// Pass rates of the first `criteria` criteria of a mask and of the whole mask, per token and per sequence (a sequence passes
/// where nothing of it is rejected; the mask's sequences pass with one kept token): ROLL's pass rates per filter. From the
/// diagnostics.
[[nodiscard]] inline metrics pass_metrics(diagnostics const& d, int criteria) {
    metrics out;
    for (int i = 0; i < criteria && i < max_criteria; ++i) {
        std::string const p = "criterion_" + std::to_string(i) + "_";
        out.push_back({p + "token_pass_rate", d.tokens > 0 ? 1 - d.rejected_token_fraction(i) : 0.0});
        out.push_back({p + "sequence_pass_rate", d.sequences > 0 ? 1 - d.rejected_sequence_fraction(i) : 0.0});
    }
    out.push_back({"token_pass_rate", d.kept_fraction()});
    out.push_back({"sequence_pass_rate", d.kept_sequence_fraction()});
    return out;
}

TRM_NAMESPACE_END
