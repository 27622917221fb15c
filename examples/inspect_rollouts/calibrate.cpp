// SPDX-License-Identifier: Apache-2.0

// Which threshold keeps the error on what a mask keeps below a target, and what does it cost? Chosen on one half of the
// prompt groups, checked on the other.
#include <trm/bounds/report.hpp>
#include <trm/loss/checked.hpp>

#include "../text.hpp"
#include "report.hpp"

#include <cmath>

namespace b = trm::bounds;

std::string calibration(rollouts const& all, settings const& s) {
    double const target = *s.calibrate;
    std::string out = text(
        "Thresholds for an error of at most %g on what is kept (worst reward in [%g, %g], 95%% upper limit): the "
        "largest\n"
        "that meets it on one half of the groups (left), and the same threshold on the other half (right)\n",
        target, s.reward_min, s.reward_max);
    for (std::int64_t age : all.ages()) {
        rollouts const r = all.of_age(age);
        b::evidence seen;
        trm::throw_if(seen.add(r.trajectories()));
        b::threshold_options options;
        options.sweep.reward = {s.reward_min, s.reward_max};
        auto const [choose, check] = b::split_groups(seen, options.seed);
        std::vector<b::mask_statistic> criteria{b::mask_statistic::max_k2, b::mask_statistic::mean_k3,
                                                b::mask_statistic::geometric};
        if (!r.kl.empty()) criteria.insert(criteria.end(), {b::mask_statistic::max_kl, b::mask_statistic::mean_kl});
        std::vector<b::threshold_choice> rows;
        for (auto m : criteria) rows.push_back(b::choose_threshold(choose, check, m, target, options));
        out += all.updates_behind.empty() ? "All rollouts" : text("%d updates behind", static_cast<int>(age));
        out += text(": %zu and %zu groups\n", choose.groups.size(), check.groups.size());
        out += b::to_text(std::span<b::threshold_choice const>(rows));
        for (b::threshold_choice const& c : rows) {
            if (!c.found) continue;
            double const t = c.chosen.threshold;
            if (c.statistic == b::mask_statistic::max_k2)
                out += text("max k2 is a band on the ratio of every token: [%.3g, %.3g]\n", std::exp(-std::sqrt(2 * t)),
                            std::exp(std::sqrt(2 * t)));
            if (c.statistic == b::mask_statistic::geometric)
                out += text("|mean log ratio| is a band on the geometric mean ratio: [%.4g, %.4g]\n", std::exp(-t),
                            std::exp(t));
        }
    }
    return out;
}
