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

/// Selections of one batch, one criterion after another. What depends on the criterion comes as functions: the rest is compiled
/// once for all.
template <class S, class Executor>
class batch_selector {
    batch_view<S> const& batch;
    Executor& execute;
    std::span<std::uint16_t> const reasons;
    std::span<std::uint8_t> const marks;
    std::size_t const extent, groups;
    std::size_t bytes_ = 1;
    std::byte* memory = nullptr;
    bool fresh = true;  ///< reasons are still to be cleared

    template <class To>
    void clear(To* to) {
        for_blocks(batch.layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
            clear_runs(batch.layout, begin, end, to);
        });
    }
    [[nodiscard]] static std::size_t prompts_of(batch_view<S> const& b) noexcept {
        selection_input in;
        in.group_of = b.group_of;
        return in.groups();
    }

public:
    using select_function = function_ref<bool(selection_input const&, selection_output)>;

    batch_selector(batch_view<S> const& b, std::span<std::uint16_t> to, std::span<std::uint8_t> marked,
                   Executor& executor) noexcept
        : batch(b),
          execute(executor),
          reasons(to),
          marks(marked),
          extent(static_cast<std::size_t>(b.layout.extent())),
          groups(prompts_of(b)) {}

    /// Notes how much memory a criterion takes.
    void ask(selection_needs const& needs, bool by_sequence) noexcept {
        auto const sequences = static_cast<std::size_t>(batch.layout.sequences());
        std::size_t const n = by_sequence ? sequence_selector::bytes(needs, batch.layout, groups)
                                          : extent * needs.per_slot() + needs.own.total(extent, sequences, groups);
        bytes_ = (std::max)(bytes_, n);
    }
    [[nodiscard]] bool reserve(workspace& scratch) noexcept {
        memory = scratch.reserve(workspace::purpose::selection, bytes_);
        return memory != nullptr;
    }
    /// Criterion `bit`, which looks at one sequence at a time.
    [[gnu::noinline]] void by_sequence(selection_needs const& needs, int bit, bool drops_groups, score_function score,
                                       sequence_selector::select_function select) {
        bool const clears_later = !batch.layout.is_segments();
        if (fresh && !clears_later) clear(reasons.data());
        sequence_selector(needs, batch.layout, batch.loss_mask, batch.group_of, groups, reasons.data(), mask_of(bit),
                          memory)
            .run(score, select, fresh && clears_later, drops_groups, execute);
        fresh = false;
    }
    /// Criterion `bit`, which looks at the whole batch at once. False: out of memory.
    [[nodiscard]] bool of_batch(selection_needs const& needs, int bit, score_function score, select_function select) {
        if (fresh) clear(reasons.data());
        fresh = false;
        return select_among_all(needs, {reasons, mask_of(bit)}, score, select);
    }
    /// What a surrogate treats specially.
    [[nodiscard]] bool mark(selection_needs const& needs, score_function score, select_function select) {
        clear(marks.data());
        return select_among_all(needs, {{}, 0, marks}, score, select);
    }

private:
    [[nodiscard]] static std::uint16_t mask_of(int bit) noexcept { return static_cast<std::uint16_t>(1u << bit); }
    [[gnu::noinline]] bool select_among_all(selection_needs const& needs, selection_output out, score_function score,
                                            select_function select) {
        score_memory const to = needs.numbers(memory, extent);
        for_blocks(batch.layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
            clear_runs(batch.layout, begin, end, to.active);  // padding between rows is not active
            for (std::int64_t i = begin; i < end; ++i) {
                token_run const run = batch.layout.run(i);
                (void)score(run, to.from(static_cast<std::size_t>(run.begin)));
            }
        });
        return select({batch.layout,
                       batch.group_of,
                       {to.scores, needs.channels * extent},
                       {to.active, extent},
                       {to.advantages, to.advantages == nullptr ? 0 : extent},
                       extent,
                       batch.loss_mask,
                       needs.rest(memory, extent)},
                      out);
    }
};

/// Rejections that compare tokens with each other, one mask of reasons per token, and marks. Either span may be empty. Prompts
/// are numbered.
template <class T, class Call, class S, class Executor>
[[nodiscard]] status select(Call const& call, batch_view<S> const& batch, std::span<std::uint16_t> reasons,
                            std::span<std::uint8_t> marks, Executor&& execute, workspace& scratch) {
    batch_selector<S, std::remove_reference_t<Executor>> selector(batch, reasons, marks, execute);
    auto const ask = [&](auto const& c, int) {
        using C = std::remove_cvref_t<decltype(c)>;
        selector.ask(selection_needs::of<C>(), selects_by_sequence<C>);
    };
    if (!reasons.empty()) call.core.each_selection(ask);
    if (!marks.empty()) call.core.each_marker([&](auto const& m) { ask(m, 0); });
    status const no_memory{errc::out_of_memory, -1, -1, "selection"};
    if (!selector.reserve(scratch)) return no_memory;
    auto const io = pointers_of(call, batch, {}, outputs<T>{});
    bool memory_holds = true;
    auto const scoring = [&](auto const& c) {
        return [&](token_run run, score_memory const& to) { return score_run(call, batch, io, run, scores_of(c), to); };
    };
    auto const choosing = [](auto const& c) {
        return [&](selection_input const& in, selection_output out) { return select_with(c, in, out); };
    };
    auto const work = [&](auto const& c, int bit) {
        using C = std::remove_cvref_t<decltype(c)>;
        constexpr selection_needs needs = selection_needs::of<C>();
        if constexpr (selects_by_sequence<C>) {
            selector.by_sequence(
                needs, bit, drops_group<C>, scoring(c),
                [&](selection_sequence const& s, sequence_output const& out) { return select_of_sequence(c, s, out); });
        } else {
            memory_holds = selector.of_batch(needs, bit, scoring(c), choosing(c)) && memory_holds;
        }
    };
    if (!reasons.empty()) call.core.each_selection(work);
    if (!marks.empty())
        call.core.each_marker([&](auto const& m) {
            constexpr selection_needs needs = selection_needs::of<std::remove_cvref_t<decltype(m)>>();
            memory_holds = selector.mark(needs, scoring(m), choosing(m)) && memory_holds;
        });
    return memory_holds ? status{} : no_memory;
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
