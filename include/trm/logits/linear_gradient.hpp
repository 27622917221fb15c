// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/linear.hpp>

/// \file
/// Backward pass of `linear_log_prob` by recomputation.

TRM_NAMESPACE_BEGIN

/// Gradients of the fused head, f32. Either pointer may be null.
struct linear_gradient_out {
    float* d_hidden = nullptr;          ///< [rows, width]
    float* d_weight = nullptr;          ///< [vocab, width]
    std::int64_t d_hidden_stride = 0;   ///< elements; 0 means width
    std::int64_t d_weight_stride = 0;   ///< elements; 0 means width
    logits_write hidden_mode =
        logits_write::overwrite;  ///< what happens to rows and to what is there, see `logits_write`
    bool accumulate_weight = false;                      ///< add to d_weight: micro-batches
};

/// Bytes of workspace for `linear_gradient`: 2 rows width + rows vocab floats per worker, and for bf16 or f16 weights
/// 64 width more per panel.
template <class H, class W>
[[nodiscard]] constexpr std::int64_t linear_gradient_workspace(std::int64_t width,
                                                               linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return 64 + d::padded(b.rows * b.workers * 8) +
           b.workers * (d::head<H, W>::bytes(width, b) + d::padded(b.rows * width * 4));
}

namespace logits_detail {

template <class H, class W>
[[nodiscard]] status check_linear_gradient(linear_view<H, W> const& v, linear_gradient_out const& out) noexcept {
    if (out.d_hidden_stride != 0 && out.d_hidden_stride < v.width)
        return {errc::bad_layout, -1, -1, "d_hidden_stride < width"};
    if (out.d_weight_stride != 0 && out.d_weight_stride < v.width)
        return {errc::bad_layout, -1, -1, "d_weight_stride < width"};
    if (!fits(v.rows, out.d_hidden_stride) || !fits(v.vocab, out.d_weight_stride))
        return {errc::bad_layout, -1, -1, "d_hidden_stride or d_weight_stride is too large"};
    return {};
}

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

