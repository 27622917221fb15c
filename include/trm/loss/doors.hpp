// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/engine.hpp>

#include <concepts>
#include <type_traits>

TRM_NAMESPACE_BEGIN

/// Anything that can receive a gradient: contiguous, writable, float or double.
template <class R>
concept gradient_range = arithmetic_type<detail::element_of<R>>;

template <class E>
concept executor = std::invocable<E const&, std::int64_t, void (*)(std::int64_t)>;

/// The calls that every loss has, whether its policies were chosen at compile time (`masked_loss`) or at run time
/// (`any_loss`). All are const and thread-safe, and report misuse and exhausted memory through `status` before anything is
/// written; nothing is thrown but what an executor throws. `checked(loss)` has the same calls and throws instead.
template <class Derived, class Arch>
class loss_doors {
public:
    // --- everything at once -------------------------------------------------------------------------------------

    /// Loss, outputs and diagnostics of the whole batch. The executor spreads sequences over threads; the bits of the
    /// result do not depend on it. The workspace is only touched by losses that need one, see `workspace`.
    template <storage_type S, arithmetic_type T, executor E>
    [[nodiscard]] result operator()(batch_view<S> const& batch, outputs<T> const& out, E const& execute,
                                    workspace& scratch) const {
        auto const core = self().core();
        auto const e = engine(core);
        if (status s = e.validate(batch, out); !s.ok()) return {s, 0, {}};
        return e.run(batch, out, detail::executor_for(batch.layout.extent(), execute), scratch);
    }
    template <storage_type S, arithmetic_type T>
    [[nodiscard]] result operator()(batch_view<S> const& batch, outputs<T> const& out,
                                    workspace& scratch) const noexcept {
        return (*this)(batch, out, serial_executor{}, scratch);
    }
    template <storage_type S, arithmetic_type T, executor E>
    [[nodiscard]] result operator()(batch_view<S> const& batch, outputs<T> const& out, E const& execute) const {
        workspace scratch;
        return (*this)(batch, out, execute, scratch);
    }
    template <storage_type S, arithmetic_type T>
    [[nodiscard]] result operator()(batch_view<S> const& batch, outputs<T> const& out) const noexcept {
        workspace scratch;
        return (*this)(batch, out, serial_executor{}, scratch);
    }
    /// Only the gradient: `loss(batch, grad)` for a vector, array or span.
    template <storage_type S, gradient_range G>
    [[nodiscard]] result operator()(batch_view<S> const& batch, G&& grad) const noexcept {
        using T = detail::element_of<G>;
        outputs<T> out;
        out.grad = std::span<T>(grad);
        return (*this)(batch, out);
    }
    /// Only the loss and its diagnostics.
    template <storage_type S>
    [[nodiscard]] result operator()(batch_view<S> const& batch) const noexcept {
        return (*this)(batch, outputs<default_arithmetic_t<S>>{});
    }

    // --- masks that compare tokens with each other ---------------------------------------------------------------

    /// Phase 0, only for losses whose mask has selections (or whose surrogate has marks): writes rejection reasons and
    /// marks per token, to be set as the batch's `rejected` and `marks` before the other phases. The one-call form does
    /// this itself.
    template <class T = void, storage_type S>
    [[nodiscard]] status select(batch_view<S> const& batch, std::span<std::uint16_t> rejected,
                                std::span<std::uint8_t> marks, workspace& scratch) const {
        using real = std::conditional_t<std::is_void_v<T>, default_arithmetic_t<S>, T>;
        auto const core = self().core();
        auto const e = engine(core);
        if (status s = e.validate(batch); !s.ok()) return s;
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        if (core.has_selections() && rejected.size() < extent) return {errc::size_mismatch, -1, -1, "rejected"};
        if (core.has_marker() && marks.size() < extent) return {errc::size_mismatch, -1, -1, "marks"};
        batch_view<S> numbered = batch;
        if (status s = e.number_groups(numbered, scratch); !s.ok()) return s;
        if (!e.template select<real>(numbered, rejected, marks, scratch))
            return {errc::out_of_memory, -1, -1, "selection"};
        return {};
    }

    // --- in three phases, for batches that are spread over ranks or micro-batches ---------------------------------

