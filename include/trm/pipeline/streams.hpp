// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/result.hpp>
#include <trm/pipeline/selection.hpp>
#include <trm/simd/memory.hpp>

#include <algorithm>
#include <type_traits>

/// \file
/// Where a pass reads and writes: the streams of a batch, what was selected of it, and the outputs of a call as pointers.

TRM_NAMESPACE_BEGIN
namespace detail {

/// The streams of a batch (null: absent), and where results go.
template <class S, class T>
struct stream_pointers {
    using real = default_arithmetic_t<S>;
    S const *logp = nullptr, *rollout = nullptr, *proximal = nullptr, *ref = nullptr;
    real const *advantage = nullptr, *given = nullptr, *token_weight = nullptr;
    std::uint8_t const* mask = nullptr;
    std::uint16_t const* rejected = nullptr;
    std::uint8_t const* marks = nullptr;
    T* grad = nullptr;
    T* weights = nullptr;
    std::uint8_t* keep = nullptr;
    std::uint16_t* reasons = nullptr;
    bool accumulate = false;
    bool prefetch = false;  ///< the streams are longer than the caches next to the core
    S const* only_counted = nullptr;  ///< log-probabilities that no policy looks at: diagnostics count those above 0
};

/// Streams of fewer bytes are not prefetched.
inline constexpr std::size_t prefetch_from = std::size_t{1} << 20;

/// Of one call of a loss.
template <class Call, class T, class S>
[[nodiscard]] stream_pointers<storage_t<S>, T> pointers_of(Call const& call, batch_view<S> const& b,
                                                           selection_view const& chosen,
                                                           outputs<T> const& out) noexcept {
    using U = storage_t<S>;
    auto const raw = [](auto s) { return s.empty() ? nullptr : reinterpret_cast<U const*>(s.data()); };
    auto const data = [](auto s) { return s.empty() ? nullptr : s.data(); };
    stream_pointers<U, T> io{
        raw(b.logp),          raw(b.rollout_logp), raw(b.proximal_logp),  raw(b.ref_logp),
        data(b.advantages),   data(b.given),       data(b.token_weights), data(b.loss_mask),
        data(chosen.reasons), data(chosen.marks),  data(out.grad),        data(out.weights),
        data(out.keep),       data(out.reasons),   out.accumulate,        b.logp.size_bytes() >= prefetch_from};
    if (!call.reads_proximal()) {
        if (call.options.diagnose) io.only_counted = io.proximal;
        io.proximal = nullptr;
    }
    return io;
}

/// Is there nothing to read or write but what the common call has? A sequence that is rejected then has outputs of 0.
template <class S, class T>
[[nodiscard]] bool is_plain(stream_pointers<S, T> const& io) noexcept {
    return io.reasons == nullptr && io.rejected == nullptr && io.token_weight == nullptr;
}

/// Is the gradient the only output, and overwritten?
template <class S, class T>
[[nodiscard]] TRM_INLINE bool writes_only_gradient(stream_pointers<S, T> const& io) noexcept {
    return io.grad != nullptr && !io.accumulate && io.keep == nullptr && io.weights == nullptr;
}

/// Is an output the memory of an input?
template <class S, class T>
[[nodiscard]] bool overwrites_input(stream_pointers<S, T> const& io) noexcept {
    void const* const inputs[] = {io.logp,  io.rollout, io.proximal,     io.ref,  io.advantage, io.only_counted,
                                  io.given, io.marks,   io.token_weight, io.mask, io.rejected};
    void const* const outputs[] = {io.grad, io.weights, io.keep, io.reasons};
    for (void const* in : inputs)
        for (void const* to : outputs)
            if (in != nullptr && in == to) return true;
    return false;
}

/// A run of a batch with loss_mask, without the masked tokens at its ends (prompts, padding), by 64 of them, whatever the
/// width of a register.
template <class S, class T>
[[nodiscard]] token_run trimmed(stream_pointers<S, T> const& io, token_run run) noexcept {
    if (io.mask == nullptr) return run;
    constexpr std::int64_t step = 64;
    auto const is_masked = [&](std::int64_t at, std::int64_t edge) {  // nearly always told by one byte
        return io.mask[edge] == 0 && simd::count_nonzero(io.mask + at, step) == 0;
    };
    for (; run.size >= step && is_masked(run.begin, run.begin); run.size -= step) run.begin += step;
    while (run.size >= step && is_masked(run.begin + run.size - step, run.begin + run.size - 1)) run.size -= step;
    return run;
}

/// What masked tokens get.
template <class S, class T>
void clear_outputs(stream_pointers<S, T> const& io, std::int64_t begin, std::int64_t end) noexcept {
    auto const clear = [&](auto* to) {
        if (to != nullptr) std::fill(to + begin, to + end, std::remove_pointer_t<decltype(to)>(0));
    };
    if (!io.accumulate) clear(io.grad);
    clear(io.weights);
    clear(io.keep);
    clear(io.reasons);
}

}  // namespace detail
TRM_NAMESPACE_END
