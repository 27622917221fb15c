// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/trajectories.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

/// \file
/// Sums behind the block bounds: positions are cut into blocks of w tokens, and block k of a sequence has the ratio
/// P_k = prod of rho over it. README.md beside this file derives the bounds.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// Sums over sequences for one block (weights included), `largest` excepted. Sequences that end before the block are
/// absent: there P = 1.
struct block_sums {
    double excess = 0.0;         ///< P - 1
    double magnitude = 0.0;      ///< |P - 1|
    double square = 0.0;         ///< (P - 1)^2
    double product_tv = 0.0;     ///< |P - 1| sum of TV_j over the positions after the block, exact TV only
    double product_block = 0.0;  ///< |P - 1| sum of |P_j - 1| over the blocks after it
    double largest = 0.0;        ///< largest weight * P of a sequence: merges as a maximum

    void add(const block_sums& o) noexcept {
        excess += o.excess;
        magnitude += o.magnitude;
        square += o.square;
        product_tv += o.product_tv;
        product_block += o.product_block;
        largest = (std::max)(largest, o.largest);
    }
};

/// One block length of one prompt group.
struct block_level {
    double within = 0.0;  ///< |sum_k (P_k - 1 - S_k)|, S_k the sum of (rho_t - 1) over the block
    std::vector<block_sums> at{};

    void add(const block_level& o) {
        within += o.within;
        if (at.size() < o.at.size()) at.resize(o.at.size());
        for (std::size_t k = 0; k < o.at.size(); ++k) at[k].add(o.at[k]);
    }
};

/// The block lengths w that are looked at: the list, or 1, 2, 4, ... where it is empty. The whole response, w = T, is
/// not among them; it is the direct estimate, and every table of block lengths ends with it.
struct block_grid {
    std::vector<std::int64_t> lengths{};  ///< ascending, positive; the same on every rank

    [[nodiscard]] bool valid() const noexcept {
        for (std::size_t i = 0; i < lengths.size(); ++i) {
            if (lengths[i] < 1 || (i > 0 && lengths[i] <= lengths[i - 1])) return false;
        }
        return true;
    }
    [[nodiscard]] std::int64_t length(std::size_t level) const noexcept {
        if (!lengths.empty()) return lengths[level];
        return level < 62 ? std::int64_t{1} << level : (std::numeric_limits<std::int64_t>::max)();
    }
    /// How many levels sequences of up to `tokens` tokens need. Of 1, 2, 4, ... those up to the first that holds all.
    [[nodiscard]] std::size_t levels(std::int64_t tokens) const noexcept {
        if (!lengths.empty()) return lengths.size();
        std::size_t n = 1;
        while (length(n - 1) < tokens) ++n;
        return n;
    }
    friend bool operator==(const block_grid&, const block_grid&) = default;
};

namespace detail {

/// Levels beyond those a group has recorded look like its last one: a single block that holds all of its sequences.
inline void extend(std::vector<block_level>& levels, std::size_t n) {
    if (levels.empty() && n > 0) levels.emplace_back();
    while (levels.size() < n) levels.emplace_back(levels.back());
}

/// Adds `from` to `into`, either of which may have recorded fewer levels.
inline void merge_levels(std::vector<block_level>& into, const std::vector<block_level>& from) {
    if (from.empty()) return;
    extend(into, from.size());
    for (std::size_t j = 0; j < into.size(); ++j) into[j].add(from[(std::min)(j, from.size() - 1)]);
}

/// One sequence, all block lengths. A level is summed from the cells of the longest earlier length that divides its own:
/// with 1, 2, 4, ... that is linear in tokens for the whole grid, and unlike differences of prefix sums it does not
/// lose small blocks behind a large log-ratio. One expm1 (or series) a block of two tokens or more.
struct block_scratch {
    struct cell {
        double log_ratio = 0.0;  ///< sum over the block
        double k3 = 0.0;
    };
    std::vector<cell> tokens{};  ///< per position; zero where the policy did not produce the token
    std::vector<double> step{};  ///< per position: rho - 1
    std::vector<double> tv_after{};  ///< per position: exact TV of all later ones
    std::vector<std::vector<cell>> cells;  ///< per level and block

    void resize(std::size_t n) {
        tokens.assign(n, {});
        step.assign(n, 0.0);
        tv_after.resize(n);
    }

    /// Sums blocks of `to` positions out of cells of `from` positions.
    void coarsen(std::span<const cell> fine, std::size_t times, std::vector<cell>& out) {
        out.clear();
        for (std::size_t i = 0; i < fine.size(); i += times) {
            cell sum;
            for (const cell& c : fine.subspan(i, (std::min)(times, fine.size() - i))) {
                sum.log_ratio += c.log_ratio;
                sum.k3 += c.k3;
            }
            out.push_back(sum);
        }
    }

    /// True if the sum of a block had to be held at +-300.
    bool add_to(std::vector<block_level>& levels, const block_grid& grid, double weight) {
        bool saturated = false;
        extend(levels, grid.levels(static_cast<std::int64_t>(tokens.size())));
        if (cells.size() < levels.size()) cells.resize(levels.size());
        for (std::size_t j = 0; j < levels.size(); ++j) {
            const auto length = static_cast<std::size_t>(
                (std::min)(grid.length(j), (std::max<std::int64_t>)(static_cast<std::int64_t>(tokens.size()), 1)));
            std::span<const cell> fine = tokens;
            std::size_t unit = 1;
            for (std::size_t i = j; i-- > 0 && unit == 1;) {
                const auto w = static_cast<std::size_t>(grid.length(i));
                if (w < length && grid.length(j) % grid.length(i) == 0) {
                    fine = cells[i];
                    unit = w;
                }
            }
            const std::size_t times = (length + unit - 1) / unit;
            coarsen(fine, times, cells[j]);
            saturated = add_level(levels[j], cells[j], times * unit, weight) || saturated;
        }
        return saturated;
    }

private:
    /// `own` is P - 1, `last` the position of the block's last token; `later` is the sum of |P - 1| over the blocks after it.
    void put(block_sums& b, double own, std::size_t last, double& later, double weight) const noexcept {
        const double size = std::fabs(own);
        b.excess += weight * own;
        b.magnitude += weight * size;
        b.square += weight * (own * own);
        b.product_tv += weight * size * tv_after[last];
        b.product_block += weight * size * later;
        b.largest = (std::max)(b.largest, weight * (1.0 + own));
        later += size;
    }

    bool add_level(block_level& level, std::span<const cell> blocks, std::size_t length, double weight) const {
        if (level.at.size() < blocks.size()) level.at.resize(blocks.size());
        double later = 0.0;
        if (length == 1) {  // within is 0
            for (std::size_t t = blocks.size(); t-- > 0;) put(level.at[t], step[t], t, later, weight);
            return false;
        }
        bool saturated = false;
        double within = 0.0;
        for (std::size_t k = blocks.size(); k-- > 0;) {
            const double x = std::clamp(blocks[k].log_ratio, -log_limit, log_limit);
            saturated = saturated || x != blocks[k].log_ratio;
            const ratio_step of = step_of(x);
            within += of.k3 + (x - blocks[k].log_ratio) - blocks[k].k3;
            put(level.at[k], of.step, (std::min)((k + 1) * length, tokens.size()) - 1, later, weight);
        }
        level.within += weight * std::fabs(within);
        return saturated;
    }
};

}  // namespace detail
}  // namespace bounds
TRM_NAMESPACE_END
