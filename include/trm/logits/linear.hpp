// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/linear_head.hpp>

/// \file
/// Language-model head and log-prob in one: hidden and weight to logp and entropy without N x V logits. Needs
/// Eigen; nothing else in trm does. Eigen itself takes its packing buffers (some MiB, depending on the cache sizes it sees)
/// from the heap for each product; everything else lives in the caller's workspace.

TRM_NAMESPACE_BEGIN

/// Log-probabilities of further tokens, such as those of the rollout's stored top-k.
template <arithmetic_type T>
struct linear_gather {
    stream_view<std::int32_t> ids{};  ///< [rows, per_row]; an id outside the vocabulary gives -inf
    std::int64_t per_row = 0;
    std::span<T> logp{};  ///< [rows, per_row]
};

namespace logits_detail {

/// Sums of T per row and panel of a block.
template <class T>
[[nodiscard]] constexpr std::int64_t sums_bytes(linear_blocks const& b) noexcept {
    return padded(b.rows * panels(b) * static_cast<std::int64_t>(sizeof(T)));
}

}  // namespace logits_detail

/// Bytes of workspace for `linear_log_prob`: rows width + rows vocab floats per worker (blocks' sizes, not the batch's and
/// never the vocabulary's), for bf16 or f16 weights 64 width more per panel, and some 100 bytes per row of a panel.
template <class H, class W>
[[nodiscard]] constexpr std::int64_t linear_workspace(std::int64_t width, linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return 64 + d::padded(b.rows * b.workers * 8) +
           b.workers * (d::head<H, W>::bytes(width, b) + d::sums_bytes<logits_partial>(b));
}

namespace logits_detail {

template <arithmetic_type T>
[[nodiscard]] status check_gather(linear_gather<T> const& g, std::int64_t rows) noexcept {
    if (g.per_row < 0 || !fits(rows, g.per_row)) return {errc::bad_layout, -1, -1, "gather: per_row"};
    auto const n = static_cast<std::size_t>(rows * g.per_row);
    if (g.ids.size() != n || g.logp.size() != n) return {errc::size_mismatch, -1, -1, "gather"};
    return {};
}

/// Picks z of the stored ids that fall into the chunk [first, first + count).
template <arithmetic_type T>
void gather_chunk(linear_gather<T> const& g, std::int64_t row, float const* x, double temperature, std::int64_t first,
                  std::int64_t count) noexcept {
    for (std::int64_t k = row * g.per_row; k < (row + 1) * g.per_row; ++k) {
        std::int64_t const at = g.ids[static_cast<std::size_t>(k)] - first;
        if (at >= 0 && at < count)
            g.logp[static_cast<std::size_t>(k)] = static_cast<T>(static_cast<double>(x[at]) / temperature);
    }
}

template <arithmetic_type T>
void fill_skipped(std::size_t r, log_prob_out<T> const& out, linear_gather<T> const& g, T gathered) noexcept {
    write_result(out, r, false, {});
    auto const k = static_cast<std::size_t>(g.per_row);
    for (std::size_t i = r * k; i < (r + 1) * k; ++i) g.logp[i] = gathered;
}

/// Sums of a row over all panels, always in the same order.
template <class P>
[[nodiscard]] P merged(P const* sums, std::int64_t panels, std::int64_t stride) noexcept {
    P all = sums[0];
    for (std::int64_t p = 1; p < panels; ++p) all.merge(sums[p * stride]);
    return all;
}

template <arithmetic_type T>
void write_row_result(std::size_t r, logits_partial const& p, std::int64_t vocab, log_prob_out<T> const& out,
                      linear_gather<T> const& g) noexcept {
    write_result(out, r, true, p, vocab);
    auto const k = static_cast<std::size_t>(g.per_row);
    for (std::size_t i = r * k; i < (r + 1) * k; ++i) {
        double const lp = static_cast<double>(g.logp[i]) - p.logsumexp();
        g.logp[i] = lp > 0.0 ? T(0) : static_cast<T>(lp);
    }
}

}  // namespace logits_detail

