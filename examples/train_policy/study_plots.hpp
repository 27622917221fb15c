// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "summary.hpp"
#include "truth.hpp"

/// Draws into `directory`/plots and says what was drawn, or that gnuplot is missing:
///
///     learning_<scenario>   reward over updates, one panel a method, every seed
///     final_reward          reward at the end, methods by scenarios
///     collapse              runs that collapsed, methods by scenarios, with Wilson's interval
///     kept                  kept sequences over updates
///     horizons_<scenario>   reward at the end and collapsed runs over the horizon, where there are several
std::string draw_study(std::vector<cell> const& cells, std::string const& directory);

/// truth_gradients_<engine> and truth_bounds, into `directory`.
std::string draw_truth(truth_table const& t, std::string const& directory);

/// The title of a method, or its text.
std::string title_of(std::string const& method);
