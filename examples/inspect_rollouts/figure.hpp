// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../text.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

/// A gnuplot script in the making: panels side by side, each a list of curves, and one legend below them.
class figure {
public:
    std::string name;
    int panels;
    std::string body;

    explicit figure(std::string file_name, std::size_t panel_count = 1)
        : name(std::move(file_name)), panels(static_cast<int>(panel_count)) {}

    void add(std::string const& lines) { body += lines + "\n"; }
    /// A curve of the panel that is being written. Curves of the same title share a line in the legend.
    void curve(std::vector<std::pair<double, double>> const& points, std::string const& style,
               std::string const& title) {
        if (std::string const block = data(points); !block.empty())
            curves += (curves.empty() ? "plot " : ", ") + block + " with " + style;
        explain(style, title);
    }
    void explain(std::string const& style, std::string const& title) {
        bool const known = std::any_of(legend.begin(), legend.end(), [&](auto const& l) { return l.second == title; });
        if (!title.empty() && !known) legend.emplace_back(style, title);
    }
    void end_panel() {
        body += (curves.empty() ? "set multiplot next" : curves) + "\n";
        curves.clear();
    }
    /// An empty panel that carries the legend.
    [[nodiscard]] std::string legend_panel() const {
        std::string out =
            "reset\nset lmargin at screen 0.02\nset rmargin at screen 0.98\nset bmargin at screen 0\n"
            "set tmargin at screen 0.12\nunset border\nunset tics\nset xrange [0:1]\nset yrange [0:1]\n"
            "set key center center horizontal Left reverse\n";
        for (std::size_t i = 0; i < legend.size(); ++i)
            out += (i == 0 ? "plot" : ",") + (" 1/0 with " + legend[i].first + " title '" + legend[i].second + "'");
        return out + "\n";
    }

private:
    /// Points as a data block; returns its name. Points that a logarithmic axis cannot show are left out; "" if none is left.
    std::string data(std::vector<std::pair<double, double>> const& points) {
        std::string lines;
        for (auto const& [x, y] : points)
            if (x > 0 && y > 0 && x < 1e300 && y < 1e300) lines += text("%.6g %.6g\n", x, y);
        if (lines.empty()) return {};
        std::string const block = "$d" + std::to_string(blocks++);
        body += block + " << EOD\n" + lines + "EOD\n";
        return block;
    }

    int blocks = 0;
    std::string curves;
    std::vector<std::pair<std::string, std::string>> legend;
};

/// Colours that colour-blind readers can tell apart (Okabe and Ito, jfly.uni-koeln.de/color).
inline std::string colour(std::size_t i) {
    constexpr std::array<char const*, 6> palette{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"};
    return text("lc rgb '%s'", palette[i % palette.size()]);
}
