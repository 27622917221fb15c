// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/interop/c/support.hpp>
#include <trm/loss/result.hpp>
#include <trm/pipeline/selection.hpp>

#include <memory>
#include <span>
#include <vector>

/// \file
/// Batches and outputs of the C interface as views; what has a stride goes through the scratch.

struct trm_scratch {
    enum : std::size_t { inputs = 8, results = 4 };
    trm::workspace work;
    trm::selection chosen;  ///< of trm_loss_select
    std::vector<std::byte> copies[inputs + results];  ///< of strided streams

    [[nodiscard]] std::size_t bytes() const noexcept {
        std::size_t n = work.bytes();
        for (auto const& c : copies) n += c.capacity();
        return n;
    }
};

TRM_NAMESPACE_BEGIN
namespace c_api {

template <class Stream>
[[nodiscard]] status check_stream(Stream const& s, std::int64_t n) noexcept {
    if (s.stride < 0) return bad_argument("a stride is negative");
    if (s.stride > 1 && n > most_elements / s.stride) return {errc::bad_layout, -1, -1, "a stride is too large"};
    return {};
}
/// Adjacent memory for a strided stream of n numbers.
template <class T>
[[nodiscard]] T* copy_of(std::vector<std::byte>& memory, std::int64_t n) {
    auto const bytes = static_cast<std::size_t>(n) * sizeof(T);
    if (memory.size() < bytes) memory.resize(bytes);
    return reinterpret_cast<T*>(memory.data());
}

/// What the calls of a loss take, made from a trm_batch. Valid as long as the caller's memory and the scratch.
template <class S>
struct batch_of {
    using real = default_arithmetic_t<S>;
    batch_view<S> view;
    selection_view chosen;

    [[nodiscard]] status read(trm_batch const& b, trm_scratch& scratch) {
        if (status s = read_layout(b); !s.ok()) return s;
        std::size_t next = 0;
        auto const stream = [&]<class T>(trm_stream const& from, stream_view<T>& to) {
            return read_stream(from, b.tokens, scratch.copies[next++], to);
        };
        if (status s = stream(b.logp, view.logp); !s.ok()) return s;
        if (status s = stream(b.rollout_logp, view.rollout_logp); !s.ok()) return s;
        if (status s = stream(b.proximal_logp, view.proximal_logp); !s.ok()) return s;
        if (status s = stream(b.ref_logp, view.ref_logp); !s.ok()) return s;
        if (status s = stream(b.advantages, view.advantages); !s.ok()) return s;
        if (status s = stream(b.given, view.given); !s.ok()) return s;
        if (status s = stream(b.token_weights, view.token_weights); !s.ok()) return s;
        if (status s = stream(b.loss_mask, view.loss_mask); !s.ok()) return s;
        if (status s = array(b.sequence_advantages, b.sequences, view.sequence_advantages); !s.ok()) return s;
        if (status s = array(b.group_of, b.sequences, view.group_of); !s.ok()) return s;
        if (status s = array(b.rejected, b.tokens, chosen.reasons); !s.ok()) return s;
        if (status s = array(b.marks, b.tokens, chosen.marks); !s.ok()) return s;
        view.partial = b.partial != 0;
        return {};
    }

private:
    [[nodiscard]] status read_layout(trm_batch const& b) noexcept {
        if (b.tokens < 0 || b.tokens > most_elements || b.sequences < 0 || b.sequences > most_elements)
            return {errc::bad_layout, -1, -1, "tokens or sequences is negative or too large"};
        if (b.layout == TRM_PADDED) {
            view.layout = padded{b.sequences, b.max_tokens, b.row_stride};
            return {};
        }
        if (b.layout != TRM_PACKED && b.layout != TRM_SEGMENTS)
            return bad_argument("layout is not one of TRM_PACKED, TRM_PADDED, TRM_SEGMENTS");
        std::int64_t const runs = b.layout == TRM_PACKED ? b.sequences : b.runs;
        offsets cu;
        if (runs < 0) return {errc::bad_layout, -1, -1, "runs is negative"};
        if (b.cu_dtype == TRM_I32) {
            if (status s = read_offsets<std::int32_t>(b, runs, cu); !s.ok()) return s;
        } else if (b.cu_dtype == TRM_I64) {
            if (status s = read_offsets<std::int64_t>(b, runs, cu); !s.ok()) return s;
        } else {
            return bad_argument("cu_dtype is not one of TRM_I32, TRM_I64");
        }
        if (b.layout == TRM_PACKED) {
            view.layout = packed{cu};
            return {};
        }
        if (status s = check_array<std::int32_t>(b.sequence_of, runs, "sequence_of is a null pointer"); !s.ok())
            return s;
        view.layout = segments{cu, {b.sequence_of, static_cast<std::size_t>(runs)}, b.sequences};
        return {};
    }
    template <class I>
    [[nodiscard]] static status read_offsets(trm_batch const& b, std::int64_t runs, offsets& to) noexcept {
        if (b.cu_seqlens == nullptr && runs == 0) return {};
        if (status s = check_array<I>(b.cu_seqlens, runs + 1, "cu_seqlens is a null pointer"); !s.ok()) return s;
        to = std::span<I const>(static_cast<I const*>(b.cu_seqlens), static_cast<std::size_t>(runs) + 1);
        return {};
    }
    template <class T>
    [[nodiscard]] static status array(void const* from, std::int64_t n, stream_view<T>& to) noexcept {
        if (from == nullptr) return {};
        if (status s = check_array<T>(from, n, ""); !s.ok()) return s;
        to = stream_view<T>(static_cast<T const*>(from), static_cast<std::size_t>(n));
        return {};
    }
    template <class T>
    [[nodiscard]] static status read_stream(trm_stream const& from, std::int64_t n, std::vector<std::byte>& memory,
                                            stream_view<T>& to) {
        if (from.data == nullptr) return {};
        if (status s = check_stream(from, n); !s.ok()) return s;
        if (from.stride <= 1) return array(from.data, n, to);
        if (!is_aligned<T>(from.data)) return bad_argument("a pointer is not aligned for its type");
        T* const copy = copy_of<T>(memory, n);
        auto const* const data = static_cast<T const*>(from.data);
        for (std::int64_t i = 0; i < n; ++i) copy[i] = data[i * from.stride];
        to = stream_view<T>(copy, static_cast<std::size_t>(n));
        return {};
    }
};

/// Outputs of a call, and their way back to strided memory.
template <class T>
struct outputs_of {
    outputs<T> view;

