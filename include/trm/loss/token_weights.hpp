// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/calls.hpp>
#include <trm/pipeline/weigh.hpp>

/// \file
/// Weights of tokens that follow from other tokens of their sequence or batch (policy/token_weight.hpp), for losses whose policies
/// are types: worked out before the loss is called, for `batch_view::token_weights`. Losses as data have words for them.

TRM_NAMESPACE_BEGIN
namespace detail {

/// One factor, as the policies of a loss.
template <class W>
struct one_factor {
    W const& weight;
    [[nodiscard]] unsigned needs() const noexcept { return factor_needs(weight, weight.over); }
    [[nodiscard]] static constexpr ratio_kind diagnose_over() noexcept { return ratio_kind::current_over_rollout; }
    [[nodiscard]] status validate() const noexcept { return weight.validate(); }
    template <class F>
    void each_factor(F&& f) const {
        f(weight, weight.over);
    }
};

}  // namespace detail

/// out[t] = the weight of token t, times the batch's token_weights if it has any, for every token that loss_mask selects and of
/// which all that the weight reads is finite; elsewhere 1 or the batch's. `out` covers the layout's extent; give it to the loss
/// as `token_weights`, which it may be already. Log-ratios are clamped as `options.log_ratio_clamp.weight` says.
/// Sequences that ranks share must be gathered first. Sequences go over the executor, the weights of a whole batch are worked out
/// in one thread. Errors: those of a loss, size_mismatch. Allocates only when the workspace must grow.
template <class W, storage_type S, executor E = serial_executor>
[[nodiscard]] status weigh_tokens(W const& weight, batch_view<S> const& batch,
                                  std::span<typename batch_view<S>::real> out, workspace& scratch,
                                  loss_options const& options = {}, E const& execute = {}) {
    detail::one_factor<W> const core{weight};
    aggregation const unused = token_mean{};
    detail::loss_call<detail::one_factor<W>, simd::default_arch> const call{core, unused, options};
    if (status s = detail::validate(call, batch); !s.ok()) return s;
    if (status s = detail::check_extent("token_weights", batch.layout.extent(), out.size()); !s.ok()) return s;
    return detail::weigh_all(call, batch, out.data(), detail::executor_for(batch.layout.extent(), execute), scratch);
}

TRM_NAMESPACE_END
