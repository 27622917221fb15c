// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/needed.hpp>
#include <trm/pipeline/run.hpp>
#include <trm/pipeline/validate.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

TRM_NAMESPACE_BEGIN

/// Anything that can receive a gradient: contiguous, writable, float or double.
template <class R>
concept gradient_range = arithmetic_type<detail::element_of<R>>;

/// Runs f(0) ... f(n - 1) when it is called with n and f: see `serial_executor`.
template <class E>
concept executor = std::invocable<E const&, std::int64_t, void (*)(std::int64_t)>;

/// The calls that every loss has, whether its policies were chosen at compile time (`masked_loss`) or at run time
/// (`any_loss`). All are const and thread-safe, and report misuse and exhausted memory through `status` before anything is
/// written; nothing is thrown but what an executor throws. `checked(loss)` has the same calls and throws instead.
/// (One class in one file, however long: it is the list of what a loss can be asked.)
template <class Derived, class Arch>
class loss_calls {
public:
    // --- everything at once -------------------------------------------------------------------------------------

    /// Loss, outputs and diagnostics of the whole batch. `chosen`: tokens that were rejected or marked beforehand; what the
    /// loss selects itself and is not given, it works out first. The executor spreads sequences over threads; the bits of the
    /// result do not depend on it. The workspace is only touched by losses that need one, see `workspace`.
    template <storage_type S, arithmetic_type T, executor E>
    [[nodiscard]] result operator()(batch_view<S> const& batch, selection_view const& chosen, outputs<T> const& out,
                                    E const& execute, workspace& scratch) const {
        auto const core = self().core();
        auto const call = call_of(core);
        if (status s = detail::validate(call, batch, out); !s.ok()) return {s, 0, {}};
        if (status s = detail::validate(call, batch, chosen); !s.ok()) return {s, 0, {}};
        return detail::run(call, batch, chosen, out, detail::executor_for(batch.layout.extent(), execute), scratch);
    }
    template <storage_type S, arithmetic_type T>
    [[nodiscard]] result operator()(batch_view<S> const& batch, selection_view const& chosen, outputs<T> const& out,
                                    workspace& scratch) const noexcept {
        return (*this)(batch, chosen, out, serial_executor{}, scratch);
    }
    template <storage_type S, arithmetic_type T, executor E>
    [[nodiscard]] result operator()(batch_view<S> const& batch, selection_view const& chosen, outputs<T> const& out,
                                    E const& execute) const {
        workspace scratch;
        return (*this)(batch, chosen, out, execute, scratch);
    }
    template <storage_type S, arithmetic_type T>
    [[nodiscard]] result operator()(batch_view<S> const& batch, selection_view const& chosen,
                                    outputs<T> const& out) const noexcept {
        workspace scratch;
        return (*this)(batch, chosen, out, serial_executor{}, scratch);
    }
    /// The same where nothing was selected beforehand.
    template <storage_type S, arithmetic_type T, class... Rest>
    [[nodiscard]] result operator()(batch_view<S> const& batch, outputs<T> const& out, Rest&&... rest) const
        noexcept(noexcept((*this)(batch, selection_view{}, out, std::forward<Rest>(rest)...))) {
        return (*this)(batch, selection_view{}, out, std::forward<Rest>(rest)...);
    }
    /// Only the gradient: `loss(batch, grad)` for a vector, array or span.
    template <storage_type S, gradient_range G>
    [[nodiscard]] result operator()(batch_view<S> const& batch, G&& grad) const noexcept {
        return (*this)(batch, selection_view{}, grad);
    }
    template <storage_type S, gradient_range G>
    [[nodiscard]] result operator()(batch_view<S> const& batch, selection_view const& chosen, G&& grad) const noexcept {
        using T = detail::element_of<G>;
        outputs<T> out;
        out.grad = std::span<T>(grad);
        return (*this)(batch, chosen, out);
    }
    /// What is no gradient.
    template <storage_type S, class G>
        requires(!gradient_range<G> && requires(G const& g) { std::size(g); })
    result operator()(batch_view<S> const&, G&&) const noexcept {
        static_assert(
            gradient_range<G>,
            "trm: the gradient is a contiguous, writable range of float or double, whatever the storage of the "
            "batch");
        return {};
    }
    /// Only the loss and its diagnostics.
    template <storage_type S>
    [[nodiscard]] result operator()(batch_view<S> const& batch, selection_view const& chosen = {}) const noexcept {
        return (*this)(batch, chosen, outputs<default_arithmetic_t<S>>{});
    }

