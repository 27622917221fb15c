// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>

#include <cstddef>
#include <new>
#include <type_traits>

/// \file
/// What a selection that compares the tokens of the whole batch is given: the batch, the scores of its tokens, memory, and
/// where to write. For those of one sequence see selection_sequence.hpp.

TRM_NAMESPACE_BEGIN

/// Scratch bytes that a selection may take: its member `scratch` of this type; none if it has no such member.
struct selection_bytes {
    std::size_t per_token = 0, per_sequence = 0, per_group = 0;

    static constexpr std::size_t slack = 256;  ///< alignment of what is taken
    [[nodiscard]] constexpr std::size_t total(std::size_t tokens, std::size_t sequences,
                                              std::size_t groups) const noexcept {
        return per_token * tokens + per_sequence * sequences + per_group * groups + slack;
    }
};

/// Part of a workspace, handed out front to back.
class selection_memory {
public:
    constexpr selection_memory() noexcept = default;
    explicit selection_memory(std::byte* begin) noexcept : at_(begin) {}

    /// n copies of `value`.
    template <class T>
    [[nodiscard]] std::span<T> take(std::size_t n, T value = T{}) noexcept {
        constexpr std::uintptr_t align = 16;
        static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= align);
        at_ += (align - reinterpret_cast<std::uintptr_t>(at_) % align) % align;
        T* const first = reinterpret_cast<T*>(at_);
        for (std::size_t i = 0; i < n; ++i) ::new (first + i) T(value);
        at_ += n * sizeof(T);
        return {first, n};
    }

private:
    std::byte* at_ = nullptr;
};

/// The batch as a selection sees it. Tokens are addressed by their place in the batch's streams.
struct selection_input {
    layout_view layout;
    stream_view<std::int32_t> group_of;
    stream_view<double> scores;  ///< channel-major: channel c of token t is scores[c * extent + t]
    stream_view<std::uint8_t> active;  ///< 1 where loss_mask selects a finite token
    stream_view<double> advantages;  ///< per token, if the selection's `reads_advantages` is true
    std::size_t extent = 0;
    stream_view<std::uint8_t> loss_mask{};
    selection_memory memory{};  ///< what the selection's `scratch` asks for; a copy starts at the front

    [[nodiscard]] std::size_t sequences() const noexcept { return static_cast<std::size_t>(layout.sequences()); }
    /// One more than the largest prompt id.
    [[nodiscard]] std::size_t groups() const noexcept {
        std::int32_t last = -1;
        for (std::int32_t g : group_of) last = g > last ? g : last;
        return static_cast<std::size_t>(static_cast<std::int64_t>(last) + 1);
    }
    [[nodiscard]] bool is_active(std::size_t token) const noexcept { return active[token] != 0; }
    /// Selected by loss_mask, but not finite: no statistic of its sequence is in any band.
    [[nodiscard]] bool is_nonfinite(std::size_t token) const noexcept {
        return active[token] == 0 && (loss_mask.empty() || loss_mask[token] != 0);
    }
    /// f(token) for every slot of run i, in order.
    template <class F>
    void for_each_slot(std::int64_t run, F&& f) const {
        token_run const r = layout.run(run);
        for (std::int64_t t = r.begin; t < r.begin + r.size; ++t) f(static_cast<std::size_t>(t));
    }
    /// f(token) for every active token of run i, in order.
    template <class F>
    void for_each(std::int64_t run, F&& f) const {
        for_each_slot(run, [&](std::size_t t) {
            if (is_active(t)) f(t);
        });
    }
    template <class F>
    void for_each(F&& f) const {
        for (std::int64_t i = 0; i < layout.runs(); ++i) for_each(i, f);
    }
};

/// Where a selection writes: `bit` into the reasons of what it rejects, or 1 into the marks of what it marks.
struct selection_output {
    std::span<std::uint16_t> reasons;
    std::uint16_t bit = 0;
    std::span<std::uint8_t> marks{};
    void reject(std::size_t token) const noexcept { reasons[token] = static_cast<std::uint16_t>(reasons[token] | bit); }
    void mark(std::size_t token) const noexcept { marks[token] = 1; }
};

TRM_NAMESPACE_END
