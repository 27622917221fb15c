// SPDX-License-Identifier: Apache-2.0
#include "rollouts.hpp"

#include <algorithm>
#include <set>

std::size_t rollouts::sampled() const {
    return loss_mask.empty() ? logp.size()
                             : static_cast<std::size_t>(std::count(loss_mask.begin(), loss_mask.end(), 1));
}

std::vector<std::int64_t> rollouts::ages() const {
    std::set<std::int64_t> const distinct(updates_behind.begin(), updates_behind.end());
    if (distinct.empty()) return {0};
    return {distinct.begin(), distinct.end()};
}

rollouts rollouts::of_age(std::int64_t age) const {
    if (updates_behind.empty()) return *this;
    rollouts out;
    for (std::size_t i = 0; i < size(); ++i) {
        if (updates_behind[i] != age) continue;
        auto const tokens = [&](auto& to, auto const& from) {
            if (!from.empty()) to.insert(to.end(), from.begin() + offsets[i], from.begin() + offsets[i + 1]);
        };
        auto const sequence = [&](auto& to, auto const& from) {
            if (!from.empty()) to.push_back(from[i]);
        };
        tokens(out.logp, logp);
        tokens(out.rollout_logp, rollout_logp);
        tokens(out.proximal_logp, proximal_logp);
        tokens(out.kl, kl);
        tokens(out.tv, tv);
        tokens(out.loss_mask, loss_mask);
        tokens(out.token_advantage, token_advantage);
        sequence(out.advantage, advantage);
        sequence(out.reward, reward);
        sequence(out.group, group);
        sequence(out.updates_behind, updates_behind);
        out.offsets.push_back(static_cast<std::int64_t>(out.logp.size()));
    }
    return out;
}
