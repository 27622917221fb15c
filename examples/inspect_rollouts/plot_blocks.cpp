// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/block_bounds.hpp>
#include <trm/bounds/certificate.hpp>
#include <trm/loss/checked.hpp>

#include "../text.hpp"
#include "plot_blocks.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace b = trm::bounds;

figure bounds_by_block(rollouts const& all, settings const& s) {
    auto const ages = all.ages();
    figure f{"bounds_by_block", 2};
    std::vector<std::vector<b::block_row>> rows;
    double low = 1e300, high = 0;
    std::int64_t longest = 2;
    for (std::int64_t age : ages) {
        b::evidence seen;
        trm::throw_if(seen.add(all.of_age(age).trajectories()));
        rows.push_back(b::block_bounds(seen, {s.reward_min, s.reward_max}));
        for (b::block_row const& row : rows.back()) {
            if (row.value > 0) low = std::min(low, row.value), high = std::max(high, row.value);
            longest = std::max(longest, row.length);
        }
    }
    f.add(text("set xlabel 'w (tokens in a block)'\nset logscale x 2\nset xrange [1:%lld]",
               static_cast<long long>(longest)));
    double const width = s.reward_max - s.reward_min;
    b::block_limits const limits;
    for (bool const health : {false, true}) {
        auto const level = [&](double y, char const* words) {
            f.add(
                text("set arrow 1 from graph 0, first %g to graph 1, first %g nohead lc rgb '#888888' dt 2\n"
                     "set label 1 '%s' at graph 0.03, first %g left offset 0, 0.6 tc rgb '#666666'",
                     y, y, words, y));
        };
        if (health) {
            f.add(
                "set title 'health of the products'\nset ylabel 'smallest effective sample size'\nunset logscale y\n"
                "set format y '%g'\nset yrange [0:1]");
            level(limits.least_ess, "good above");
        } else {
            f.add(
                text("set title 'block bound'\nset ylabel 'bound on |J(pi) - J(mu) - L|'\nset logscale y\n"
                     "set format y '10^{%%L}'\nset yrange [%.3g:%.3g]",
                     std::min(low, width) / 2, std::max(high, width) * 2));
            level(width, "vacuous above");
        }
        for (std::size_t i = 0; i < ages.size(); ++i) {
            std::vector<std::pair<double, double>> line, good, poor;
            for (b::block_row const& row : rows[i]) {
                line.emplace_back(static_cast<double>(row.length), health ? row.ess : row.value);
                (row.good ? good : poor).push_back(line.back());
            }
            std::string const title =
                all.updates_behind.empty() ? "all rollouts" : text("%d updates behind", static_cast<int>(ages[i]));
            f.curve(line, "lines lw 2 " + colour(i), title);
            f.curve(good, "points pt 7 ps 0.9 " + colour(i), "");
            f.curve(poor, "points pt 6 ps 0.9 " + colour(i), "");
        }
        f.explain("points pt 6 lc rgb '#444444'", "not in good order");
        f.end_panel();
    }
    return f;
}
