// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/math.hpp>
#include <trm/simd/memory.hpp>

/// \file
/// 2^t for softmax sums: no overflow guard, one range reduction, five multiply-adds. The natural base costs a
/// multiplication more per element; here it is folded into the scale of the logits.

TRM_NAMESPACE_BEGIN
namespace simd {

/// At this exponent the bits of the power of two are those of 0.
template <class T>
inline constexpr T exp2_zero = sizeof(T) == 4 ? T(-127) : T(-1023);

namespace detail {

/// 2^t with t = n + k / 8 + f: the eight powers 2^(k/8) fill a register, so that three multiply-adds are enough for 2^f (2.7e-8,
/// against 3e-8 of a power). n registers step by step: the CPU's queue holds the chains of a few only if one follows the other.
template <class V, std::size_t n>
TRM_INLINE void exp2_by_eighths(V (&t)[n]) noexcept {
    V const magic(0x1.8p20f), c1(0x1.62e4311131a88p-1f), c2(0x1.ec0c3238031b6p-3f), c3(0x1.c6a004dd7c27ep-5f);
    V shifted[n], p[n];  // shifted: 8 n + k in the low bits
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) shifted[i] = in_order(exact(t[i] + magic));
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) t[i] = in_order(exact(t[i] - exact(shifted[i] - magic)));
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) p[i] = in_order(fma(c3, t[i], c2));
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) p[i] = in_order(fma(p[i], t[i], c1));
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) {
        instructions_of<V>::power_of_eighths(shifted[i].r);
        shifted[i] = in_order(shifted[i]);
    }
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) p[i] = in_order(fma(p[i], t[i], V(1.0f)));
    TRM_UNROLL for (std::size_t i = 0; i < n; ++i) t[i] = p[i] * shifted[i];
}

template <class V, class A>
inline constexpr bool is_floats_of = std::is_same_v<V, vec<float, A>>;

}  // namespace detail

/// Does `exp2` take any t, 0 for -infinity and infinity for +infinity included? The AVX-512 scaling instruction does.
template <class V>
inline constexpr bool exp2_saturates = detail::is_floats_of<V, avx512>;

/// 2^t for -126 <= t <= 127. Relative error 2e-7 (float: minimax polynomial of degree 5 with constant term exactly 1, so that
/// 2^n is exact; 1.1e-7 before its own roundings; AVX2: `exp2_by_eighths`, 1.6e-7), 4e-16 (double). NaN stays NaN.
/// Between `exp2_zero` and -126 the result is 2^t or less, at `exp2_zero` 0.
template <class V>
TRM_INLINE V exp2(V t) noexcept {
    using T = typename V::value_type;
    if constexpr (detail::is_floats_of<V, avx2>) {
        V one[] = {t};
        detail::exp2_by_eighths(one);
        return one[0];
    } else {
        V f, scale;
        if constexpr (exp2_saturates<V>) {
            detail::instructions_of<V>::to_nearest(scale.r, t.r);
            f = exact(t - scale);
        } else {
            V const magic(detail::exp_constants<T>::magic);
            V const shifted = exact(t + magic);
            f = exact(t - exact(shifted - magic));
            scale = exp2_of_shifted(shifted);
        }
        V p;
        if constexpr (sizeof(T) == 4) {
            p = fma(V(0x1.5bba147a5bbc3p-10f), f, V(0x1.3cea8739c7621p-7f));
            p = fma(p, f, V(0x1.c6b752dd0b7dfp-5f));
            p = fma(p, f, V(0x1.ebf9bb8ab34bdp-3f));
            p = fma(p, f, V(0x1.62e4292039d7cp-1f));
            p = fma(p, f, V(1.0f));
        } else {
            V const g = f * V(T(0x1.62e42fefa39efp-1));
            p = fma(g * g, detail::horner(g), g) + V(T(1));
        }
        if constexpr (exp2_saturates<V>) {
            detail::instructions_of<V>::scale_by_power(p.r, scale.r);
            return p;
        } else {
            return p * scale;
        }
    }
}

/// `exp2` of each.
template <class V, std::size_t n>
TRM_INLINE void exp2_each(V (&t)[n]) noexcept {
    if constexpr (detail::is_floats_of<V, avx2>) {
        detail::exp2_by_eighths(t);
    } else {
        TRM_UNROLL for (V& x : t) x = exp2(x);
    }
}

/// 2^t of each t <= 127, -infinity included: 0 below -127, 2^t or less between -127 and -126 (AVX-512: 0 below -149, subnormal
/// between; double: below -1023). NaN stays NaN.
template <class V, std::size_t n>
TRM_INLINE void exp2_or_zero_each(V (&t)[n]) noexcept {
    if constexpr (!exp2_saturates<V>) TRM_UNROLL for (V& x : t) x = (max)(V(exp2_zero<typename V::value_type>), x);
    exp2_each(t);
}

}  // namespace simd
TRM_NAMESPACE_END
