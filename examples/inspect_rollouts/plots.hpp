// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "report.hpp"

#include <functional>
#include <string>

struct plot_settings {
    std::string directory = "plots";
    std::string format = "png";
    std::string gnuplot = "gnuplot";
};

/// A missing gnuplot is `ok`: the message says how to get it.
struct plot_outcome {
    bool ok = true;
    std::string message;
};

/// Draws all plots into temporaries, then renames them, so that a failure leaves what was there before.
/// `progress` is told what is being worked on.
plot_outcome draw(rollouts const& all, settings const& s, plot_settings const& where,
                  std::function<void(std::string const&)> const& progress);
