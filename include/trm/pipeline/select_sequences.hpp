// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/score.hpp>

/// \file
/// Selections that look at one sequence at a time. Blocks of sequences go to the executor; within a block one sequence after
/// another is scored into the same memory, as large as the longest, and selected while it is in cache.

TRM_NAMESPACE_BEGIN
namespace detail {

/// The runs of every sequence. With segments they are sorted by sequence, in memory of the caller.
class sequence_index {
public:
    [[nodiscard]] static std::size_t bytes(layout_view const& layout) noexcept {
        if (!layout.is_segments()) return 0;
        return static_cast<std::size_t>(layout.sequences() + 1 + layout.runs()) * sizeof(std::int64_t);
    }
    sequence_index(layout_view const& layout, std::byte* memory) noexcept : layout_(layout) {
        if (!layout.is_segments()) return;
        std::int64_t const sequences = layout.sequences(), runs = layout.runs();
        first_ = reinterpret_cast<std::int64_t*>(memory);
        order_ = first_ + sequences + 1;
        std::fill_n(first_, sequences + 1, std::int64_t{0});
        for (std::int64_t i = 0; i < runs; ++i) ++first_[layout.run(i).sequence];
        for (std::int64_t s = 0; s < sequences; ++s) first_[s + 1] += first_[s];  // where each ends
        for (std::int64_t i = runs; i-- > 0;) order_[--first_[layout.run(i).sequence]] = i;
    }
    [[nodiscard]] sequence_runs of(std::int64_t sequence) const noexcept {
        if (order_ == nullptr) return sequence_runs(layout_.run(sequence));
        std::int64_t const n = first_[sequence + 1] - first_[sequence];
        return {layout_, std::span<std::int64_t const>(order_ + first_[sequence], static_cast<std::size_t>(n))};
    }

private:
    layout_view const& layout_;
    std::int64_t *first_ = nullptr, *order_ = nullptr;
};

/// What a criterion takes of memory: so many numbers per token that it looks at, and its own.
struct selection_needs {
    std::size_t channels;
    bool advantages;
    selection_bytes own{};

    template <class Criterion>
    [[nodiscard]] static constexpr selection_needs of() noexcept {
        selection_needs n{static_cast<std::size_t>(Criterion::channels), reads_advantages<Criterion>};
        if constexpr (requires { Criterion::scratch; }) n.own = Criterion::scratch;
        return n;
    }
    [[nodiscard]] constexpr std::size_t per_slot() const noexcept { return doubles() * sizeof(double) + 1; }
    /// The numbers of n slots at the front of `memory`.
    [[nodiscard]] score_memory numbers(std::byte* memory, std::size_t n) const noexcept {
        auto* const first = reinterpret_cast<double*>(memory);
        return {first, n, advantages ? first + channels * n : nullptr,
                reinterpret_cast<std::uint8_t*>(first + doubles() * n)};
    }
    /// What is left behind them.
    [[nodiscard]] selection_memory rest(std::byte* memory, std::size_t n) const noexcept {
        return selection_memory(memory + n * per_slot());
    }

private:
    [[nodiscard]] constexpr std::size_t doubles() const noexcept { return channels + (advantages ? 1 : 0); }
};

/// Scores a run of tokens, see `score_run`.
using score_function = function_ref<std::int64_t(token_run, score_memory const&)>;

/// One criterion over all sequences. What depends on the criterion comes as functions: the rest is compiled once for all.
class sequence_selector {
public:
    /// Rejects what the criterion rejects of a sequence. Does that reject its prompt?
    using select_function = function_ref<bool(selection_sequence const&, sequence_output const&)>;

