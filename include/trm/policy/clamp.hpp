// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <array>

/// \file
/// Clamps of log-ratios. Every stage of a loss has its own, as trainers have: policy/README.md says who clamps what.

TRM_NAMESPACE_BEGIN

/// What a log-ratio x (nats) is clamped to before exp: [lower, upper], which holds 0. 80 is the widest, e^80 = 5.5e34: below
/// that it is the same as no clamp, beyond it float would have no number.
struct clamp_range {
    double lower = -20.0, upper = 20.0;

    static constexpr double widest = 80.0;
    constexpr clamp_range() = default;
    constexpr clamp_range(double symmetric) noexcept : lower(-symmetric), upper(symmetric) {}
    constexpr clamp_range(double low, double high) noexcept : lower(low), upper(high) {}
    [[nodiscard]] constexpr bool ok() const noexcept {
        return -widest <= lower && lower < 0 && 0 < upper && upper <= widest;
    }
    [[nodiscard]] constexpr double operator()(double x) const noexcept {
        return x < lower ? lower : x > upper ? upper : x;
    }
    /// Is x left alone?
    [[nodiscard]] constexpr bool contains(double x) const noexcept { return lower <= x && x <= upper; }
    friend constexpr bool operator==(clamp_range, clamp_range) = default;
};
/// No clamp, as far as float goes.
inline constexpr clamp_range no_clamp{clamp_range::widest};

/// The clamp of each stage. A number, or one range, stands for all of them: `options.log_ratio_clamp = 10`;
/// `options.log_ratio_clamp.surrogate = no_clamp`. Where a clamp acts on the ratio of a surrogate or penalty, that ratio has no
/// gradient. Those named `sequence` act on a sum or a mean over a sequence, after the clamp of its tokens.
struct log_ratio_clamps {
    clamp_range mask;  ///< of criteria; also of the diagnostics and their products over a sequence
    clamp_range weight;  ///< of the tokens that importance weights look at
    clamp_range weight_sequence;  ///< of the sum or mean whose exponential weighs a sequence
    clamp_range surrogate;  ///< of the tokens that the surrogate looks at
    clamp_range surrogate_sequence;  ///< of the sum or mean that the surrogate makes of a sequence
    clamp_range penalty;  ///< of log-ratios to the reference policy, and of those that penalties look at otherwise

    constexpr log_ratio_clamps(clamp_range all = {}) noexcept
        : mask(all), weight(all), weight_sequence(all), surrogate(all), surrogate_sequence(all), penalty(all) {}
    constexpr log_ratio_clamps(double all) noexcept : log_ratio_clamps(clamp_range(all)) {}

    /// f(name in text and JSON, member) for every stage.
    static constexpr void fields(auto f) {
        using c = log_ratio_clamps;
        f("mask_clamp", &c::mask);
        f("weight_clamp", &c::weight);
        f("weight_sequence_clamp", &c::weight_sequence);
        f("surrogate_clamp", &c::surrogate);
        f("surrogate_sequence_clamp", &c::surrogate_sequence);
        f("penalty_clamp", &c::penalty);
    }
    [[nodiscard]] constexpr bool ok() const noexcept {
        bool all = true;
        fields([&](char const*, auto stage) { all = all && (this->*stage).ok(); });
        return all;
    }
    /// A log-ratio of a token whose size is at most this is clamped nowhere.
    [[nodiscard]] constexpr double tightest() const noexcept {
        double least = clamp_range::widest;
        for (clamp_range const& c : {mask, weight, surrogate, penalty})
            for (double bound : {-c.lower, c.upper}) least = bound < least ? bound : least;
        return least;
    }
    /// No log-ratio that anything takes the exponential of is larger than this.
    [[nodiscard]] constexpr double widest() const noexcept {
        double most = 0;
        fields([&](char const*, auto stage) {
            for (double bound : {-(this->*stage).lower, (this->*stage).upper}) most = bound > most ? bound : most;
        });
        return most;
    }
    /// Does a token have the same log-ratios in all stages?
    [[nodiscard]] constexpr bool same_for_tokens() const noexcept {
        return weight == mask && surrogate == mask && penalty == mask;
    }
    friend constexpr bool operator==(log_ratio_clamps const&, log_ratio_clamps const&) = default;
};

TRM_NAMESPACE_END
