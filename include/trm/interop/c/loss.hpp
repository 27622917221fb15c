// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_loss.hpp>

#include <string>

/// A loss of the C interface. Two, because diagnostics cost time where nobody asks for them.
struct trm_loss {
    trm::any_loss with_diagnostics, without;
    std::string text;  ///< canonical

    explicit trm_loss(trm::loss_spec const& spec, std::string canonical)
        : with_diagnostics(spec), without(spec), text(std::move(canonical)) {
        without.diagnose = false;
    }
};
