// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/diagnostics.hpp>
#include <trm/loss/presets_verl.hpp>

#include <trm/core/batch_view.hpp>

#include <algorithm>
#include <string>
#include <vector>

/// \file
/// Dashboards of other trainers under their own names. What `diagnostics` holds is only renamed. The spread of a criterion's
/// statistic and of importance weights is not in `diagnostics`: `verl_rejection_metrics` and `verl_weight_metrics` read
/// the batch once more, in double. Allocates; not for the inner loop.

TRM_NAMESPACE_BEGIN

struct metric {
    std::string name;
    double value;
};
using metrics = std::vector<metric>;

namespace detail {

inline constexpr double verl_epsilon = 1e-8;  // verl's masked means divide by n + this

/// a / b, and 0 where b is 0.
[[nodiscard]] inline double share(double a, double b) noexcept { return b > 0 ? a / b : 0.0; }

/// f(log target, log behaviour, sequence, token) for every loss_mask token where both are finite, of a pair of policies that the
/// batch has.
template <storage_type S, class F>
void each_pair(batch_view<S> const& batch, ratio_kind kind, F&& f) {
    ratio_kind const k = resolve(kind, !batch.proximal_logp.empty());
    auto const& target = k == ratio_kind::proximal_over_rollout ? batch.proximal_logp : batch.logp;
    auto const& behaviour = k == ratio_kind::current_over_proximal ? batch.proximal_logp : batch.rollout_logp;
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        token_run const run = batch.layout.run(i);
        for (std::int64_t t = run.begin; t < run.begin + run.size; ++t) {
            auto const at = static_cast<std::size_t>(t);
            if (!batch.loss_mask.empty() && batch.loss_mask[at] == 0) continue;
            auto const p = static_cast<double>(to_float(target[at])), q = static_cast<double>(to_float(behaviour[at]));
            if (is_finite(p) && is_finite(q)) f(p, q, static_cast<std::size_t>(run.sequence), at);
        }
    }
}

/// Clamped log-ratios logp - rollout_logp of every sequence's finite loss_mask tokens.
template <storage_type S>
[[nodiscard]] std::vector<std::vector<double>> log_ratios(batch_view<S> const& batch, double limit) {
    std::vector<std::vector<double>> rows(static_cast<std::size_t>(batch.layout.sequences()));
    each_pair(batch, ratio_kind::current_over_rollout,
              [&](double target, double behaviour, std::size_t sequence, std::size_t) {
                  rows[sequence].push_back(std::clamp(target - behaviour, -limit, limit));
              });
    return rows;
}

/// Sums of numbers: what means, extremes and deviations need.
struct spread {
    double n = 0, sum = 0, squares = 0, clamped = 0, clamped_squares = 0, low = 0, high = 0;
    double max = 0, min = 0, deviation = 0;
    /// One number, its band, the range it is clamped to for the standard deviation, and what deviation is from.
    void add(double v, band keep, band range, double centre) {
        max = n == 0 || v > max ? v : max;
        min = n == 0 || v < min ? v : min;
        deviation = std::fmax(deviation, std::fabs(v - centre));
        double const c = std::clamp(v, range.lower, range.upper);
        ++n;
        sum += v;
        squares += v * v;
        clamped += c;
        clamped_squares += c * c;
        high += v > keep.upper;
        low += v < keep.lower;
    }
    [[nodiscard]] double mean(double eps) const { return n > 0 ? sum / (n + eps) : 0.0; }
    [[nodiscard]] double fraction(double count, double eps = 0) const { return n > 0 ? count / (n + eps) : 0.0; }
    [[nodiscard]] double population_deviation(double eps) const {
        double const m = clamped / (n + eps), v = clamped_squares / (n + eps) - m * m;
        return n > 1 && v > 0 ? std::sqrt(v) : 0.0;
    }
    /// Bessel's.
    [[nodiscard]] double sample_deviation() const {
        double const v = n > 1 ? (squares - sum * sum / n) / (n - 1) : 0.0;
        return v > 0 ? std::sqrt(v) : 0.0;
    }
};

}  // namespace detail

