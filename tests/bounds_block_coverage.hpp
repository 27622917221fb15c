// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/resample.hpp>

#include "bounds_chain.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

/// How often the upper limit of a block bound, w chosen by health on the same sample, is above what it estimates.
namespace coverage {

struct cell {
    chains::mismatch kind = chains::mismatch::dense;
    std::size_t horizon = 32, n = 64;
};

struct effort {
    int chains = 8;              ///< policy pairs
    int runs = 25;               ///< samples of each
    std::size_t reference = 65536;  ///< responses behind the reference values of a pair
    int resamples = 200;
};

/// Means over all runs of a cell. Covered: the 95% upper limit is at or above the reference value.
struct result {
    int count = 0;
    double length = 0.0;         ///< median of the chosen w
    double value = 0.0;          ///< reference value of the block bound at the chosen w
    double worst = 0.0;          ///< reference value of the error under the worst reward
    double bias = 0.0;           ///< estimate / reference - 1
    double basic = 0.0;          ///< block bound covered, basic bootstrap (what `certify` uses)
    double percentile = 0.0;     ///< the same, percentile bootstrap
    double refined = 0.0;        ///< with the fourth form, basic
    double worst_by_block = 0.0; ///< the worst error itself is at or below the block bound's upper limit
    double direct = 0.0;         ///< two-sided direct estimate covered, percentile
    double one_sided = 0.0;      ///< one-sided direct estimate covered, percentile
    double one_sided_bias = 0.0, direct_bias = 0.0;
    double none = 0.0;           ///< runs in which no block length was in good order; they count nowhere else
};

inline result measure(const cell& c, const effort& how, std::uint64_t seed) {
    namespace b = trm::bounds;
    std::mt19937_64 rng(seed);
    std::mt19937_64 pairs(seed);
    result out;
    std::vector<double> lengths;
    const b::bootstrap_options o{how.resamples, 0.90, 11};
    for (int p = 0; p < how.chains; ++p) {
        const chains::chain pair = chains::random_chain(c.kind, pairs);
        const b::evidence many = chains::draw(pair, c.horizon, how.reference, true, rng, 1);
        const std::vector<b::block_row> exact = b::block_bounds(many);
        const double worst = b::direct(many.sequences).one_sided;
        for (int i = 0; i < how.runs; ++i) {
            const b::evidence e = chains::draw(pair, c.horizon, c.n, true, rng);
            const std::vector<b::block_row> rows = b::block_bounds(e);
            auto again = b::resample(e, {}, o);
            const auto high = [&](std::vector<double>& v, double value, b::interval_method m) {
                return b::interval_of(v, value, o.level, m).high;
            };
            const b::direct_estimate d = b::direct(e.sequences);
            ++out.count;
            out.direct += high(again.worst_case, d.worst_case, b::interval_method::percentile) >= worst;
            out.one_sided += high(again.one_sided, d.one_sided, b::interval_method::percentile) >= worst;
            out.one_sided_bias += d.one_sided / worst - 1.0;
            out.direct_bias += d.worst_case / worst - 1.0;
            out.worst += worst;
            const auto used = b::longest_good(rows);
            if (!used) {
                out.none += 1.0;
                continue;
            }
            const b::block_row& row = rows[*used];
            const b::block_row& truth = exact[*used];
            const bool whole = *used + 1 == rows.size();
            std::vector<double> v = whole ? again.worst_case : b::resample_blocks(e, *used, {}, o);
            std::vector<double> f =
                whole ? again.worst_case : b::resample_blocks(e, *used, {}, o, b::block_forms::refined);
            const double upper = high(v, row.value, whole ? b::interval_method::percentile : b::interval_method::basic);
            lengths.push_back(static_cast<double>(row.length));
            out.value += truth.value;
            out.bias += row.value / truth.value - 1.0;
            out.basic += upper >= truth.value;
            out.percentile += high(v, row.value, b::interval_method::percentile) >= truth.value;
            out.refined += high(f, row.refined, whole ? b::interval_method::percentile : b::interval_method::basic) >=
                           truth.refined;
            out.worst_by_block += upper >= worst;
        }
    }
    const auto counted = static_cast<double>(lengths.size());
    for (double* v : {&out.value, &out.bias, &out.basic, &out.percentile, &out.refined, &out.worst_by_block}) {
        *v = counted > 0.0 ? *v / counted : 0.0;
    }
    for (double* v : {&out.direct, &out.one_sided, &out.one_sided_bias, &out.direct_bias, &out.worst, &out.none}) {
        *v /= out.count;
    }
    if (!lengths.empty()) {
        std::nth_element(lengths.begin(), lengths.begin() + static_cast<std::ptrdiff_t>(lengths.size() / 2),
                         lengths.end());
        out.length = lengths[lengths.size() / 2];
    }
    return out;
}

}  // namespace coverage