    std::int64_t const h_stride = out.d_hidden_stride != 0 ? out.d_hidden_stride : v.width;
    std::int64_t const w_stride = out.d_weight_stride != 0 ? out.d_weight_stride : v.width;
    auto const entropy_up = [&](std::int64_t r) {
        return in.d_entropy.empty() ? 0.0 : static_cast<double>(in.d_entropy[static_cast<std::size_t>(r)]);
    };
    auto const keep = [&](std::int64_t r) {
        auto const i = static_cast<std::size_t>(r);
        return v.kept(r) && is_finite(in.logsumexp[i]) &&
               (in.d_logp[i] != T(0) || entropy_up(r) != 0.0 || d::sum_of(in.gathered, r).any);
    };
    if (out.d_hidden != nullptr && out.hidden_mode == logits_write::overwrite)
        for (std::int64_t r = 0; r < v.rows; ++r)
            if (!keep(r))
                std::memset(out.d_hidden + r * h_stride, 0, static_cast<std::size_t>(v.width) * sizeof(float));
    d::arena a = d::aligned_arena(workspace);
    auto* const list = a.take<std::int64_t>(b.rows * b.workers);
    std::int64_t const each = d::head<H, W>::bytes(v.width, b) + d::padded(b.rows * v.width * 4);
    struct work {
        d::head<H, W> h;
        float* d_hidden;  // [rows, width]
    };
    auto const of_block = [&](std::int64_t i) {
        d::arena mine{a.at + i * each};
        d::head<H, W> const h(v, b, mine);
        return work{h, mine.take<float>(b.rows * v.width)};
    };
    constexpr std::int64_t width = d::panel_width;
    std::int64_t const parts = out.d_hidden != nullptr ? (v.width + d::hidden_width - 1) / d::hidden_width : 0;
    bool add_weight = out.accumulate_weight;
    // Tasks of a chunk: d logits by row block and panel; then d weight by panel and d hidden by row block and its columns.
    d::head_tasks tasks;
    for (std::int64_t next = 0; next < v.rows && !tasks.failed();) {
        d::row_blocks const blocks = d::next_kept(next, v.rows, b, list, keep);
        if (blocks.rows == 0) break;
        tasks.run(exec, blocks.count(), [&](std::int64_t i) { of_block(i).h.gather(blocks[i]); });
        for (std::int64_t c = 0; c < v.vocab; c += b.vocab) {
            std::int64_t const m = d::at_most(v.vocab - c, b.vocab), panels = (m + width - 1) / width;
            tasks.run(exec, blocks.count() * panels, [&](std::int64_t task) {
                auto const h = of_block(task / panels).h;
                auto const rows = blocks[task / panels];
                std::int64_t const p = task % panels, first = c + p * width, n = std::ssize(rows);
                std::int64_t const some = d::at_most(c + m - first, width);
                h.compute(p, n, first, some);
                for (std::int64_t i = 0; i < n; ++i) {
                    auto const r = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
                    double const he = entropy_up(static_cast<std::int64_t>(r));
                    auto const row = static_cast<std::int64_t>(r);
                    double const up = static_cast<double>(in.d_logp[r]), further = d::sum_of(in.gathered, row).sum;
                    d::row_gradient const g{v.temperature,
                                            in.logsumexp[r],
                                            up + further,
                                            he,
                                            he == 0.0 ? 0.0 : static_cast<double>(in.entropy[r]),
                                            up / v.temperature};
                    std::int64_t const at = std::data(targets)[r] - first;
                    float* const x = h.panel(p) + i * b.vocab;
                    d::gradient_row<V>(g, static_cast<float const*>(x), x, some, at >= 0 && at < some ? at : -1, false,
                                       false, d::whole_row{}, true);
                    d::add_gathered(in.gathered, row, v.temperature, first, some, x);
                }
            });
            std::int64_t const weight_tasks = out.d_weight != nullptr ? panels : 0;
            tasks.run(exec, weight_tasks + blocks.count() * parts, [&](std::int64_t task) {
                if (task < weight_tasks) {
                    std::int64_t const first = c + task * width, some = d::at_most(c + m - first, width);
                    for (std::int64_t i = 0; i < blocks.count(); ++i) {
                        auto const h = of_block(i).h;
                        std::int64_t const n = std::ssize(blocks[i]);
                        d::product_tn(d::map(out.d_weight + first * w_stride, some, v.width, w_stride),
                                      d::map(static_cast<float const*>(h.panel(task)), n, some, b.vocab),
                                      d::map(static_cast<float const*>(h.hidden), n, v.width, v.width),
                                      add_weight || i > 0);
                    }
                } else {
                    std::int64_t const block = (task - weight_tasks) / parts;
                    std::int64_t const column = (task - weight_tasks) % parts * d::hidden_width;
                    work const k = of_block(block);
                    k.h.multiply(std::ssize(blocks[block]), c, m, column, d::at_most(v.width - column, d::hidden_width),
                                 k.d_hidden, c > 0);
                }
            });
        }
        add_weight = true;
        if (out.d_hidden == nullptr) continue;
        tasks.run(exec, blocks.count(), [&](std::int64_t block) {
            float const* from = of_block(block).d_hidden;
            bool const add = out.hidden_mode == logits_write::accumulate;
            for (std::int64_t r : blocks[block]) {
                float* const to = out.d_hidden + r * h_stride;
                for (std::int64_t k = 0; k < v.width; ++k) to[k] = add ? to[k] + from[k] : from[k];
                from += v.width;
            }
        });
    }
    if (out.d_weight != nullptr && !add_weight)  // no row at all
        for (std::int64_t i = 0; i < v.vocab; ++i)
            std::memset(out.d_weight + i * w_stride, 0, static_cast<std::size_t>(v.width) * sizeof(float));
    return tasks.status();
}

TRM_NAMESPACE_END
