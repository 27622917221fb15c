// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/centering.hpp>
#include <trm/loss/any_loss_extern.hpp>

#include <optional>
#include <string>

/// A loss in trm's text, and whether it is centred: "centered: <loss>" adds score centering (logits/centering.hpp), exact over
/// the vocabulary, with the weight of the loss. Centering is no part of the text of a loss because it needs the logits.
struct method_loss {
    trm::loss_spec spec;
    std::optional<trm::score_centering> centering;
    trm::loss_spec center;  ///< minus its gradient in log p is d loss / d C: the same without weight
};

/// Throws std::invalid_argument, with the place of the mistake.
method_loss loss_from(std::string const& text);
