// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "figure.hpp"
#include "plots.hpp"

/// Runs gnuplot once for each figure; all images appear, or none.
plot_outcome render(std::vector<figure> const& figures, plot_settings const& where);
