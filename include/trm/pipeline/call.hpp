// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/options.hpp>
#include <trm/policy/aggregation.hpp>
#include <trm/policy/token.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Numbers that hold for a whole call, worked out once. `tightest`, `widest`: see log_ratio_clamps.
struct call_numbers {
    log_ratio_clamps clamps;
    double tightest, widest;
    bool clamps_differ;  ///< do tokens have other log-ratios from stage to stage?
    bool diagnose;
    bool measured = false;  ///< are statistics of sequences known? Then a pass need not take them again.

    explicit call_numbers(loss_options const& options) noexcept
        : clamps(options.log_ratio_clamp),
          tightest(clamps.tightest()),
          widest(clamps.widest()),
          clamps_differ(!clamps.same_for_tokens()),
          diagnose(options.diagnose) {}
};

/// What every phase of one call of a loss needs: its policies (`Core`: chosen by types or at run time), denominators, options,
/// and the vector unit.
template <class Core, class Arch>
struct loss_call {
    using core_type = Core;
    using arch = Arch;
    Core const& core;
    aggregation const& aggregate;
    loss_options options;
    call_numbers numbers{options};

    /// Does a policy look at proximal_logp?
    [[nodiscard]] bool reads_proximal() const noexcept {
        constexpr unsigned of_proximal =
            need::ratio(ratio_kind::proximal_over_rollout) | need::ratio(ratio_kind::current_over_proximal) |
            need::ratio(ratio_kind::surrogate) | need::ratio(ratio_kind::correction) | need::proximal_logp;
        return (core.needs() & of_proximal) != 0;
    }
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
