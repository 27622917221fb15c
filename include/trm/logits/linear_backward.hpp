// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/linear_head.hpp>

/// \file
/// The backward pass of a fused head, whatever its rows of d logits are.

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

/// A panel of the logits of a block of rows: columns [first, first + columns) of the vocabulary in panel `p`.
template <class H, class W>
struct logits_panel {
    head<H, W> h;
    std::span<std::int64_t const> rows;
    std::int64_t p, first, columns;
    [[nodiscard]] float* row(std::int64_t i) const noexcept { return h.panel(p) + i * h.b.vocab; }
    void compute() const { h.compute(p, std::ssize(rows), first, columns); }
};

/// d_hidden and d_weight of the rows that `turn.keep` keeps. `turn.prepare(tasks, blocks, head of block i)` is called for each group
/// of row blocks, whose rows have been gathered; `turn(i, panel)` replaces a panel of block i's logits, computed, by their gradient.
/// `memory`: linear_gradient_workspace bytes.
template <class H, class W, class Turn, class Exec>
[[nodiscard]] status linear_backward(linear_view<H, W> const& v, linear_gradient_out const& out, arena memory,
                                     linear_blocks const& b, Turn const& turn, Exec const& exec) {
    std::int64_t const h_stride = out.d_hidden_stride != 0 ? out.d_hidden_stride : v.width;
    std::int64_t const w_stride = out.d_weight_stride != 0 ? out.d_weight_stride : v.width;
    auto const keep = [&](std::int64_t r) { return turn.keep(r); };
    if (out.d_hidden != nullptr && out.hidden_mode == logits_write::overwrite)
        for (std::int64_t r = 0; r < v.rows; ++r)
            if (!keep(r))
                std::memset(out.d_hidden + r * h_stride, 0, static_cast<std::size_t>(v.width) * sizeof(float));
    auto* const list = memory.take<std::int64_t>(b.rows * b.workers);
    std::int64_t const each = head<H, W>::bytes(v.width, b) + padded(b.rows * v.width * 4);
    struct work {
        head<H, W> h;
        float* d_hidden;  // [rows, width]
    };
    auto const of_block = [&](std::int64_t i) {
        arena mine{memory.at + i * each};
        head<H, W> const h(v, b, mine);
        return work{h, mine.take<float>(b.rows * v.width)};
    };
    constexpr std::int64_t width = panel_width;
    std::int64_t const parts = out.d_hidden != nullptr ? (v.width + hidden_width - 1) / hidden_width : 0;
    bool add_weight = out.accumulate_weight;
    // Tasks of a chunk: d logits by row block and panel; then d weight by panel and d hidden by row block and its columns.
    head_tasks tasks;
    for (std::int64_t next = 0; next < v.rows && !tasks.failed();) {
        row_blocks const blocks = next_kept(next, v.rows, b, list, keep);
        if (blocks.rows == 0) break;
        tasks.run(exec, blocks.count(), [&](std::int64_t i) { of_block(i).h.gather(blocks[i]); });
        turn.prepare(tasks, blocks, [&](std::int64_t i) { return of_block(i).h; });
        for (std::int64_t c = 0; c < v.vocab; c += b.vocab) {
            std::int64_t const m = at_most(v.vocab - c, b.vocab), panels = (m + width - 1) / width;
            tasks.run(exec, blocks.count() * panels, [&](std::int64_t task) {
                std::int64_t const at = task / panels, p = task % panels, first = c + p * width;
                logits_panel<H, W> const panel{of_block(at).h, blocks[at], p, first, at_most(c + m - first, width)};
                panel.compute();
                turn(at, panel);
            });
            std::int64_t const weight_tasks = out.d_weight != nullptr ? panels : 0;
            tasks.run(exec, weight_tasks + blocks.count() * parts, [&](std::int64_t task) {
                if (task < weight_tasks) {
                    std::int64_t const first = c + task * width, some = at_most(c + m - first, width);
                    for (std::int64_t i = 0; i < blocks.count(); ++i) {
                        auto const h = of_block(i).h;
                        std::int64_t const n = std::ssize(blocks[i]);
                        product_tn(map(out.d_weight + first * w_stride, some, v.width, w_stride),
                                   map(static_cast<float const*>(h.panel(task)), n, some, b.vocab),
                                   map(static_cast<float const*>(h.hidden), n, v.width, v.width), add_weight || i > 0);
                    }
                } else {
                    std::int64_t const at = (task - weight_tasks) / parts;
                    std::int64_t const column = (task - weight_tasks) % parts * hidden_width;
                    work const k = of_block(at);
                    k.h.multiply(std::ssize(blocks[at]), c, m, column, at_most(v.width - column, hidden_width),
                                 k.d_hidden, c > 0);
                }
            });
        }
        add_weight = true;
        if (out.d_hidden == nullptr) continue;
        tasks.run(exec, blocks.count(), [&](std::int64_t at) {
            float const* from = of_block(at).d_hidden;
            bool const add = out.hidden_mode == logits_write::accumulate;
            for (std::int64_t r : blocks[at]) {
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

}  // namespace logits_detail
TRM_NAMESPACE_END