    /// Bytes for one sequence after another in every block: the longest sequences of all blocks have no more slots than the batch.
    [[nodiscard]] static std::size_t bytes(selection_needs const& needs, layout_view const& layout,
                                           std::size_t groups) noexcept {
        auto const sequences = static_cast<std::size_t>(layout.sequences());
        auto const blocks = static_cast<std::size_t>(block_count(layout.sequences()));
        auto const extent = static_cast<std::size_t>(layout.extent());
        return sequence_index::bytes(layout) + verdicts(sequences, groups) + align +
               extent * (needs.per_slot() + needs.own.per_token) + blocks * (bytes_of(needs, 0) + align);
    }
    sequence_selector(selection_needs const& criterion, layout_view const& where,
                      stream_view<std::uint8_t> const& selected, stream_view<std::int32_t> const& prompts,
                      std::size_t prompt_count, std::uint16_t* to, std::uint16_t its_bit, std::byte* bytes) noexcept
        : needs(criterion),
          layout(where),
          loss_mask(selected),
          group_of(prompts),
          groups(prompt_count),
          reasons(to),
          bit(its_bit),
          index(where, bytes),
          violated(reinterpret_cast<std::uint8_t*>(bytes) + sequence_index::bytes(where)),
          dropped(violated + where.sequences()),
          memory(bytes + sequence_index::bytes(where) +
                 verdicts(static_cast<std::size_t>(where.sequences()), prompt_count)) {
        memory += (align - reinterpret_cast<std::uintptr_t>(memory) % align) % align;
        block_begin[0] = 0;
        for_blocks(layout.sequences(), serial_executor{},
                   [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
                       std::size_t longest = 0;
                       for (std::int64_t s = begin; s < end; ++s)
                           longest = (std::max)(longest, index.of(s).slot_count());
                       block_begin[block + 1] = block_begin[block] + bytes_of(needs, longest);
                   });
    }
    /// `clears`: the reasons of packed and padded sequences hold anything so far. `drops_groups`: a sequence that `select` says
    /// so of takes its prompt with it.
    template <class Executor>
    void run(score_function score, select_function select, bool clears, bool drops_groups, Executor&& execute) {
        for_blocks(layout.sequences(), execute, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
            for (std::int64_t s = begin; s < end; ++s) {
                if (clears) clear_runs(layout, s, s + 1, reasons);
                bool const violates = select_of(s, memory + block_begin[block], score, select);
                if (drops_groups) violated[s] = violates;
            }
        });
        if (drops_groups) drop_groups(execute);
    }

private:
    static constexpr std::size_t align = 64;  // blocks share no cache line

    [[nodiscard]] static std::size_t bytes_of(selection_needs const& needs, std::size_t tokens) noexcept {
        std::size_t const n = tokens * needs.per_slot() + needs.own.total(tokens, 1, 0);
        return (n + align - 1) / align * align;
    }
    /// Bytes for the verdict on each sequence and prompt.
    [[nodiscard]] static std::size_t verdicts(std::size_t sequences, std::size_t groups) noexcept {
        return (sequences + groups + 7) / 8 * 8;
    }
    bool select_of(std::int64_t s, std::byte* at, score_function score, select_function select) const noexcept {
        sequence_runs const runs = index.of(s);
        std::size_t const n = runs.slot_count();
        score_memory const to = needs.numbers(at, n);
        std::size_t slot = 0, nonfinite = n;
        runs.for_each([&](token_run run) {
            std::int64_t const bad = score(run, to.from(slot));
            if (bad < run.size && nonfinite == n) nonfinite = slot + static_cast<std::size_t>(bad);
            slot += static_cast<std::size_t>(run.size);
        });
        selection_sequence const sequence{{to.scores, needs.channels * n},
                                          {to.active, n},
                                          {to.advantages, to.advantages == nullptr ? 0 : n},
                                          nonfinite,
                                          needs.rest(at, n),
                                          runs,
                                          loss_mask.empty() ? nullptr : loss_mask.data()};
        return select(sequence, {runs, sequence.active, reasons, bit});
    }
    /// All sequences are rejected so far: takes it back where nothing of the prompt violates.
    template <class Executor>
    void drop_groups(Executor&& execute) {
        std::fill_n(dropped, groups, std::uint8_t{0});
        auto const is_dropped = [&](std::int64_t s) -> std::uint8_t& {
            return dropped[group_of[static_cast<std::size_t>(s)]];
        };
        for (std::int64_t s = 0; s < layout.sequences(); ++s)
            if (violated[s] != 0) is_dropped(s) = 1;
        for_blocks(layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                token_run const run = layout.run(i);
                if (is_dropped(run.sequence) != 0) continue;
                for (std::int64_t t = run.begin; t < run.begin + run.size; ++t)
                    reasons[t] = static_cast<std::uint16_t>(reasons[t] & ~bit);
            }
        });
    }

    selection_needs const needs;
    layout_view const& layout;
    stream_view<std::uint8_t> const loss_mask;
    stream_view<std::int32_t> const group_of;
    std::size_t const groups;
    std::uint16_t* const reasons;
    std::uint16_t const bit;
    sequence_index const index;
    std::uint8_t *const violated, *const dropped;  ///< per sequence and prompt, for criteria that drop prompts
    std::byte* memory;
    std::size_t block_begin[max_blocks + 1];
};

/// What `sequence_selector` asks of a criterion.
template <class Criterion>
[[nodiscard]] bool select_of_sequence(Criterion const& criterion, selection_sequence const& sequence,
                                      sequence_output const& out) noexcept {
    if constexpr (judges_sequence<Criterion>) {
        bool const violates = criterion.violates(sequence);
        if (violates || drops_group<Criterion>) out.reject_from(0);
        return violates;
    } else {
        criterion.select(sequence, out);
        return false;
    }
}

}  // namespace detail
TRM_NAMESPACE_END