    // --- before the log-probabilities are known ------------------------------------------------------------------

    /// rows[t] = 1 where loss or gradient depend on the log-probabilities of token t, else 0: sequences whose advantages are all 0
    /// (groups with equal rewards) have no gradient, unless the loss has penalties, a surrogate that acts without advantage
    /// (`dro`, `kl_cov`, `reference_gap`), weights over their batch mean, kept denominators, or a mask that ranks the batch.
    /// Give `rows` as `row_mask` to `log_prob` or `linear_log_prob`: no work is spent on the other rows, forward or backward. Of
    /// the batch, layout, advantages, loss_mask and, with a group mask, group_of are read. Whatever finite log-probabilities the
    /// other tokens have, loss and gradient are the same; diagnostics are not.
    /// Errors: size_mismatch, missing_stream (advantages), bad_layout, out_of_memory.
    template <storage_type S>
    [[nodiscard]] status needed_rows(batch_view<S> const& batch, std::span<std::uint8_t> rows,
                                     workspace& scratch) const noexcept {
        auto const core = self().core();
        return detail::needed_rows(call_of(core), batch, rows, scratch);
    }
    template <storage_type S>
    [[nodiscard]] status needed_rows(batch_view<S> const& batch, std::span<std::uint8_t> rows) const noexcept {
        workspace scratch;
        return needed_rows(batch, rows, scratch);
    }

    // --- token weights that follow from other tokens -------------------------------------------------------------

    /// Phase 0, only for losses whose weight has factors (`suffix`, `segment`, `surprise`): out[t] = the factors of token t times the
    /// batch's token_weights if it has any, 1 or the batch's where loss_mask is 0 or the token is not finite. The other phases
    /// want it as the batch's token_weights, which it may be already; the one-call form does this itself. `out` has one element
    /// per element of the layout's extent. Ranks that share sequences, or with `surprise` the batch, call it on what they gathered.
    /// Errors: those of the loss, size_mismatch.
    template <storage_type S, executor E>
    [[nodiscard]] status weigh(batch_view<S> const& batch, std::span<typename batch_view<S>::real> out,
                               E const& execute, workspace& scratch) const {
        auto const core = self().core();
        auto const call = call_of(core);
        if (status s = detail::validate(call, batch); !s.ok()) return s;
        if (status s = detail::check_extent("token_weights", batch.layout.extent(), out.size()); !s.ok()) return s;
        return detail::weigh_all(call, batch, out.data(), detail::executor_for(batch.layout.extent(), execute),
                                 scratch);
    }
    template <storage_type S, executor E = serial_executor>
    [[nodiscard]] status weigh(batch_view<S> const& batch, std::span<typename batch_view<S>::real> out,
                               E const& execute = {}) const {
        workspace scratch;
        return weigh(batch, out, execute, scratch);
    }

    // --- masks that compare tokens with each other ---------------------------------------------------------------

