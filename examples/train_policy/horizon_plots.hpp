// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gnuplot.hpp"
#include "summary.hpp"

/// horizons_<scenario without its horizon>, for each with more than one horizon: reward at the end and rate of collapse over the
/// horizon, one panel a method.
std::vector<plot> horizon_plots(std::vector<cell> const& cells);
