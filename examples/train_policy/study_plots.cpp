// SPDX-License-Identifier: Apache-2.0
#include "study_plots.hpp"

#include "../text.hpp"
#include "gnuplot.hpp"
#include "horizon_plots.hpp"
#include "methods.hpp"

#include <algorithm>
#include <cmath>

namespace {

using points = std::vector<std::pair<double, double>>;

std::vector<std::string> distinct(std::vector<cell> const& cells, std::string cell::* which) {
    std::vector<std::string> out;
    for (cell const& c : cells)
        if (std::find(out.begin(), out.end(), c.*which) == out.end()) out.push_back(c.*which);
    return out;
}

points zip(std::vector<double> const& x, std::vector<double> const& y) {
    points p;
    for (std::size_t i = 0; i < x.size(); ++i) p.emplace_back(x[i], y[i]);
    return p;
}

/// Mean over seeds, place by place.
points mean_curve(cell const& c) {
    points p = zip(c.runs[0]->value_at, c.runs[0]->value);
    for (std::size_t i = 0; i < p.size(); ++i) {
        p[i].second = 0;
        for (run_result const* r : c.runs) p[i].second += r->value[i] / static_cast<double>(c.runs.size());
    }
    return p;
}

/// Means over windows of some twentieth of the run, so that single updates do not hide the course.
points smoothed(cell const& c, std::vector<double> run_result::* which) {
    std::size_t const n = (c.runs[0]->*which).size(), width = std::max<std::size_t>(1, n / 25);
    points p;
    for (std::size_t first = 0; first + width <= n; first += width) {
        double sum = 0;
        for (run_result const* r : c.runs)
            for (std::size_t i = first; i < first + width; ++i) sum += (r->*which)[i];
        p.emplace_back(static_cast<double>(first) + static_cast<double>(width) / 2,
                       sum / static_cast<double>(width * c.runs.size()));
    }
    return p;
}

/// One panel a method: every seed thin, the mean thick, and the mean of the first method for comparison.
plot learning(std::vector<cell> const& cells, std::string const& scenario) {
    std::vector<cell const*> here;
    for (cell const& c : cells)
        if (c.scenario == scenario) here.push_back(&c);
    int const columns = std::min<int>(4, static_cast<int>(here.size()));
    int const lines = (static_cast<int>(here.size()) + columns - 1) / columns;
    plot p("learning_" + scenario, 270 * columns, 60 + 200 * lines);
    p.add(text("set multiplot layout %d,%d title 'reward over updates, %s: seeds thin, mean thick, dashed: %s'", lines,
               columns, scenario.c_str(), title_of(here[0]->method).c_str()));
    p.add(
        "set yrange [0:1.02]\nset ytics 0.2\nset key off\nset xlabel 'updates' offset 0,0.7\nset ylabel 'reward' "
        "offset 1.5,0");
    std::string const reference = p.block(mean_curve(*here[0]));
    for (std::size_t i = 0; i < here.size(); ++i) {
        cell const& c = *here[i];
        std::string command = "plot ";
        for (run_result const* r : c.runs)
            command += p.block(zip(r->value_at, r->value)) + " with lines lw 1 lc rgb '#b0c8e0', ";
        command += reference + " with lines lw 1.5 dt 2 lc rgb '#888888', " + p.block(mean_curve(c)) +
                   " with lines lw 2.5 " + colour(0);
        p.add("set title " +
              quoted(title_of(c.method) + text(": %.2f +- %.2f", mean_of(c.last), deviation_of(c.last))) + "\n" +
              command);
    }
    p.add("unset multiplot");
    return p;
}

/// A label of an axis is a format to gnuplot.
std::string as_tic(std::string text) {
    for (std::size_t at = text.find('%'); at != std::string::npos; at = text.find('%', at + 2)) text.insert(at, "%");
    return text;
}

/// Methods by scenarios as coloured fields with a text in each.
template <class Value, class Label>
plot table(std::vector<cell> const& cells, std::string const& name, std::string const& title, bool high_is_good,
           Value const& value, Label const& label) {
    auto const scenarios = distinct(cells, &cell::scenario), names = distinct(cells, &cell::method);
    plot p(name, 330 + 165 * static_cast<int>(scenarios.size()), 170 + 27 * static_cast<int>(names.size()));
    p.add("set bmargin 4");
    std::vector<std::string> fields, labels;
    std::string x, y;
    for (std::size_t i = 0; i < scenarios.size(); ++i) {
        // task-T64 above engine-k8-adam0.03
        std::string s = scenarios[i];
        std::size_t const at = s.find('-', s.find('-') + 1);
        s = s.substr(0, at) + "\\n" + s.substr(at + 1);
        x += (i ? ", " : "") + text("\"%s\" %zu", s.c_str(), i);
    }
    for (std::size_t j = 0; j < names.size(); ++j)
        y += (j ? ", " : "") + quoted(as_tic(title_of(names[j]))) + text(" %zu", names.size() - 1 - j);
    for (cell const& c : cells) {
        auto const i = std::find(scenarios.begin(), scenarios.end(), c.scenario) - scenarios.begin();
        auto const j = std::find(names.rbegin(), names.rend(), c.method) - names.rbegin();
        double const v = value(c);
        std::string const place = text("%d %d ", static_cast<int>(i), static_cast<int>(j));
        fields.push_back(place + text("%g", v));
        labels.push_back(place + "\"" + label(c) + "\"");
    }
    p.add("set title " + quoted(title) + "\nset xtics (" + x + ")\nset ytics (" + y + ")\nunset grid\nset key off");
    p.add(text("set xrange [-0.5:%g]\nset yrange [-0.5:%g]\nset cbrange [0:1]\nunset colorbox",
               static_cast<double>(scenarios.size()) - 0.5, static_cast<double>(names.size()) - 0.5));
    p.add(high_is_good ? "set palette defined (0 '#f4a582', 0.5 '#f7f7f7', 1 '#92c5de')"
                       : "set palette defined (0 '#ffffff', 1 '#f4a582')");
    std::string const data = p.block(fields), text = p.block(labels);
    p.add("plot " + data + " using 1:2:(0.5):(0.5):3 with boxxyerror fs solid noborder fc palette, " + text +
          " using 1:2:3 with labels");
    return p;
}

/// Kept sequences of methods that reject any, one panel a scenario.
plot kept(std::vector<cell> const& cells) {
    auto const scenarios = distinct(cells, &cell::scenario), names = distinct(cells, &cell::method);
    int const columns = std::min<int>(3, static_cast<int>(scenarios.size()));
    int const lines = (static_cast<int>(scenarios.size()) + columns - 1) / columns;
    plot p("kept", 320 + 330 * columns, 60 + 260 * lines);
    p.add(text("set multiplot layout %d,%d title 'kept sequences (%%), mean over seeds'", lines, columns));
    p.add(text("set xtics %zu", std::max<std::size_t>(1, cells[0].runs[0]->kept_sequences.size() / 4)));
    p.add("set yrange [0:102]\nset xlabel 'updates'\nset ylabel 'kept (%)'\nset key outside right top font ',8'");
    for (std::size_t i = 0; i < scenarios.size(); ++i) {
        std::string command;
        for (cell const& c : cells) {
            if (c.scenario != scenarios[i] || c.kept_sequences > 0.999) continue;
            auto const at = std::find(names.begin(), names.end(), c.method) - names.begin();
            points curve = smoothed(c, &run_result::kept_sequences);
            for (auto& [update, share] : curve) share *= 100;
            command += (command.empty() ? "plot " : ", ") + p.block(curve) + " with lines lw 2 " +
                       colour(static_cast<std::size_t>(at)) + text(" dt %d title ", 1 + static_cast<int>(at) / 8) +
                       quoted(title_of(c.method));
        }
        p.add("set title " + quoted(scenarios[i]) + "\n" + (command.empty() ? "set multiplot next" : command));
    }
    p.add("unset multiplot");
    return p;
}

}  // namespace

