// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/trajectories.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

/// Reads examples/data/rollouts.jsonl (fields: examples/data/README.md) into the ragged arrays the library views.
namespace rollouts {

struct batch {
    std::vector<std::int64_t> offsets{0};
    std::vector<double> logp, rollout_logp, proximal_logp, kl, tv;
    std::vector<std::uint8_t> loss_mask;
    std::vector<double> rewards, advantages;
    std::vector<std::int64_t> groups;

    [[nodiscard]] std::size_t size() const { return rewards.size(); }

    [[nodiscard]] trm::bounds::trajectories<double> view() const {
        trm::bounds::trajectories<double> t;
        t.layout = trm::packed{offsets};
        t.logp = logp;
        t.rollout_logp = rollout_logp;
        t.kl = kl;
        t.tv = tv;
        t.loss_mask = loss_mask;
        t.rewards = rewards;
        t.groups = groups;
        return t;
    }
    /// The same without the exact divergences, as a trainer sees it that keeps sampled log-probabilities only.
    [[nodiscard]] trm::bounds::trajectories<double> sampled_view() const {
        trm::bounds::trajectories<double> t = view();
        t.kl = {};
        t.tv = {};
        return t;
    }
};

/// All completions, or those whose policy was `updates_behind` updates behind.
inline batch read(const std::string& path, std::optional<int> updates_behind = std::nullopt) {
    std::ifstream in(path);
    if (!in) throw std::runtime_error("cannot open " + path);
    batch b;
    const auto append = [](auto& to, const nlohmann::json& from) {
        for (const auto& x : from) to.push_back(x.get<typename std::decay_t<decltype(to)>::value_type>());
    };
    for (std::string line; std::getline(in, line);) {
        const auto row = nlohmann::json::parse(line);
        if (updates_behind && row.at("updates_behind").get<int>() != *updates_behind) continue;
        append(b.logp, row.at("logp"));
        append(b.rollout_logp, row.at("rollout_logp"));
        append(b.proximal_logp, row.at("proximal_logp"));
        append(b.kl, row.at("kl"));
        append(b.tv, row.at("tv"));
        append(b.loss_mask, row.at("loss_mask"));
        b.offsets.push_back(static_cast<std::int64_t>(b.logp.size()));
        b.rewards.push_back(row.at("reward").get<double>());
        b.advantages.push_back(row.at("advantage").get<double>());
        b.groups.push_back(row.at("group").get<std::int64_t>());
    }
    return b;
}

}  // namespace rollouts
