// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/calibration.hpp>
#include <trm/bounds/curve.hpp>
#include <trm/bounds/sweep.hpp>
#include <trm/bounds/threshold.hpp>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <optional>
#include <span>
#include <string>

/// \file
/// Block lengths, sweeps, thresholds, calibrations and curves as plain text, one table each. Nothing is printed.

TRM_NAMESPACE_BEGIN
namespace bounds {

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

}  // namespace detail

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
