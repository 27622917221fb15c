// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/select_sequences.hpp>
#include <trm/policy/token_weight.hpp>

/// \file
/// Factors of token weights that follow from other tokens, a step before all others, like selections: sequences go over the
/// executor, what compares the tokens of the whole batch runs in one thread.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Does a factor look at one sequence at a time?
template <class W>
inline constexpr bool weighs_by_sequence =
    requires(W const& w, selection_sequence const& s, std::span<double> out) { w.weigh(s, out); };
template <class W>
[[nodiscard]] constexpr unsigned factor_needs(W const&, ratio_kind over) noexcept {
    if constexpr (requires { W::reads_ratio; }) return W::needs();
    return W::needs() | need::ratio(over);
}

/// What factors read of a batch, in the arithmetic of its reals.
template <class S>
class weighed_tokens {
    using real = typename batch_view<S>::real;
    batch_view<S> const& batch;
    stream_view<S> target, behaviour;  ///< absent: scores are -logp
    real lower, upper;
    bool const wants_advantage;

public:
    template <class W>
    weighed_tokens(batch_view<S> const& b, W const& w, ratio_kind over, clamp_range clamp) noexcept
        : batch(b),
          lower(static_cast<real>(clamp.lower)),
          upper(static_cast<real>(clamp.upper)),
          wants_advantage((factor_needs(w, over) & need::advantage) != 0) {
        ratio_kind const kind = resolve(over, !b.proximal_logp.empty());
        if ((factor_needs(w, over) & need::any_ratio) == 0) return;
        target = kind == ratio_kind::proximal_over_rollout ? b.proximal_logp : b.logp;
        behaviour = kind == ratio_kind::current_over_proximal ? b.proximal_logp : b.rollout_logp;
    }
    /// Scores, advantages and which slots are active of one run.
    void score(token_run run, double* scores, double* advantages, std::uint8_t* active) const noexcept {
        auto const at = [](stream_view<S> const& s, std::size_t t) { return real(to_float(s[t])); };
        for (std::int64_t k = 0; k < run.size; ++k) {
            auto const t = static_cast<std::size_t>(run.begin + k);
            scores[k] = advantages[k] = 0;
            active[k] = batch.loss_mask.empty() || batch.loss_mask[t] != 0;
            if (active[k] == 0) continue;
            real const a = !wants_advantage           ? real(0)
                           : batch.advantages.empty() ? real(advantage_of(batch, run))
                                                      : batch.advantages[t];
            real x = behaviour.empty() ? -at(batch.logp, t) : at(target, t) - at(behaviour, t);
            active[k] = is_finite(x) && is_finite(a);
            if (active[k] == 0) continue;
            if (!behaviour.empty()) x = x < lower ? lower : x > upper ? upper : x;
            scores[k] = static_cast<double>(x);
            advantages[k] = static_cast<double>(a);
        }
    }
};

/// Memory of `weigh`, carved out of a workspace: one number each per token, and for segments where sequences begin.
struct weighing_memory {
    double *scores, *advantages, *weights;
    std::int64_t* first;  ///< slot at which each sequence begins; null: where it begins in the batch
    std::uint8_t* active;
    std::byte *index, *rest;

    [[nodiscard]] static std::size_t bytes(layout_view const& layout, selection_bytes own) noexcept {
        auto const n = static_cast<std::size_t>(layout.sequences()), extent = static_cast<std::size_t>(layout.extent());
        return extent * (3 * sizeof(double) + 1) + sequence_index::bytes(layout) + n * sizeof(std::int64_t) +
               own.total(extent, n, 0);
    }
    weighing_memory(layout_view const& layout, std::byte* memory) noexcept {
        auto const extent = static_cast<std::size_t>(layout.extent());
        scores = reinterpret_cast<double*>(memory);
        advantages = scores + extent;
        weights = advantages + extent;
        index = reinterpret_cast<std::byte*>(weights + extent);
        auto* const places = reinterpret_cast<std::int64_t*>(index + sequence_index::bytes(layout));
        first = layout.is_segments() ? places : nullptr;
        active = reinterpret_cast<std::uint8_t*>(places + layout.sequences());
        rest = reinterpret_cast<std::byte*>(active + extent);
    }
};

/// Multiplies the weights of active slots into `to`, one element per token.
template <class T>
void multiply_weights(token_run run, double const* weights, std::uint8_t const* active, T* to) noexcept {
    for (std::int64_t k = 0; k < run.size; ++k)
        if (active[k] != 0) to[run.begin + k] = static_cast<T>(static_cast<double>(to[run.begin + k]) * weights[k]);
}

