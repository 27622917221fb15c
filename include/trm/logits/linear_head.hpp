// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/divergence_partial.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/linear_gemm.hpp>
#include <trm/logits/log_prob.hpp>

#include <atomic>
#include <cstring>
#if TRM_EXCEPTIONS
#include <new>
#endif

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
    double temperature = 1.0;  ///< in [1e-6, 1e6]
    std::uint8_t const* row_mask = nullptr;  ///< [rows] bytes: rows with 0 are not read and cost nothing

    [[nodiscard]] bool kept(std::int64_t r) const noexcept { return row_mask == nullptr || row_mask[r] != 0; }
};

/// Block sizes of the fused head. They bound the memory; results depend on the first two by rounding only, and on
/// `workers` not at all.
struct linear_blocks {
    std::int64_t rows = 256;    ///< kept rows that share one pass over the weight
    std::int64_t vocab = 2048;  ///< columns of logits alive at a time, in panels of 512
    /// Row blocks worked on at once; each has its own part of the workspace. The executor gets every panel of each as a
    /// task, so that one block is enough for vocab / 512 threads however few rows are kept.
    std::int64_t workers = 1;
};

namespace logits_detail {

/// Columns of logits that are one task. Eigen multiplies 256 rows by 512 columns faster than by 2048 (83 against 75 GFLOP/s,
/// 16 lanes, width 1024), while 128 rows are 4% slower and 64 rows 13%: threads share a block by its columns, not by its rows.
inline constexpr std::int64_t panel_width = 512;
/// Columns of d_hidden that are one task.
inline constexpr std::int64_t hidden_width = 256;
/// Rows of a bf16 or f16 weight that are widened at a time, per panel.
inline constexpr std::int64_t widened_rows = 64;

/// Largest width, block rows and block columns: the workspace's size fits into 64 bits.
inline constexpr std::int64_t most_in_block = std::int64_t(1) << 20;

/// Panels of a chunk of b.vocab columns; the last one may be narrower.
[[nodiscard]] constexpr std::int64_t panels(linear_blocks const& b) noexcept {
    return (b.vocab + panel_width - 1) / panel_width;
}
[[nodiscard]] constexpr std::int64_t at_most(std::int64_t n, std::int64_t most) noexcept { return n < most ? n : most; }

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
    float* weight;  ///< [panels, widened_rows, width] unless the weight is f32

    [[nodiscard]] static constexpr std::int64_t bytes(std::int64_t width, linear_blocks const& b) noexcept {
        std::int64_t const f = sizeof(float);
        return padded(b.rows * width * f) + padded(b.rows * b.vocab * f) +
               (std::is_same_v<W, float> ? 0 : padded(panels(b) * widened_rows * width * f));
    }
    head(linear_view<H, W> const& view, linear_blocks const& blocks, arena& a) noexcept
        : v(view),
          b(blocks),
          hidden(a.take<float>(b.rows * v.width)),
          logits(a.take<float>(b.rows * b.vocab)),
          weight(std::is_same_v<W, float> ? nullptr : a.take<float>(panels(b) * widened_rows * v.width)) {}

    void gather(std::span<std::int64_t const> rows) const noexcept {
        std::int64_t const stride = v.hidden_stride != 0 ? v.hidden_stride : v.width;
        float* to = hidden;
        for (std::int64_t r : rows) {
            widen(to, v.hidden + r * stride, v.width);
            to += v.width;
        }
    }
    /// f(row, rows, block): the columns [column, column + columns) of the f32 weight rows [first, first + count). 16-bit rows
    /// are widened into the floats [from, from + room) of `weight`, as many at a time as fit.
    template <class F>
    void weights(std::int64_t first, std::int64_t count, std::int64_t column, std::int64_t columns, std::int64_t from,
                 std::int64_t room, F const& f) const {
        std::int64_t const stride = v.weight_stride != 0 ? v.weight_stride : v.width;
        if constexpr (std::is_same_v<W, float>) {
            f(first, count, map(v.weight + first * stride + column, count, columns, stride));
        } else {
            float* const wide = weight + from;
            std::int64_t const some = room / columns;
            for (std::int64_t i = 0; i < count; i += some) {
                std::int64_t const m = at_most(count - i, some);
                for (std::int64_t k = 0; k < m; ++k)
                    widen(wide + k * columns, v.weight + (first + i + k) * stride + column, columns);
                f(first + i, m, map(static_cast<float const*>(wide), m, columns, columns));
            }
        }
    }
    /// Logits of a panel for n gathered rows.
    [[nodiscard]] float* panel(std::int64_t p) const noexcept { return logits + p * panel_width; }
    /// Panel p = logits [n, count] of the columns [first, first + count), row stride b.vocab.
    void compute(std::int64_t p, std::int64_t n, std::int64_t first, std::int64_t count) const {
        const_block const h = map(static_cast<float const*>(hidden), n, v.width, v.width);
        std::int64_t const room = widened_rows * v.width;
        weights(first, count, 0, v.width, p * room, room, [&](std::int64_t at, std::int64_t m, const_block const& w) {
            product_nt(map(panel(p) + (at - first), n, m, b.vocab), h, w);
        });
    }
    /// d_hidden [n, width] (+)= the columns [first, first + count), which are those of the panels, times the weight: its
    /// columns [column, column + columns).
    void multiply(std::int64_t n, std::int64_t first, std::int64_t count, std::int64_t column, std::int64_t columns,
                  float* d_hidden, bool add) const {
        std::int64_t const rows = panels(b) * widened_rows;
        weights(first, count, column, columns, rows * column, rows * columns,
                [&](std::int64_t at, std::int64_t m, const_block const& w) {
                    product_nn(map(d_hidden + column, n, columns, v.width),
                               map(static_cast<float const*>(logits) + (at - first), n, m, b.vocab), w,
                               add || at != first);
                });
    }
    [[nodiscard]] logits_view<float> row(std::int64_t p, std::int64_t i, std::int64_t count) const noexcept {
        return {.data = panel(p) + i * b.vocab, .rows = 1, .vocab = count, .temperature = v.temperature};
    }
};

