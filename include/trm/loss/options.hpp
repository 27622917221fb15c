// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/clamp.hpp>

TRM_NAMESPACE_BEGIN

/// What trainers add to the number of tokens or sequences that they divide by, 1e-8 for example: 0 is exact. For comparisons
/// with a trainer's numbers to all digits. A number stands for all: `options.mean_epsilon = 1e-8`.
struct mean_epsilons {
    double mask = 0;  ///< means of criteria over a sequence; selections excepted
    double surrogate = 0;  ///< means that surrogates take over a sequence
    double sequence = 0;  ///< tokens of a sequence, in seq_mean_token_mean
    double total = 0;  ///< tokens of the batch in token_mean, sequences in the sequence means

    constexpr mean_epsilons() = default;
    constexpr mean_epsilons(double all) noexcept : mask(all), surrogate(all), sequence(all), total(all) {}
    /// f(name in text and JSON, member).
    static constexpr void fields(auto f) {
        using e = mean_epsilons;
        f("mask_mean_epsilon", &e::mask);
        f("surrogate_mean_epsilon", &e::surrogate);
        f("sequence_mean_epsilon", &e::sequence);
        f("total_mean_epsilon", &e::total);
    }
    [[nodiscard]] constexpr bool ok() const noexcept {
        bool all = true;
        fields([&](char const*, auto which) { all = all && this->*which >= 0 && this->*which <= 1; });
        return all;
    }
    friend constexpr bool operator==(mean_epsilons const&, mean_epsilons const&) = default;
};

/// What holds for a loss besides its policies.
struct loss_options {
    /// What log-ratios are clamped to before exp, +-20 unless a stage says otherwise; a clamped ratio has gradient 0.
    log_ratio_clamps log_ratio_clamp{};
    /// A non-finite input, or a log-probability above `positive_tolerance`, is an error that names sequence and token, and
    /// nothing is written.
    bool strict = false;
    bool diagnose = true;  ///< false: diagnostics stay zero, which saves a few cycles per token
    mean_epsilons mean_epsilon{};
};

TRM_NAMESPACE_END