template <class W, class S, class Executor>
void weigh_sequences(W const& w, weighed_tokens<S> const& tokens, batch_view<S> const& b, weighing_memory const& m,
                     typename batch_view<S>::real* to, Executor&& execute) {
    sequence_index const index(b.layout, m.index);
    if (m.first != nullptr)
        for (std::int64_t s = 0, place = 0; s < b.layout.sequences(); ++s) {
            m.first[s] = place;
            place += static_cast<std::int64_t>(index.of(s).slot_count());
        }
    for_blocks(b.layout.sequences(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
        for (std::int64_t s = begin; s < end; ++s) {
            sequence_runs const runs = index.of(s);
            std::int64_t const first = m.first != nullptr ? m.first[s] : b.layout.run(s).begin;
            std::int64_t n = 0;
            runs.for_each([&](token_run r) {
                tokens.score(r, m.scores + first + n, m.advantages + first + n, m.active + first + n);
                n += r.size;
            });
            auto const count = static_cast<std::size_t>(n);
            selection_sequence sequence{
                {m.scores + first, count}, {m.active + first, count}, {m.advantages + first, count}};
            sequence.runs = runs;
            sequence.loss_mask = b.loss_mask.empty() ? nullptr : b.loss_mask.data();
            w.weigh(sequence, std::span<double>(m.weights + first, count));
            n = 0;
            runs.for_each([&](token_run r) {
                multiply_weights(r, m.weights + first + n, m.active + first + n, to);
                n += r.size;
            });
        }
    });
}
template <class W, class S, class Executor>
void weigh_batch(W const& w, weighed_tokens<S> const& tokens, batch_view<S> const& b, weighing_memory const& m,
                 typename batch_view<S>::real* to, Executor&& execute) {
    auto const extent = static_cast<std::size_t>(b.layout.extent());
    auto const each_run = [&](auto const& f) {
        for_blocks(b.layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) f(b.layout.run(i));
        });
    };
    std::fill_n(m.active, extent, std::uint8_t{0});  // padding between rows is not active
    each_run([&](token_run r) { tokens.score(r, m.scores + r.begin, m.advantages + r.begin, m.active + r.begin); });
    std::fill_n(m.weights, extent, 1.0);
    selection_input const in{b.layout, b.group_of,  {m.scores, extent},      {m.active, extent}, {m.advantages, extent},
                             extent,   b.loss_mask, selection_memory(m.rest)};
    w.weigh(in, std::span<double>(m.weights, extent));
    each_run([&](token_run r) { multiply_weights(r, m.weights + r.begin, m.active + r.begin, to); });
}

/// Multiplies the factor of every active token into `to`. The batch was validated.
template <class W, class S, class Executor>
[[nodiscard]] status weigh(W const& w, ratio_kind over, batch_view<S> const& b, clamp_range clamp,
                           typename batch_view<S>::real* to, Executor&& execute, workspace& scratch) {
    selection_bytes own{};
    if constexpr (requires { W::scratch; }) own = W::scratch;
    std::byte* const memory = scratch.reserve(workspace::purpose::selection, weighing_memory::bytes(b.layout, own));
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "token weights"};
    weighing_memory const m(b.layout, memory);
    weighed_tokens<S> const tokens(b, w, over, clamp);
    if constexpr (weighs_by_sequence<W>) {
        weigh_sequences(w, tokens, b, m, to, execute);
    } else {
        weigh_batch(w, tokens, b, m, to, execute);
    }
    return {};
}

/// All factors of a loss, times the batch's token_weights, which may be `to` already.
template <class Call, class S, class Executor>
[[nodiscard]] status weigh_all(Call const& call, batch_view<S> const& b, typename batch_view<S>::real* to,
                               Executor&& execute, workspace& scratch) {
    auto const extent = static_cast<std::size_t>(b.layout.extent());
    if (b.token_weights.empty()) {
        std::fill_n(to, extent, typename batch_view<S>::real(1));
    } else if (b.token_weights.data() != to) {
        std::copy_n(b.token_weights.data(), extent, to);
    }
    status s;
    call.core.each_factor([&](auto const& w, ratio_kind over) {
        if (s.ok()) s = weigh(w, over, b, call.options.log_ratio_clamp.weight, to, execute, scratch);
    });
    return s;
}
/// Works out the factors of a loss that has some, in the memory of `scratch`.
template <class Call, class S, class Executor>
[[nodiscard]] status bring_weights(Call const& call, batch_view<S>& b, Executor&& execute, workspace& scratch) {
    auto const extent = static_cast<std::size_t>(b.layout.extent());
    if (!call.core.has_factors() || extent == 0) return {};
    using real = typename batch_view<S>::real;
    auto* const to = reinterpret_cast<real*>(scratch.reserve(workspace::purpose::weights, extent * sizeof(real)));
    if (to == nullptr) return {errc::out_of_memory, -1, -1, "token weights"};
    status const s = weigh_all(call, b, to, execute, scratch);
    b.token_weights = std::span<real const>(to, extent);
    return s;
}

}  // namespace detail
TRM_NAMESPACE_END
