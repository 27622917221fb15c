// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

TRM_NAMESPACE_BEGIN

/// What holds for a loss besides its policies.
struct loss_options {
    double log_ratio_clamp = 20.0;  ///< log-ratios are clamped to +- this before exp; a clamped ratio has gradient 0
    /// A non-finite input, or a log-probability above `positive_tolerance`, is an error that names sequence and token, and
    /// nothing is written.
    bool strict = false;
    bool diagnose = true;  ///< false: diagnostics stay zero, which saves a few cycles per token
};

TRM_NAMESPACE_END
