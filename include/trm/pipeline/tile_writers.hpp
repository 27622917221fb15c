// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tile_loops.hpp>
#include <trm/pipeline/write.hpp>

/// \file
/// The last step of a tile where nothing but loss, gradient, weights, `keep` and diagnostics is wanted: a loop for each kind of terms,
/// the same for all surrogates, or the loop of the surrogate.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What is known of a loss ahead of the loop that writes. `any`: nothing. Else the gradient is the only output, and terms are those of
/// the surrogate, of tokens that are kept: `bare`, times a weight, or with penalties, and a weight if there is one.
enum class terms_kind : std::uint8_t { any, bare, weighted, penalised };
template <class Core>
[[nodiscard]] TRM_INLINE terms_kind terms_kind_of(Core const& core) noexcept {
    bool const combines = core.has_weight() && (core.shares_gradient() || core.folds_weight());
    if (core.moves_rejected() || combines) return terms_kind::any;
    if (core.has_penalties()) return terms_kind::penalised;
    return core.has_weight() ? terms_kind::weighted : terms_kind::bare;
}
/// What write_gradient and describe_tokens ask of the policies.
template <terms_kind Kind>
struct write_traits {
    static constexpr bool asks = Kind == terms_kind::any;
    bool weight, penalises_kept, penalises_all, shares, folds, moves;
    template <class Core>
    TRM_INLINE explicit write_traits(Core const& core) noexcept
        : weight(core.has_weight()),
          penalises_kept(core.penalises_kept()),
          penalises_all(core.penalises_all()),
          shares(core.shares_gradient()),
          folds(core.folds_weight()),
          moves(core.moves_rejected()) {}
    [[nodiscard]] TRM_INLINE bool has_weight() const noexcept {
        return asks || Kind == terms_kind::penalised ? weight : Kind == terms_kind::weighted;
    }
    [[nodiscard]] TRM_INLINE bool has_penalties() const noexcept {
        return Kind == terms_kind::penalised || (asks && (penalises_kept || penalises_all));
    }
    [[nodiscard]] TRM_INLINE bool shares_gradient() const noexcept { return asks && shares; }
    [[nodiscard]] TRM_INLINE bool folds_weight() const noexcept { return asks && folds; }
    [[nodiscard]] TRM_INLINE bool moves_rejected() const noexcept { return asks && moves; }
};
/// Sets the penalties of register j of a tile. Rows that hold none are not read: they would only push others out of the cache.
template <terms_kind Kind, class V>
TRM_INLINE void take_penalties(write_traits<Kind> const& traits, tile<V> const& from, int j,
                               token<V, true>& t) noexcept {
    if (!traits.has_penalties()) return;
    t.penalty = t.penalty_slope = t.penalty_all = t.penalty_all_slope = zero<V>();
    if (traits.penalises_kept) {
        t.penalty = from.penalty[j];
        t.penalty_slope = from.penalty_slope[j];
    }
    if (traits.penalises_all) {
        t.penalty_all = from.penalty_all[j];
        t.penalty_all_slope = from.penalty_all_slope[j];
    }
}

/// What the diagnostics say of tokens before anything is applied.
template <class V>
TRM_INLINE void describe_measured(token<V, true> const& t, log_ratio<V> const& l, described_lanes<V>& to) noexcept {
    to.x = to.x + l.value;
    to.logp = to.logp + t.logp;
}
template <class V, class Lanes>
[[gnu::noinline]] TRM_FLATTEN void describe_all_measured(tile<V> const& t, ratio_kind over, Lanes* lanes) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
            described_lanes<V> local = lanes[p.run];
            each_register(t, p, over,
                          [&](auto const& k, auto const& l, int) TRM_INLINE_LAMBDA { describe_measured(k, l, local); });
            static_cast<described_lanes<V>&>(lanes[p.run]) = local;
        });
    });
}