/// `rollout_corr/{training_ppl, ..., chi2_seq}`: 13 metrics from the diagnostics of any loss whose log-ratio of interest is
/// verl's (logp = old_log_prob in decoupled mode). verl averages over all rows, and gives a row without tokens
/// log-perplexity 0: pass how many there are as `empty_rows` for its numbers; trm leaves them out. k3 is of clamped
/// log-ratios here, so never infinite.
[[nodiscard]] inline metrics verl_offpolicy_metrics(diagnostics const& d, double empty_rows = 0) {
    double const rows = d.measured_sequences + empty_rows;
    auto const row = [&](double sum, double empty) { return rows > 0 ? (sum + empty * empty_rows) / rows : 0.0; };
    bool const empty = empty_rows > 0;
    std::string const p = "rollout_corr/";
    return {{p + "training_ppl", row(d.sum_ppl, 1)},
            {p + "training_log_ppl", row(d.sum_log_ppl, 0)},
            {p + "kl", d.kl_k1()},
            {p + "k3_kl", d.kl_k3()},
            {p + "rollout_ppl", row(d.sum_rollout_ppl, 1)},
            {p + "rollout_log_ppl", row(d.sum_rollout_log_ppl, 0)},
            {p + "log_ppl_diff", row(d.sum_log_ppl - d.sum_rollout_log_ppl, 0)},
            {p + "log_ppl_abs_diff", row(d.sum_log_ppl_abs_diff, 0)},
            {p + "log_ppl_diff_max", empty ? std::fmax(d.max_log_ppl_diff, 0) : d.max_log_ppl_diff},
            {p + "log_ppl_diff_min", empty ? std::fmin(d.min_log_ppl_diff, 0) : d.min_log_ppl_diff},
            {p + "ppl_ratio", row(d.sum_ppl_ratio, 1)},
            {p + "chi2_token", d.finite_tokens() > 0 ? d.sum_r_squared / d.finite_tokens() - 1 : 0},
            {p + "chi2_seq", row(d.sum_seq_ratio_squared, 1) - 1}};
}

/// `rollout_corr/rollout_rs_<option>_*` for every option, and the two fractions after the conjunction. Sequence options count
/// non-empty sequences; for token options the seq_* numbers are of each sequence's mean. `empty_rows` only enters the last
/// metric, whose denominator in verl is all rows.
template <storage_type S>
[[nodiscard]] metrics verl_rejection_metrics(batch_view<S> const& batch, presets::verl_rejection const& rs,
                                             double empty_rows = 0, double limit = 20) {
    constexpr double eps = detail::verl_epsilon;
    auto const rows = detail::log_ratios(batch, limit);
    metrics out;
    std::vector<std::vector<char>> rejected;
    double tokens = 0, sequences = 0;
    for (auto const& row : rows) {
        rejected.emplace_back(row.size());
        tokens += static_cast<double>(row.size());
        sequences += !row.empty();
    }
    for (int i = 0; i < rs.size; ++i) {
        presets::verl_criterion const& c = rs.criteria[i];
        bool const per_token = c.level == presets::verl_level::token, k1 = c.k == 1;
        band const range{k1 ? c.keep.lower : 0.0, c.keep.upper};
        detail::spread of_tokens, of_rows;
        double masked = 0, masked_rows = 0;
        for (std::size_t s = 0; s < rows.size(); ++s) {
            if (rows[s].empty()) continue;
            std::vector<double> v;
            double sum = 0, largest = -std::numeric_limits<double>::infinity();
            for (double x : rows[s]) {
                v.push_back(k1 ? -x : c.k == 2 ? x * x / 2 : std::expm1(x) - x);
                sum += v.back();
                largest = std::fmax(largest, v.back());
            }
            double const mean = sum / static_cast<double>(v.size());
            double const whole = c.level == presets::verl_level::seq_sum   ? sum
                                 : c.level == presets::verl_level::seq_max ? largest
                                                                           : mean;
            of_rows.add(whole, c.keep, range, 0);
            bool any = false;
            for (std::size_t t = 0; t < v.size(); ++t) {
                double const d = per_token ? v[t] : whole;
                of_tokens.add(d, c.keep, range, 0);
                bool const out_of_band = !c.keep.contains(d);
                masked += out_of_band;
                any = any || out_of_band;
                if (out_of_band) rejected[s][t] = 1;
            }
            masked_rows += any;
        }
        std::string const p = "rollout_corr/rollout_rs_" + std::string(c.name) + "_";
        out.insert(out.end(), {{p + "mean", of_tokens.mean(eps)},
                               {p + "max", of_tokens.max},
                               {p + "min", of_tokens.min},
                               {p + "fraction_high",
                                per_token ? of_tokens.fraction(of_tokens.high, eps) : of_rows.fraction(of_rows.high)},
                               {p + "fraction_low",
                                per_token ? of_tokens.fraction(of_tokens.low, eps) : of_rows.fraction(of_rows.low)},
                               {p + "std", of_tokens.population_deviation(eps)},
                               {p + "seq_mean", of_rows.mean(0)},
                               {p + "seq_std", of_rows.sample_deviation()},
                               {p + "seq_max", of_rows.max},
                               {p + "seq_min", of_rows.min},
                               {p + "seq_max_deviation", of_rows.deviation},
                               {p + "seq_fraction_high", of_rows.fraction(of_rows.high)},
                               {p + "masked_fraction", masked / (tokens + eps)},
                               {p + "seq_masked_fraction", sequences > 0 ? masked_rows / sequences : 0.0}});
        if (k1) out.push_back({p + "seq_fraction_low", of_rows.fraction(of_rows.low)});
    }
    double masked = 0, masked_rows = 0;
    for (auto const& row : rejected) {
        auto const n = std::count(row.begin(), row.end(), char{1});
        masked += static_cast<double>(n);
        masked_rows += n > 0;
    }
    double const all = sequences + empty_rows;
    out.push_back({"rollout_corr/rollout_rs_masked_fraction", masked / (tokens + eps)});
    out.push_back({"rollout_corr/rollout_rs_seq_masked_fraction", all > 0 ? masked_rows / all : 0.0});
    return out;
}

