// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/linear.hpp>
#include <trm/logits/linear_backward.hpp>

/// \file
/// Backward pass of `linear_log_prob` by recomputation.

TRM_NAMESPACE_BEGIN

namespace logits_detail {

/// Rows of d logits from the gradients of log-probs and entropies.
template <class V, class View, class Targets, class T>
struct turned_rows {
    View const& view;
    Targets const& targets;
    logits_gradient_in<T> const& in;

    [[nodiscard]] bool keep(std::int64_t r) const noexcept {
        return view.kept(r) && is_finite(in.logsumexp[static_cast<std::size_t>(r)]) &&
               (upstream_of(in, r).any() || sum_of(in.gathered, r).any);
    }
    void prepare(auto const&...) const noexcept {}
    template <class H, class W>
    void operator()(std::int64_t, logits_panel<H, W> const& panel) const noexcept {
        for (std::int64_t i = 0; i < std::ssize(panel.rows); ++i) {
            std::int64_t const r = panel.rows[static_cast<std::size_t>(i)];
            row_gradient const g(view.temperature, in.logsumexp[static_cast<std::size_t>(r)], upstream_of(in, r),
                                 sum_of(in.gathered, r).sum);
            std::int64_t const at = std::data(targets)[r] - panel.first;
            float* const x = panel.row(i);
            gradient_row<V>(g, static_cast<float const*>(x), x, panel.columns, at >= 0 && at < panel.columns ? at : -1,
                            false, false, whole_row{}, true);
            add_gathered(in.gathered, r, view.temperature, panel.first, panel.columns, x);
        }
    }
};

}  // namespace logits_detail

/// d_hidden and d_weight from d_logp and d_entropy. The logits of a block are computed again, turned into d logits in
/// place and multiplied out: three products per kept row, nothing for the others (row_mask 0, no upstream gradient, or
/// logsumexp not finite), which are dropped before the first product.
/// `in` as in `logits_gradient`, from `linear_log_prob` on the same view. Bitwise the same for any executor and any number of
/// workers. Errors: those of `logits_gradient` and `linear_log_prob`.
template <class Arch = simd::default_arch, class H, class W, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
[[nodiscard]] status linear_gradient(linear_view<H, W> const& v, Targets const& targets,
                                     logits_gradient_in<T> const& in, linear_gradient_out const& out,
                                     std::span<std::byte> workspace, linear_blocks const& b = {},
                                     Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    using V = simd::registers<float, Arch>;
    if (status s = d::check_head(v, b); !s.ok()) return s;
    if (status s = d::check_linear_gradient(v, out); !s.ok()) return s;
    if (status s = d::check_upstream(in, v.rows); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_gathered_ids(v, in.gathered); !s.ok()) return s;
    if (static_cast<std::int64_t>(workspace.size()) < linear_gradient_workspace<H, W>(v.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};

    d::turned_rows<V, linear_view<H, W>, Targets, T> const turn{v, targets, in};
    return d::linear_backward(v, out, d::aligned_arena(workspace), b, turn, exec);
}

TRM_NAMESPACE_END
