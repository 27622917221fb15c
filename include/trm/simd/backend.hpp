// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/simd/arch.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

/// \file
/// What `vec` needs of a register: broadcast, load, store, compare, select, fma, min, max. x86 is spelled in intrinsics,
/// because xsimd's functions are not forced inline: a kernel has thousands of them, and g++ 12 spends more time deciding
/// about each than on the rest of the loss.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class T>
using integer_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

/// Any architecture: what xsimd makes of it (backend_xsimd.hpp) where there is nothing better here. `power` is 2^n for
/// t = n + 1.5 * 2^(mantissa bits): the addition has pushed the integer n into the low bits of t. `finite` looks at the
/// exponent bits, so that -ffast-math keeps it.
template <class T, class A>
struct backend;

/// One lane.
template <class T>
struct backend<T, scalar> {
    using reg = T;
    using truth = bool;
    static constexpr std::size_t size = 1;

    static TRM_INLINE T set(T v) noexcept { return v; }
    static TRM_INLINE T load(T const* p) noexcept { return *p; }
    static TRM_INLINE void store(T* p, T v) noexcept { *p = v; }
    static TRM_INLINE bool less(T a, T b) noexcept { return a < b; }
    static TRM_INLINE bool less_equal(T a, T b) noexcept { return a <= b; }
    static TRM_INLINE bool equal(T a, T b) noexcept { return a == b; }
    static TRM_INLINE T select(bool m, T a, T b) noexcept { return m ? a : b; }
    static TRM_INLINE T fma(T a, T b, T c) noexcept {
#if TRM_SIMD_FMA
        return std::fma(a, b, c);
#else
        return a * b + c;
#endif
    }
    static TRM_INLINE T larger(T a, T b) noexcept { return a > b ? a : b; }
    static TRM_INLINE T smaller(T a, T b) noexcept { return a < b ? a : b; }
    static TRM_INLINE T abs(T v) noexcept { return std::fabs(v); }
    static TRM_INLINE bool both(bool a, bool b) noexcept { return a && b; }
    static TRM_INLINE bool either(bool a, bool b) noexcept { return a || b; }
    static TRM_INLINE bool negate(bool a) noexcept { return !a; }
    static constexpr bool everywhere() noexcept { return true; }
    static TRM_INLINE T add_where(bool m, T a, T b) noexcept { return a + (m ? b : T(0)); }
    static TRM_INLINE bool finite(T v) noexcept { return is_finite(v); }
    static TRM_INLINE T power(T t) noexcept {
        using U = std::make_unsigned_t<integer_of<T>>;
        return std::bit_cast<T>((std::bit_cast<U>(t) << (sizeof(T) == 4 ? 23 : 52)) + std::bit_cast<U>(T(1)));
    }
    static TRM_INLINE std::uint32_t bits(bool m) noexcept { return m ? 1u : 0u; }
    static TRM_INLINE T log(T v) noexcept { return std::log(v); }
    static TRM_INLINE T log1p(T v) noexcept { return std::log1p(v); }
};

#if TRM_SIMD_SSE2
template <>
struct backend<float, sse2> {
    using reg = __m128;
    using truth = __m128;
    static constexpr std::size_t size = 4;