    [[nodiscard]] status read(trm_outputs const* out, std::int64_t tokens, trm_scratch& scratch) {
        std::memset(&to_, 0, sizeof to_);
        if (out == nullptr) return {};
        if (status s = read_struct(out, to_); !s.ok()) return s;
        tokens_ = tokens;
        auto* memory = scratch.copies + trm_scratch::inputs;
        if (status s = bind(to_.grad, view.grad, memory[0], to_.accumulate != 0); !s.ok()) return s;
        if (status s = bind(to_.keep, view.keep, memory[1], false); !s.ok()) return s;
        if (status s = bind(to_.reasons, view.reasons, memory[2], false); !s.ok()) return s;
        if (status s = bind(to_.weights, view.weights, memory[3], false); !s.ok()) return s;
        view.accumulate = to_.accumulate != 0;
        view.loss_scale = to_.loss_scale;
        return {};
    }
    /// The elements that the layout describes; what lies between its rows stays as it is.
    void write_back(layout_view const& layout) const noexcept {
        scatter(to_.grad, view.grad, layout);
        scatter(to_.keep, view.keep, layout);
        scatter(to_.reasons, view.reasons, layout);
        scatter(to_.weights, view.weights, layout);
    }

private:
    trm_outputs to_;
    std::int64_t tokens_ = 0;

    template <class E>
    [[nodiscard]] status bind(trm_stream_out const& out, std::span<E>& to, std::vector<std::byte>& memory, bool keep) {
        if (out.data == nullptr) return {};
        if (status s = check_stream(out, tokens_); !s.ok()) return s;
        if (!is_aligned<E>(out.data)) return bad_argument("a pointer is not aligned for its type");
        auto* data = static_cast<E*>(out.data);
        if (out.stride > 1) {
            E* const copy = copy_of<E>(memory, tokens_);
            if (keep)
                for (std::int64_t i = 0; i < tokens_; ++i) copy[i] = data[i * out.stride];
            data = copy;
        }
        to = std::span<E>(data, static_cast<std::size_t>(tokens_));
        return {};
    }
    template <class E>
    static void scatter(trm_stream_out const& out, std::span<E> from, layout_view const& layout) noexcept {
        if (out.data == nullptr || out.stride <= 1) return;
        auto* const data = static_cast<E*>(out.data);
        for (std::int64_t r = 0; r < layout.runs(); ++r) {
            token_run const run = layout.run(r);
            for (std::int64_t t = run.begin; t < run.begin + run.size; ++t)
                data[t * out.stride] = from[static_cast<std::size_t>(t)];
        }
    }
};

/// The caller's scratch, or one for this call.
class scratch_of {
public:
    explicit scratch_of(trm_scratch* given) : own_(given == nullptr ? new trm_scratch : nullptr) {
        scratch_ = given == nullptr ? own_.get() : given;
    }
    [[nodiscard]] trm_scratch& operator*() const noexcept { return *scratch_; }

private:
    std::unique_ptr<trm_scratch> own_;
    trm_scratch* scratch_;
};

}  // namespace c_api
TRM_NAMESPACE_END
