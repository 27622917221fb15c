// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/calibration.hpp>
#include <trm/bounds/certificate.hpp>
#include <trm/bounds/curve.hpp>
#include <trm/bounds/sweep.hpp>
#include <trm/bounds/threshold.hpp>

#include <cstdarg>
#include <cstdio>
#include <span>
#include <string>

/// \file
/// Certificates, sweeps, curves and calibrations as plain text, one table each. Nothing is printed.

TRM_NAMESPACE_BEGIN
namespace bounds {

[[nodiscard]] constexpr const char* to_string(claim k) noexcept {
    switch (k) {
        case claim::exact:
            return "exact";
        case claim::estimated:
            return "estimated";
        case claim::plug_in:
            return "plug-in";
    }
    return "?";
}

[[nodiscard]] constexpr const char* to_string(rung_name n) noexcept {
    if (n == rung_name::direct) return "direct, worst reward";
    if (n == rung_name::one_sided) return "direct, one-sided";
    if (n == rung_name::blocks) return "blocks";
    if (n == rung_name::second_moment) return "second moment";
    return to_string(
        static_cast<bound_name>(static_cast<std::size_t>(n) - static_cast<std::size_t>(rung_name::classical)));
}

[[nodiscard]] constexpr const char* to_string(rung_status s) noexcept {
    switch (s) {
        case rung_status::ok:
            return "ok";
        case rung_status::unhealthy:
            return "unreliable: ratios too heavy-tailed";
        case rung_status::no_interval:
            return "no interval: fewer than two groups";
        case rung_status::batch_max:
            return "maximum over the batch only";
        case rung_status::detector:
            return "sampled tokens: a detector, not a bound";
    }
    return "?";
}

namespace detail {

[[nodiscard, gnu::format(printf, 1, 2)]] inline std::string line(const char* format, ...) {
    char buffer[256];
    std::va_list args;
    va_start(args, format);
    const int n = std::vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    return n > 0 ? std::string(buffer, (std::min)(static_cast<std::size_t>(n), sizeof buffer - 1)) : std::string();
}

[[nodiscard]] inline std::string text(const std::optional<interval>& range) {
    return range ? line("[%.3g, %.3g]", range->low, range->high) : std::string("-");
}

[[nodiscard]] inline std::string text(const estimate& e) {
    return e.range ? line("%.3g [%.3g, %.3g]", e.value, e.range->low, e.range->high) : line("%.3g", e.value);
}

/// The rung's name, with the block length where there is one.
[[nodiscard]] inline std::string text(const rung& r) {
    if (r.name != rung_name::blocks) return to_string(r.name);
    return line("blocks of %lld", static_cast<long long>(r.block));
}

/// Which block lengths were looked at, and which was taken.
[[nodiscard]] inline std::string block_health(const certificate& c) {
    if (c.blocks.empty()) return {};
    const block_row& row = c.blocks[c.block_used.value_or(0)];
    std::string out = c.block_used
                          ? line("block health: good at w = %lld", static_cast<long long>(row.length))
                          : line("block health: poor at every w, as at w = %lld", static_cast<long long>(row.length));
    out += line(
        "; smallest effective sample size %.2f, largest share %.2f\n  largest w with at least %g and at most %g of",
        row.ess, row.tail_share, c.options.least_block_ess, c.options.largest_tail_share);
    for (const block_row& b : c.blocks) out += line(" %lld", static_cast<long long>(b.length));
    return out + "\n";
}

/// What the ladder has only with `certificate_options::refined`.
[[nodiscard]] inline std::string beside_the_ladder(const certificate& c) {
    std::string out = "not on the ladder: direct, one-sided " + text(c.one_sided);
    if (!c.health.one_sided_good) out += " (unreliable)";
    if (c.block_used && c.blocks[*c.block_used].blocks > 1) {
        const block_row& used = c.blocks[*c.block_used];
        out += line("; blocks of %lld, fourth form %.3g", static_cast<long long>(used.length), used.refined);
    }
    return out + "\n";
}

}  // namespace detail

/// The whole certificate, with the words that say what each number is worth.
[[nodiscard]] inline std::string to_text(const certificate& c) {
    using detail::line;
    using detail::text;
    const certificate_options& o = c.options;
    const double percent = 100.0 * o.bootstrap.level;
    std::string out;
    if (c.sequences > 0) {
        out += line("%lld sequences in %lld groups, %lld sampled tokens, %lld sequences left out (not finite)\n",
                    static_cast<long long>(c.sequences), static_cast<long long>(c.groups),
                    static_cast<long long>(c.tokens), static_cast<long long>(c.excluded));
        out +=
            line("rewards in [%g, %g], %g%% intervals (bootstrap over groups, %d resamples, seed %llu)\n", o.reward.min,
                 o.reward.max, percent, o.bootstrap.resamples, static_cast<unsigned long long>(o.bootstrap.seed));
        if (c.rewards_outside > 0) {
            out += line("%lld rewards lie outside that range: the numbers below do not hold for them\n",
                        static_cast<long long>(c.rewards_outside));
        }
        out +=
            line("largest %s %.3g nats", c.inputs.from_sampled_tokens ? "k3 (sampled)" : "KL (exact)", c.inputs.delta);
        if (c.inputs.eps) out += line(", largest TV %.3g", *c.inputs.eps);
        out += line(", mean sequence KL %.3g nats, horizon %lld\n", c.inputs.seq_kl,
                    static_cast<long long>(c.inputs.horizon));
        out += line("ratio health: %s; effective sample size %.2f, largest share %.2f, E[prod rho] - 1 = %s at %g%%\n",
                    c.health.good ? "good" : "poor", c.health.ess, c.health.tail_share,
                    text(c.health.ratio_excess).c_str(), 100.0 * o.health_level);
        out += detail::block_health(c);
    }
    out += line("%-22s %-10s %10s  %-20s %s\n", "|J(pi) - J(mu) - L| <=", "kind", "value", "interval", "status");
    for (std::size_t i = 0; i < c.rungs; ++i) {
        const rung& r = c.ladder[i];
        out += line("%-22s %-10s %10.4g  %-20s %s%s\n", text(r).c_str(), to_string(r.kind), r.value,
                    text(r.range).c_str(), to_string(r.state), r.vacuous ? "; vacuous" : "");
    }
    if (const rung* h = c.head()) {
        out += line("headline: %s (%s), at most %.3g", text(*h).c_str(), to_string(h->kind), h->upper());
        if (h->range) out += line(" with %g%% confidence", 50.0 + 0.5 * percent);
        out += h->vacuous ? ": vacuous\n" : "\n";
        switch (h->kind) {
            case claim::exact:
                out += "  a bound, given that the divergences are those over all contexts\n";
                break;
            case claim::estimated:
                out += "  an estimate from this batch, not a guarantee\n";
                break;
            case claim::plug_in:
                out += "  an indication: contexts outside this batch may be worse\n";
                break;
        }
    }
    if (c.sequences > 0 && !o.refined) out += detail::beside_the_ladder(c);
    if (c.has_rewards) {
        out += "surrogate gain L: " + text(c.surrogate) + "\n";
        out += "error for these rewards: " + text(c.observed_error);
        out += "; improvement J(pi) - J(mu): " + text(c.improvement);
        out += c.health.good ? "\n" : " (both unreliable)\n";
    }
    if (c.gain && c.head() != nullptr) {
        out += line("improvement %s: gain %.3g against error %.3g (%s)\n", c.certified ? "certified" : "not certified",
                    *c.gain, c.head()->upper(), to_string(c.head()->kind));
    }
    return out;
}

/// One line a block length: the bound in its two parts, its products' health, the bound with the fourth form.
[[nodiscard]] inline std::string to_text(std::span<const block_row> rows) {
    using detail::line;
    std::string out = line("%8s %8s %10s %10s %10s %6s %8s %8s %12s\n", "w", "blocks", "bound", "within", "between",
                           "ESS", "share", "health", "fourth form");
    for (const block_row& r : rows) {
        out += line("%8lld %8lld %10.4g %10.3g %10.4g %6.2f %8.2f %8s %12.4g\n", static_cast<long long>(r.length),
                    static_cast<long long>(r.blocks), r.value, r.within, r.between, r.ess, r.tail_share,
                    r.good ? "good" : "poor", r.refined);
    }
    return out;
}

/// One line a threshold: what is kept, the error left on it, what was given up.
[[nodiscard]] inline std::string to_text(std::span<const sweep_row> rows) {
    using detail::line;
    using detail::text;
    std::string out =
        line("%10s %8s %8s %8s  %-28s %-28s %-28s %10s\n", "threshold", "kept seq", "kept tok", "kept ESS",
             "error on kept, worst reward", "surrogate given up", "error of masked surrogate", "premise");
    for (const sweep_row& r : rows) {
        out += line("%10.3g %7.1f%% %7.1f%% %8.2f  %-28s %-28s %-28s ", r.threshold, 100.0 * r.kept_sequences,
                    100.0 * r.kept_tokens, r.kept_ess, text(r.kept_error).c_str(), text(r.removed).c_str(),
                    text(r.masked_error).c_str());
        out += r.premise ? line("%10.3g\n", *r.premise) : std::string("         -\n");
    }
    return out;
}

[[nodiscard]] constexpr const char* to_string(mask_statistic m) noexcept {
    switch (m) {
        case mask_statistic::max_kl:
            return "max KL";
        case mask_statistic::mean_kl:
            return "mean KL";
        case mask_statistic::max_k2:
            return "max k2";
        case mask_statistic::max_tv:
            return "max TV";
        case mask_statistic::mean_k3:
            return "mean k3";
        case mask_statistic::geometric:
            return "|mean log ratio|";
    }
    return "?";
}

/// One line a statistic: the threshold, the error's upper limit on the half it was chosen on, and what it does on the
/// other half.
[[nodiscard]] inline std::string to_text(std::span<const threshold_choice> choices) {
    using detail::line;
    using detail::text;
    std::string out = line("%-17s %10s | %6s %8s | %6s %5s  %-29s %-4s %s\n", "", "threshold", "kept", "at most",
                           "kept", "ESS", "error on kept", "met", "surrogate given up");
    for (const threshold_choice& c : choices) {
        if (!c.found) {
            out += line("%-17s          - | no threshold meets it\n", to_string(c.statistic));
            continue;
        }
        const bool kept = c.checked.kept_sequences > 0.0;
        out +=
            line("%-17s %10.3g | %5.0f%% %8.2g | %5.0f%% %5.2f  %-29s %-4s %s\n", to_string(c.statistic),
                 c.chosen.threshold, 100.0 * c.chosen.kept_sequences, c.chosen.kept_error.range->high,
                 100.0 * c.checked.kept_sequences, c.checked.kept_ess, kept ? text(c.checked.kept_error).c_str() : "-",
                 c.holds ? "yes" : "no", text(c.checked.removed).c_str());
    }
    return out;
}

/// One line a horizon: the thresholds that meet the target.
[[nodiscard]] inline std::string to_text(std::span<const calibration_row> rows) {
    using detail::line;
    std::string out = line("%10s %12s %16s %12s\n", "T", "delta", "delta, classical", "eps");
    for (const calibration_row& r : rows) {
        out +=
            line("%10lld %12.3g %16.3g %12.3g\n", static_cast<long long>(r.horizon), r.delta, r.classical_delta, r.eps);
    }
    return out;
}

/// One line a horizon: every rung against T.
[[nodiscard]] inline std::string to_text(std::span<const curve_point> points) {
    using detail::line;
    std::string out = line("%8s %10s %6s %10s %6s %13s %10s %16s %10s\n", "T", "direct", "ESS", "blocks", "w",
                           "second moment", "Adaptive", "Pinsker-Marginal", "classical");
    for (const curve_point& p : points) {
        out += line("%8lld %10.3g %6.2f %10.3g %6lld %13.3g %10.3g %16.3g %10.3g\n", static_cast<long long>(p.horizon),
                    p.direct, p.ess, p.blocks, static_cast<long long>(p.block_length), p.second_moment,
                    p.paper[bound_name::adaptive].value_or(0.0), p.paper[bound_name::pinsker_marginal].value_or(0.0),
                    p.paper[bound_name::classical].value_or(0.0));
    }
    return out;
}

}  // namespace bounds
TRM_NAMESPACE_END
