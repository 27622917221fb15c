// SPDX-License-Identifier: Apache-2.0

// Two columns that are one, and columns of different precision.
#include "../text.hpp"
#include "sanity.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

namespace {

/// A float whose low half is empty is a bfloat16. Of other floats one in 65,536 is by accident.
bool is_bf16(double x) { return (std::bit_cast<std::uint32_t>(static_cast<float>(x)) & 0xFFFFu) == 0; }

}  // namespace

void sanity::sameness(rollouts const& r, std::vector<std::string>& warnings) {
    // Near-certain tokens are 0 in both policies and in every format.
    constexpr std::size_t few = 20;
    std::size_t n = 0, equal = 0, coarse_logp = 0, coarse_rollout = 0;
    double lowest = 0, difference = 0;
    std::pair logp_range{0.0, -HUGE_VAL}, rollout_range = logp_range;
    auto const widen = [](std::pair<double, double>& range, double x) {
        range = {std::min(range.first, x), std::max(range.second, x)};
    };
    for (std::size_t t = 0; t < r.logp.size(); ++t) {
        if (!r.usable(t) || r.logp[t] == 0 || r.rollout_logp[t] == 0) continue;
        ++n;
        equal += r.logp[t] == r.rollout_logp[t];
        coarse_logp += is_bf16(r.logp[t]);
        coarse_rollout += is_bf16(r.rollout_logp[t]);
        widen(logp_range, r.logp[t]);
        widen(rollout_range, r.rollout_logp[t]);
        lowest = std::min(logp_range.first, rollout_range.first);
        difference += std::fabs(r.logp[t] - r.rollout_logp[t]);
    }
    if (n < few) return;
    if (equal * 1000 >= n * 999) {
        warnings.push_back(
            text("logp and rollout_logp are the same number at %zu of %zu sampled tokens: one policy was "
                 "probably written twice, and every mask keeps everything",
                 equal, n));
        return;
    }
    if (logp_range.first == logp_range.second || rollout_range.first == rollout_range.second)
        return;  // values() says it
    bool const logp_is = coarse_logp * 100 >= n * 99 && coarse_rollout * 2 <= n;
    bool const rollout_is = coarse_rollout * 100 >= n * 99 && coarse_logp * 2 <= n;
    if (!logp_is && !rollout_is) return;
    // 8 significant bits: half a unit in the last place of the lowest value.
    double const step = std::ldexp(1.0, std::ilogb(lowest) - 8);
    warnings.push_back(text(
        "%s is rounded to bfloat16 and the other is not: %zu of %zu values are bfloat16 numbers, of %s "
        "%zu; that moves a log-probability near %.3g by up to %.2g nats, and the mean |logp - "
        "rollout_logp| is %.2g: log it in float32",
        logp_is ? "logp" : "rollout_logp", logp_is ? coarse_logp : coarse_rollout, n, logp_is ? "rollout_logp" : "logp",
        logp_is ? coarse_rollout : coarse_logp, lowest, step, difference / static_cast<double>(n)));
}

std::vector<std::string> sanity_warnings(rollouts const& r) {
    std::vector<std::string> warnings;
    sanity::values(r, warnings);
    sanity::sameness(r, warnings);
    if (!sanity::shift(r, warnings)) sanity::scale(r, warnings);
    return warnings;
}
