// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Everything about error bounds: see README.md beside this file.

#include <trm/bounds/batch_bounds.hpp>
#include <trm/bounds/block_bounds.hpp>
#include <trm/bounds/blocks.hpp>
#include <trm/bounds/calibration.hpp>
#include <trm/bounds/certificate.hpp>
#include <trm/bounds/curve.hpp>
#include <trm/bounds/estimates.hpp>
#include <trm/bounds/evidence.hpp>
#include <trm/bounds/length_neutral.hpp>
#include <trm/bounds/paper.hpp>
#include <trm/bounds/report.hpp>
#include <trm/bounds/rung.hpp>
#include <trm/bounds/sweep.hpp>
#include <trm/bounds/tables.hpp>
#include <trm/bounds/threshold.hpp>
#include <trm/bounds/trajectories.hpp>
#include <trm/bounds/wire.hpp>
