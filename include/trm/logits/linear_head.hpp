// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/divergence_partial.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/linear_gemm.hpp>
#include <trm/logits/log_prob.hpp>

#include <cstring>

/// \file
/// Pieces of the fused head: the caller's workspace cut up, rows gathered, weights widened, logits of one block.

TRM_NAMESPACE_BEGIN

/// Language-model head: logits = hidden [rows, width] weight [vocab, width]^T, storage f32, bf16 or f16 each.
template <class H, class W>
struct linear_view {
    H const* hidden = nullptr;
    W const* weight = nullptr;
    std::int64_t rows = 0;
    std::int64_t width = 0;
    std::int64_t vocab = 0;
    std::int64_t hidden_stride = 0;            ///< elements between rows of hidden; 0 means width
    std::int64_t weight_stride = 0;            ///< elements between rows of weight; 0 means width
    double temperature = 1.0;
    std::uint8_t const* row_mask = nullptr;  ///< [rows] bytes: rows with 0 are not read and cost nothing

    [[nodiscard]] bool kept(std::int64_t r) const noexcept { return row_mask == nullptr || row_mask[r] != 0; }
};

/// Block sizes of the fused head. They bound the memory; results depend on the first two by rounding only, and on
/// `workers` not at all.
struct linear_blocks {
    std::int64_t rows = 256;    ///< kept rows that share one pass over the weight
    std::int64_t vocab = 2048;  ///< columns of logits alive at a time
    std::int64_t workers = 1;  ///< row blocks handed to the executor at once; each has its own part of the workspace
};

namespace logits_detail {

/// Rows of a bf16 or f16 weight that are widened at a time.
inline constexpr std::int64_t widened_rows = 256;

[[nodiscard]] constexpr std::int64_t padded(std::int64_t bytes) noexcept { return (bytes + 63) / 64 * 64; }

/// Bump allocator over the caller's bytes.
struct arena {
    std::byte* at;
    template <class T>
    [[nodiscard]] T* take(std::int64_t n) noexcept {
        auto* const p = reinterpret_cast<T*>(at);
        at += padded(n * static_cast<std::int64_t>(sizeof(T)));
        return p;
    }
};
[[nodiscard]] inline arena aligned_arena(std::span<std::byte> bytes) noexcept {
    auto const a = reinterpret_cast<std::uintptr_t>(bytes.data());
    return {bytes.data() + (64 - a % 64) % 64};
}

template <class S>
void widen(float* to, S const* from, std::int64_t n) noexcept {
    if constexpr (std::is_same_v<S, float>) {
        std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
    } else {
        using V = simd::vec<float>;
        constexpr auto w = static_cast<std::int64_t>(V::size);
        std::int64_t i = 0;
        for (; i + w <= n; i += w) simd::store(to + i, simd::load<V>(from + i));
        if (i < n) {
            auto const k = static_cast<std::size_t>(n - i);
            simd::store_n(to + i, simd::load_n<V>(from + i, k), k);
        }
    }
}

/// One head while it works on one block of rows.
template <class H, class W>
struct head {
    linear_view<H, W> v;
    linear_blocks b;
    float* hidden;  ///< [b.rows, width], gathered and widened
    float* logits;  ///< [b.rows, b.vocab]
    float* weight;  ///< [widened_rows, width] unless the weight is f32

    [[nodiscard]] static constexpr std::int64_t bytes(std::int64_t width, linear_blocks const& b) noexcept {
        std::int64_t const f = sizeof(float);
        return padded(b.rows * width * f) + padded(b.rows * b.vocab * f) +
               (std::is_same_v<W, float> ? 0 : padded(widened_rows * width * f));
    }
    head(linear_view<H, W> const& view, linear_blocks const& blocks, arena& a) noexcept
        : v(view),
          b(blocks),
          hidden(a.take<float>(b.rows * v.width)),
          logits(a.take<float>(b.rows * b.vocab)),
          weight(std::is_same_v<W, float> ? nullptr : a.take<float>(widened_rows * v.width)) {}

