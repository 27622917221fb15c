// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

/// A gnuplot script that carries its data: name.gp and, drawn from it, name.png.
class plot {
public:
    plot(std::string name, int width, int height);

    void add(std::string const& lines) { body_ += lines + "\n"; }
    /// Rows of numbers or quoted text as a data block; returns its name, for a plot command.
    std::string block(std::vector<std::string> const& rows);
    std::string block(std::vector<std::pair<double, double>> const& points);

    /// Writes both files. False if gnuplot is not there; throws std::runtime_error if something fails.
    [[nodiscard]] bool draw(std::string const& directory) const;

private:
    std::string name_, body_;
    int blocks_ = 0;
};

/// Colours that colour-blind readers can tell apart (Okabe and Ito, jfly.uni-koeln.de/color).
std::string colour(std::size_t i);
/// Text inside single quotes: gnuplot's quoting, and its enhanced mode off for underscores.
std::string quoted(std::string text);
