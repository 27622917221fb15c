// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection_input.hpp>

/// \file
/// What a selection that looks at one sequence at a time is given, and where it writes. Sequences are then scored and
/// selected one by one, over the executor, while their scores are in cache.

TRM_NAMESPACE_BEGIN

/// The runs of one sequence, in order.
class sequence_runs {
public:
    /// The one run of a packed or padded sequence.
    explicit sequence_runs(token_run whole) noexcept : whole_(whole) {}
    /// Those of `runs`.
    sequence_runs(layout_view const& layout, std::span<std::int64_t const> runs) noexcept
        : layout_(&layout), runs_(runs) {}
    template <class F>
    void for_each(F&& f) const {
        if (layout_ == nullptr) return f(whole_);
        for (std::int64_t i : runs_) f(layout_->run(i));
    }
    [[nodiscard]] std::size_t slot_count() const noexcept {
        std::size_t n = 0;
        for_each([&](token_run r) { n += static_cast<std::size_t>(r.size); });
        return n;
    }

private:
    token_run whole_{};
    layout_view const* layout_ = nullptr;
    std::span<std::int64_t const> runs_;
};

/// One sequence: its slots in order, in whatever runs of the batch they stand. Slots that loss_mask leaves out are among them.
struct selection_sequence {
    std::span<double const> scores;  ///< channel c of slot i is scores[c * size() + i]; anything where not active
    std::span<std::uint8_t const> active;  ///< 1 where loss_mask selects a finite token, else 0
    std::span<double const> advantages;  ///< of every slot, if the selection's `reads_advantages` is true
    std::size_t first_nonfinite = 0;  ///< first slot that loss_mask selects but is not finite; size() if there is none
    selection_memory memory{};  ///< what `scratch.per_token` asks for, for size() slots; a copy starts at the front
    sequence_runs runs{token_run{}};  ///< where the slots are in the batch
    std::uint8_t const* loss_mask = nullptr;  ///< of the batch; null: everything is selected

    [[nodiscard]] std::size_t size() const noexcept { return active.size(); }
    /// No statistic of such a sequence is in any band.
    [[nodiscard]] bool has_nonfinite() const noexcept { return first_nonfinite < size(); }
    /// f(slot) for every active slot, in order.
    template <class F>
    void for_each_active(F&& f) const {
        for (std::size_t i = 0; i < size(); ++i)
            if (active[i] != 0) f(i);
    }
    /// f(slot, does loss_mask select it?) for every slot, in order.
    template <class F>
    void for_each_slot(F&& f) const {
        std::size_t slot = 0;
        runs.for_each([&](token_run run) {
            for (std::int64_t t = run.begin; t < run.begin + run.size; ++t, ++slot)
                f(slot, loss_mask == nullptr || loss_mask[t] != 0);
        });
    }
};

/// Where a selection writes what it rejects of one sequence.
struct sequence_output {
    sequence_runs runs;
    std::span<std::uint8_t const> active;
    std::uint16_t* reasons;  ///< of the batch
    std::uint16_t bit;

    /// Rejects the active slots from `first` on.
    void reject_from(std::size_t first) const noexcept {
        std::size_t begin = 0;
        runs.for_each([&](token_run run) {
            auto const size = static_cast<std::size_t>(run.size);
            std::uint16_t* const to = reasons + run.begin;
            std::uint8_t const* const is_active = active.data() + begin;
            for (std::size_t i = first > begin ? first - begin : 0; i < size; ++i)
                to[i] = static_cast<std::uint16_t>(to[i] | (bit & -is_active[i]));
            begin += size;
        });
    }
    /// Rejects the active slots for which f(slot) holds; f is asked of every slot.
    template <class F>
    void reject_if(F&& f) const {
        std::size_t slot = 0;
        runs.for_each([&](token_run run) {
            for (std::int64_t t = run.begin; t < run.begin + run.size; ++t, ++slot)
                reasons[t] = static_cast<std::uint16_t>(reasons[t] | (bit & -(active[slot] & int(f(slot)))));
        });
    }
};

/// A selection that rejects a sequence whole: `violates(sequence)`, asked from several threads. With `drops_group` true, all
/// sequences of its prompt go with it.
template <class M>
inline constexpr bool judges_sequence = requires(M const& m, selection_sequence const& s) {
    { m.violates(s) } noexcept;
};
/// A selection that rejects tokens of a sequence by what stands in that sequence: `select(sequence, output)`, called from
/// several threads. Any other selection sees the whole batch, in one call.
template <class M>
inline constexpr bool selects_by_sequence =
    judges_sequence<M> || requires(M const& m, selection_sequence const& s, sequence_output out) {
        { m.select(s, out) } noexcept;
    };
/// Does a selection look at advantages? Unless it says no.
template <class M>
inline constexpr bool reads_advantages = [] {
    if constexpr (requires { M::reads_advantages; }) return bool(M::reads_advantages);
    return true;
}();
template <class M>
inline constexpr bool drops_group = requires { requires M::drops_group; };

TRM_NAMESPACE_END
