// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/view.hpp>
#include <trm/simd/dispatch.hpp>
#include <trm/simd/softmax.hpp>

/// \file
/// What every loop over a row of logits shares: which logits count, and exponents relative to a base.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

/// Logits at or below this are probability zero. Also the base of an empty row: no finite float overflows against it.
template <class T>
inline constexpr T nothing = T(-0x1p100);

/// What replaces a masked logit: far below `nothing`, finite, so that no infinity enters the arithmetic.
template <class T>
inline constexpr T masked_out = T(-0x1p110);

/// Largest base in units of ln 2. Beyond it rounding the base costs more than 16, and exponents could be anything.
template <class T>
inline constexpr T largest_base = sizeof(T) == 4 ? T(0x1p28) : T(0x1p55);

/// Least exponent where differences of exponents are summed: what the terms of -2^100 become.
template <class T>
inline constexpr T least_exponent = T(-0x1p28);

/// Vocabulary masks as a compile-time choice.
struct whole_row {
    template <class V>
    TRM_INLINE V apply(V x, std::int64_t) const noexcept {
        return x;
    }
    template <class V>
    TRM_INLINE V apply_n(V x, std::int64_t, std::size_t n) const noexcept {
        return select(simd::first_n<V>(n), x, V(masked_out<typename V::value_type>));
    }
};
struct masked_row {
    std::uint8_t const* bytes;
    template <class V>
    TRM_INLINE V apply(V x, std::int64_t at) const noexcept {
        return select(simd::load_mask<V>(bytes + at), x, V(masked_out<typename V::value_type>));
    }
    template <class V>
    TRM_INLINE V apply_n(V x, std::int64_t at, std::size_t n) const noexcept {
        return select(simd::load_mask_n<V>(bytes + at, n), x, V(masked_out<typename V::value_type>));
    }
};

/// A mask that may be absent: bytes or null, decided at run time.
struct optional_mask {
    std::uint8_t const* bytes;
    template <class V>
    TRM_INLINE V apply(V x, std::int64_t at) const noexcept {
        return bytes == nullptr ? x : masked_row{bytes}.apply(x, at);
    }
    template <class V>
    TRM_INLINE V apply_n(V x, std::int64_t at, std::size_t n) const noexcept {
        return bytes == nullptr ? whole_row{}.apply_n(x, at, n) : masked_row{bytes}.apply_n(x, at, n);
    }
};

/// (x - m) c for a base m: as c x - b with b = c m rounded where `fma` rounds once; where it does not, that loses what
/// cancels: subtraction first, b = m.
template <class V>
TRM_INLINE V offset_product(V x, V c, V b) noexcept {
    if constexpr (simd::has_fma<V>) {
        return fma(x, c, -b);
    } else {
        return simd::exact(x - b) * c;
    }
}

/// max(t, -126), below which a softmax term is treated as 0: 2^-126 is the smallest normal float. NaN stays NaN.
template <class V>
TRM_INLINE V floor_exponent(V t) noexcept {
    return (simd::max)(V(typename V::value_type(-126)), t);
}

/// 2^t for -2^20 <= t <= 127, 0 (or at most 2^-126) below -126.
template <class V>
TRM_INLINE V exp2_wide(V t) noexcept {
    return simd::exp2(simd::exp2_saturates<V> ? t : floor_exponent(t));
}

/// Base, limit and constants that every vector of a row shares. Exponents are t = (x - m) c in units of ln 2.
template <class V>
struct lazy_base {
    using T = typename V::value_type;
    T m = nothing<T>;  ///< the base, a value that occurred in the row
    T b;  ///< what `offset_product` wants: round(m c), or m
    T c;  ///< log2(e) / temperature
    T margin;  ///< 8 nats in units of x
    V vc, vb, limit;

    explicit TRM_INLINE lazy_base(double temperature) noexcept
        : c(static_cast<T>(log2e / temperature)), margin(static_cast<T>(8.0 * temperature)), vc(c) {
        set(nothing<T>);
    }
    TRM_INLINE void set(T to) noexcept {
        m = to;
        T const p = to * c;
        b = simd::has_fma<V> ? p : to;
        // Entries that stand for "impossible", such as -1e10: all exponents negative, so that their sums are 0 when a base that
        // can be resolved comes.
        if (simd::has_fma<V> && p < -largest_base<T>) b = p - p * T(0x1p-10);
        vb = V(b);
        limit = V(to + margin);
    }
    TRM_INLINE V exponent(V x) const noexcept { return offset_product(x, vc, vb); }
    /// How far exponents relative to an older base (its b) are above those relative to this one.
    TRM_INLINE T above(T old_b) const noexcept { return simd::has_fma<V> ? old_b - b : (old_b - b) * c; }
    [[nodiscard]] bool resolved() const noexcept {
        T const p = m * c;
        return p <= largest_base<T> && p >= -largest_base<T>;
    }
    /// The base in nats. m c and b differ by the rounding of b, and c from its double by its own: both matter at 1e4.
    [[nodiscard]] double shift(double temperature) const noexcept {
        double const md = static_cast<double>(m);
        double const lost = simd::has_fma<V> ? static_cast<double>(b) - md * static_cast<double>(c) : 0.0;
        return md / temperature + lost * ln2;
    }
};

/// Exponents relative to a known logsumexp: p = 2^(t + residue), t = (x - lse temperature) c. The product with the rounded c
/// keeps errors relative to z - logsumexp, not to z; the residue is what the base lost to rounding.
template <class V>
struct known_base {
    using T = typename V::value_type;
    V c, b;
    double residue;
    TRM_INLINE known_base(double temperature, double lse) noexcept {
        T const cf = static_cast<T>(log2e / temperature);
        double const scale = static_cast<double>(cf), center = lse * temperature;
        T const bf = static_cast<T>(simd::has_fma<V> ? center * scale : center);
        residue =
            simd::has_fma<V> ? static_cast<double>(bf) - center * scale : (static_cast<double>(bf) - center) * scale;
        c = V(cf);
        b = V(bf);
    }
    TRM_INLINE V exponent(V x) const noexcept { return offset_product(x, c, b); }
};

}  // namespace logits_detail
TRM_NAMESPACE_END