template <class H, class W>
[[nodiscard]] status check_head(linear_view<H, W> const& v, linear_blocks const& b) noexcept {
    if (v.rows < 0 || v.width < 1 || v.vocab < 1) return {errc::bad_layout, -1, -1, "head: rows, width or vocab"};
    if (v.hidden_stride != 0 && v.hidden_stride < v.width) return {errc::bad_layout, -1, -1, "head: hidden_stride"};
    if (v.weight_stride != 0 && v.weight_stride < v.width) return {errc::bad_layout, -1, -1, "head: weight_stride"};
    if (v.rows > 0 && (v.hidden == nullptr || v.weight == nullptr))
        return {errc::missing_stream, -1, -1, "head: hidden or weight"};
    if (!usable_temperature(v.temperature))
        return {errc::bad_threshold, -1, -1, "head: temperature must be in [1e-6, 1e6]"};
    if (v.width > most_in_block || !fits(v.rows, v.hidden_stride) || !fits(v.vocab, v.weight_stride) ||
        !fits(v.rows, v.width) || !fits(v.vocab, v.width))
        return {errc::bad_layout, -1, -1, "head: width or a stride is too large"};
    if (b.rows < 1 || b.vocab < 1 || b.workers < 1) return {errc::bad_layout, -1, -1, "head: block sizes below 1"};
    if (b.rows > most_in_block || b.vocab > most_in_block || b.workers > most_in_block / 64)
        return {errc::bad_layout, -1, -1, "head: block sizes must be at most 2^20, workers at most 2^14"};
    return {};
}

/// What an executor runs: tasks that throw nothing, as executors may expect. A product whose packing buffers cannot be
/// allocated is remembered, the tasks after it do nothing, and `status()` tells when all have finished.
class head_tasks {
public:
    template <class Exec, class F>
    void run(Exec const& exec, std::int64_t n, F const& f) {
        exec(n, [&](std::int64_t i) noexcept {
            if (failed_.load(std::memory_order_relaxed)) return;
#if TRM_EXCEPTIONS
            try {
                f(i);
            } catch (std::bad_alloc const&) {
                failed_.store(true, std::memory_order_relaxed);
            }
#else
            f(i);
#endif
        });
    }
    [[nodiscard]] bool failed() const noexcept { return failed_.load(std::memory_order_relaxed); }
    [[nodiscard]] trm::status status() const noexcept {
        return failed() ? trm::status{errc::out_of_memory, -1, -1, "head: buffers of the matrix product"}
                        : trm::status{};
    }

private:
    std::atomic<bool> failed_{false};
};

/// Kept rows, cut into blocks.
struct row_blocks {
    std::int64_t const* list;
    std::int64_t rows, size;

    [[nodiscard]] std::int64_t count() const noexcept { return (rows + size - 1) / size; }
    [[nodiscard]] std::span<std::int64_t const> operator[](std::int64_t i) const noexcept {
        return {list + i * size, static_cast<std::size_t>(at_most(rows - i * size, size))};
    }
};
/// The next blocks of kept rows, one per worker: `list` gets the rows, `next` moves past them.
template <class Keep>
[[nodiscard]] row_blocks next_kept(std::int64_t& next, std::int64_t rows, linear_blocks const& b, std::int64_t* list,
                                   Keep const& keep) {
    std::int64_t n = 0;
    for (; next < rows && n < b.rows * b.workers; ++next)
        if (keep(next)) list[n++] = next;
    return {list, n, b.rows};
}

/// f(first, count): panel p of every chunk of the vocabulary.
template <class F>
void for_panel(std::int64_t p, std::int64_t vocab, linear_blocks const& b, F const& f) {
    std::int64_t const width = at_most(b.vocab - p * panel_width, panel_width);
    for (std::int64_t c = p * panel_width; c < vocab; c += b.vocab) f(c, at_most(vocab - c, width));
}

}  // namespace logits_detail
TRM_NAMESPACE_END
