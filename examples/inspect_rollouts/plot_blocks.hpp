// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "figure.hpp"
#include "report.hpp"

/// The block bound and the health of its products against the block length, one curve an age.
figure bounds_by_block(rollouts const& all, settings const& s);