    /// Numbers per sequence in `sequence_statistics`: sums (to be added over ranks) and maxima.
    [[nodiscard]] std::int64_t sum_width() const noexcept {
        auto const core = self().core();
        return engine(core).sum_width();
    }
    [[nodiscard]] std::int64_t max_width() const noexcept {
        auto const core = self().core();
        return engine(core).max_width();
    }
    /// Phase 1: statistics of all sequences from the tokens of this batch, overwriting `stats`. Ranks that share sequences
    /// then add `sums` and take the maximum of `maxima`. T is the arithmetic of phase 3.
    template <class T = void, storage_type S, executor E = serial_executor>
    [[nodiscard]] status measure(batch_view<S> const& batch, sequence_statistics const& stats,
                                 E const& execute = {}) const {
        using real = std::conditional_t<std::is_void_v<T>, default_arithmetic_t<S>, T>;
        auto const core = self().core();
        auto const e = engine(core);
        if (status s = e.validate(batch); !s.ok()) return s;
        if (status s = e.validate(batch.layout, stats); !s.ok()) return s;
        if (e.wants_selection(batch)) return {errc::missing_stream, -1, -1, "rejected, marks: call select first"};
        e.template measure<real>(batch, stats, detail::executor_for(batch.layout.extent(), execute));
        return {};
    }
    /// Phase 2: the counts that denominators are made of; add them over ranks and micro-batches. For prompt_mean,
    /// `prompt_tokens` has one number per prompt id and is added too.
    template <storage_type S>
    [[nodiscard]] status count(batch_view<S> const& batch, sequence_statistics const& stats, counts& total,
                               std::span<double> prompt_tokens = {}) const noexcept {
        auto const core = self().core();
        auto const e = engine(core);
        if (status s = e.validate(batch); !s.ok()) return s;
        if (status s = e.validate(batch.layout, stats); !s.ok()) return s;
        if (e.wants_selection(batch)) return {errc::missing_stream, -1, -1, "rejected, marks: call select first"};
        if (status s = check_prompts(batch, prompt_tokens.size()); !s.ok()) return s;
        total = e.count(batch, stats, prompt_tokens);
        return {};
    }
    /// Phase 3: this batch's part of loss, gradient and diagnostics. Parts add up to the whole.
    template <storage_type S, arithmetic_type T, executor E = serial_executor>
    [[nodiscard]] result apply(batch_view<S> const& batch, sequence_statistics const& stats, counts const& total,
                               outputs<T> const& out, std::span<double const> prompt_tokens = {},
                               E const& execute = {}) const {
        auto const core = self().core();
        auto const e = engine(core);
        if (status s = e.validate(batch, out); !s.ok()) return {s, 0, {}};
        if (status s = e.validate(batch.layout, stats); !s.ok()) return {s, 0, {}};
        if (e.wants_selection(batch))
            return {{errc::missing_stream, -1, -1, "rejected, marks: call select first"}, 0, {}};
        if (status s = check_prompts(batch, prompt_tokens.size()); !s.ok()) return {s, 0, {}};
        return e.apply(batch, stats, total, prompt_tokens, out, detail::executor_for(batch.layout.extent(), execute));
    }

private:
    [[nodiscard]] Derived const& self() const noexcept { return static_cast<Derived const&>(*this); }
    template <class Core>
    [[nodiscard]] auto engine(Core const& core) const noexcept {
        return detail::engine<Core, Arch>{{core, self().denominators(), self().call_options()}};
    }
    template <class S>
    [[nodiscard]] status check_prompts(batch_view<S> const& batch, std::size_t prompts) const noexcept {
        if (self().denominators().which != aggregation::kind::prompt_mean && prompts == 0) return {};
        if (static_cast<std::int64_t>(batch.group_of.size()) != batch.layout.sequences())
            return {batch.group_of.empty() ? errc::missing_stream : errc::size_mismatch, -1, -1, "group_of"};
        for (std::size_t i = 0; i < batch.group_of.size(); ++i)
            if (static_cast<std::size_t>(batch.group_of[i]) >= prompts)
                return {errc::size_mismatch, static_cast<std::int64_t>(i), -1, "prompt_tokens"};
        return {};
    }
};

TRM_NAMESPACE_END
