// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loss_parity.hpp"
#include "spec_loss.hpp"

#include <trm/loss/to_spec.hpp>

/// Comparison of a loss, as data and through any_loss, with the oracle. any_loss_f32_test and any_loss_f64_test hold every
/// policy of any_loss to the bits of masked_loss, which would take each of these tests minutes to compile.
namespace parity {

template <class T, class Loss, class S>
trm::reference::evaluation compare_spec(Loss const& loss, trm::batch_view<S> const& view,
                                        double bound = bounds_of<T>.term, double loss_scale = 1,
                                        trm::selection_view const& chosen = {}) {
    auto want = trm::reference::evaluate(loss, view, loss_scale, chosen);
    check(run_of<T>(spec_loss(trm::to_spec(loss)), view, loss_scale, chosen), want, view, bound);
    return want;
}

}  // namespace parity
