// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/options.hpp>
#include <trm/policy/aggregation.hpp>
#include <trm/policy/token.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// What every phase of one call of a loss needs: its policies (`Core`: chosen by types or at run time), denominators, options,
/// and the vector unit.
template <class Core, class Arch>
struct loss_call {
    using core_type = Core;
    using arch = Arch;
    Core const& core;
    aggregation const& aggregate;
    loss_options options;

    [[nodiscard]] bool wants_groups() const noexcept {
        return aggregate.which == aggregation::kind::prompt_mean || (core.needs() & need::group) != 0;
    }
};

/// The advantage of a run's sequence, where there is one per sequence.
template <class S>
[[nodiscard]] double advantage_of(batch_view<S> const& batch, token_run run) noexcept {
    return batch.sequence_advantages.empty()
               ? 0.0
               : static_cast<double>(batch.sequence_advantages[static_cast<std::size_t>(run.sequence)]);
}

}  // namespace detail
TRM_NAMESPACE_END
