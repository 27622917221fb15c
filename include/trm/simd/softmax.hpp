// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/math.hpp>
#include <trm/simd/memory.hpp>

/// \file
/// 2^t for softmax sums: no overflow guard, one range reduction, five multiply-adds. The natural base costs a
/// multiplication more per element; here it is folded into the scale of the logits.

TRM_NAMESPACE_BEGIN
namespace simd {

/// Below this exponent a softmax term is treated as zero: 2^-126, the smallest normal float.
template <class T>
inline constexpr T exp2_floor = T(-126);

/// At this exponent the bits of the power of two are those of 0.
template <class T>
inline constexpr T exp2_zero = sizeof(T) == 4 ? T(-127) : T(-1023);

/// (x - m) c for a base m: as c x - b with b = c m rounded where `fma` rounds once; where it does not, that loses what
/// cancels: subtraction first, b = m.
template <class V>
TRM_INLINE V offset_product(V x, V c, V b) noexcept {
    if constexpr (has_fma<V>) {
        return fma(x, c, -b);
    } else {
        return exact(x - b) * c;
    }
}

template <class V>
TRM_INLINE V upper(V a, V b) noexcept {
    return (max)(a, b);
}
template <class V>
TRM_INLINE V lower(V a, V b) noexcept {
    return (min)(a, b);
}

/// max(t, -126); NaN stays NaN.
template <class V>
TRM_INLINE V floor_exponent(V t) noexcept {
    return upper(V(exp2_floor<typename V::value_type>), t);
}

namespace detail {

#if TRM_SIMD_HAS_AVX2
/// From 8 n + k in the low bits to 2^(n + k / 8). The table holds 2^(k/8) as bits, less k 2^20: the shift adds both n 2^23 and
/// k 2^20.
TRM_ON_AVX2 void power_of_eighths(backend<float, avx2>::reg& v) noexcept {
    __m256i const eighths = _mm256_setr_epi32(0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a,
                                              0x3f7744fd, 0x3f7ac0c7);
    __m256i const bits = _mm256_castps_si256(v);
    v = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_permutevar8x32_epi32(eighths, bits), _mm256_slli_epi32(bits, 20)));
}
/// 2^t with t = n + k / 8 + f: the eight powers 2^(k/8) fill a register, so that three multiply-adds are enough for 2^f (2.7e-8,
/// against 3e-8 of a power). n registers step by step: the CPU's queue holds the chains of a few only if one follows the other.
template <class V, std::size_t n>
TRM_INLINE void exp2_by_eighths(V (&t)[n]) noexcept {
    V const magic(0x1.8p20f);
    V shifted[n], p[n];
    for (std::size_t i = 0; i < n; ++i) shifted[i] = in_order(exact(t[i] + magic));  // 8 n + k in the low bits
    for (std::size_t i = 0; i < n; ++i) t[i] = in_order(exact(t[i] - exact(shifted[i] - magic)));
    for (std::size_t i = 0; i < n; ++i) p[i] = in_order(fma(V(0x1.c6a004dd7c27ep-5f), t[i], V(0x1.ec0c3238031b6p-3f)));
    for (std::size_t i = 0; i < n; ++i) p[i] = in_order(fma(p[i], t[i], V(0x1.62e4311131a88p-1f)));
    for (std::size_t i = 0; i < n; ++i) {
        power_of_eighths(shifted[i].r);
        shifted[i] = in_order(shifted[i]);
    }
    for (std::size_t i = 0; i < n; ++i) p[i] = in_order(fma(p[i], t[i], V(1.0f)));
    for (std::size_t i = 0; i < n; ++i) t[i] = p[i] * shifted[i];
}
#endif

#if TRM_SIMD_HAS_AVX512
TRM_SIMD_MACROS_BEGIN
/// To the nearest integer, without exceptions.
TRM_ON_AVX512 void to_nearest(backend<float, avx512>::reg& to, backend<float, avx512>::reg const& t) noexcept {
    to = _mm512_roundscale_ps(t, 8);
}
TRM_SIMD_MACROS_END
/// p 2^n.
TRM_ON_AVX512 void scale_by_power(backend<float, avx512>::reg& p, backend<float, avx512>::reg const& n) noexcept {
    p = _mm512_scalef_ps(p, n);
}
#endif
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
            detail::to_nearest(scale.r, t.r);
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
            detail::scale_by_power(p.r, scale.r);
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
        for (V& x : t) x = exp2(x);
    }
}

/// 2^t for -2^20 <= t <= 127, 0 (or at most 2^-126) below -126.
template <class V>
TRM_INLINE V exp2_wide(V t) noexcept {
    return exp2(exp2_saturates<V> ? t : floor_exponent(t));
}

/// 2^t of each t <= 127, -infinity included: 0 below -127, 2^t or less between -127 and -126 (AVX-512: 0 below -149, subnormal
/// between; double: below -1023). NaN stays NaN.
template <class V, std::size_t n>
TRM_INLINE void exp2_or_zero_each(V (&t)[n]) noexcept {
    if constexpr (!exp2_saturates<V>)
        for (V& x : t) x = upper(V(exp2_zero<typename V::value_type>), x);
    exp2_each(t);
}

}  // namespace simd
TRM_NAMESPACE_END