/// `log_prob` of logits = hidden weight^T without holding them: at most `rows` x `vocab` of the blocks exist at a time. Rows
/// with row_mask 0 are dropped before the product, so that a batch with half of its rows masked costs half; their results
/// are 0. f32 accumulation for every storage type. Accuracy: that of an f32 product, then as `log_prob`.
/// Errors: bad_layout, size_mismatch (also for a workspace smaller than `linear_workspace`), bad_threshold, out_of_memory (of the
/// matrix product; the outputs are unspecified then).
template <class Arch = simd::default_arch, class H, class W, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
[[nodiscard]] status linear_log_prob(linear_view<H, W> const& v, Targets const& targets, log_prob_out<T> const& out,
                                     std::span<std::byte> workspace, linear_blocks const& b = {},
                                     linear_gather<T> const& gather = {}, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    using V = simd::registers<float, Arch>;
    if (status s = d::check_head(v, b); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_outputs(out, v.rows); !s.ok()) return s;
    if (status s = d::check_gather(gather, v.rows); !s.ok()) return s;
    if (static_cast<std::int64_t>(workspace.size()) < linear_workspace<H, W>(v.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};

    constexpr T none = -std::numeric_limits<T>::infinity();
    for (std::int64_t r = 0; r < v.rows; ++r)
        d::fill_skipped(static_cast<std::size_t>(r), out, gather, v.kept(r) ? none : T(0));
    d::arena a = d::aligned_arena(workspace);
    auto* const list = a.take<std::int64_t>(b.rows * b.workers);
    std::int64_t const each = d::head<H, W>::bytes(v.width, b) + d::sums_bytes<logits_partial>(b);
    std::int64_t const panels = d::panels(b);
    struct work {
        d::head<H, W> h;
        logits_partial* sums;  // [panels, rows]
    };
    auto const of_block = [&](std::int64_t i) {
        d::arena mine{a.at + i * each};
        d::head<H, W> const h(v, b, mine);
        return work{h, mine.take<logits_partial>(b.rows * panels)};
    };
    d::head_tasks tasks;
    for (std::int64_t next = 0; next < v.rows && !tasks.failed();) {
        d::row_blocks const blocks = d::next_kept(next, v.rows, b, list, [&](std::int64_t r) { return v.kept(r); });
        tasks.run(exec, blocks.count(), [&](std::int64_t i) { of_block(i).h.gather(blocks[i]); });
        tasks.run(exec, blocks.count() * panels, [&](std::int64_t task) {
            work const k = of_block(task / panels);
            auto const rows = blocks[task / panels];
            std::int64_t const p = task % panels, n = std::ssize(rows);
            logits_partial* const partial = k.sums + p * b.rows;
            for (std::int64_t i = 0; i < n; ++i) partial[i] = {};
            d::for_panel(p, v.vocab, b, [&](std::int64_t c, std::int64_t m) {
                k.h.compute(p, n, c, m);
                for (std::int64_t i = 0; i < n; ++i) {
                    std::int64_t const r = rows[static_cast<std::size_t>(i)], target = std::data(targets)[r];
                    logits_view<float> const x = k.h.row(p, i, m);
                    partial[i].merge(d::row_partial<V>(x, 0, target - c, !out.entropy.empty()));
                    d::gather_chunk(gather, r, x.data, v.temperature, c, m);
                }
            });
        });
        tasks.run(exec, blocks.count(), [&](std::int64_t block) {
            auto const rows = blocks[block];
            logits_partial* const sums = of_block(block).sums;
            for (std::size_t i = 0; i < rows.size(); ++i)
                d::write_row_result(static_cast<std::size_t>(rows[i]), d::merged(sums + i, panels, b.rows), v.vocab,
                                    out, gather);
        });
    }
    return tasks.status();
}

TRM_NAMESPACE_END