/// `rollout_corr/rollout_is_*` of weights per token or per sequence (product). `_max` and `_min` of sequence weights are of raw
/// products, as in verl; everything is before batch normalisation, whose divisor is `batch_norm_factor` (emitted if
/// `normalise`). Rows without tokens weigh 0 in verl's per-row numbers (and have log-ratio 0): `empty_rows` of them are
/// added. Where every weight is 0 the effective sample size is 0; verl divides by zero.
template <storage_type S>
[[nodiscard]] metrics verl_weight_metrics(batch_view<S> const& batch, bool per_token,
                                          presets::verl_weight_bound const& is, bool normalise = false,
                                          double empty_rows = 0, double limit = 20) {
    constexpr double eps = detail::verl_epsilon, infinity = std::numeric_limits<double>::infinity();
    double const upper = is.bound.upper, lower = is.is_band ? is.bound.lower : 1 / upper;
    band const keep{lower, upper}, range{0, upper};
    detail::spread raw, applied, raw_rows, rows;
    double largest = -infinity, smallest = infinity, low_rows = 0, high_rows = 0, row_means = 0;
    for (auto const& x : detail::log_ratios(batch, limit)) {
        if (x.empty()) continue;
        double sum = 0, raw_sum = 0, applied_sum = 0;
        for (double v : x) sum += v;
        for (double v : x) {
            double const w = std::exp(per_token ? v : std::clamp(sum, -limit, limit)), a = is.bound(w);
            raw.add(w, keep, range, 1);
            applied.add(a, keep, range, 1);
            raw_sum += w;
            applied_sum += a;
        }
        auto const n = static_cast<double>(x.size());
        raw_rows.add(raw_sum / (n + eps), keep, range, 1);
        rows.add(applied_sum / (n + eps), keep, range, 1);
        row_means += applied_sum / (n + eps);
        largest = std::fmax(largest, sum);
        smallest = std::fmin(smallest, sum);
        high_rows += sum > std::log(upper);
        low_rows += sum < std::log(lower);
    }
    double const sequences = rows.n, all = sequences + empty_rows;
    for (double i = 0; i < empty_rows; ++i) {
        raw_rows.add(0, keep, range, 1);
        rows.add(0, keep, range, 1);
        largest = std::fmax(largest, 0);
        smallest = std::fmin(smallest, 0);
        low_rows += 0 < std::log(lower);
        high_rows += 0 > std::log(upper);
    }
    double const mean = applied.mean(eps), m = applied.clamped;
    std::string const p = "rollout_corr/rollout_is_";
    metrics out{{p + "mean", mean},
                {p + "max", per_token ? applied.max
                            : all > 0 ? std::exp(std::fmin(largest, limit))
                                      : 0.0},
                {p + "min", per_token ? applied.min
                            : all > 0 ? std::exp(smallest)
                                      : 0.0},
                {p + "ratio_fraction_high", per_token ? raw.fraction(raw.high, eps) : raw_rows.fraction(high_rows)},
                {p + "ratio_fraction_low", per_token ? raw.fraction(raw.low, eps) : raw_rows.fraction(low_rows)},
                {p + "std", applied.population_deviation(eps)},
                {p + "eff_sample_size",
                 m > 0 ? (applied.n + eps) * (mean + eps) * (mean + eps) / applied.clamped_squares : 0.0},
                {p + "seq_mean", rows.mean(0)},
                {p + "seq_std", rows.sample_deviation()},
                {p + "seq_max", rows.max},
                {p + "seq_min", rows.min},
                {p + "seq_max_deviation", rows.deviation},
                {p + "seq_fraction_high", raw_rows.fraction(raw_rows.high)},
                {p + "seq_fraction_low", raw_rows.fraction(raw_rows.low)}};
    if (is.is_band) out.push_back({p + "oob_ratio", raw.fraction(raw.low + raw.high)});
    if (normalise) {
        double const factor = per_token ? applied.mean(0) : sequences > 0 ? row_means / sequences : 0.0;
        out.push_back({p + "batch_norm_factor", factor > 1e-8 ? factor : 1.0});
    }
    return out;
}

