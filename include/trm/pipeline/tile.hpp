// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/read.hpp>

#include <algorithm>

/// \file
/// Tokens between two steps of the pipeline, where each step is a loop of its own: for policies chosen at run time.

TRM_NAMESPACE_BEGIN
namespace detail {

/// f with the instructions of the vector unit of V: every loop over a tile, each in a function of its own, which is TRM_FLATTEN.
template <class V, class F>
TRM_INLINE void on_unit_of(F const& f) noexcept {
#if TRM_DISPATCH
    simd::on_unit<typename V::arch>([&](auto) TRM_INLINE_LAMBDA { f(); });
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
    static constexpr int most_runs = 16;

    struct row {
        alignas(64) T values[registers * V::size];
        [[nodiscard]] TRM_INLINE V operator[](int j) const noexcept { return simd::load<V>(values + j * width); }
        TRM_INLINE void set(int j, V v) noexcept { simd::store(values + j * width, v); }
    };
    /// Registers one after another, of a row or of the batch's own memory.
    struct stream {
        T const* values;
        [[nodiscard]] TRM_INLINE V operator[](int j) const noexcept { return simd::load<V>(values + j * width); }
    };
    /// expm1 follows from x and k3, but working it out where it is read takes a branch, and clang keeps branches whose result nobody
    /// reads: losses with a penalty took 1.2 to 1.5 times as long.
    struct ratio_rows {
        row value, exp, expm1, k3;
        mask unclamped[registers];
    };

    /// Registers one after another, of one run. Part of a register is a piece of its own.
    struct piece {
        int run;  ///< which of those that the tile has
        int first, end;
        int part;  ///< tokens of a piece that is part of a register, else 0
        std::int64_t token;  ///< the first
        bool direct;  ///< its inputs are read from the batch's memory, not from rows
        bool clean;  ///< every lane is active; else masks say which
    };
    /// An input: a row, or the batch's own memory where nothing has to be converted or blanked.
    struct source {
        T const *own, *direct;
        [[nodiscard]] TRM_INLINE stream at(piece const& p) const noexcept {
            return {p.direct && direct != nullptr ? direct + p.token : own + p.first * width};
        }
    };

    int used;  ///< registers
    int pieces;
    piece piece_of[2 * most_runs];
    V advantage_of[most_runs];  ///< of each run, where there is none per token
    bool in_range;  ///< no token is an exception but by loss_mask: the others are active, and no clamp acts
    source logp, ref, given, advantage;
    row own_logp, own_rollout, own_proximal, own_ref, own_given, own_advantage, factor;
    /// Those of clean pieces are `everywhere`, unless it is known that criteria have tested tokens.
    mask everywhere[registers], active[registers], keep[registers];
    bool tested;
    mask allowed[registers], marked[registers];
    ratio_rows ratios[3];
    clamp_range clamped[3];  ///< as what
    /// By ratio_kind; without proximal_logp all three are those of the current over the rollout policy.
    ratio_rows* ratio_of[3];
    source target_of[3], behaviour_of[3];
    mask clipped[registers];
    row reasons, weight, value, slope, penalty, penalty_slope, penalty_all, penalty_all_slope, divergence;
    /// What the row of divergences holds: the one of this number, of these log-ratios.
    struct divergence_key {
        std::size_t number;
        ratio_rows const* of;  ///< null: nothing
        friend bool operator==(divergence_key const&, divergence_key const&) = default;
    } divergence_held;

    TRM_INLINE tile() noexcept {
        mask const all = mask::everywhere();  // in a register; not so if std::fill_n refers to it
        for (mask& m : everywhere) m = all;
        if constexpr (V::is_scalar)  // a bool must hold a value, even one that nobody looks at
            for (auto* masks : {allowed, marked, clipped}) std::fill_n(masks, registers, !mask::everywhere());
    }
    /// Nothing is in it.
    TRM_INLINE void clear() noexcept {
        used = pieces = 0;
        tested = false;
        divergence_held = {0, nullptr};
    }
    /// Tokens [at, at + size) of a run are to be read behind what there is. (Inlined, as everything that runs once per tile, so that it
    /// is compiled for the unit of V.)
    TRM_INLINE void add_pieces(int run, std::int64_t at, std::int64_t size) noexcept {
        auto const whole = static_cast<int>(size / width), part = static_cast<int>(size % width);
        if (whole > 0) piece_of[pieces++] = {run, used, used + whole, 0, at, false, false};
        used += whole;
        if (part > 0) piece_of[pieces++] = {run, used, used + 1, part, at + whole * width, false, false};
        used += part > 0;
    }
    /// Once a register has an exception other than by loss_mask: those that have none say so. `by_mask`: active and keep do.
    void begin_exceptions(bool by_mask) noexcept {
        for (auto& r : ratios) std::fill_n(r.unclamped, registers, mask::everywhere());
        if (by_mask) return;
        for (auto* masks : {active, keep}) std::fill_n(masks, registers, mask::everywhere());
    }
    [[nodiscard]] TRM_INLINE mask const* keep_of(piece const& p) const noexcept {
        return p.clean && !tested ? everywhere : keep + p.first;
    }

    /// A register without exceptions. `exp`: with what is made of e^x.
    TRM_INLINE void store_ratio(ratio_kind kind, int j, log_ratio<V> const& l, bool exp) noexcept {
        ratio_rows& r = ratios[static_cast<int>(kind)];
        r.value.set(j, l.value);
        if (!exp) return;
        r.exp.set(j, l.exp);
        r.expm1.set(j, l.expm1);
        r.k3.set(j, l.k3);
    }
    TRM_INLINE void store_any_ratio(ratio_kind kind, int j, log_ratio<V> const& l) noexcept {
        store_ratio(kind, j, l, true);
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
        take_again(own, target_of[kind].own, behaviour_of[kind].own, c);
    }
    [[gnu::noinline]] TRM_FLATTEN void take_again(ratio_kind own, T const* targets, T const* behaviours,
                                                  clamp_range c) noexcept {
        on_unit_of<V>([&, this]() TRM_INLINE_LAMBDA {
            stream const target{targets}, behaviour{behaviours};
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
        stream reasons, weight, value, slope;
        mask const *active, *allowed, *marked, *keep, *clipped;
        struct ratio_view {
            stream target, behaviour, value, exp, expm1, k3;
            mask const* unclamped;
            TRM_INLINE void load(int j, log_ratio<V>& l) const noexcept {
                l.target = target[j];
                l.behaviour = behaviour[j];
                l.value = value[j];
                l.exp = exp[j];
                l.expm1 = expm1[j];
                l.k3 = k3[j];
                l.unclamped = unclamped[j];
            }
        } ratios[3];

        /// What of token register j is set so far, but for penalties. Reading costs only what is used of it.
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
        }
    };
    [[nodiscard]] TRM_INLINE typename view::ratio_view ratio_at(int kind, piece const& p) const noexcept {
        ratio_rows const& r = *ratio_of[kind];
        std::int64_t const skipped = p.first * width;
        return {target_of[kind].at(p),
                behaviour_of[kind].at(p),
                {r.value.values + skipped},
                {r.exp.values + skipped},
                {r.expm1.values + skipped},
                {r.k3.values + skipped},
                in_range ? everywhere : r.unclamped + p.first};
    }
    /// From the first register of a piece on.
    [[nodiscard]] TRM_INLINE view columns(piece const& p) const noexcept {
        auto const from = [&](row const& r) TRM_INLINE_LAMBDA { return stream{r.values + p.first * width}; };
        return {logp.at(p),
                ref.at(p),
                given.at(p),
                advantage.at(p),
                from(factor),
                from(reasons),
                from(weight),
                from(value),
                from(slope),
                p.clean ? everywhere : active + p.first,
                allowed + p.first,
                marked + p.first,
                keep_of(p),
                clipped + p.first,
                {ratio_at(0, p), ratio_at(1, p), ratio_at(2, p)}};
    }
};

}  // namespace detail
TRM_NAMESPACE_END
