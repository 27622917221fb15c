// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tile_loops.hpp>
#include <trm/pipeline/write.hpp>

/// \file
/// The last step of a tile where nothing but loss, gradient and diagnostics is wanted: the loop of the surrogate does it.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What write_gradient and describe_tokens ask of the policies.
template <bool Weighted, bool Penalised>
struct write_traits {
    bool weight, shares, folds, moves;
    [[nodiscard]] constexpr bool has_weight() const noexcept { return Weighted && weight; }
    [[nodiscard]] constexpr bool shares_gradient() const noexcept { return shares; }
    [[nodiscard]] constexpr bool folds_weight() const noexcept { return folds; }
    [[nodiscard]] constexpr bool moves_rejected() const noexcept { return moves; }
    [[nodiscard]] static constexpr bool has_penalties() noexcept { return Penalised; }
};

/// What the diagnostics say of tokens before anything is applied.
template <class V>
TRM_INLINE void describe_measured(token<V, true> const& t, log_ratio<V> const& l, described_lanes<V>& to) noexcept {
    to.x = to.x + l.value;
    to.logp = to.logp + t.logp;
}

/// Adds loss and writes gradient of registers where nothing else is wanted, of runs that are kept. Not a member of tile_pass: the
/// loops over tiles that it is compiled into are the same for every storage type.
template <class V, class Lanes>
struct plain_writer {
    using T = typename V::value_type;
    using piece = typename tile<V>::piece;
    /// Must it know which lanes are active? Loss and gradient have `keep`; diagnostics would count the others, too.
    static constexpr bool looks_at_active = false;
    T* grad;  ///< not null
    run_registers<V> const* runs;
    Lanes* lanes;
    /// Of a loop over a piece.
    struct place {
        T* to;
        int first;
        V scale, loss;
    };
    /// Registers are written whole: part of one goes into `room` first.
    TRM_INLINE void begin(piece const& p, T* room, place& here) const noexcept {
        here.to = p.part == 0 ? grad + p.token : room;
        here.first = p.first;
        here.scale = runs[p.run].scale;
        here.loss = lanes[p.run].objective;
    }
    TRM_INLINE void end(piece const& p, T const* room, place const& here) const noexcept {
        lanes[p.run].objective = here.loss;
        if (p.part != 0) std::copy_n(room, p.part, grad + p.token);
    }
    TRM_INLINE void operator()(token<V, true> const& t, log_ratio<V> const&, int j, place& here) const noexcept {
        stream_pointers<T, T> streams;
        streams.grad = here.to;
        if (streams.grad == nullptr) __builtin_unreachable();
        run_registers<V> const kept(here.scale);
        V unused = here.loss;
        std::int64_t const at = (j - here.first) * tile<V>::width;
        write_gradient(write_traits<false, false>{}, streams, at, V::size, kept, t, here.loss, here.loss, unused);
    }
};
/// And its diagnostics, if no square leaves the range of float.
template <class V, class Lanes>
struct described_writer {
    using piece = typename tile<V>::piece;
    static constexpr bool looks_at_active = true;
    plain_writer<V, Lanes> plain;
    bool splits;
    struct place : plain_writer<V, Lanes>::place {
        described_lanes<V> lanes;
    };
    TRM_INLINE void begin(piece const& p, typename V::value_type* room, place& here) const noexcept {
        plain.begin(p, room, here);
        here.lanes = plain.lanes[p.run];
    }
    TRM_INLINE void end(piece const& p, typename V::value_type const* room, place const& here) const noexcept {
        plain.end(p, room, here);
        static_cast<described_lanes<V>&>(plain.lanes[p.run]) = here.lanes;
    }
    TRM_INLINE void operator()(token<V, true> const& t, log_ratio<V> const& l, int j, place& here) const noexcept {
        describe_measured(t, l, here.lanes);
        describe_tokens(write_traits<false, false>{}, t, l, t.advantage, splits, false, here.lanes);
        plain(t, l, j, here);
    }
};

}  // namespace detail
TRM_NAMESPACE_END
