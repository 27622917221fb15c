// SPDX-License-Identifier: Apache-2.0
#include "gnuplot.hpp"
#include "study_plots.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>

namespace {

using points = std::vector<std::pair<double, double>>;

std::vector<std::string> engines_of(truth_table const& t) {
    std::vector<std::string> out;
    for (error_row const& r : t.errors)
        if (std::find(out.begin(), out.end(), r.engine) == out.end()) out.push_back(r.engine);
    return out;
}

/// Means over seeds, by staleness; 0 updates behind is drawn at 0.5 on a logarithmic axis.
template <class Row, class Pick, class Value>
points by_staleness(std::vector<Row> const& rows, Pick const& pick, Value const& value) {
    std::vector<int> ages;
    for (Row const& r : rows)
        if (std::find(ages.begin(), ages.end(), r.staleness) == ages.end()) ages.push_back(r.staleness);
    points out;
    for (int age : ages) {
        double sum = 0, n = 0;
        for (Row const& r : rows)
            if (r.staleness == age && pick(r)) sum += value(r), ++n;
        if (n > 0) out.emplace_back(age == 0 ? 0.5 : age, std::max(sum / n, 1e-9));
    }
    return out;
}

char const* const axis =
    "set logscale xy\nset xrange [0.45:40]\nset xtics ('0' 0.5, '1' 1, '2' 2, '4' 4, '8' 8, '16' 16, '32' 32)\n"
    "set xlabel 'updates behind' offset 0,0.6";

/// One panel a method: bias and error, with those of the first method for comparison.
plot gradients(truth_table const& t, std::string const& engine) {
    std::vector<std::string> names;
    for (truth_row const& r : t.gradients)
        if (std::find(names.begin(), names.end(), r.method) == names.end()) names.push_back(r.method);
    std::size_t const columns = std::min<std::size_t>(5, names.size()), lines = (names.size() + columns - 1) / columns;
    plot p("truth_gradients_" + engine, static_cast<int>(235 * columns), static_cast<int>(90 + 190 * lines));
    p.add("set multiplot layout " + std::to_string(lines) + "," + std::to_string(columns) + " title \"" + engine +
          ": gradient against the true policy gradient (1 = its norm), mean over seeds\\nblue: bias; orange: root mean "
          "squared error of one update; dashed: the same of " +
          title_of(names[0]) + "\"");
    p.add(axis);
    p.add("set key off\nset yrange [1e-4:30]\nset format y '%g'");
    auto const curve = [&](std::string const& name, double truth_row::* value) {
        return p.block(by_staleness(
            t.gradients, [&](truth_row const& r) { return r.engine == engine && r.method == name; },
            [value](truth_row const& r) { return r.*value; }));
    };
    std::string const bias = curve(names[0], &truth_row::bias), error = curve(names[0], &truth_row::error);
    for (std::string const& name : names) {
        p.add("set title " + quoted(title_of(name)));
        p.add("plot " + bias + " with lines dt 2 lc rgb '#9ecae1', " + error + " with lines dt 2 lc rgb '#fdae6b', " +
              curve(name, &truth_row::bias) + " with linespoints pt 7 ps 0.4 lw 2 " + colour(0) + ", " +
              curve(name, &truth_row::error) + " with linespoints pt 7 ps 0.4 lw 2 " + colour(1));
    }
    p.add("unset multiplot");
    return p;
}

plot bounds(truth_table const& t) {
    auto const engines = engines_of(t);
    plot p("truth_bounds", 520 * static_cast<int>(engines.size()), 460);
    p.add("set multiplot layout 1," + std::to_string(engines.size()) +
          " title 'error of the surrogate and its bounds, exact, mean over seeds'");
    p.add(axis);
    p.add("set yrange [1e-9:100]\nset format y '%.0e'\nset lmargin 10\nset ylabel '|J(pi) - J(mu) - L|'");
    struct line {
        char const* name;
        double error_row::* value;
    };
    for (std::string const& engine : engines) {
        std::string command;
        std::size_t i = 0;
        for (auto const& [name, value] : {line{"measured", &error_row::error},
                                          {"direct, worst reward", &error_row::worst_reward},
                                          {"second moment", &error_row::second_moment},
                                          {"Adaptive", &error_row::adaptive},
                                          {"Mixed (KL)", &error_row::mixed_kl},
                                          {"Pinsker-Marginal", &error_row::pinsker},
                                          {"classical", &error_row::classical}}) {
            auto const curve = by_staleness(
                t.errors, [&](error_row const& r) { return r.engine == engine; },
                [&, v = value](error_row const& r) { return r.*v; });
            command += (command.empty() ? "plot " : ", ") + p.block(curve) + " with linespoints pt 7 ps 0.5 lw 2 " +
                       colour(i == 0 ? 6 : i - 1) + " title '" + name + "'";
            ++i;
        }
        p.add("set key left top font ',8'\nset yrange [1e-8:1e5]");
        p.add("set title " + quoted(engine) + "\n" + command +
              ", 1 with lines dt 2 lc rgb '#888888' title 'vacuous above'");
    }
    p.add("unset multiplot");
    return p;
}

}  // namespace

std::string draw_truth(truth_table const& t, std::string const& directory) {
    std::vector<plot> plots{bounds(t)};
    for (std::string const& engine : engines_of(t)) plots.push_back(gradients(t, engine));
    for (plot const& p : plots)
        if (!p.draw(directory)) return "no plots: gnuplot was not found (gnuplot-nox)";
    return "plots in " + directory;
}
