// SPDX-License-Identifier: Apache-2.0

// How far the surrogate may be off, for each age of the rollouts: every age is a policy of its own.
#include <trm/bounds/report.hpp>
#include <trm/loss/checked.hpp>

#include "../text.hpp"
#include "report.hpp"

namespace b = trm::bounds;

std::string certificates(rollouts const& all, settings const& s) {
    std::string out;
    for (std::int64_t age : all.ages()) {
        rollouts const r = all.of_age(age);
        b::evidence seen;
        trm::throw_if(seen.add(r.trajectories()));
        b::certificate_options options;
        options.reward = {s.reward_min, s.reward_max};
        out += all.updates_behind.empty() ? "Certificate\n"
                                          : text("Certificate, %d updates behind\n", static_cast<int>(age));
        out += b::to_text(b::certify(seen, options)) + "\n";
    }
    return out;
}