    /// Phase 0, only for losses whose mask has selections, or whose surrogate marks tokens: rejection reasons and marks per
    /// token, to be given to the other phases. The one-call form does this itself. T is the arithmetic of phase 3. Allocates
    /// when `to` or the workspace must grow. After an error `to` is empty, unless the error was misuse.
    template <class T = void, storage_type S, executor E>
    [[nodiscard]] status select(batch_view<S> const& batch, selection& to, E const& execute, workspace& scratch) const {
        using real = std::conditional_t<std::is_void_v<T>, default_arithmetic_t<S>, T>;
        auto const core = self().core();
        auto const call = call_of(core);
        if (status s = detail::validate(call, batch); !s.ok()) return s;
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        batch_view<S> numbered = batch;
        if (status s = detail::number_groups(call, numbered, scratch); !s.ok()) return s;
        status s =
            guarded("selection", [&] { to.reset(core.has_selections() ? extent : 0, core.has_marker() ? extent : 0); });
        if (s.ok())
            s = detail::select<real>(call, numbered, to.reasons(), to.marks(),
                                     detail::executor_for(batch.layout.extent(), execute), scratch);
        if (!s.ok()) to.reset(0, 0);
        return s;
    }
    template <class T = void, storage_type S>
    [[nodiscard]] status select(batch_view<S> const& batch, selection& to, workspace& scratch) const noexcept {
        return this->template select<T>(batch, to, serial_executor{}, scratch);
    }
    template <class T = void, storage_type S, executor E = serial_executor>
    [[nodiscard]] status select(batch_view<S> const& batch, selection& to, E const& execute = {}) const {
        workspace scratch;
        return this->template select<T>(batch, to, execute, scratch);
    }

    // --- in three phases, for batches that are spread over ranks or micro-batches ---------------------------------