std::string title_of(std::string const& method) {
    for (named_method const& m : methods())
        if (m.name == method) return m.title;
    return method;
}

std::string draw_study(std::vector<cell> const& cells, std::string const& directory) {
    std::vector<plot> plots;
    for (std::string const& s : distinct(cells, &cell::scenario)) plots.push_back(learning(cells, s));
    plots.push_back(table(
        cells, "final_reward", "reward of the last policy: mean +- deviation over seeds", true,
        [](cell const& c) { return mean_of(c.last); },
        [](cell const& c) { return text("%.2f +- %.2f", mean_of(c.last), deviation_of(c.last)); }));
    plots.push_back(table(
        cells, "collapse", "collapsed runs, 95% interval (Wilson)", false,
        [](cell const& c) { return c.collapsed / static_cast<double>(c.last.size()); },
        [](cell const& c) {
            interval const i = wilson(c.collapsed, static_cast<int>(c.last.size()));
            return text("%d of %zu [%.0f, %.0f]%%", c.collapsed, c.last.size(), 100 * i.low, 100 * i.high);
        }));
    plots.push_back(kept(cells));
    for (plot const& p : horizon_plots(cells)) plots.push_back(p);
    for (plot const& p : plots)
        if (!p.draw(directory + "/plots")) return "no plots: gnuplot was not found (gnuplot-nox)";
    return "plots in " + directory + "/plots";
}
