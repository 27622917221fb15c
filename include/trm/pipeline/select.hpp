// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/select_sequences.hpp>
#include <trm/pipeline/selection.hpp>

#include <new>

/// \file
/// Selections, the step before all others: criteria that compare tokens with each other, and marks of tokens that a surrogate
/// treats specially. The criteria themselves are policy/selection.hpp (by sequence, over the executor) and
/// policy/selection_batch.hpp (of the whole batch: scores over the executor, the rest in one thread).

TRM_NAMESPACE_BEGIN
namespace detail {

/// Does the loss select something that it is not given?
template <class Call, class S>
[[nodiscard]] bool wants_selection(Call const& call, batch_view<S> const& batch,
                                   selection_view const& chosen) noexcept {
    if (batch.layout.extent() == 0) return false;
    return (call.core.has_selections() && chosen.reasons.empty()) || (call.core.has_marker() && chosen.marks.empty());
}

/// False: out of memory. trm's own selections live in the workspace; those of a caller may allocate.
template <class Criterion>
[[nodiscard]] bool select_with(Criterion const& criterion, selection_input const& in, selection_output out) {
#if TRM_EXCEPTIONS
    try {
        criterion.select(in, out);
        return true;
    } catch (std::bad_alloc const&) {
        return false;
    }
#else
    criterion.select(in, out);
    return true;
#endif
}

/// Scratch of a selection that sees the whole batch.
template <class Criterion>
struct batch_scratch {
    static constexpr std::size_t doubles = sequence_scratch<Criterion>::doubles;
    [[nodiscard]] static std::size_t total(std::size_t extent, std::size_t sequences, std::size_t groups) noexcept {
        std::size_t own = 0;
        if constexpr (requires { Criterion::scratch; }) own = Criterion::scratch.total(extent, sequences, groups);
        return extent * sequence_scratch<Criterion>::per_slot + own;
    }
};

/// One criterion over the whole batch. False: out of memory.
template <class T, class Call, class S, class Criterion, class Executor>
[[nodiscard]] bool select_of_batch(Call const& call, batch_view<S> const& batch,
                                   stream_pointers<storage_t<S>, T> const& io, Criterion const& criterion,
                                   selection_output out, Executor&& execute, std::byte* memory) {
    constexpr auto channels = static_cast<std::size_t>(Criterion::channels);
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    auto* const numbers = reinterpret_cast<double*>(memory);
    double* const advantages = reads_advantages<Criterion> ? numbers + channels * extent : nullptr;
    auto* const active = reinterpret_cast<std::uint8_t*>(numbers + batch_scratch<Criterion>::doubles * extent);
    score_memory const to{numbers, extent, advantages, active};
    for_blocks(batch.layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
        clear_runs(batch.layout, begin, end, active);  // padding between rows is not active
        for (std::int64_t i = begin; i < end; ++i) {
            token_run const run = batch.layout.run(i);
            (void)score_run(call, batch, io, run, scores_of(criterion), to.from(static_cast<std::size_t>(run.begin)));
        }
    });
    selection_input const in{batch.layout,
                             batch.group_of,
                             {numbers, channels * extent},
                             {active, extent},
                             {advantages, advantages == nullptr ? 0 : extent},
                             extent,
                             batch.loss_mask,
                             selection_memory(reinterpret_cast<std::byte*>(active + extent))};
    return select_with(criterion, in, out);
}

