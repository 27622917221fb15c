// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tile_loops.hpp>
#include <trm/pipeline/write.hpp>

/// \file
/// The last step of a tile where nothing but loss, gradient and diagnostics is wanted: the loop of the surrogate does it.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What write_gradient and describe_tokens ask of the policies. `Bare`: it is known that there are terms of the surrogate alone, of
/// tokens that are kept.
template <bool Bare>
struct write_traits {
    bool weight, penalties, shares, folds, moves;
    template <class Core>
    TRM_INLINE explicit write_traits(Core const& core) noexcept
        : weight(core.has_weight()),
          penalties(core.has_penalties()),
          shares(core.shares_gradient()),
          folds(core.folds_weight()),
          moves(core.moves_rejected()) {}
    [[nodiscard]] TRM_INLINE bool has_weight() const noexcept { return !Bare && weight; }
    [[nodiscard]] TRM_INLINE bool has_penalties() const noexcept { return !Bare && penalties; }
    [[nodiscard]] TRM_INLINE bool shares_gradient() const noexcept { return !Bare && shares; }
    [[nodiscard]] TRM_INLINE bool folds_weight() const noexcept { return !Bare && folds; }
    [[nodiscard]] TRM_INLINE bool moves_rejected() const noexcept { return !Bare && moves; }
    [[nodiscard]] TRM_INLINE bool is_bare() const noexcept { return !weight && !penalties && !moves; }
};

/// What the diagnostics say of tokens before anything is applied.
template <class V>
TRM_INLINE void describe_measured(token<V, true> const& t, log_ratio<V> const& l, described_lanes<V>& to) noexcept {
    to.x = to.x + l.value;
    to.logp = to.logp + t.logp;
}

/// Adds loss and writes gradient of registers where nothing else is wanted, of runs that are kept. Not a member of tile_pass: the
/// loops over tiles that it is compiled into are the same for every storage type.
template <class V, class Lanes, bool Bare>
struct gradient_writer {
    using T = typename V::value_type;
    using piece = typename tile<V>::piece;
    /// Is every token asked whether it is active, so that a loop of its own pays where all are?
    static constexpr bool looks_at_active = false;
    write_traits<Bare> traits;
    T* grad;  ///< not null
    run_registers<V> const* runs;
    Lanes* lanes;
    /// Of a loop over a piece.
    struct place {
        T* to;
        int first;
        V scale, loss, regulariser;
    };
    /// Registers are written whole: part of one goes into `room` first.
    TRM_INLINE void begin(piece const& p, T* room, place& here) const noexcept {
        here.to = p.part == 0 ? grad + p.token : room;
        here.first = p.first;
        here.scale = runs[p.run].scale;
        here.loss = lanes[p.run].objective;
        here.regulariser = lanes[p.run].regulariser;
    }
    TRM_INLINE void end(piece const& p, T const* room, place const& here) const noexcept {
        lanes[p.run].objective = here.loss;
        lanes[p.run].regulariser = here.regulariser;
        if (p.part != 0) std::copy_n(room, p.part, grad + p.token);
    }
    TRM_INLINE void operator()(token<V, true> const& t, log_ratio<V> const&, int j, place& here) const noexcept {
        stream_pointers<T, T> streams;
        streams.grad = here.to;
        if (streams.grad == nullptr) __builtin_unreachable();
        run_registers<V> const kept(here.scale);
        std::int64_t const at = (j - here.first) * tile<V>::width;
        write_gradient(traits, streams, at, V::size, kept, t, t.weight, here.loss, here.regulariser);
    }
};
/// Any terms, and if they are wanted their diagnostics, of which no square leaves the range of float.
template <class V, class Lanes>
struct described_writer {
    using piece = typename tile<V>::piece;
    using terms_writer = gradient_writer<V, Lanes, false>;
    static constexpr bool looks_at_active = true;
    terms_writer terms;
    bool describes, splits;
    struct place : terms_writer::place {
        described_lanes<V> lanes;
    };
    TRM_INLINE void begin(piece const& p, typename V::value_type* room, place& here) const noexcept {
        terms.begin(p, room, here);
        if (describes) {
            here.lanes = terms.lanes[p.run];
        } else {  // or g++ 12 warns of reading them unset
            here.lanes.clear_sums();
            here.lanes.clear_extrema();
        }
    }
    TRM_INLINE void end(piece const& p, typename V::value_type const* room, place const& here) const noexcept {
        terms.end(p, room, here);
        if (describes) static_cast<described_lanes<V>&>(terms.lanes[p.run]) = here.lanes;
    }
    TRM_INLINE void operator()(token<V, true> const& t, log_ratio<V> const& l, int j, place& here) const noexcept {
        if (describes) {
            describe_measured(t, l, here.lanes);
            describe_tokens(terms.traits, t, l, t.weight, splits, false, here.lanes);
        }
        terms(t, l, j, here);
    }
};

}  // namespace detail
TRM_NAMESPACE_END
