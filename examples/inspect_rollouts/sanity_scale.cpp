// SPDX-License-Identifier: Apache-2.0

// Both policies see the same tokens, so their log-probabilities go together token by token. Where they do so only after a
// shift, or on another scale, the log is wrong.
#include "../text.hpp"
#include "sanity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace {

constexpr double few = 100;  ///< tokens from which a correlation says something

/// Neither a placeholder nor a certainty, so that one value does not make the correlation.
bool ordinary(double x) { return x > -30 && x < -1e-3; }

/// log(p / (1 - p)) of p = e^x.
double log_odds(double x) { return x - std::log(-std::expm1(x)); }

double median(std::vector<double>& v) {
    auto const middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
    std::nth_element(v.begin(), middle, v.end());
    return *middle;
}

struct base {
    double ratio;  ///< rollout_logp / logp
    char const* which;
    char const* name;
};

/// The base that explains rollout_logp / logp at likely and unlikely tokens alike; at another temperature the ratio
/// differs between them.
base const* other_base(rollouts const& r, std::array<double, 2>& medians) {
    static constexpr double bits = 1.4426950408889634, digits = 0.4342944819032518;
    static constexpr std::array<base, 4> bases{{{bits, "rollout_logp", "2"},
                                                {1 / bits, "logp", "2"},
                                                {digits, "rollout_logp", "10"},
                                                {1 / digits, "logp", "10"}}};
    std::array<std::vector<double>, 2> ratios;  // of likely and unlikely tokens; certain ones say nothing
    for (std::size_t t = 0; t < r.logp.size(); ++t) {
        if (!r.usable(t) || !ordinary(r.logp[t]) || !ordinary(r.rollout_logp[t])) continue;
        double const x = std::sqrt(r.logp[t] * r.rollout_logp[t]);
        if (x < 0.3) continue;
        auto& bin = ratios[x < 1.5 ? 0 : 1];
        if (bin.size() < 1'000'000) bin.push_back(r.rollout_logp[t] / r.logp[t]);
    }
    for (std::size_t k = 0; k < medians.size(); ++k) {
        if (ratios[k].size() < 30) return nullptr;
        medians[k] = median(ratios[k]);
    }
    for (base const& b : bases)
        if (std::all_of(medians.begin(), medians.end(), [&](double m) { return std::fabs(m / b.ratio - 1) < 0.04; }))
            return &b;
    return nullptr;
}

}  // namespace

double sanity::correlation::value() const { return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0.0; }

bool sanity::shift(rollouts const& r, std::vector<std::string>& warnings) {
    correlation same, late, early;
    for (std::size_t i = 0; i < r.size(); ++i) {
        auto const begin = static_cast<std::size_t>(r.offsets[i]), end = static_cast<std::size_t>(r.offsets[i + 1]);
        auto const fits = [&](std::size_t t) { return r.usable(t) && r.logp[t] > -30 && r.rollout_logp[t] > -30; };
        for (std::size_t t = begin; t + 1 < end; ++t) {
            if (!fits(t) || !fits(t + 1)) continue;
            same.add(r.logp[t], r.rollout_logp[t]);
            late.add(r.logp[t], r.rollout_logp[t + 1]);
            early.add(r.logp[t + 1], r.rollout_logp[t]);
        }
    }
    bool const is_late = late.value() > early.value();
    double const best = is_late ? late.value() : early.value();
    if (same.n < few || best < 0.8 || best < same.value() + 0.3) return false;
    warnings.push_back(
        text("rollout_logp is shifted by one token against logp: correlation %.2f with logp at the same token, "
             "%.2f with logp at the token %s (%.0f pairs); in position t of both belongs the "
             "log-probability of token t",
             same.value(), best, is_late ? "before" : "after", same.n));
    return true;
}

void sanity::scale(rollouts const& r, std::vector<std::string>& warnings) {
    std::array<double, 2> m{};
    if (base const* const b = other_base(r, m)) {
        warnings.push_back(
            text("%s is in logarithms to base %s: rollout_logp / logp is %.3f at likely and %.3f at unlikely tokens "
                 "(medians), base %s gives %.3f; expected natural logarithms",
                 b->which, b->name, m[0], m[1], b->name, b->ratio));
        return;
    }
    correlation odds;
    for (std::size_t t = 0; t < r.logp.size(); ++t)
        if (r.usable(t) && ordinary(r.logp[t]) && ordinary(r.rollout_logp[t]))
            odds.add(log_odds(r.rollout_logp[t]), log_odds(r.logp[t]));
    if (odds.n < few) return;
    // How much wider the log-odds of logp spread: both are noisy, so neither is regressed on the other. Training sharpens a
    // policy too, but it also moves tokens against each other: the correlation falls with it.
    double const spread = std::sqrt(odds.yy / odds.xx), wide = std::fabs(std::log(spread));
    bool const is_strong =
        (odds.value() > 0.995 && wide > std::log(1.06)) || (odds.value() > 0.94 && wide > std::log(1.15));
    if (!is_strong) return;
    warnings.push_back(
        text("the policies look like one at two temperatures: their log-odds have correlation %.3f, and those of "
             "logp spread %.2f times as wide as those of rollout_logp (%.0f tokens), as if %s had been "
             "computed at %.2f times the temperature of the other. The trainer has to divide logits by the "
             "sampling temperature; vLLM does so only with logprobs_mode=processed_logprobs",
             odds.value(), spread, odds.n, spread > 1 ? "rollout_logp" : "logp", spread > 1 ? spread : 1 / spread));
}