/// Rejections that compare tokens with each other, one mask of reasons per token, and marks. Either span may be empty. Prompts
/// are numbered.
template <class T, class Call, class S, class Executor>
[[nodiscard]] status select(Call const& call, batch_view<S> const& batch, std::span<std::uint16_t> reasons,
                            std::span<std::uint8_t> marks, Executor&& execute, workspace& scratch) {
    auto const& layout = batch.layout;
    auto const extent = static_cast<std::size_t>(layout.extent());
    auto const sequences = static_cast<std::size_t>(layout.sequences());
    selection_input prompts;
    prompts.group_of = batch.group_of;
    std::size_t const groups = prompts.groups();
    std::size_t bytes = 1;
    auto const ask = [&](auto const& c, int) {
        using C = std::remove_cvref_t<decltype(c)>;
        if constexpr (selects_by_sequence<C>) {
            bytes = (std::max)(bytes, sequence_scratch<C>::total(layout, sequences, groups));
        } else {
            bytes = (std::max)(bytes, batch_scratch<C>::total(extent, sequences, groups));
        }
    };
    if (!reasons.empty()) call.core.each_selection(ask);
    if (!marks.empty()) call.core.each_marker([&](auto const& m) { ask(m, 0); });
    std::byte* const memory = scratch.reserve(workspace::purpose::selection, bytes);
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "selection"};
    auto const io = pointers_of(batch, {}, outputs<T>{});
    auto const clear = [&](auto* to) {
        for_blocks(layout.runs(), execute,
                   [&](std::int64_t, std::int64_t begin, std::int64_t end) { clear_runs(layout, begin, end, to); });
    };
    bool fresh = true, memory_holds = true;  // fresh: reasons are still to be cleared
    auto const work = [&](auto const& c, int bit) {
        using C = std::remove_cvref_t<decltype(c)>;
        auto const mine = static_cast<std::uint16_t>(1u << bit);
        bool const clears_later = selects_by_sequence<C> && !layout.is_segments();
        if (fresh && !clears_later) clear(reasons.data());
        if constexpr (selects_by_sequence<C>) {
            sequence_selector<Call, S, T, C>(call, batch, io, c, reasons.data(), mine, groups, memory)
                .run(fresh && clears_later, execute);
        } else {
            memory_holds = select_of_batch<T>(call, batch, io, c, {reasons, mine}, execute, memory) && memory_holds;
        }
        fresh = false;
    };
    if (!reasons.empty()) call.core.each_selection(work);
    if (!marks.empty()) {
        clear(marks.data());
        call.core.each_marker([&](auto const& m) {
            memory_holds = select_of_batch<T>(call, batch, io, m, {{}, 0, marks}, execute, memory) && memory_holds;
        });
    }
    return memory_holds ? status{} : status{errc::out_of_memory, -1, -1, "selection"};
}

/// Works out what the loss selects and is not given, in the memory of `scratch`.
template <class T, class Call, class S, class Executor>
[[nodiscard]] status bring_selection(Call const& call, batch_view<S> const& batch, selection_view& chosen,
                                     Executor&& execute, workspace& scratch) {
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    if (!wants_selection(call, batch, chosen)) return {};
    std::byte* const memory = scratch.reserve(workspace::purpose::streams, extent * 3);  // both kinds of streams
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "selection"};
    std::span<std::uint16_t> rejected;
    std::span<std::uint8_t> marks;
    auto* const reasons = reinterpret_cast<std::uint16_t*>(memory);
    if (call.core.has_selections() && chosen.reasons.empty()) rejected = {reasons, extent};
    if (call.core.has_marker() && chosen.marks.empty())
        marks = {reinterpret_cast<std::uint8_t*>(reasons + extent), extent};
    if (status const s = select<T>(call, batch, rejected, marks, execute, scratch); !s.ok()) return s;
    if (!rejected.empty()) chosen.reasons = rejected;
    if (!marks.empty()) chosen.marks = marks;
    return {};
}

/// Replaces prompt ids, whatever they are, by places in a table of at most as many entries as there are sequences, in the memory
/// of `scratch`, if the loss looks at them.
template <class Call, class S>
[[nodiscard]] status number_groups(Call const& call, batch_view<S>& batch, workspace& scratch) noexcept {
    auto const n = static_cast<std::size_t>(batch.layout.sequences());
    if (!call.wants_groups() || n == 0) return {};
    std::byte* const memory =
        scratch.reserve(workspace::purpose::groups, n * (sizeof(std::int64_t) + sizeof(std::int32_t)));
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "group_of"};
    std::span const keys(reinterpret_cast<std::int64_t*>(memory), n);
    std::span const places(reinterpret_cast<std::int32_t*>(memory + n * sizeof(std::int64_t)), n);
    for (std::size_t i = 0; i < n; ++i)
        keys[i] = static_cast<std::int64_t>(batch.group_of[i]) << 32 | static_cast<std::int64_t>(i);
    std::sort(keys.begin(), keys.end());
    std::int32_t place = -1;
    for (std::size_t k = 0; k < n; ++k) {
        place += k == 0 || keys[k] >> 32 != keys[k - 1] >> 32;
        places[static_cast<std::size_t>(keys[k] & 0xffffffff)] = place;
    }
    batch.group_of = places;
    return {};
}

}  // namespace detail
TRM_NAMESPACE_END