    /// Phase 1: statistics of all sequences from the tokens of this batch, overwriting `totals`. Ranks that share sequences then
    /// merge theirs. T is the arithmetic of phase 3. Allocates when `totals` must grow. Here and below `chosen` is what phase 0
    /// gave, or what the caller rejected and marked; losses that select nothing go without.
    template <class T = void, storage_type S, executor E = serial_executor>
    [[nodiscard]] status measure(batch_view<S> const& batch, selection_view const& chosen, sequence_totals& totals,
                                 E const& execute = {}) const {
        using real = std::conditional_t<std::is_void_v<T>, default_arithmetic_t<S>, T>;
        auto const core = self().core();
        auto const call = call_of(core);
        if (status s = check_phase(call, batch, chosen); !s.ok()) return s;
        detail::totals_view rows;
        if (status s = guarded(
                "totals",
                [&] { rows = totals.reset(batch.layout.sequences(), detail::sum_columns(core), core.max_width()); });
            !s.ok())
            return s;
        detail::measure<real>(call, batch, chosen, rows, detail::executor_for(batch.layout.extent(), execute));
        return {};
    }
    template <class T = void, storage_type S, executor E = serial_executor>
    [[nodiscard]] status measure(batch_view<S> const& batch, sequence_totals& totals, E const& execute = {}) const {
        return this->template measure<T>(batch, selection_view{}, totals, execute);
    }
    /// What criterion i, a sequence criterion, compares with its band for one sequence; 0 for other criteria. For `totals` that
    /// `measure` has filled, or ranks have merged.
    [[nodiscard]] double statistic(sequence_totals const& totals, std::int64_t sequence, int i) const noexcept {
        auto const core = self().core();
        detail::totals_view rows;
        status const s = totals.view(totals.sequences(), detail::sum_columns(core), core.max_width(), rows);
        if (!s.ok() || sequence < 0 || sequence >= totals.sequences() || i < 0 || i >= core.criteria()) return 0;
        return core.statistic(i, detail::total_of(rows, sequence), self().call_options().mean_epsilon.mask);
    }
    /// Phase 2: the counts that denominators are made of; merge them over ranks and micro-batches.
    template <storage_type S>
    [[nodiscard]] status count(batch_view<S> const& batch, selection_view const& chosen, sequence_totals const& totals,
                               counts& total) const noexcept {
        auto const core = self().core();
        auto const call = call_of(core);
        detail::totals_view rows;
        if (status s = check_phase(call, batch, chosen, totals, rows); !s.ok()) return s;
        bool const by_prompt = call.aggregate.which == aggregation::kind::prompt_mean;
        return guarded("totals", [&] {
            prompt_totals prompts = std::move(total.prompts);  // its memory is used again
            prompts.clear();
            total = detail::count(call, batch, rows, [&](std::int64_t sequence, double tokens) {
                if (by_prompt) prompts.add(batch.group_of[static_cast<std::size_t>(sequence)], tokens);
            });
            prompts.settle();
            total.prompts = std::move(prompts);
        });
    }
    template <storage_type S>
    [[nodiscard]] status count(batch_view<S> const& batch, sequence_totals const& totals,
                               counts& total) const noexcept {
        return count(batch, selection_view{}, totals, total);
    }
    /// Phase 3: this batch's part of loss, gradient and diagnostics. Parts add up to the whole.
    template <storage_type S, arithmetic_type T, executor E = serial_executor>
    [[nodiscard]] result apply(batch_view<S> const& batch, selection_view const& chosen, sequence_totals const& totals,
                               counts const& total, outputs<T> const& out, E const& execute = {}) const {
        auto const core = self().core();
        auto const call = call_of(core);
        detail::totals_view rows;
        if (status s = detail::validate(call, batch, out); !s.ok()) return {s, 0, {}};
        if (status s = check_phase(call, batch, chosen, totals, rows); !s.ok()) return {s, 0, {}};
        bool const by_prompt = call.aggregate.which == aggregation::kind::prompt_mean;
        double prompts = 0;
        for (auto const& p : total.prompts.entries()) prompts += p.tokens > 0;
        auto const prompt = [&](std::int64_t sequence) {
            if (!by_prompt) return detail::prompt_share{};
            return detail::prompt_share{total.prompts.tokens(batch.group_of[static_cast<std::size_t>(sequence)]),
                                        prompts};
        };
        return detail::apply(call, batch, chosen, rows, total, prompt, out,
                             detail::executor_for(batch.layout.extent(), execute));
    }
    template <storage_type S, arithmetic_type T, executor E = serial_executor>
    [[nodiscard]] result apply(batch_view<S> const& batch, sequence_totals const& totals, counts const& total,
                               outputs<T> const& out, E const& execute = {}) const {
        return apply(batch, selection_view{}, totals, total, out, execute);
    }

private:
    [[nodiscard]] Derived const& self() const noexcept { return static_cast<Derived const&>(*this); }
    template <class Core>
    [[nodiscard]] auto call_of(Core const& core) const noexcept {
        return detail::loss_call<Core, Arch>{core, self().denominators(), self().call_options()};
    }
    template <class Call, class S>
    [[nodiscard]] static status check_phase(Call const& call, batch_view<S> const& batch,
                                            selection_view const& chosen) noexcept {
        if (status s = detail::validate(call, batch); !s.ok()) return s;
        if (status s = detail::validate(call, batch, chosen); !s.ok()) return s;
        if (detail::wants_selection(call, batch, chosen))
            return {errc::missing_stream, -1, -1, "selection: call select first and pass what it gives"};
        if (call.core.has_factors() && batch.token_weights.empty() && batch.layout.extent() > 0)
            return {errc::missing_stream, -1, -1, "token_weights: call weigh first and pass what it gives"};
        return {};
    }
    template <class Call, class S>
    [[nodiscard]] static status check_phase(Call const& call, batch_view<S> const& batch, selection_view const& chosen,
                                            sequence_totals const& totals, detail::totals_view& rows) noexcept {
        if (status s = check_phase(call, batch, chosen); !s.ok()) return s;
        return totals.view(batch.layout.sequences(), detail::sum_columns(call.core), call.core.max_width(), rows);
    }
    /// Runs f, which may run out of memory for `what`.
    template <class F>
    [[nodiscard]] static status guarded(char const* what, F&& f) noexcept {
#if TRM_EXCEPTIONS
        try {
            f();
        } catch (std::bad_alloc const&) {
            return {errc::out_of_memory, -1, -1, what};
        }
#else
        (void)what;
        f();
#endif
        return {};
    }
};

TRM_NAMESPACE_END
