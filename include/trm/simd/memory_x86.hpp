// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/batch.hpp>

#include <cstring>

// Without optimisation some intrinsics of g++ are macros, whose sign conversions would be reported where they are used.
#if defined(__GNUC__) && !defined(__clang__)
#define TRM_SIMD_MACROS_BEGIN _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wsign-conversion\"")
#define TRM_SIMD_MACROS_END _Pragma("GCC diagnostic pop")
#else
#define TRM_SIMD_MACROS_BEGIN
#define TRM_SIMD_MACROS_END
#endif

/// \file
/// Instructions of x86 between registers and memory. Objects of foreign types are read by integer intrinsics, whose pointer
/// types may alias anything, never through a pointer to another type.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// What a unit has of: `load_n`, `store_n`, `first_n` (partial registers), `load_mask` (bytes that are not zero), `load_f16`,
/// `load_bf16`, `load_two_bf16` (widened), `store_f16`, `store_bf16` (rounded), `stream` (past the caches), and `count_bytes`, how
/// many of `bytes_at_once` bytes are not zero. Also what powers of 2 take, see softmax.hpp.
template <class T, class A>
struct instructions {};

#if TRM_SIMD_SSE2
template <>
struct instructions<float, sse2> {
    static TRM_INLINE void load_mask(backend<float, sse2>::truth& to, std::uint8_t const* bytes) noexcept {
        std::int32_t four;
        std::memcpy(&four, bytes, sizeof four);
        __m128i const zero = _mm_setzero_si128(), b = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
        to = reinterpret_cast<backend<float, sse2>::truth>(_mm_cmpgt_epi32(_mm_unpacklo_epi16(b, zero), zero));
    }
    static constexpr std::int64_t bytes_at_once = 16;
    static TRM_INLINE int count_bytes(std::uint8_t const* bytes) noexcept {
        __m128i const b = _mm_loadu_si128(reinterpret_cast<__m128i const*>(bytes));
        return 16 -
               std::popcount(static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(b, _mm_setzero_si128()))));
    }
};
#endif

#if TRM_SIMD_HAS_AVX2
template <>
struct instructions<float, avx2> {
    using unit = backend<float, avx2>;
    using reg = unit::reg;
    using truth = unit::truth;
    static TRM_ON_AVX2 void first_n(truth& to, std::size_t n) noexcept {
        to = reinterpret_cast<truth>(
            _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    }
    static TRM_ON_AVX2 void load_n(reg& to, float const* from, std::size_t n) noexcept {
        truth m;
        first_n(m, n);
        to = _mm256_maskload_ps(from, reinterpret_cast<__m256i>(m));
    }
    static TRM_ON_AVX2 void store_n(float* to, reg const& v, std::size_t n) noexcept {
        truth m;
        first_n(m, n);
        _mm256_maskstore_ps(to, reinterpret_cast<__m256i>(m), v);
    }
    static TRM_ON_AVX2 void load_mask(truth& to, std::uint8_t const* bytes) noexcept {
        __m256i const b = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(bytes)));
        to = reinterpret_cast<truth>(_mm256_cmpgt_epi32(b, _mm256_setzero_si256()));
    }
#if defined(__F16C__) || TRM_DISPATCH
    static TRM_ON_AVX2 void load_f16(reg& to, void const* from) noexcept {
        to = _mm256_cvtph_ps(_mm_loadu_si128(static_cast<__m128i const*>(from)));
    }
#endif
    static TRM_ON_AVX2 void load_bf16(reg& to, void const* from) noexcept {
        __m256i const wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<__m128i const*>(from)));
        to = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    /// From 8 n + k in the low bits to 2^(n + k / 8). The table holds 2^(k/8) as bits, less k 2^20: the shift adds both n 2^23
    /// and k 2^20.
    static TRM_ON_AVX2 void power_of_eighths(reg& v) noexcept {
        __m256i const eighths = _mm256_setr_epi32(0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3,
                                                  0x3f75672a, 0x3f7744fd, 0x3f7ac0c7);
        __m256i const bits = _mm256_castps_si256(v), root = _mm256_permutevar8x32_epi32(eighths, bits);
        v = _mm256_castsi256_ps(_mm256_add_epi32(root, _mm256_slli_epi32(bits, 20)));
    }
    static TRM_ON_AVX2 void stream(float* to, reg const& v) noexcept { _mm256_stream_ps(to, v); }
    static constexpr std::int64_t bytes_at_once = 32;
    static TRM_ON_AVX2 int count_bytes(std::uint8_t const* bytes) noexcept {
        __m256i const b = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(bytes));
        __m256i const zeros = _mm256_cmpeq_epi8(b, _mm256_setzero_si256());
        return 32 - std::popcount(static_cast<std::uint32_t>(_mm256_movemask_epi8(zeros)));
    }
};
template <>
struct instructions<double, avx2> {
    using unit = backend<double, avx2>;
    using reg = unit::reg;
    using truth = unit::truth;
    static TRM_ON_AVX2 void first_n(truth& to, std::size_t n) noexcept {
        to = reinterpret_cast<truth>(
            _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)), _mm256_setr_epi64x(0, 1, 2, 3)));
    }
    static TRM_ON_AVX2 void load_n(reg& to, double const* from, std::size_t n) noexcept {
        truth m;
        first_n(m, n);
        to = _mm256_maskload_pd(from, reinterpret_cast<__m256i>(m));
    }
    static TRM_ON_AVX2 void store_n(double* to, reg const& v, std::size_t n) noexcept {
        truth m;
        first_n(m, n);
        _mm256_maskstore_pd(to, reinterpret_cast<__m256i>(m), v);
    }
};
#endif

