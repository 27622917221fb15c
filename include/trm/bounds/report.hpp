// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/certificate.hpp>
#include <trm/bounds/tables.hpp>

#include <string>

/// \file
/// Certificates as plain text; tables.hpp has block lengths, sweeps, thresholds, calibrations and curves. Nothing is
/// printed.

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

}  // namespace bounds
TRM_NAMESPACE_END
