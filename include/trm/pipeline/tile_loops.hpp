// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tile.hpp>

/// \file
/// Loops over the registers of a tile, of which a step has one.

TRM_NAMESPACE_BEGIN
namespace detail {

/// No clamp acts on these tokens: then masks need not be read.
template <class V>
TRM_INLINE void say_unclamped(token<V, true>& t, log_ratio<V>& l) noexcept {
    l.unclamped = t.current_over_rollout.unclamped = t.proximal_over_rollout.unclamped =
        t.current_over_proximal.unclamped = V::mask::everywhere();
}
/// f(tokens, l, j) for every register j of a piece, l being the log-ratio `over`. `Clean`: what piece::clean says is known.
template <bool Clean = false, class V, class F>
TRM_INLINE void each_register(tile<V> const& from, typename tile<V>::piece const& p, ratio_kind over, F&& f) noexcept {
    auto const columns = from.columns(p);
    auto const chosen = from.ratio_at(static_cast<int>(resolve(over, true)), p);  // once, not for every register
    int const first = p.first, n = p.end - p.first;
    for (int k = 0; k < n; ++k) {
        token<V, true> t;
        log_ratio<V> l;
        columns.load(k, t);
        chosen.load(k, l);
        if constexpr (Clean) {
            t.active = V::mask::everywhere();
            say_unclamped(t, l);
        }
        f(t, l, first + k);
    }
}
/// f(piece), told by a type, where `Tells`, whether it is clean.
template <bool Tells, class V, class F>
TRM_INLINE void each_piece(tile<V> const& of, F&& f) noexcept {
    for (int i = 0; i < of.pieces; ++i) {
        auto const& p = of.piece_of[i];
        if constexpr (Tells) {
            p.clean ? f(p, std::true_type{}) : f(p, std::false_type{});
        } else {
            f(p, std::false_type{});
        }
    }
}
/// Of all pieces.
template <class V, class F>
TRM_INLINE void each_register(tile<V> const& from, ratio_kind over, F&& f) noexcept {
    each_piece<false>(from, [&](auto const& p, auto) TRM_INLINE_LAMBDA { each_register(from, p, over, f); });
}
/// f(tokens, j), for what looks at no log-ratio or at several.
template <class V, class F>
TRM_INLINE void each_register(tile<V> const& from, F&& f) noexcept {
    each_register(from, ratio_kind::current_over_rollout,
                  [&](auto& t, auto const&, int j) TRM_INLINE_LAMBDA { f(t, j); });
}

/// Zeros in all registers of rows.
template <class V, class... Rows>
[[gnu::noinline]] TRM_FLATTEN void clear_rows(tile<V> const& t, Rows&... rows) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        for (int j = 0; j < t.used; ++j) (rows.set(j, V(typename V::value_type(0))), ...);
    });
}

}  // namespace detail
TRM_NAMESPACE_END
