// SPDX-License-Identifier: Apache-2.0
#define TRM_ANY_LOSS_HERE
#include <trm/loss/any_loss_extern.hpp>

#include "losses.hpp"

#include <stdexcept>
#include <string_view>

method_loss loss_from(std::string const& text) {
    constexpr std::string_view prefix = "centered:";
    bool const centred = text.rfind(prefix, 0) == 0;
    method_loss m;
    m.spec = trm::parse_spec(centred ? std::string_view(text).substr(prefix.size()) : std::string_view(text));
    if (!centred) return m;
    m.centering.emplace();
    if (auto const* w = std::get_if<trm::token_weight>(&m.spec.weight.policy)) {
        *m.centering = {true, w->bound};
    } else if (!std::holds_alternative<trm::no_weight>(m.spec.weight.policy)) {
        throw std::invalid_argument("centered: goes with a token weight or with none");
    }
    m.center = trm::parse_spec("surrogate: policy_gradient");
    m.center.mask = m.spec.mask;
    m.center.aggregate = m.spec.aggregate;
    return m;
}