/// NeMo-RL's comparison of the rollout with the training policy: token means of e^|x|, of a KL estimate in both directions
/// and of the two-point Jensen-Shannon divergence, and the spread over non-empty sequences of the mean e^|x|. `Estimator` is
/// its `reference_policy_kl_type`: k1, k2 or k3. Log-ratios are clamped here, unless the limit is infinite.
template <class Estimator = k3, storage_type S>
[[nodiscard]] metrics nemo_metrics(batch_view<S> const& batch, double limit = 20) {
    static_assert(std::is_same_v<Estimator, k1> || std::is_same_v<Estimator, k2> || std::is_same_v<Estimator, k3>);
    auto const kl = [](double x) {  // of the sampling policy to the other, x = log other - log sampling
        if constexpr (std::is_same_v<Estimator, k1>) return -x;
        if constexpr (std::is_same_v<Estimator, k2>) return x * x / 2;
        if constexpr (std::is_same_v<Estimator, k3>) return std::expm1(x) - x;
    };
    double n = 0, either = 0, forward = 0, backward = 0, js = 0;
    detail::spread sequences;
    for (auto const& row : detail::log_ratios(batch, limit)) {
        double own = 0;
        for (double x : row) {
            own += std::exp(std::fabs(x));
            forward += kl(x);
            backward += kl(-x);
            js += std::log1p(std::pow(std::sinh(x / 2), 2)) / 2;
        }
        n += static_cast<double>(row.size());
        either += own;
        if (!row.empty()) sequences.add(own / static_cast<double>(row.size()), {}, {}, 1);
    }
    double const by = n + detail::verl_epsilon;  // NeMo-RL's too
    return {{"token_mult_prob_error", either / by},     {"gen_kl_error", forward / by},
            {"policy_kl_error", backward / by},         {"js_divergence_error", js / by},
            {"max_seq_mult_prob_error", sequences.max}, {"mean_seq_mult_prob_error", sequences.mean(0)},
            {"min_seq_mult_prob_error", sequences.min}};
}

/// prime-rl's metrics of its losses, from the diagnostics of their presets. The last four are those of its default until August
/// 2026, `presets::prime_rl_dppo_2026_08`, whose first criterion rejects by the high side and whose second by the low side.
[[nodiscard]] inline metrics prime_rl_metrics(diagnostics const& d) {
    double const masked = d.finite_tokens() - d.kept_tokens;
    return {{"masked_mismatch_kl", d.kl_k3_masked()},
            {"unmasked_mismatch_kl", d.kl_k3_kept()},
            {"is_masked", detail::share(masked, d.tokens)},
            {"is_masked_low", d.rejected_token_fraction(1)},
            {"is_masked_high", d.rejected_token_fraction(0)},
            {"masked_advantage_positive", detail::share(d.rejected_tokens[0], masked)},
            {"masked_advantage_negative", detail::share(d.rejected_tokens[1], masked)}};
}

TRM_NAMESPACE_END
