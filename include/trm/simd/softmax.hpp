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

/// Does `fma` round once? Without it a x - b loses what cancels, and (x - m) a must be used instead.
#if defined(__FMA__) || defined(__aarch64__)
inline constexpr bool has_fma = true;
#else
inline constexpr bool has_fma = false;
#endif

/// (x - m) c for a base m: as c x - b with b = c m rounded where that is one instruction; else subtraction first, b = m.
template <class V>
TRM_INLINE V offset_product(V x, V c, V b) noexcept {
    if constexpr (has_fma) {
        return fma(x, c, -b);
    } else {
        return exact(x - b) * c;
    }
}

template <class V>
TRM_INLINE V upper(V a, V b) noexcept {
    return max(a, b);
}
template <class V>
TRM_INLINE V lower(V a, V b) noexcept {
    return min(a, b);
}

/// max(t, -126); NaN stays NaN.
template <class V>
TRM_INLINE V floor_exponent(V t) noexcept {
    return upper(V(exp2_floor<typename V::value_type>), t);
}

/// Keeps loads in program order: g++ 12 shuffles the loads of a group, which defeats hardware prefetchers.
template <class T, class A>
TRM_INLINE vec<T, A> in_order(vec<T, A> v) noexcept {
    if constexpr (!std::is_same_v<A, scalar>) {
#if defined(__AVX512F__)
        __asm__ volatile("" : "+v"(v.r));
#elif defined(__SSE2__)
        __asm__ volatile("" : "+x"(v.r));
#endif
    }
    return v;
}

/// 2^t for -126 <= t <= 127. Relative error 1.7e-7 (float: minimax polynomial of degree 5 with constant term exactly 1, so
/// that 2^n is exact; 1.1e-7 before its own roundings), 4e-16 (double). NaN stays NaN.
template <class V>
TRM_INLINE V exp2(V t) noexcept {
    using T = typename V::value_type;
    V f, scale;
    bool scaled = false;
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>) {
        __m512 const raw = static_cast<__m512>(t.r);
        scale = detail::wrap<V>(_mm512_roundscale_ps(raw, 8));  // to nearest, no exceptions
        f = exact(t - scale);
        scaled = true;
    }
#endif
    if (!scaled) {
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
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>)
        return detail::wrap<V>(_mm512_scalef_ps(static_cast<__m512>(p.r), static_cast<__m512>(scale.r)));
#endif
    return p * scale;
}

/// Does `exp2` take any t, 0 for -infinity and infinity for +infinity included? The AVX-512 scaling instruction does.
template <class V>
inline constexpr bool exp2_saturates =
#if defined(__AVX512F__)
    detail::is_register<V, float, 64>;
#else
    false;
#endif

/// 2^t for -2^20 <= t <= 127, 0 (or at most 2^-126) below -126.
template <class V>
TRM_INLINE V exp2_wide(V t) noexcept {
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>) return exp2(t);  // the scaling instruction underflows by itself
#endif
    return exp2(floor_exponent(t));
}

/// 2^t for -2^20 <= t <= 127, 0 below -126 (AVX-512: below -149, subnormal between).
template <class V>
TRM_INLINE V exp2_or_zero(V t) noexcept {
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>) return exp2(t);
#endif
    return zero_unless(t > V(exp2_floor<typename V::value_type>), exp2(floor_exponent(t)));
}

}  // namespace simd
TRM_NAMESPACE_END
