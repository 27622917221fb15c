// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/batch_bounds.hpp>
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
    double second_moment = 0.0;
    bound_table paper{};  ///< with the maxima of the first T positions
};

/// One point a horizon: responses are cut at T, so early points rest on the same sequences as late ones. Linear in
/// tokens times points. Empty on misuse; see `check`.
template <storage_type F>
[[nodiscard]] std::vector<curve_point> curve(const trajectories<F>& batch, std::span<const std::int64_t> horizons,
                                             scale s = {}) {
    std::vector<curve_point> points;
    for (const std::int64_t t : horizons) {
        evidence e;
        e.truncate = t;
        if (t < 1 || !e.add(batch).ok()) return {};
        const direct_estimate d = bounds::direct(e.sequences, s.reward);
        points.push_back({t, d.worst_case, d.ess, second_moment(e, s.reward), batch_bounds(e, measure(e, t), s)});
    }
    return points;
}

}  // namespace bounds
TRM_NAMESPACE_END
