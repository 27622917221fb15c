// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/batch_bounds.hpp>
#include <trm/bounds/block_bounds.hpp>
#include <trm/bounds/estimates.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// \file
/// Bounds against the horizon, from one batch: what the error would be had responses stopped at T.

TRM_NAMESPACE_BEGIN
namespace bounds {

struct curve_point {
    std::int64_t horizon = 0;
    double direct = 0.0;  ///< worst case over rewards
    double ess = 0.0;     ///< of prod rho up to T
    double blocks = 0.0;             ///< block bound of the longest block length in good order, else of the shortest
    std::int64_t block_length = 0;   ///< that length
    double second_moment = 0.0;
    bound_table paper{};  ///< with the maxima of the first T positions
};

/// One point a horizon: responses are cut at T, so early points rest on the same sequences as late ones. Linear in
/// tokens times points. Empty on misuse; see `check`.
template <storage_type F>
[[nodiscard]] std::vector<curve_point> curve(const trajectories<F>& batch, std::span<const std::int64_t> horizons,
                                             scale s = {}, const block_limits& limits = {}) {
    std::vector<curve_point> points;
    for (const std::int64_t t : horizons) {
        evidence e;
        e.truncate = t;
        if (t < 1 || !e.add(batch).ok()) return {};
        const direct_estimate d = direct(e.sequences, s.reward);
        const std::vector<block_row> rows = block_bounds(e, s.reward, limits);
        const block_row used = rows.empty() ? block_row{} : rows[longest_good(rows).value_or(0)];
        points.push_back({t, d.worst_case, d.ess, used.value, used.length, second_moment(e, s.reward),
                          batch_bounds(e, measure(e, t), s)});
    }
    return points;
}

}  // namespace bounds
TRM_NAMESPACE_END
