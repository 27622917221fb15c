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

/// Scratch of a selection by sequence: `bytes_of` one sequence, and what the batch takes at most, since the longest sequences of
/// all blocks have no more slots than the batch.
template <class Criterion>
struct sequence_scratch {
    static constexpr std::size_t align = 64;  // blocks share no cache line

    [[nodiscard]] static constexpr selection_bytes own() noexcept {
        if constexpr (requires { Criterion::scratch; }) return Criterion::scratch;
        return {};
    }
    static constexpr std::size_t doubles =
        static_cast<std::size_t>(Criterion::channels) + (reads_advantages<Criterion> ? 1 : 0);
    static constexpr std::size_t per_slot = doubles * sizeof(double) + 1;
    [[nodiscard]] static constexpr std::size_t bytes_of(std::size_t tokens) noexcept {
        std::size_t const n = tokens * per_slot + own().total(tokens, 1, 0);
        return (n + align - 1) / align * align;
    }
    /// Bytes for the verdict on each sequence and prompt.
    [[nodiscard]] static constexpr std::size_t verdicts(std::size_t sequences, std::size_t groups) noexcept {
        return drops_group<Criterion> ? (sequences + groups + 7) / 8 * 8 : 0;
    }
    [[nodiscard]] static std::size_t total(layout_view const& layout, std::size_t sequences,
                                           std::size_t groups) noexcept {
        auto const blocks = static_cast<std::size_t>(block_count(layout.sequences()));
        auto const extent = static_cast<std::size_t>(layout.extent());
        return sequence_index::bytes(layout) + verdicts(sequences, groups) + align +
               extent * (per_slot + own().per_token) + blocks * (bytes_of(0) + align);
    }
};

/// One criterion over all sequences.
template <class Call, class S, class T, class Criterion>
class sequence_selector {
    using scratch = sequence_scratch<Criterion>;
    Call const& call;
    batch_view<S> const& batch;
    stream_pointers<storage_t<S>, T> const& io;
    Criterion const& criterion;
    std::uint16_t* const reasons;
    std::uint16_t const bit;
    std::size_t const groups;
    sequence_index const index;
    std::uint8_t *const violated, *const dropped;  ///< per sequence and prompt, for criteria that drop prompts
    std::byte* memory;
    std::size_t block_begin[max_blocks + 1];

public:
    sequence_selector(Call const& of, batch_view<S> const& b, stream_pointers<storage_t<S>, T> const& streams,
                      Criterion const& c, std::uint16_t* to, std::uint16_t its_bit, std::size_t prompts,
                      std::byte* bytes) noexcept
        : call(of),
          batch(b),
          io(streams),
          criterion(c),
          reasons(to),
          bit(its_bit),
          groups(prompts),
          index(b.layout, bytes),
          violated(reinterpret_cast<std::uint8_t*>(bytes) + sequence_index::bytes(b.layout)),
          dropped(violated + b.layout.sequences()),
          memory(bytes + sequence_index::bytes(b.layout) +
                 scratch::verdicts(static_cast<std::size_t>(b.layout.sequences()), prompts)) {
        memory += (scratch::align - reinterpret_cast<std::uintptr_t>(memory) % scratch::align) % scratch::align;
        block_begin[0] = 0;
        for_blocks(sequences(), serial_executor{}, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
            std::size_t longest = 0;
            for (std::int64_t s = begin; s < end; ++s) longest = (std::max)(longest, index.of(s).slot_count());
            block_begin[block + 1] = block_begin[block] + scratch::bytes_of(longest);
        });
    }
    /// `clears`: the reasons of packed and padded sequences hold anything so far.
    template <class Executor>
    void run(bool clears, Executor&& execute) {
        for_blocks(sequences(), execute, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
            for (std::int64_t s = begin; s < end; ++s) {
                if (clears) clear_runs(batch.layout, s, s + 1, reasons);
                select(s, memory + block_begin[block]);
            }
        });
        if constexpr (drops_group<Criterion>) drop_groups(execute);
    }

private:
    [[nodiscard]] std::int64_t sequences() const noexcept { return batch.layout.sequences(); }

    void select(std::int64_t s, std::byte* at) const noexcept {
        sequence_runs const runs = index.of(s);
        std::size_t const n = runs.slot_count();
        auto* const numbers = reinterpret_cast<double*>(at);
        auto* const active = reinterpret_cast<std::uint8_t*>(numbers + scratch::doubles * n);
        double* const advantages =
            reads_advantages<Criterion> ? numbers + static_cast<std::size_t>(Criterion::channels) * n : nullptr;
        score_memory const to{numbers, n, advantages, active};
        std::size_t slot = 0, nonfinite = n;
        runs.for_each([&](token_run run) {
            std::int64_t const bad = score_run(call, batch, io, run, scores_of(criterion), to.from(slot));
            if (bad < run.size && nonfinite == n) nonfinite = slot + static_cast<std::size_t>(bad);
            slot += static_cast<std::size_t>(run.size);
        });
        selection_sequence const sequence{{numbers, static_cast<std::size_t>(Criterion::channels) * n},
                                          {active, n},
                                          {advantages, advantages == nullptr ? 0 : n},
                                          nonfinite,
                                          selection_memory(reinterpret_cast<std::byte*>(active + n)),
                                          runs,
                                          batch.loss_mask.empty() ? nullptr : batch.loss_mask.data()};
        sequence_output const out{runs, sequence.active, reasons, bit};
        if constexpr (!judges_sequence<Criterion>) {
            criterion.select(sequence, out);
        } else {
            bool const violates = criterion.violates(sequence);
            if constexpr (drops_group<Criterion>) violated[s] = violates;
            if (violates || drops_group<Criterion>) out.reject_from(0);
        }
    }
    /// All sequences are rejected so far: takes it back where nothing of the prompt violates.
    template <class Executor>
    void drop_groups(Executor&& execute) {
        std::fill_n(dropped, groups, std::uint8_t{0});
        auto const is_dropped = [&](std::int64_t s) -> std::uint8_t& {
            return dropped[batch.group_of[static_cast<std::size_t>(s)]];
        };
        for (std::int64_t s = 0; s < sequences(); ++s)
            if (violated[s] != 0) is_dropped(s) = 1;
        for_blocks(batch.layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                token_run const run = batch.layout.run(i);
                if (is_dropped(run.sequence) != 0) continue;
                for (std::int64_t t = run.begin; t < run.begin + run.size; ++t)
                    reasons[t] = static_cast<std::uint16_t>(reasons[t] & ~bit);
            }
        });
    }
};

}  // namespace detail
TRM_NAMESPACE_END
