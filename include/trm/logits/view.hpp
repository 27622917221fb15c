// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/core/executor.hpp>
#include <trm/core/status.hpp>
#include <trm/core/stream_view.hpp>
#include <trm/simd/batch.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

TRM_NAMESPACE_BEGIN

/// Row-major logits [rows, vocab] in the caller's memory, storage f32, f64, bf16 or f16.
///
/// The distribution of row r is softmax(data[r, :] / temperature), restricted to the entries that `vocab_mask` keeps
/// (top-k, top-p). A logit of -inf, or anything below -2^100 (frameworks write the lowest float there), has probability
/// zero. A row with NaN or +inf yields NaN results and disturbs no other row; so does one whose largest
/// |logit / temperature| is above 1.8e8 (f64: 2e16), where neighbouring numbers of the storage type are many nats apart. A row
/// without any finite logit has logsumexp -inf, and NaN otherwise.
template <class S>
struct logits_view {
    static_assert(
        storage_type<S>,
        "trm: logits are stored as float, double, trm::bf16, trm::f16 or a type for which trm::storage_traits "
        "names one of them");
    S const* data = nullptr;
    std::int64_t rows = 0;
    std::int64_t vocab = 0;
    std::int64_t row_stride = 0;  ///< elements between rows; 0 means vocab
    double temperature = 1.0;  ///< in [1e-6, 1e6]; log-probabilities and gradients include it
    std::uint8_t const* vocab_mask = nullptr;  ///< [vocab] or [rows, vocab] bytes: 0 = probability zero
    std::int64_t vocab_mask_stride = 0;  ///< bytes between rows of vocab_mask; 0: one mask for all rows
    std::uint8_t const* row_mask = nullptr;  ///< [rows] bytes: rows with 0 are never read, their results are 0

    [[nodiscard]] std::int64_t stride() const noexcept { return row_stride != 0 ? row_stride : vocab; }
    [[nodiscard]] S const* row(std::int64_t r) const noexcept { return data + r * stride(); }
    [[nodiscard]] bool kept(std::int64_t r) const noexcept { return row_mask == nullptr || row_mask[r] != 0; }
    [[nodiscard]] std::uint8_t const* mask_row(std::int64_t r) const noexcept {
        return vocab_mask == nullptr ? nullptr : vocab_mask + r * vocab_mask_stride;
    }
};

/// A contiguous range of std::int32_t or std::int64_t token ids: span, vector, array.
template <class R>
concept token_ids =
    requires(R const& r) { std::span(r); } &&
    (std::same_as<std::remove_cv_t<typename decltype(std::span(std::declval<R const&>()))::element_type>,
                  std::int32_t> ||
     std::same_as<std::remove_cv_t<typename decltype(std::span(std::declval<R const&>()))::element_type>,
                  std::int64_t>);

namespace logits_detail {

inline constexpr double log2e = 1.4426950408889634074;
inline constexpr double ln2 = 0.69314718055994530942;

/// One stored number.
template <class S>
[[nodiscard]] double to_double(S const& x) noexcept {
    return static_cast<double>(to_float(std::bit_cast<storage_t<S>>(x)));
}

/// Below 1e-6 inference engines decode greedily, which has no log-probabilities.
[[nodiscard]] inline bool usable_temperature(double t) noexcept { return is_finite(t) && t >= 1e-6 && t <= 1e6; }

/// Do `rows` rows, `stride` elements apart, have a size that 64 bits can hold?
[[nodiscard]] constexpr bool fits(std::int64_t rows, std::int64_t stride) noexcept {
    return rows <= (std::int64_t(1) << 60) / (stride > 0 ? stride : 1);
}

template <class S>
[[nodiscard]] status check_view(logits_view<S> const& v) noexcept {
    if (v.rows < 0 || v.vocab < 1) return {errc::bad_layout, -1, -1, "logits: rows < 0 or vocab < 1"};
    if (v.row_stride != 0 && v.row_stride < v.vocab) return {errc::bad_layout, -1, -1, "logits: row_stride < vocab"};
    if (v.rows > 0 && v.data == nullptr) return {errc::missing_stream, -1, -1, "logits"};
    if (v.vocab_mask_stride != 0 && v.vocab_mask_stride < v.vocab)
        return {errc::bad_layout, -1, -1, "logits: vocab_mask_stride < vocab"};
    if (!fits(v.rows, v.stride()) || !fits(v.rows, v.vocab_mask_stride))
        return {errc::bad_layout, -1, -1, "logits: rows x row_stride or vocab_mask_stride is too large"};
    if (!usable_temperature(v.temperature))
        return {errc::bad_threshold, -1, -1, "logits: temperature must be in [1e-6, 1e6]"};
    return {};
}

/// An optional span is empty or has one element per row.
template <class T>
[[nodiscard]] status check_span(std::span<T> s, std::int64_t rows, char const* what) noexcept {
    if (!s.empty() && static_cast<std::int64_t>(s.size()) != rows) return {errc::size_mismatch, -1, -1, what};
    return {};
}

/// Token ids of the kept rows of a shard that starts at `first` are not negative: how large they may be, only the caller knows.
template <class S, token_ids R>
[[nodiscard]] status check_shard(logits_view<S> const& v, std::int64_t first, R const& targets) noexcept {
    if (static_cast<std::int64_t>(std::size(targets)) != v.rows) return {errc::size_mismatch, -1, -1, "targets"};
    if (first < 0) return {errc::bad_layout, -1, -1, "first column of the shard is negative"};
    for (std::int64_t r = 0; r < v.rows; ++r)
        if (v.kept(r) && std::data(targets)[r] < 0) return {errc::bad_layout, -1, r, "targets: negative id"};
    return {};
}

/// Token ids of the kept rows lie in the vocabulary; `token` of the status names the row. `View`: `logits_view` or `linear_view`.
template <class View, token_ids R>
[[nodiscard]] status check_targets(View const& v, R const& targets) noexcept {
    if (static_cast<std::int64_t>(std::size(targets)) != v.rows) return {errc::size_mismatch, -1, -1, "targets"};
    for (std::int64_t r = 0; r < v.rows; ++r) {
        std::int64_t const id = std::data(targets)[r];
        if (v.kept(r) && (id < 0 || id >= v.vocab))
            return {errc::bad_layout, -1, r, "targets: id outside the vocabulary"};
    }
    return {};
}

/// Rows per block, so that a block is some 10^5 elements: enough to hide a dispatch, never fewer than one row.
[[nodiscard]] constexpr std::int64_t rows_per_block(std::int64_t vocab) noexcept {
    constexpr std::int64_t elements = std::int64_t(1) << 17;
    return vocab >= elements ? 1 : elements / vocab;
}

/// f(r) for every row, in blocks through `exec`.
template <class Exec, class F>
void for_rows(std::int64_t rows, std::int64_t vocab, Exec const& exec, F const& f) {
    std::int64_t const per = rows_per_block(vocab);
    detail::executor_for(rows * vocab, exec)((rows + per - 1) / per, [&](std::int64_t b) {
        std::int64_t const end = (b + 1) * per < rows ? (b + 1) * per : rows;
        for (std::int64_t r = b * per; r < end; ++r) f(r);
    });
}

}  // namespace logits_detail
TRM_NAMESPACE_END
