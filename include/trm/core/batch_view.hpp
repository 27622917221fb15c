// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/core/status.hpp>
#include <trm/core/stream_view.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

TRM_NAMESPACE_BEGIN

namespace detail {
/// What a contiguous range holds, const if it cannot be written. Asked of std::span: <ranges> takes longer to compile than
/// all of core/.
template <class R>
using element_of = typename decltype(std::span(std::declval<R&>()))::element_type;
template <class R>
using value_of = std::remove_cv_t<element_of<R>>;
}  // namespace detail

/// Cumulative lengths, int32 or int64, not owned: n + 1 values for n runs, the first 0, never decreasing. Like
/// `stream_view`, they do not bind to temporary containers.
class offsets {
public:
    constexpr offsets() = default;
    template <class R>
        requires std::same_as<detail::value_of<R>, std::int32_t> || std::same_as<detail::value_of<R>, std::int64_t>
    constexpr offsets(R&& values) noexcept {
        detail::refuse_temporary<R>();
        std::span const all(std::as_const(values));
        size_ = all.size();
        if constexpr (std::same_as<detail::value_of<R>, std::int32_t>) {
            narrow_ = all.data();
        } else {
            wide_ = all.data();
        }
    }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
    [[nodiscard]] constexpr std::int64_t operator[](std::size_t i) const noexcept {
        return narrow_ != nullptr ? narrow_[i] : wide_[i];
    }

private:
    std::int32_t const* narrow_ = nullptr;
    std::int64_t const* wide_ = nullptr;
    std::size_t size_ = 0;
};

/// Sequences one after another: sequence i is [cu_seqlens[i], cu_seqlens[i + 1]).
struct packed {
    offsets cu_seqlens;
};
/// One row per sequence, `max_tokens` slots each, rows `row_stride` elements apart (0: rows touch). What is not part of
/// the response is masked out by loss_mask.
struct padded {
    std::int64_t sequences = 0;
    std::int64_t max_tokens = 0;
    std::int64_t row_stride = 0;
};
/// Runs of tokens that belong to sequences: run j is [cu_seqlens[j], cu_seqlens[j + 1]) and continues sequence
/// sequence_of[j], in this order. Context-parallel shards and multi-turn responses. `sequences` counts the ids.
struct segments {
    offsets cu_seqlens;
    stream_view<std::int32_t> sequence_of;
    std::int64_t sequences = 0;
};

/// A contiguous run of tokens of one sequence.
struct token_run {
    std::int64_t begin;
    std::int64_t size;
    std::int64_t sequence;
};

/// Where the tokens of each sequence are: one of `packed`, `padded`, `segments`.
class layout_view {
public:
    constexpr layout_view() = default;
    constexpr layout_view(packed p) noexcept
        : cu_(p.cu_seqlens),
          runs_(p.cu_seqlens.size() > 0 ? static_cast<std::int64_t>(p.cu_seqlens.size()) - 1 : 0),
          sequences_(runs_) {}
    constexpr layout_view(padded p) noexcept
        : runs_(p.sequences),
          sequences_(p.sequences),
          length_(p.max_tokens),
          stride_(p.row_stride == 0 ? p.max_tokens : p.row_stride),
          is_padded_(true) {}
    constexpr layout_view(segments s) noexcept
        : cu_(s.cu_seqlens),
          sequence_of_(s.sequence_of),
          runs_(s.cu_seqlens.size() > 0 ? static_cast<std::int64_t>(s.cu_seqlens.size()) - 1 : 0),
          sequences_(s.sequences),
          is_segments_(true) {}

