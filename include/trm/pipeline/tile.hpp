// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/read.hpp>

#include <algorithm>

/// \file
/// Tokens between two steps of the pipeline, where each step is a loop of its own: for policies chosen at run time.

TRM_NAMESPACE_BEGIN
namespace detail {

/// f with the instructions of the vector unit of V: every loop over a tile, each in a function of its own.
template <class V, class F>
TRM_INLINE void on_unit_of(F const& f) noexcept {
#if TRM_DISPATCH
    simd::on_unit<typename V::arch>([&](auto) __attribute__((always_inline)) { f(); });
#else
    f();
#endif
}

/// Up to 32 or 64 registers of tokens, one array per quantity. Ten arrays fit into the first-level cache; those that the loss does
/// not want are never touched. Lanes that are not active hold zeros.
template <class V>
struct tile {
    using T = typename V::value_type;
    using mask = typename V::mask;
    static constexpr std::size_t registers = V::size * sizeof(T) < 64 ? 64 : 32;
    static constexpr auto width = static_cast<std::int64_t>(V::size);
    static constexpr auto tokens = static_cast<std::int64_t>(registers * V::size);

    struct row {
        alignas(64) T values[registers * V::size];
        [[nodiscard]] TRM_INLINE V operator[](int j) const noexcept { return simd::load<V>(values + j * width); }
        TRM_INLINE void set(int j, V v) noexcept { simd::store(values + j * width, v); }
    };
    /// A row, or the batch's own memory where nothing has to be converted or blanked.
    struct stream {
        T const* values;
        [[nodiscard]] TRM_INLINE V operator[](int j) const noexcept { return simd::load<V>(values + j * width); }
    };
    struct ratio_rows {
        row value, exp, k3;
        mask unclamped[registers];
    };

    int used;  ///< registers
    bool in_range;  ///< no token is an exception but by loss_mask: the others are active, and no clamp acts
    bool clean;  ///< nor by loss_mask
    stream logp, rollout, proximal, ref, given, advantage;
    row own_logp, own_rollout, own_proximal, own_ref, own_given, own_advantage, factor;
    /// Those that nothing sets are `everywhere`.
    mask everywhere[registers], own_active[registers], own_keep[registers];
    mask const *active, *keep;
    mask allowed[registers], marked[registers];
    ratio_rows ratios[3];
    clamp_range clamped[3];  ///< as what
    /// By ratio_kind; without proximal_logp all three are those of the current over the rollout policy.
    ratio_rows* ratio_of[3];
    stream target_of[3], behaviour_of[3];
    mask clipped[registers];
    row reasons, weight, value, slope, penalty, penalty_slope, penalty_all, penalty_all_slope, divergence;

    TRM_INLINE tile() noexcept {
        mask const all = mask::everywhere();  // in a register; not so if std::fill_n refers to it
        for (mask& m : everywhere) m = all;
        if constexpr (V::is_scalar)  // a bool must hold a value, even one that nobody looks at
            for (auto* masks : {allowed, marked, clipped}) std::fill_n(masks, registers, !mask::everywhere());
    }
    /// Once a register has an exception other than by loss_mask: those that have none say so. `by_mask`: active and keep do.
    void begin_exceptions(bool by_mask) noexcept {
        for (auto& r : ratios) std::fill_n(r.unclamped, registers, mask::everywhere());
        if (by_mask) return;
        for (auto* masks : {own_active, own_keep}) std::fill_n(masks, registers, mask::everywhere());
    }
    /// When all is read.
    TRM_INLINE void connect_masks() noexcept {
        active = clean ? everywhere : own_active, keep = clean ? everywhere : own_keep;
    }

    /// A register without exceptions.
    TRM_INLINE void store_ratio(ratio_kind kind, int j, log_ratio<V> const& l) noexcept {
        ratio_rows& r = ratios[static_cast<int>(kind)];
        r.value.set(j, l.value);
        r.exp.set(j, l.exp);
        r.k3.set(j, l.k3);
    }
    TRM_INLINE void store_any_ratio(ratio_kind kind, int j, log_ratio<V> const& l) noexcept {
        store_ratio(kind, j, l);
        ratios[static_cast<int>(kind)].unclamped[j] = l.unclamped;
    }
    /// All log-ratios are as this clamp has them.
    void in_stage(clamp_range c) noexcept {
        for (clamp_range& was : clamped) was = c;
    }
    /// Makes the log-ratio that the next step looks at as the clamp of its stage has it.
    void enter(ratio_kind over, bool has_proximal, clamp_range c) noexcept {
        auto const kind = static_cast<std::size_t>(resolve(over, has_proximal));
        auto const own = static_cast<ratio_kind>(ratio_of[kind] - ratios);
        if (in_range || clamped[static_cast<int>(own)] == c) return;
        clamped[static_cast<int>(own)] = c;
        take_again(own, target_of[kind], behaviour_of[kind], c);
    }
    [[gnu::noinline]] void take_again(ratio_kind own, stream target, stream behaviour, clamp_range c) noexcept {
        on_unit_of<V>([&, this]() __attribute__((always_inline)) {
            V const lower = simd::broadcast<V>(c.lower), upper = simd::broadcast<V>(c.upper);
            for (int j = 0; j < used; ++j) {
                log_ratio<V> l;
                set_log_ratio(l, target[j], behaviour[j], active[j], lower, upper);
                store_any_ratio(own, j, l);
            }
        });
    }
    /// Where everything is, copied: stores into one row do not make the compiler fetch the places of the others again.
    struct view {
        stream logp, ref, given, advantage, factor;
        stream reasons, weight, value, slope, penalty, penalty_slope, penalty_all, penalty_all_slope;
        mask const *active, *allowed, *marked, *keep, *clipped;
        struct ratio_view {
            stream target, behaviour, value, exp, k3;
            mask const* unclamped;
            TRM_INLINE void load(int j, log_ratio<V>& l) const noexcept {
                l.target = target[j];
                l.behaviour = behaviour[j];
                l.value = value[j];
                l.exp = exp[j];
                l.expm1 = simd::expm1(l.value);  // nearly nobody reads it
                l.k3 = k3[j];
                l.unclamped = unclamped[j];
            }
        } ratios[3];