#if TRM_SIMD_HAS_AVX512
TRM_SIMD_MACROS_BEGIN
template <>
struct instructions<float, avx512> {
    using unit = backend<float, avx512>;
    using reg = unit::reg;
    using truth = unit::truth;
    static TRM_INLINE void first_n(truth& to, std::size_t n) noexcept { to = static_cast<truth>((1u << n) - 1u); }
    static TRM_ON_AVX512 void load_n(reg& to, float const* from, std::size_t n) noexcept {
        to = _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), from);
    }
    static TRM_ON_AVX512 void store_n(float* to, reg const& v, std::size_t n) noexcept {
        _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1u), v);
    }
#if defined(__AVX512VL__) || TRM_DISPATCH
    static TRM_ON_AVX512 void load_mask(truth& to, std::uint8_t const* bytes) noexcept {
        __m128i const b = _mm_loadu_si128(reinterpret_cast<__m128i const*>(bytes));
        to = _mm_test_epi8_mask(b, b);
    }
#endif
    static TRM_ON_AVX512 void load_f16(reg& to, void const* from) noexcept {
        to = _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<__m256i const*>(from)));
    }
    static TRM_ON_AVX512 void load_bf16(reg& to, void const* from) noexcept {
        __m512i const wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<__m256i const*>(from)));
        to = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    /// Even elements to a, odd ones to b.
    static TRM_ON_AVX512 void load_two_bf16(reg& a, reg& b, void const* from) noexcept {
        __m512i const both = _mm512_loadu_si512(from);
        a = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        b = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)));
    }
    static TRM_ON_AVX512 void store_f16(void* to, reg const& v) noexcept {
        _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    static TRM_ON_AVX512 void store_bf16(void* to, reg const& v) noexcept {
#if defined(__AVX512BF16__)
        auto const half = _mm512_cvtneps_pbh(v);
        std::memcpy(to, &half, sizeof half);
#else
        __m512i const u = _mm512_castps_si512(v);
        __m512i const odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
        __m512i const magnitude = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff));
        __mmask16 const nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
        rounded = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
        _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
#endif
    }
    /// To the nearest integer, without exceptions.
    static TRM_ON_AVX512 void to_nearest(reg& to, reg const& t) noexcept { to = _mm512_roundscale_ps(t, 8); }
    /// p 2^n.
    static TRM_ON_AVX512 void scale_by_power(reg& p, reg const& n) noexcept { p = _mm512_scalef_ps(p, n); }
    static TRM_ON_AVX512 void stream(float* to, reg const& v) noexcept { _mm512_stream_ps(to, v); }
    static constexpr std::int64_t bytes_at_once = 64;
    static TRM_ON_AVX512 int count_bytes(std::uint8_t const* bytes) noexcept {
        __m512i const b = _mm512_loadu_si512(bytes);
        return std::popcount(static_cast<std::uint64_t>(_mm512_test_epi8_mask(b, b)));
    }
};
template <>
struct instructions<double, avx512> {
    using unit = backend<double, avx512>;
    using reg = unit::reg;
    using truth = unit::truth;
    static TRM_INLINE void first_n(truth& to, std::size_t n) noexcept { to = static_cast<truth>((1u << n) - 1u); }
    static TRM_ON_AVX512 void load_n(reg& to, double const* from, std::size_t n) noexcept {
        to = _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), from);
    }
    static TRM_ON_AVX512 void store_n(double* to, reg const& v, std::size_t n) noexcept {
        _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << n) - 1u), v);
    }
#if defined(__AVX512VL__) || TRM_DISPATCH
    static TRM_ON_AVX512 void load_mask(truth& to, std::uint8_t const* bytes) noexcept {
        __m128i const b = _mm_loadl_epi64(reinterpret_cast<__m128i const*>(bytes));
        to = static_cast<truth>(_mm_test_epi8_mask(b, b));
    }
#endif
};
TRM_SIMD_MACROS_END
#endif

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END

#undef TRM_SIMD_MACROS_BEGIN
#undef TRM_SIMD_MACROS_END