/// Where the outputs of a tile go; null: not wanted.
template <class T>
struct tile_outputs {
    T *grad, *weights;
    std::uint8_t* keep;
};
/// Adds loss and writes outputs of registers of runs that are kept. Not a member of tile_pass: the loops over tiles that it is compiled
/// into are the same for every storage type.
template <class V, class Lanes, terms_kind Kind>
struct gradient_writer {
    using T = typename V::value_type;
    using piece = typename tile<V>::piece;
    /// Is every token asked whether it is active, so that a loop of its own pays where all are?
    static constexpr bool looks_at_active = false;
    static constexpr bool only_gradient = Kind != terms_kind::any;
    write_traits<Kind> traits;
    tile<V> const* tokens;
    tile_outputs<T> out;
    run_registers<V> const* runs;
    Lanes* lanes;
    /// Of a loop over a piece.
    struct place {
        T* grad;
        std::int64_t token;  ///< the first
        std::size_t n;  ///< tokens of a register
        int first;
        V scale, loss, regulariser;
    };
    /// Gradients are written in whole registers: part of one goes into `room` first.
    TRM_INLINE void begin(piece const& p, T* room, place& here) const noexcept {
        here.grad = !only_gradient && out.grad == nullptr ? nullptr : p.part == 0 ? out.grad + p.token : room;
        here.token = p.token;
        here.n = p.part == 0 ? V::size : static_cast<std::size_t>(p.part);
        here.first = p.first;
        here.scale = runs[p.run].scale;
        here.loss = lanes[p.run].objective;
        here.regulariser = lanes[p.run].regulariser;
    }
    TRM_INLINE void end(piece const& p, T const* room, place const& here) const noexcept {
        lanes[p.run].objective = here.loss;
        lanes[p.run].regulariser = here.regulariser;
        if (p.part != 0 && here.grad != nullptr) std::copy_n(room, p.part, out.grad + p.token);
    }
    TRM_INLINE void operator()(token<V, true>& t, log_ratio<V> const&, int j, place& here) const noexcept {
        t.weight = traits.has_weight() || (!only_gradient && out.weights != nullptr) ? tokens->weight[j] : zero<V>();
        take_penalties(traits, *tokens, j, t);
        stream_pointers<T, T> streams;
        streams.grad = here.grad;
        if (only_gradient && streams.grad == nullptr) __builtin_unreachable();
        run_registers<V> const kept(here.scale);
        std::int64_t const at = (j - here.first) * tile<V>::width;
        write_gradient(traits, streams, at, V::size, kept, t, t.weight, here.loss, here.regulariser);
        if constexpr (!only_gradient) {
            if (out.weights != nullptr)
                simd::store_first(out.weights + here.token + at, zero_unless(t.keep, t.weight), here.n);
            if (out.keep != nullptr) simd::store_mask(out.keep + here.token + at, t.keep, here.n);
        }
    }
};
/// The same with diagnostics.
template <class V, class Lanes, terms_kind Kind>
struct described_writer {
    using piece = typename tile<V>::piece;
    using terms_writer = gradient_writer<V, Lanes, Kind>;
    static constexpr bool looks_at_active = true;
    terms_writer terms;
    bool splits;
    struct place : terms_writer::place {
        described_lanes<V> lanes;
        bool wide;
    };
    TRM_INLINE void begin(piece const& p, typename V::value_type* room, place& here) const noexcept {
        terms.begin(p, room, here);
        here.lanes = terms.lanes[p.run];
        here.wide = terms.runs[p.run].wide;
    }
    TRM_INLINE void end(piece const& p, typename V::value_type const* room, place const& here) const noexcept {
        terms.end(p, room, here);
        static_cast<described_lanes<V>&>(terms.lanes[p.run]) = here.lanes;
    }
    TRM_INLINE void operator()(token<V, true>& t, log_ratio<V> const& l, int j, place& here) const noexcept {
        terms(t, l, j, here);
        describe_measured(t, l, here.lanes);
        describe_tokens(terms.traits, t, l, t.weight, splits, here.wide, here.lanes);
    }
};

/// write(tokens, log-ratio `over`, j, place) for each register of a tile, after `before(piece)(tokens, log-ratio)`.
template <class V, class Write, class Before>
TRM_INLINE void write_each(tile<V> const& t, ratio_kind over, Write const& write, Before const& before) noexcept {
    alignas(64) typename V::value_type room[V::size];
    each_piece<Write::looks_at_active>(t, [&](auto const& p, auto clean) TRM_INLINE_LAMBDA {
        typename Write::place here;
        write.begin(p, room, here);
        each_register<decltype(clean)::value>(
            t, p, over, [&, first = before(p), writes = write](auto& k, auto& l, int j) TRM_INLINE_LAMBDA {
                first(k, l);
                writes(k, l, j, here);
            });
        write.end(p, room, here);
    });
}
/// The last step of a tile whose rows have terms.
template <class V, class Write>
[[gnu::noinline]] TRM_FLATTEN void write_terms(tile<V> const& t, ratio_kind over, Write const& write) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        write_each(t, over, write, [](auto const&) TRM_INLINE_LAMBDA { return [](auto&, auto&) TRM_INLINE_LAMBDA {}; });
    });
}

}  // namespace detail
TRM_NAMESPACE_END
