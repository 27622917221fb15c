// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/core/status.hpp>
#include <trm/policy/fields.hpp>

TRM_NAMESPACE_BEGIN

/// What the sums are divided by, orthogonal to the aggregation. An empty denominator gives loss 0 and gradient 0.
struct denominator {
    enum class kind : std::uint8_t { all, kept, given } which = kind::all;
    double n = 0;
};
/// Every loss_mask token, or every non-empty sequence, rejected ones included: the paper's average. The default.
inline constexpr denominator over_all{};
/// Kept tokens, or sequences with a kept token. Inflates the gradient by all / kept.
inline constexpr denominator over_kept{denominator::kind::kept, 0};
/// A number known from elsewhere, usually the global count of the aggregation's unit (tokens, sequences or prompts).
[[nodiscard]] constexpr denominator over_count(double n) noexcept { return {denominator::kind::given, n}; }

/// How token terms l_it become one number. n_i = tokens, N = sum n_i, S = non-empty sequences, P = non-empty prompts, counted
/// as the denominator says.
struct aggregation {
    enum class kind : std::uint8_t {
        token_mean,  ///< sum_it l / N
        token_sum,  ///< sum_it l
        seq_mean_token_sum,  ///< sum_i (sum_t l) / S
        seq_mean_token_mean,  ///< sum_i (sum_t l / n_i) / S
        seq_mean_token_sum_norm,  ///< sum_i (sum_t l) / (S length): Dr. GRPO, arXiv 2503.20783
        prompt_mean  ///< sum_g (sum_{i in g, t} l / N_g) / P
    } which = kind::token_mean;
    denominator divide_by = over_all;
    double length = 0;

    [[nodiscard]] constexpr status validate() const noexcept {
        bool const bad_n = divide_by.which == denominator::kind::given && !(divide_by.n >= 0 && is_finite(divide_by.n));
        bool const bad_length = which == kind::seq_mean_token_sum_norm && !(length > 0 && is_finite(length));
        return bad_n || bad_length ? status{errc::bad_denominator, -1, -1, "aggregation"} : status{};
    }
};

template <>
inline constexpr enum_word<aggregation::kind> enum_words<aggregation::kind>[] = {
    {"token_mean", aggregation::kind::token_mean},
    {"token_sum", aggregation::kind::token_sum},
    {"seq_mean_token_sum", aggregation::kind::seq_mean_token_sum},
    {"seq_mean_token_mean", aggregation::kind::seq_mean_token_mean},
    {"seq_mean_token_sum_norm", aggregation::kind::seq_mean_token_sum_norm},
    {"prompt_mean", aggregation::kind::prompt_mean}};

struct token_mean : aggregation {
    constexpr token_mean(denominator d = over_all) noexcept : aggregation{kind::token_mean, d, 0} {}
};
struct token_sum : aggregation {
    constexpr token_sum() noexcept : aggregation{kind::token_sum, over_all, 0} {}
};
struct seq_mean_token_sum : aggregation {
    constexpr seq_mean_token_sum(denominator d = over_all) noexcept : aggregation{kind::seq_mean_token_sum, d, 0} {}
};
struct seq_mean_token_mean : aggregation {
    constexpr seq_mean_token_mean(denominator d = over_all) noexcept : aggregation{kind::seq_mean_token_mean, d, 0} {}
};
struct seq_mean_token_sum_norm : aggregation {
    constexpr seq_mean_token_sum_norm(double norm, denominator d = over_all) noexcept
        : aggregation{kind::seq_mean_token_sum_norm, d, norm} {}
};
struct prompt_mean : aggregation {
    constexpr prompt_mean(denominator d = over_all) noexcept : aggregation{kind::prompt_mean, d, 0} {}
};

TRM_NAMESPACE_END
