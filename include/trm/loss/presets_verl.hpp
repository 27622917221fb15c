// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>
#include <trm/policy/weight.hpp>

#include <charconv>
#include <string_view>

/// \file
/// verl's own option and threshold strings of its rollout correction, read as verl reads them: commit 1dda039b9,
/// verl/trainer/ppo/rollout_corr_helper.py. No allocation, no exceptions.

TRM_NAMESPACE_BEGIN
namespace presets {

enum class verl_level : std::uint8_t { token, seq_sum, seq_mean, seq_max };

/// One of the 11 options: keep where the statistic of the estimator is inside the band. The band of k1 is on -x, so
/// "0.6_1.4" keeps mu / q in [0.6, 1.4], that is q / mu in [0.714, 1.667]: verl's bounds are on the inverse of the ratio
/// (its pull request 4544). Symmetric bands, 1/u to u, are not affected.
struct verl_criterion {
    verl_level level = verl_level::token;
    int k = 1;  ///< estimator: k1 = -x, k2 = x^2/2, k3 = e^x - 1 - x
    band keep;
    std::string_view name;  ///< one of the 11, in static storage
};

/// Criteria that must all hold, in the order written; verl's metrics are named after them.
struct verl_rejection {
    static constexpr int capacity = 11;
    verl_criterion criteria[capacity];
    int size = 0;
    struct status status;
};

namespace detail {

[[nodiscard]] constexpr status bad_option(char const* what) noexcept { return {errc::bad_spec, -1, -1, what}; }

/// The text up to the separator, which is removed with it.
[[nodiscard]] constexpr std::string_view next(std::string_view& rest, char separator) noexcept {
    auto const at = rest.find(separator);
    std::string_view word = rest.substr(0, at);
    rest = at == std::string_view::npos ? std::string_view{} : rest.substr(at + 1);
    while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
    while (!word.empty() && word.back() == ' ') word.remove_suffix(1);
    return word;
}
/// A positive finite number and nothing else.
[[nodiscard]] inline bool positive_number(std::string_view text, double& value) noexcept {
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && value > 0 && is_finite(value);
}
/// "lo_hi" or one number, both positive. Returns how many numbers, 0 for anything else.
[[nodiscard]] inline int one_or_two(std::string_view text, double& lower, double& upper) noexcept {
    auto const at = text.find('_');
    if (at == std::string_view::npos) return detail::positive_number(text, upper) ? 1 : 0;
    return detail::positive_number(text.substr(0, at), lower) && detail::positive_number(text.substr(at + 1), upper)
               ? 2
               : 0;
}
/// verl's options by level and estimator; there is no seq_max_k1.
inline constexpr std::string_view option_names[4][3] = {{"token_k1", "token_k2", "token_k3"},
                                                        {"seq_sum_k1", "seq_sum_k2", "seq_sum_k3"},
                                                        {"seq_mean_k1", "seq_mean_k2", "seq_mean_k3"},
                                                        {"", "seq_max_k2", "seq_max_k3"}};
[[nodiscard]] constexpr bool read_option(std::string_view name, verl_criterion& c) noexcept {
    for (int level = 0; level < 4; ++level)
        for (int k = 1; k <= 3; ++k) {
            if (name.empty() || name != option_names[level][k - 1]) continue;
            c.level = static_cast<verl_level>(level);
            c.k = k;
            c.name = option_names[level][k - 1];
            return true;
        }
    return false;
}

}  // namespace detail

/// `rollout_rs` and `rollout_rs_threshold`: options separated by commas, duplicates ignored; one threshold for all, or one
/// for each distinct option. A threshold of a k1 option is "lower_upper" on mu / q or a single u for 1/u to u; of k2 and k3,
/// one upper bound. All positive. Anything else: `status.code == errc::bad_spec`. An empty option string rejects nothing.
/// The criteria look at log-ratios clamped to +-20 per token, verl's SAFETY_BOUND and the default of loss_options; verl adds
/// 1e-8 to the denominator of means, which moves a threshold by one part in 1e8 of the mean.
[[nodiscard]] inline verl_rejection verl(std::string_view options, std::string_view thresholds) noexcept {
    verl_rejection r;
    for (std::string_view rest = options; !rest.empty();) {
        std::string_view const name = detail::next(rest, ',');
        bool seen = name.empty();
        for (int i = 0; i < r.size; ++i) seen = seen || r.criteria[i].name == name;
        if (seen) continue;
        if (r.size == verl_rejection::capacity || !detail::read_option(name, r.criteria[r.size])) {
            r.status = detail::bad_option("rollout_rs: unknown option");
            return r;
        }
        ++r.size;
    }
    int entries = 0;
    for (std::string_view rest = thresholds; !rest.empty(); ++entries) {
        std::string_view const text = detail::next(rest, ',');
        int const first = entries, last = thresholds.find(',') == std::string_view::npos ? r.size - 1 : entries;
        if (r.size > 0 && first >= r.size) {
            r.status = detail::bad_option("rollout_rs_threshold: more thresholds than options");
            return r;
        }
        for (int i = first; i <= last; ++i) {
            verl_criterion& c = r.criteria[i];
            double lower = 0, upper = 0;
            int const numbers = detail::one_or_two(text, lower, upper);
            if (c.k == 1 && numbers == 1) lower = 1 / upper;
            if (numbers == 0 || (numbers == 2 && c.k != 1) || (c.k == 1 && lower > upper)) {
                r.status = detail::bad_option("rollout_rs_threshold");
                return r;
            }
            c.keep = c.k == 1 ? within(std::log(lower), std::log(upper)) : at_most(upper);
        }
    }
    if (r.size > 0 && entries != 1 && entries != r.size)
        r.status = detail::bad_option("rollout_rs_threshold: one for all or one for each option");
    return r;
}

/// `rollout_is_threshold`: "C" truncates above (TIS, no lower bound); "lo_hi" zeroes outside the band (IcePop), on q / mu
/// itself. `status` says whether the text is one of these.
struct verl_weight_bound {
    weight_bound bound = unbounded;
    bool is_band = false;
    struct status status;
};
[[nodiscard]] inline verl_weight_bound verl_is_threshold(std::string_view text) noexcept {
    verl_weight_bound r;
    double lower = 0, upper = 0;
    int const numbers = detail::one_or_two(text, lower, upper);
    r.is_band = numbers == 2;
    if (numbers == 1) r.bound = truncate_above(upper);
    if (numbers == 2) r.bound = zero_outside(lower, upper);
    if (numbers == 0 || (numbers == 2 && lower > upper)) r.status = detail::bad_option("rollout_is_threshold");
    return r;
}

}  // namespace presets
TRM_NAMESPACE_END