    [[nodiscard]] constexpr std::int64_t runs() const noexcept { return runs_; }
    [[nodiscard]] constexpr std::int64_t sequences() const noexcept { return sequences_; }
    [[nodiscard]] constexpr bool is_segments() const noexcept { return is_segments_; }
    /// Most elements of a per-token stream that this layout describes: the extent, and for padded the end of the last row.
    [[nodiscard]] constexpr std::int64_t largest_extent() const noexcept {
        return is_padded_ ? runs_ * stride_ : extent();
    }
    /// Are the offsets lengths by mistake, of so many tokens together?
    [[nodiscard]] constexpr bool holds_lengths(std::int64_t tokens) const noexcept {
        if (cu_.size() == 0 || (cu_[0] == 0 && cu_[cu_.size() - 1] == tokens)) return false;
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < cu_.size(); ++i) sum += cu_[i];
        return sum == tokens;
    }
    [[nodiscard]] constexpr token_run run(std::int64_t i) const noexcept {
        if (is_padded_) return {i * stride_, length_, i};
        auto const j = static_cast<std::size_t>(i);
        return {cu_[j], cu_[j + 1] - cu_[j], is_segments_ ? static_cast<std::int64_t>(sequence_of_[j]) : i};
    }
    /// Elements that a per-token stream must have.
    [[nodiscard]] constexpr std::int64_t extent() const noexcept {
        if (is_padded_) return runs_ == 0 ? 0 : (runs_ - 1) * stride_ + length_;
        return runs_ == 0 ? 0 : cu_[static_cast<std::size_t>(runs_)];
    }
    /// Tokens of all runs together.
    [[nodiscard]] constexpr std::int64_t tokens() const noexcept { return is_padded_ ? runs_ * length_ : extent(); }
    [[nodiscard]] constexpr status validate() const noexcept {
        if (is_padded_) {
            constexpr auto limit = (std::numeric_limits<std::int64_t>::max)();
            if (runs_ < 0 || length_ < 0 || stride_ < length_) return {errc::bad_layout, -1, -1, "padded"};
            if (runs_ > 0 && stride_ > 0 && runs_ > limit / stride_) return {errc::bad_layout, -1, -1, "padded"};
            return {};
        }
        if (cu_.size() > 0 && cu_[0] != 0) return {errc::decreasing_offsets, 0, -1, "cu_seqlens"};
        for (std::int64_t i = 0; i < runs_; ++i)
            if (cu_[static_cast<std::size_t>(i) + 1] < cu_[static_cast<std::size_t>(i)])
                return {errc::decreasing_offsets, i, -1, "cu_seqlens"};
        if (!is_segments_) return {};
        if (sequences_ < 0 || static_cast<std::int64_t>(sequence_of_.size()) != runs_)
            return {errc::size_mismatch, -1, -1, "sequence_of"};
        for (std::int32_t id : sequence_of_)
            if (id < 0 || id >= sequences_) return {errc::bad_layout, id, -1, "sequence_of"};
        return {};
    }

private:
    offsets cu_;
    stream_view<std::int32_t> sequence_of_;
    std::int64_t runs_ = 0;
    std::int64_t sequences_ = 0;
    std::int64_t length_ = 0;
    std::int64_t stride_ = 0;
    bool is_padded_ = false;
    bool is_segments_ = false;
};

/// What a trainer has about its tokens; nothing is owned or copied. Log-probabilities are natural logarithms of the
/// probability of the sampled token. Empty spans are absent streams. Where loss_mask is 0 any content is allowed and
/// none is read into arithmetic.
template <class T>
struct batch_view {
    static_assert(
        storage_type<T>,
        "trm: a batch stores float, double, trm::bf16, trm::f16 or a type for which trm::storage_traits names one "
        "of them");
    using real = default_arithmetic_t<T>;

    stream_view<T> logp{};  ///< current policy
    stream_view<T> rollout_logp{};  ///< policy that sampled the tokens
    stream_view<T> proximal_logp{};  ///< optional: policy before this update step
    stream_view<T> ref_logp{};  ///< optional: reference of a KL penalty
    stream_view<real> advantages{};  ///< one per token, or
    stream_view<real> sequence_advantages{};  ///< one per sequence
    stream_view<real> given{};  ///< optional: divergence per token, computed elsewhere
    stream_view<real> token_weights{};  ///< optional: factor of each token's surrogate
    stream_view<std::uint8_t> loss_mask{};  ///< optional: not 0 = the policy produced this token
    stream_view<std::int32_t> group_of{};  ///< optional: prompt id of each sequence, from 0
    layout_view layout{};
    /// The layout must cover all elements of `logp` (padded: up to the end of the last row). True: it may end earlier, on
    /// purpose, and what follows is neither read nor written.
    bool partial = false;
};

TRM_NAMESPACE_END
