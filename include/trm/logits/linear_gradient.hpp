// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/linear.hpp>
#include <trm/logits/linear_backward.hpp>

/// \file
/// Backward pass of `linear_log_prob` by recomputation.

TRM_NAMESPACE_BEGIN

namespace logits_detail {

/// Rows of d logits from the gradients of log-probs and entropies.
template <class V, class Targets, class T, class Keep>
struct turned_rows {
    Targets const& targets;
    logits_gradient_in<T> const& in;
    double temperature;
    Keep const& is_kept;  ///< by row_mask

    [[nodiscard]] double entropy_up(std::int64_t r) const noexcept {
        return in.d_entropy.empty() ? 0.0 : static_cast<double>(in.d_entropy[static_cast<std::size_t>(r)]);
    }
    [[nodiscard]] bool keep(std::int64_t r) const noexcept {
        auto const i = static_cast<std::size_t>(r);
        return is_kept(r) && is_finite(in.logsumexp[i]) &&
               (in.d_logp[i] != T(0) || entropy_up(r) != 0.0 || sum_of(in.gathered, r).any);
    }
    void prepare(auto const&...) const noexcept {}
    template <class H, class W>
    void operator()(std::int64_t, logits_panel<H, W> const& panel) const noexcept {
        for (std::int64_t i = 0; i < std::ssize(panel.rows); ++i) {
            std::int64_t const row = panel.rows[static_cast<std::size_t>(i)];
            auto const r = static_cast<std::size_t>(row);
            double const he = entropy_up(row);
            double const up = static_cast<double>(in.d_logp[r]), further = sum_of(in.gathered, row).sum;
            row_gradient const g{temperature,
                                 in.logsumexp[r],
                                 up + further,
                                 he,
                                 he == 0.0 ? 0.0 : static_cast<double>(in.entropy[r]),
                                 up / temperature};
            std::int64_t const at = std::data(targets)[r] - panel.first;
            float* const x = panel.row(i);
            gradient_row<V>(g, static_cast<float const*>(x), x, panel.columns, at >= 0 && at < panel.columns ? at : -1,
                            false, false, whole_row{}, true);
            add_gathered(in.gathered, row, temperature, panel.first, panel.columns, x);
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
    auto const total = static_cast<std::size_t>(v.rows);
    if (status s = d::check_head(v, b); !s.ok()) return s;
    if (status s = d::check_linear_gradient(v, out); !s.ok()) return s;
    if (in.logsumexp.size() != total) return {errc::size_mismatch, -1, -1, "logsumexp"};
    if (in.d_logp.size() != total) return {errc::size_mismatch, -1, -1, "d_logp"};
    if (status s = d::check_span(in.d_entropy, v.rows, "d_entropy"); !s.ok()) return s;
    if (!in.d_entropy.empty() && in.entropy.size() != total) return {errc::missing_stream, -1, -1, "entropy"};
    logits_view<float> const shape{.rows = v.rows, .vocab = v.vocab, .row_mask = v.row_mask};
    if (status s = d::check_targets(shape, targets, v.vocab); !s.ok()) return s;
    if (status s = d::check_gathered(in.gathered, v.rows, v.vocab, [&](std::int64_t r) { return v.kept(r); }); !s.ok())
        return s;
    if (static_cast<std::int64_t>(workspace.size()) < linear_gradient_workspace<H, W>(v.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};

    auto const is_kept = [&](std::int64_t r) { return v.kept(r); };
    d::turned_rows<V, Targets, T, decltype(is_kept)> const turn{targets, in, v.temperature, is_kept};
    return d::linear_backward(v, out, d::aligned_arena(workspace), b, turn, exec);
}

TRM_NAMESPACE_END