    static TRM_INLINE reg set(float v) noexcept { return _mm_set1_ps(v); }
    static TRM_INLINE reg load(float const* p) noexcept { return _mm_loadu_ps(p); }
    static TRM_INLINE void store(float* p, reg v) noexcept { _mm_storeu_ps(p, v); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return _mm_cmplt_ps(a, b); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return _mm_cmple_ps(a, b); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return _mm_cmpeq_ps(a, b); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b));
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept {
#if defined(__FMA__)
        return _mm_fmadd_ps(a, b, c);
#else
        return _mm_add_ps(_mm_mul_ps(a, b), c);
#endif
    }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return _mm_max_ps(a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return _mm_min_ps(a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return _mm_andnot_ps(_mm_set1_ps(-0.0f), v); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return _mm_and_ps(a, b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return _mm_or_ps(a, b); }
    static TRM_INLINE truth negate(truth m) noexcept { return _mm_xor_ps(m, everywhere()); }
    static TRM_INLINE truth everywhere() noexcept { return _mm_castsi128_ps(_mm_set1_epi32(-1)); }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept { return _mm_add_ps(a, _mm_and_ps(m, b)); }
    static TRM_INLINE truth finite(reg v) noexcept {
        __m128i const exponent = _mm_set1_epi32(0x7f800000);
        return negate(_mm_castsi128_ps(_mm_cmpeq_epi32(_mm_and_si128(_mm_castps_si128(v), exponent), exponent)));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        __m128i const n = _mm_slli_epi32(_mm_castps_si128(t), 23);
        return _mm_castsi128_ps(_mm_add_epi32(n, _mm_castps_si128(_mm_set1_ps(1.0f))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept { return static_cast<std::uint32_t>(_mm_movemask_ps(m)); }
};
template <>
struct backend<double, sse2> {
    using reg = __m128d;
    using truth = __m128d;
    static constexpr std::size_t size = 2;

    static TRM_INLINE reg set(double v) noexcept { return _mm_set1_pd(v); }
    static TRM_INLINE reg load(double const* p) noexcept { return _mm_loadu_pd(p); }
    static TRM_INLINE void store(double* p, reg v) noexcept { _mm_storeu_pd(p, v); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return _mm_cmplt_pd(a, b); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return _mm_cmple_pd(a, b); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return _mm_cmpeq_pd(a, b); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        return _mm_or_pd(_mm_and_pd(m, a), _mm_andnot_pd(m, b));
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept {
#if defined(__FMA__)
        return _mm_fmadd_pd(a, b, c);
#else
        return _mm_add_pd(_mm_mul_pd(a, b), c);
#endif
    }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return _mm_max_pd(a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return _mm_min_pd(a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return _mm_andnot_pd(_mm_set1_pd(-0.0), v); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return _mm_and_pd(a, b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return _mm_or_pd(a, b); }
    static TRM_INLINE truth negate(truth m) noexcept { return _mm_xor_pd(m, everywhere()); }
    static TRM_INLINE truth everywhere() noexcept { return _mm_castsi128_pd(_mm_set1_epi32(-1)); }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept { return _mm_add_pd(a, _mm_and_pd(m, b)); }
    static TRM_INLINE truth finite(reg v) noexcept {  // the exponent is in the upper half: compare halves, copy down
        __m128i const exponent = _mm_set1_epi64x(0x7ff0000000000000);
        __m128i const same = _mm_cmpeq_epi32(_mm_and_si128(_mm_castpd_si128(v), exponent), exponent);
        return negate(_mm_castsi128_pd(_mm_shuffle_epi32(same, _MM_SHUFFLE(3, 3, 1, 1))));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        __m128i const n = _mm_slli_epi64(_mm_castpd_si128(t), 52);
        return _mm_castsi128_pd(_mm_add_epi64(n, _mm_castpd_si128(_mm_set1_pd(1.0))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept { return static_cast<std::uint32_t>(_mm_movemask_pd(m)); }
};
#endif

#if TRM_SIMD_AVX2
template <>
struct backend<float, avx2> {
    using reg = __m256;
    using truth = __m256;
    static constexpr std::size_t size = 8;

    static TRM_INLINE reg set(float v) noexcept { return _mm256_set1_ps(v); }
    static TRM_INLINE reg load(float const* p) noexcept { return _mm256_loadu_ps(p); }
    static TRM_INLINE void store(float* p, reg v) noexcept { _mm256_storeu_ps(p, v); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        return reinterpret_cast<__v8si>(m) < 0 ? a : b;  // the blend instruction, folded where m is a constant
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept { return _mm256_fmadd_ps(a, b, c); }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return _mm256_max_ps(a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return _mm256_min_ps(a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return _mm256_and_ps(a, b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return _mm256_or_ps(a, b); }
    static TRM_INLINE truth negate(truth m) noexcept { return _mm256_xor_ps(m, everywhere()); }
    static TRM_INLINE truth everywhere() noexcept { return _mm256_castsi256_ps(_mm256_set1_epi32(-1)); }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept { return _mm256_add_ps(a, _mm256_and_ps(m, b)); }
    static TRM_INLINE truth finite(reg v) noexcept {
        __m256i const exponent = _mm256_set1_epi32(0x7f800000);
        __m256i const same = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(v), exponent), exponent);
        return negate(_mm256_castsi256_ps(same));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        __m256i const n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
        return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_castps_si256(_mm256_set1_ps(1.0f))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept { return static_cast<std::uint32_t>(_mm256_movemask_ps(m)); }
};
template <>
struct backend<double, avx2> {
    using reg = __m256d;
    using truth = __m256d;
    static constexpr std::size_t size = 4;

    static TRM_INLINE reg set(double v) noexcept { return _mm256_set1_pd(v); }
    static TRM_INLINE reg load(double const* p) noexcept { return _mm256_loadu_pd(p); }
    static TRM_INLINE void store(double* p, reg v) noexcept { _mm256_storeu_pd(p, v); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return _mm256_cmp_pd(a, b, _CMP_LE_OQ); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        return reinterpret_cast<__v4di>(m) < 0 ? a : b;  // the blend instruction, folded where m is a constant
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept { return _mm256_fmadd_pd(a, b, c); }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return _mm256_max_pd(a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return _mm256_min_pd(a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), v); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return _mm256_and_pd(a, b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return _mm256_or_pd(a, b); }
    static TRM_INLINE truth negate(truth m) noexcept { return _mm256_xor_pd(m, everywhere()); }
    static TRM_INLINE truth everywhere() noexcept { return _mm256_castsi256_pd(_mm256_set1_epi32(-1)); }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept { return _mm256_add_pd(a, _mm256_and_pd(m, b)); }
    static TRM_INLINE truth finite(reg v) noexcept {
        __m256i const exponent = _mm256_set1_epi64x(0x7ff0000000000000);
        __m256i const same = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_castpd_si256(v), exponent), exponent);
        return negate(_mm256_castsi256_pd(same));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        __m256i const n = _mm256_slli_epi64(_mm256_castpd_si256(t), 52);
        return _mm256_castsi256_pd(_mm256_add_epi64(n, _mm256_castpd_si256(_mm256_set1_pd(1.0))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept { return static_cast<std::uint32_t>(_mm256_movemask_pd(m)); }
};
#endif

#if TRM_SIMD_AVX512
template <>
struct backend<float, avx512> {
    using reg = __m512;
    using truth = __mmask16;
    static constexpr std::size_t size = 16;

    static TRM_INLINE reg set(float v) noexcept { return _mm512_set1_ps(v); }
    static TRM_INLINE reg load(float const* p) noexcept { return _mm512_loadu_ps(p); }
    static TRM_INLINE void store(float* p, reg v) noexcept { _mm512_storeu_ps(p, v); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        if (__builtin_constant_p(m) && m == everywhere()) return a;  // g++ does not fold the instruction
        return _mm512_mask_blend_ps(m, b, a);
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept { return _mm512_fmadd_ps(a, b, c); }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return _mm512_max_ps(a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return _mm512_min_ps(a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return _mm512_abs_ps(v); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return static_cast<truth>(a & b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return static_cast<truth>(a | b); }
    static TRM_INLINE truth negate(truth m) noexcept { return static_cast<truth>(~m & 0xffffu); }
    static constexpr truth everywhere() noexcept { return 0xffffu; }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept { return _mm512_mask_add_ps(a, m, a, b); }
    static TRM_INLINE truth finite(reg v) noexcept {  // 0x99: quiet and signalling NaN, both infinities
        return negate(_mm512_fpclass_ps_mask(v, 0x99));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        __m512i const n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
        return _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_castps_si512(_mm512_set1_ps(1.0f))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept { return m; }
};
template <>
struct backend<double, avx512> {
    using reg = __m512d;
    using truth = __mmask8;
    static constexpr std::size_t size = 8;

    static TRM_INLINE reg set(double v) noexcept { return _mm512_set1_pd(v); }
    static TRM_INLINE reg load(double const* p) noexcept { return _mm512_loadu_pd(p); }
    static TRM_INLINE void store(double* p, reg v) noexcept { _mm512_storeu_pd(p, v); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        if (__builtin_constant_p(m) && m == everywhere()) return a;  // g++ does not fold the instruction
        return _mm512_mask_blend_pd(m, b, a);
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept { return _mm512_fmadd_pd(a, b, c); }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return _mm512_max_pd(a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return _mm512_min_pd(a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return _mm512_abs_pd(v); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return static_cast<truth>(a & b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return static_cast<truth>(a | b); }
    static TRM_INLINE truth negate(truth m) noexcept { return static_cast<truth>(~m & 0xffu); }
    static constexpr truth everywhere() noexcept { return 0xffu; }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept { return _mm512_mask_add_pd(a, m, a, b); }
    static TRM_INLINE truth finite(reg v) noexcept {  // 0x99: quiet and signalling NaN, both infinities
        return negate(_mm512_fpclass_pd_mask(v, 0x99));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        __m512i const n = _mm512_slli_epi64(_mm512_castpd_si512(t), 52);
        return _mm512_castsi512_pd(_mm512_add_epi64(n, _mm512_castpd_si512(_mm512_set1_pd(1.0))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept { return m; }
};
#endif

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END

#if TRM_SIMD_XSIMD
#include <trm/simd/backend_xsimd.hpp>
#endif
