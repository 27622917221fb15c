// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/batch.hpp>

#include <cstring>

/// \file
/// Instructions of x86 that one lane type has: conversions, masks of bytes, powers of 2. Objects of foreign types are read by
/// integer intrinsics, whose pointer types may alias anything, never through a pointer to another type.

TRM_SIMD_QUIET_BEGIN
TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

using as_f16 = std::type_identity<f16>;
using as_bf16 = std::type_identity<bf16>;

/// What a unit has of: `load_mask` (bytes that are not zero) and `store_mask` (as bytes 1 and 0), `load` (widened) and `store`
/// (rounded) for a storage type, and what powers of 2 take, see softmax.hpp.
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
    static TRM_INLINE void store_mask(std::uint8_t* bytes, backend<float, sse2>::truth const& m) noexcept {
        __m128i const lanes = reinterpret_cast<__m128i>(m), words = _mm_packs_epi32(lanes, lanes);
        std::int32_t const four = _mm_cvtsi128_si32(_mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1)));
        std::memcpy(bytes, &four, sizeof four);
    }
};
#endif

#if TRM_SIMD_HAS_AVX2
template <>
struct instructions<float, avx2> {
    using reg = backend<float, avx2>::reg;
    using truth = backend<float, avx2>::truth;
    static TRM_ON_AVX2 void load_mask(truth& to, std::uint8_t const* bytes) noexcept {
        __m256i const b = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(bytes)));
        to = reinterpret_cast<truth>(_mm256_cmpgt_epi32(b, _mm256_setzero_si256()));
    }
    static TRM_ON_AVX2 void store_mask(std::uint8_t* bytes, truth const& m) noexcept {
        __m256i const lanes = reinterpret_cast<__m256i>(m);
        __m128i const words = _mm_packs_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes),
                         _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1)));
    }
#if defined(__F16C__) || TRM_SIMD_ALL
    static TRM_ON_AVX2 void load(as_f16, reg& to, void const* from) noexcept {
        to = _mm256_cvtph_ps(_mm_loadu_si128(static_cast<__m128i const*>(from)));
    }
#endif
    static TRM_ON_AVX2 void load(as_bf16, reg& to, void const* from) noexcept {
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
};
#endif

#if TRM_SIMD_HAS_AVX512
template <>
struct instructions<float, avx512> {
    using reg = backend<float, avx512>::reg;
    static TRM_ON_AVX512 void load_mask(std::uint16_t& to, std::uint8_t const* bytes) noexcept {
        __m128i const b = _mm_loadu_si128(reinterpret_cast<__m128i const*>(bytes));
        to = _mm_test_epi8_mask(b, b);
    }
    static TRM_ON_AVX512 void store_mask(std::uint8_t* bytes, std::uint16_t m) noexcept {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm_maskz_set1_epi8(m, 1));
    }
    static TRM_ON_AVX512 void load(as_f16, reg& to, void const* from) noexcept {
        to = _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<__m256i const*>(from)));
    }
    static TRM_ON_AVX512 void load(as_bf16, reg& to, void const* from) noexcept {
        __m512i const wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<__m256i const*>(from)));
        to = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    static TRM_ON_AVX512 void store(as_f16, void* to, reg const& v) noexcept {
        _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    static TRM_ON_AVX512 void store(as_bf16, void* to, reg const& v) noexcept {
#if defined(__AVX512BF16__)
        auto const half = _mm512_cvtneps_pbh(v);
        std::memcpy(to, &half, sizeof half);
#else
        __m512i const u = _mm512_castps_si512(v);
        __m512i const odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
        __mmask16 const nan = _mm512_fpclass_ps_mask(v, 0x81);  // quiet or signalling
        rounded = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
        _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
#endif
    }
    /// To the nearest integer, without exceptions.
    static TRM_ON_AVX512 void to_nearest(reg& to, reg const& t) noexcept { to = _mm512_roundscale_ps(t, 8); }
    /// p 2^n.
    static TRM_ON_AVX512 void scale_by_power(reg& p, reg const& n) noexcept { p = _mm512_scalef_ps(p, n); }
};
template <>
struct instructions<double, avx512> {
    static TRM_ON_AVX512 void load_mask(std::uint8_t& to, std::uint8_t const* bytes) noexcept {
        __m128i const b = _mm_loadl_epi64(reinterpret_cast<__m128i const*>(bytes));
        to = static_cast<std::uint8_t>(_mm_test_epi8_mask(b, b));
    }
    static TRM_ON_AVX512 void store_mask(std::uint8_t* bytes, std::uint8_t m) noexcept {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes), _mm_maskz_set1_epi8(m, 1));
    }
};
#endif

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END
TRM_SIMD_QUIET_END
