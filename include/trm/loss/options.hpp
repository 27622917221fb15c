// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/clamp.hpp>

TRM_NAMESPACE_BEGIN

/// What holds for a loss besides its policies.
struct loss_options {
    /// What log-ratios are clamped to before exp, +-20 unless a stage says otherwise; a clamped ratio has gradient 0.
    log_ratio_clamps log_ratio_clamp{};
    /// A non-finite input, or a log-probability above `positive_tolerance`, is an error that names sequence and token, and
    /// nothing is written.
    bool strict = false;
    bool diagnose = true;  ///< false: diagnostics stay zero, which saves a few cycles per token
};

TRM_NAMESPACE_END
