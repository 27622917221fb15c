// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/bootstrap.hpp>
#include <trm/bounds/estimates.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// \file
/// Block bounds (trm's own): between the second-moment bound, w = 1, and the direct estimate, w = T.
///
/// |Error| <= (max R - min R)/2 E|sum_k (P_k - 1 - S_k)|
///          + (max R - min R) sum_k min( E|P_k - 1|, sqrt(E[(P_k - 1)^2] E[KL after k] / 2), E[|P_k - 1| TV after k] )
///
/// KL after k and TV after k are sums over the positions after block k; without exact KL it is k3's, without exact TV the
/// third form is left out. Every term is a mean under mu, and no product is longer than w.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// The bound of one block length, and what its products are worth.
struct block_row {
    std::int64_t length = 0;  ///< w
    std::int64_t blocks = 0;  ///< K
    double value = 0.0;  ///< within + between
    double within = 0.0;
    double between = 0.0;
    double refined = 0.0;  ///< within + between, the latter with the fourth form, see `block_forms`
    double ess = 1.0;  ///< smallest effective sample size of a P_k, as a fraction
    double tail_share = 0.0;  ///< largest share of one sequence in the sum of a P_k
    bool good = false;  ///< in good order under the limits that were given
};

/// What bounds a block's share of the error. `divergences`: the three forms above. `refined`: also
/// E[|P_k - 1| sum_{j > k} |P_j - 1|] / 2, since the TV of the future is at most the sum of the TV of its blocks, which are
/// E[|P_j - 1| | context] / 2. It needs no exact TV and is never above the third form in expectation.
enum class block_forms : std::uint8_t { divergences, refined };

/// When the products of a block length are in good order.
struct block_limits {
    double least_ess = 0.5;
    double largest_tail_share = 0.25;
};

namespace detail {

/// The level's sums, all groups together; groups that recorded fewer levels stand at their last.
[[nodiscard]] inline block_level level_total(const evidence& e, std::size_t level) {
    block_level sum;
    for (const group_sums& g : e.groups) {
        if (!g.levels.empty()) sum.add(g.levels[(std::min)(level, g.levels.size() - 1)]);
    }
    return sum;
}

/// A level as if its blocks were positions, so that what is done for positions is done for blocks; `tv` holds
/// product_block.
[[nodiscard]] inline std::vector<position_sums> as_positions(const block_level& level, std::int64_t length,
                                                             std::span<const position_sums> positions) {
    std::vector<position_sums> out;
    out.reserve(level.at.size());
    for (std::size_t k = 0; k < level.at.size(); ++k) {
        const block_sums& b = level.at[k];
        const auto stop = static_cast<std::size_t>(length) * (k + 1);  // a block has a position: no overflow before it
        const bool inside = k + 1 < level.at.size() && stop <= positions.size();
        out.push_back(
            {b.magnitude, b.square, inside ? positions[stop - 1].future_kl : 0.0, b.product_tv, b.product_block});
    }
    return out;
}

/// Longest response, in positions.
[[nodiscard]] inline std::int64_t longest_of(const evidence& e) noexcept {
    std::size_t n = 0;
    for (const group_sums& g : e.groups) n = (std::max)(n, g.at.size());
    return static_cast<std::int64_t>(n);
}

/// (max R - min R) sum_k of the least form. With `divergences` the second-moment bound.
[[nodiscard]] inline double between(std::span<const position_sums> blocks, double sequences, bool with_tv,
                                    block_forms forms, reward_range r) noexcept {
    if (forms == block_forms::divergences) return second_moment(blocks, sequences, with_tv, r);
    double sum = 0.0;
    for (const position_sums& p : blocks) {
        sum += (std::min)(terms_of(p, sequences).least(with_tv), sequences > 0.0 ? 0.5 * p.tv / sequences : 0.0);
    }
    return scaled({r, constants::centred}, sum);
}

inline void judge(block_row& row, const block_level& total, double sequences, double heaviest) noexcept {
    for (const block_sums& b : total.at) {
        const double sum = sequences + b.excess;  // of weight * P
        const double square = sequences + 2.0 * b.excess + b.square;
        const double ess = square > 0.0 ? (sum / sequences) * (sum / square) : 0.0;
        row.ess = (std::min)(row.ess, ess);
        row.tail_share = (std::max)(row.tail_share, sum > 0.0 ? (std::max)(b.largest, heaviest) / sum : 1.0);
    }
}

}  // namespace detail

/// One row per block length of the grid below T, then w = T, which is the direct estimate. `good` needs both limits, no
/// log-ratio held at +-300, and at w = T nothing else here: the direct estimate has checks of its own. Empty if nothing
/// was seen, and only w = T if ranks used different grids. Linear in groups x positions.
[[nodiscard]] inline std::vector<block_row> block_bounds(const evidence& e, reward_range r = {},
                                                         const block_limits& limits = {}) {
    std::vector<block_row> rows;
    if (e.sequences.empty()) return rows;
    double heaviest = 0.0;
    double n = 0.0;
    bool saturated = false;
    for (const sequence_record& q : e.sequences) {
        heaviest = (std::max)(heaviest, q.weight);
        n += q.weight;
        saturated = saturated || q.saturated;
    }
    const std::int64_t longest = detail::longest_of(e);
    const std::vector<position_sums> positions = e.totals();
    const std::size_t levels = e.grids_differ ? 0 : e.grid.levels(longest);
    const auto finish = [&](block_row& row) {
        row.value = row.within + row.between;
        row.good = !saturated && row.ess >= limits.least_ess && row.tail_share <= limits.largest_tail_share;
        rows.push_back(row);
    };
    for (std::size_t j = 0; j < levels && e.grid.length(j) < longest; ++j) {
        const block_level total = detail::level_total(e, j);
        block_row row;
        row.length = e.grid.length(j);
        row.blocks = static_cast<std::int64_t>(total.at.size());
        row.within = detail::scaled({r, constants::centred}, 0.5 * total.within / n);
        const std::vector<position_sums> blocks = detail::as_positions(total, row.length, positions);
        row.between = detail::between(blocks, n, e.has_exact_tv(), block_forms::divergences, r);
        row.refined = row.within + detail::between(blocks, n, e.has_exact_tv(), block_forms::refined, r);
        detail::judge(row, total, n, heaviest);
        finish(row);
    }
    const direct_estimate d = direct(e.sequences, r);
    block_row whole{longest, 1, 0.0, d.worst_case, 0.0, d.worst_case, d.ess, d.tail_share, false};
    finish(whole);
    return rows;
}

/// The longest block length in good order; nothing if none is.
[[nodiscard]] inline std::optional<std::size_t> longest_good(std::span<const block_row> rows) noexcept {
    std::optional<std::size_t> best;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows[i].good) best = i;
    }
    return best;
}

}  // namespace bounds
TRM_NAMESPACE_END