    void gather(std::int64_t const* rows, std::int64_t n) const noexcept {
        std::int64_t const stride = v.hidden_stride != 0 ? v.hidden_stride : v.width;
        for (std::int64_t i = 0; i < n; ++i) widen(hidden + i * v.width, v.hidden + rows[i] * stride, v.width);
    }
    /// f(first, count, block): the f32 rows [first, first + count) of the weight, for all rows of a vocabulary chunk.
    template <class F>
    void weights(std::int64_t first, std::int64_t count, F const& f) const {
        std::int64_t const stride = v.weight_stride != 0 ? v.weight_stride : v.width;
        if constexpr (std::is_same_v<W, float>) {
            f(first, count, map(v.weight + first * stride, count, v.width, stride));
        } else {
            for (std::int64_t i = 0; i < count; i += widened_rows) {
                std::int64_t const m = count - i < widened_rows ? count - i : widened_rows;
                for (std::int64_t k = 0; k < m; ++k)
                    widen(weight + k * v.width, v.weight + (first + i + k) * stride, v.width);
                f(first + i, m, map(static_cast<float const*>(weight), m, v.width, v.width));
            }
        }
    }
    /// logits [n, count] of the gathered rows and the vocabulary chunk [first, first + count), row stride b.vocab.
    void compute(std::int64_t n, std::int64_t first, std::int64_t count) const {
        const_block const h = map(static_cast<float const*>(hidden), n, v.width, v.width);
        weights(first, count, [&](std::int64_t at, std::int64_t m, const_block const& w) {
            product_nt(map(logits + (at - first), n, m, b.vocab), h, w);
        });
    }
    [[nodiscard]] logits_view<float> row(std::int64_t i, std::int64_t count) const noexcept {
        return {.data = logits + i * b.vocab, .rows = 1, .vocab = count, .temperature = v.temperature};
    }
};

template <class H, class W>
[[nodiscard]] status check_head(linear_view<H, W> const& v, linear_blocks const& b) noexcept {
    if (v.rows < 0 || v.width < 1 || v.vocab < 1) return {errc::bad_layout, -1, -1, "head: rows, width or vocab"};
    if (v.hidden_stride != 0 && v.hidden_stride < v.width) return {errc::bad_layout, -1, -1, "head: hidden_stride"};
    if (v.weight_stride != 0 && v.weight_stride < v.width) return {errc::bad_layout, -1, -1, "head: weight_stride"};
    if (v.rows > 0 && (v.hidden == nullptr || v.weight == nullptr))
        return {errc::missing_stream, -1, -1, "head: hidden or weight"};
    if (!(v.temperature > 0.0) || !is_finite(v.temperature))
        return {errc::bad_threshold, -1, -1, "head: temperature must be positive"};
    if (b.rows < 1 || b.vocab < 1 || b.workers < 1) return {errc::bad_layout, -1, -1, "head: block sizes"};
    return {};
}

/// The next kept rows, at most `most`: `list` gets them, `next` moves past them. Result: their number.
template <class Keep>
[[nodiscard]] std::int64_t next_kept(std::int64_t& next, std::int64_t rows, std::int64_t most, std::int64_t* list,
                                     Keep const& keep) {
    std::int64_t n = 0;
    for (; next < rows && n < most; ++next)
        if (keep(next)) list[n++] = next;
    return n;
}

/// Visits the kept rows, `workers` blocks of `b.rows` at a time: f(worker, list of rows, their number) through `exec`.
template <class Keep, class Exec, class F>
void for_kept(std::int64_t rows, linear_blocks const& b, std::int64_t* list, Keep const& keep, Exec const& exec,
              F const& f) {
    for (std::int64_t next = 0; next < rows;) {
        std::int64_t const n = next_kept(next, rows, b.rows * b.workers, list, keep);
        exec((n + b.rows - 1) / b.rows,
             [&](std::int64_t i) { f(i, list + i * b.rows, n - i * b.rows < b.rows ? n - i * b.rows : b.rows); });
    }
}

}  // namespace logits_detail
TRM_NAMESPACE_END