        /// What of token register j is set so far. Reading costs only what is used of it.
        TRM_INLINE void load(int j, token<V, true>& t) const noexcept {
            t.logp = logp[j];
            t.ref_logp = ref[j];
            t.advantage = advantage[j];
            t.given = given[j];
            t.factor = factor[j];
            t.active = active[j];
            t.allowed = allowed[j];
            t.marked = marked[j];
            ratios[0].load(j, t.current_over_rollout);
            ratios[1].load(j, t.proximal_over_rollout);
            ratios[2].load(j, t.current_over_proximal);
            t.keep = keep[j];
            t.clipped = clipped[j];
            t.reasons = reasons[j];
            t.weight = weight[j];
            t.value = value[j];
            t.slope = slope[j];
            t.penalty = penalty[j];
            t.penalty_slope = penalty_slope[j];
            t.penalty_all = penalty_all[j];
            t.penalty_all_slope = penalty_all_slope[j];
        }
    };
    [[nodiscard]] TRM_INLINE typename view::ratio_view ratio_at(int kind) const noexcept {
        ratio_rows const& r = *ratio_of[kind];
        return {target_of[kind], behaviour_of[kind], {r.value.values},
                {r.exp.values},  {r.k3.values},      in_range ? everywhere : r.unclamped};
    }
    [[nodiscard]] TRM_INLINE view columns() const noexcept {
        return {logp,
                ref,
                given,
                advantage,
                {factor.values},
                {reasons.values},
                {weight.values},
                {value.values},
                {slope.values},
                {penalty.values},
                {penalty_slope.values},
                {penalty_all.values},
                {penalty_all_slope.values},
                active,
                allowed,
                marked,
                keep,
                clipped,
                {ratio_at(0), ratio_at(1), ratio_at(2)}};
    }
};

/// f(tokens, l, j) for every register j of a tile, l being the log-ratio `over`. `Clean`: what tile::clean says is known. `Pairs`:
/// the loop is written out twice, and f is told by its type which of two registers it has: f(tokens, l, j, is the second).
template <bool Clean = false, bool Pairs = false, class V, class F>
TRM_INLINE void each_register(tile<V> const& from, ratio_kind over, F&& f) noexcept {
    auto const columns = from.columns();
    auto const chosen = from.ratio_at(static_cast<int>(resolve(over, true)));  // once, not for every register
    int const used = from.used;
    auto const one = [&](int j, auto odd) __attribute__((always_inline)) {
        token<V, true> t;
        log_ratio<V> l;
        columns.load(j, t);
        chosen.load(j, l);
        if constexpr (Clean)
            t.active = l.unclamped = t.current_over_rollout.unclamped = t.proximal_over_rollout.unclamped =
                t.current_over_proximal.unclamped = V::mask::everywhere();
        if constexpr (Pairs) {
            f(t, l, j, odd);
        } else {
            f(t, l, j);
        }
    };
    int j = 0;
    if constexpr (Pairs)
        for (; j + 1 < used; j += 2) {
            one(j, std::false_type{});
            one(j + 1, std::true_type{});
        }
    for (; j < used; ++j) one(j, std::false_type{});
}
/// f(tokens, j), for what looks at no log-ratio or at several.
template <class V, class F>
TRM_INLINE void each_register(tile<V> const& from, F&& f) noexcept {
    each_register(from, ratio_kind::current_over_rollout,
                  [&](auto& t, auto const&, int j) __attribute__((always_inline)) { f(t, j); });
}

/// Zeros in all registers of rows.
template <class V, class... Rows>
[[gnu::noinline]] void clear_rows(tile<V> const& t, Rows&... rows) noexcept {
    on_unit_of<V>([&]() __attribute__((always_inline)) {
        for (int j = 0; j < t.used; ++j) (rows.set(j, V(typename V::value_type(0))), ...);
    });
}

}  // namespace detail
TRM_NAMESPACE_END
