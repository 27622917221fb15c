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

/// Bytes of workspace for `linear_gradient`: 2 rows width + rows vocab floats per worker, and 256 width for bf16 or f16 weights.
template <class H, class W>
[[nodiscard]] constexpr std::int64_t linear_gradient_workspace(std::int64_t width,
                                                               linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return 64 + d::padded(b.rows * b.workers * 8) +
           b.workers * (d::head<H, W>::bytes(width, b) + d::padded(b.rows * width * 4));
}

namespace logits_detail {

/// Vocabulary rows of d_weight per task: a fixed partition, whatever the number of threads.
inline constexpr std::int64_t weight_task = 512;

template <class H, class W>
[[nodiscard]] status check_linear_gradient(linear_view<H, W> const& v, linear_gradient_out const& out) noexcept {
    if (out.d_hidden_stride != 0 && out.d_hidden_stride < v.width)
        return {errc::bad_layout, -1, -1, "d_hidden_stride < width"};
    if (out.d_weight_stride != 0 && out.d_weight_stride < v.width)
        return {errc::bad_layout, -1, -1, "d_weight_stride < width"};
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
status linear_gradient(linear_view<H, W> const& v, Targets const& targets, logits_gradient_in<T> const& in,
                       linear_gradient_out const& out, std::span<std::byte> workspace, linear_blocks const& b = {},
                       Exec const& exec = {}) noexcept {
    namespace d = logits_detail;
    using V = simd::vec<float, Arch>;
    auto const rows = static_cast<std::size_t>(v.rows);
    if (status s = d::check_head(v, b); !s.ok()) return s;
    if (status s = d::check_linear_gradient(v, out); !s.ok()) return s;
    if (in.logsumexp.size() != rows) return {errc::size_mismatch, -1, -1, "logsumexp"};
    if (in.d_logp.size() != rows) return {errc::size_mismatch, -1, -1, "d_logp"};
    if (status s = d::check_span(in.d_entropy, v.rows, "d_entropy"); !s.ok()) return s;
    if (!in.d_entropy.empty() && in.entropy.size() != rows) return {errc::missing_stream, -1, -1, "entropy"};
    logits_view<float> const shape{.rows = v.rows, .vocab = v.vocab, .row_mask = v.row_mask};
    if (status s = d::check_targets(shape, targets, v.vocab); !s.ok()) return s;
    if (static_cast<std::int64_t>(workspace.size()) < linear_gradient_workspace<H, W>(v.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};

    std::int64_t const h_stride = out.d_hidden_stride != 0 ? out.d_hidden_stride : v.width;
    std::int64_t const w_stride = out.d_weight_stride != 0 ? out.d_weight_stride : v.width;
    auto const entropy_up = [&](std::int64_t r) {
        return in.d_entropy.empty() ? 0.0 : static_cast<double>(in.d_entropy[static_cast<std::size_t>(r)]);
    };
    auto const keep = [&](std::int64_t r) {
        auto const i = static_cast<std::size_t>(r);
        return v.kept(r) && is_finite(in.logsumexp[i]) && (in.d_logp[i] != T(0) || entropy_up(r) != 0.0);
    };
    if (out.d_hidden != nullptr && out.hidden_mode == logits_write::overwrite)
        for (std::int64_t r = 0; r < v.rows; ++r)
            if (!keep(r))
                std::memset(out.d_hidden + r * h_stride, 0, static_cast<std::size_t>(v.width) * sizeof(float));
    if (out.d_weight != nullptr && !out.accumulate_weight)
        for (std::int64_t i = 0; i < v.vocab; ++i)
            std::memset(out.d_weight + i * w_stride, 0, static_cast<std::size_t>(v.width) * sizeof(float));

    d::arena a = d::aligned_arena(workspace);
    auto* const list = a.take<std::int64_t>(b.rows * b.workers);
    std::int64_t const each = d::head<H, W>::bytes(v.width, b) + d::padded(b.rows * v.width * 4);
    auto const worker_head = [&](std::int64_t worker, float** d_hidden) {
        d::arena mine{a.at + worker * each};
        d::head<H, W> const h(v, b, mine);
        *d_hidden = mine.take<float>(b.rows * v.width);
        return h;
    };
    // The executor sees two kinds of tasks per chunk: row blocks (logits, d logits, d hidden), then vocabulary blocks (d weight).
    for (std::int64_t next = 0; next < v.rows;) {
        std::int64_t const n = d::next_kept(next, v.rows, b.rows * b.workers, list, keep);
        std::int64_t const used = (n + b.rows - 1) / b.rows;
        auto const count = [&](std::int64_t i) { return n - i * b.rows < b.rows ? n - i * b.rows : b.rows; };
        for (std::int64_t c = 0; c < v.vocab && used > 0; c += b.vocab) {
            std::int64_t const m = v.vocab - c < b.vocab ? v.vocab - c : b.vocab;
            exec(used, [&](std::int64_t worker) {
                float* dh = nullptr;
                auto const h = worker_head(worker, &dh);
                std::int64_t const* const mine = list + worker * b.rows;
                std::int64_t const k = count(worker);
                if (c == 0) h.gather(mine, k);
                h.compute(k, c, m);
                for (std::int64_t i = 0; i < k; ++i) {
                    auto const r = static_cast<std::size_t>(mine[i]);
                    double const he = entropy_up(mine[i]);
                    d::row_gradient<V> const g(v.temperature, in.logsumexp[r], static_cast<double>(in.d_logp[r]), he,
                                               he == 0.0 ? 0.0 : static_cast<double>(in.entropy[r]));
                    std::int64_t const at = std::data(targets)[r] - c;
                    float* const x = h.logits + i * b.vocab;
                    d::gradient_row(g, static_cast<float const*>(x), x, m, at >= 0 && at < m ? at : -1, false, false,
                                    d::whole_row{}, true);
                }
                if (out.d_hidden == nullptr) return;
                h.weights(c, m, [&](std::int64_t first, std::int64_t some, d::const_block const& w) {
                    d::product_nn(d::map(dh, k, v.width, v.width),
                                  d::map(static_cast<float const*>(h.logits) + (first - c), k, some, b.vocab), w,
                                  first != 0);
                });
            });
            if (out.d_weight == nullptr) continue;
            exec((m + d::weight_task - 1) / d::weight_task, [&](std::int64_t task) {
                std::int64_t const first = task * d::weight_task;
                std::int64_t const some = m - first < d::weight_task ? m - first : d::weight_task;
                for (std::int64_t worker = 0; worker < used; ++worker) {
                    float* unused = nullptr;
                    auto const h = worker_head(worker, &unused);
                    d::product_tn(d::map(out.d_weight + (c + first) * w_stride, some, v.width, w_stride),
                                  d::map(static_cast<float const*>(h.logits) + first, count(worker), some, b.vocab),
                                  d::map(static_cast<float const*>(h.hidden), count(worker), v.width, v.width), true);
                }
            });
        }
        if (out.d_hidden == nullptr) continue;
        exec(used, [&](std::int64_t worker) {
            float* dh = nullptr;
            (void)worker_head(worker, &dh);
            bool const add = out.hidden_mode == logits_write::accumulate;
            for (std::int64_t i = 0; i < count(worker); ++i) {
                float* const to = out.d_hidden + list[worker * b.rows + i] * h_stride;
                for (std::int64_t k = 0; k < v.width; ++k)
                    to[k] = add ? to[k] + dh[i * v.width + k] : dh[i * v.width + k];
            }
        });
    }
    return {};
}

TRM_NAMESPACE_END
