// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>

#include <limits>

/// The larger of two errors, NaN if either is. std::max and std::fmax drop a NaN, so that a result that is not a number would
/// pass a test of the largest error.
[[nodiscard]] constexpr double larger(double a, double b) noexcept {
    return trm::is_nan(a) || (!trm::is_nan(b) && b <= a) ? a : b;
}
static_assert(larger(1, 2) == 2 && larger(2, 1) == 2 && larger(-1, -1) == -1);
static_assert(trm::is_nan(larger(std::numeric_limits<double>::quiet_NaN(), 1)));
static_assert(trm::is_nan(larger(1, std::numeric_limits<double>::quiet_NaN())));
