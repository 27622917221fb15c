// SPDX-License-Identifier: Apache-2.0
#include "horizon_plots.hpp"

#include "../text.hpp"
#include "gnuplot.hpp"
#include "study_plots.hpp"

#include <algorithm>
#include <map>

namespace {

/// A scenario's name without the horizon.
std::string family_of(cell const& c) {
    std::size_t const task = c.runs[0]->settings.task.size();
    std::string name = c.scenario;
    return name.erase(task, name.find('-', task + 1) - task);
}

using by_horizon = std::map<int, cell const*>;

struct curves {
    std::string reward, collapse;  ///< data blocks: horizon, value, lower and upper end
};

/// `shift` moves points of the two curves apart, so that their bars do not cover each other.
curves blocks_of(plot& p, by_horizon const& cells, double shift) {
    std::vector<std::string> reward, collapse;
    for (auto const& [horizon, c] : cells) {
        double const mean = mean_of(c->last), deviation = deviation_of(c->last);
        int const n = static_cast<int>(c->last.size());
        interval const rate = wilson(c->collapsed, n);
        reward.push_back(text("%g %.4f %.4f %.4f", horizon / shift, mean, mean - deviation, mean + deviation));
        collapse.push_back(
            text("%g %.4f %.4f %.4f", horizon * shift, c->collapsed / static_cast<double>(n), rate.low, rate.high));
    }
    return {p.block(reward), p.block(collapse)};
}

/// One panel a method, and dashed in each of them the first method.
plot panels(std::string const& family, std::vector<std::pair<std::string, by_horizon>> const& all) {
    int const columns = std::min<int>(4, static_cast<int>(all.size()));
    int const lines = (static_cast<int>(all.size()) + columns - 1) / columns;
    by_horizon const& first = all[0].second;
    plot p("horizons_" + family, std::max(560, 290 * columns), 100 + 230 * lines);
    p.add(
        text("set multiplot layout %d,%d title \"%s, over the horizon\\nblue: reward at the end, mean +- deviation "
             "over seeds; orange: share of runs that collapsed, 95%% interval (Wilson); dashed: the same of %s\"",
             lines, columns, family.c_str(), title_of(all[0].first).c_str()));
    std::string tics;
    for (auto const& [horizon, c] : first) tics += (tics.empty() ? "" : ", ") + std::to_string(horizon);
    p.add("set key off\nset yrange [0:1.02]\nset ytics 0.2\nset logscale x 2\nset xlabel 'tokens' offset 0,0.7");
    p.add("set xtics (" + tics + ")");
    p.add(text("set xrange [%g:%g]", first.begin()->first / 1.6, first.rbegin()->first * 1.6));
    curves const reference = blocks_of(p, first, 1);
    for (auto const& [method, cells] : all) {
        curves const c = blocks_of(p, cells, 1.06);
        p.add("set title " + quoted(title_of(method)));
        p.add("plot " + reference.reward + " using 1:2 with lines dt 2 lc rgb '#9ecae1', " + reference.collapse +
              " using 1:2 with lines dt 2 lc rgb '#fdae6b', " + c.reward + " with yerrorlines pt 7 ps 0.6 lw 2 " +
              colour(0) + ", " + c.collapse + " with yerrorlines pt 5 ps 0.6 lw 2 " + colour(1));
    }
    p.add("unset multiplot");
    return p;
}

}  // namespace

std::vector<plot> horizon_plots(std::vector<cell> const& cells) {
    std::vector<std::string> families;
    for (cell const& c : cells)
        if (std::find(families.begin(), families.end(), family_of(c)) == families.end())
            families.push_back(family_of(c));
    std::vector<plot> plots;
    for (std::string const& family : families) {
        std::vector<std::pair<std::string, by_horizon>> all;
        for (cell const& c : cells) {
            if (family_of(c) != family) continue;
            auto at = std::find_if(all.begin(), all.end(), [&](auto const& m) { return m.first == c.method; });
            if (at == all.end()) at = all.insert(all.end(), {c.method, {}});
            at->second[c.runs[0]->settings.horizon] = &c;
        }
        if (all[0].second.size() > 1) plots.push_back(panels(family, all));
    }
    return plots;
}
