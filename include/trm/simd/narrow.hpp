// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/memory.hpp>

/// \file
/// Stores that round to a storage type (nearest, ties to even), and non-temporal stores.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class U, class T>
TRM_INLINE U narrow(T v) noexcept {
    if constexpr (std::is_same_v<U, bf16>) {
        return to_bf16(static_cast<float>(v));
    } else if constexpr (std::is_same_v<U, f16>) {
        return to_f16(static_cast<float>(v));
    } else {
        return static_cast<U>(v);
    }
}

#if defined(__AVX512F__)
TRM_SIMD_MACROS_BEGIN
TRM_INLINE __m256i to_half(__m512 v) noexcept { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
TRM_SIMD_MACROS_END
#endif

}  // namespace detail

/// The first n lanes, rounded to the storage type.
template <class S, class V>
TRM_INLINE void store_as_n(S* to, V v, std::size_t n) noexcept {
    using U = storage_t<S>;
    if constexpr (std::is_same_v<S, typename V::value_type>) {
        store_n(to, v, n);
    } else {
        alignas(64) typename V::value_type buffer[V::size];
        v.write(buffer);
        for (std::size_t i = 0; i < n; ++i) {
            U const u = detail::narrow<U>(buffer[i]);
            std::memcpy(to + i, &u, sizeof u);
        }
    }
}

/// All lanes, rounded to the storage type. Subnormal bf16 results may become zero where the CPU converts.
template <class S, class V>
TRM_INLINE void store_as(S* to, V v) noexcept {
    using U [[maybe_unused]] = storage_t<S>;
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<U, f16> && detail::is_register<V, float, 64>) {
        __m256i const half = detail::to_half(static_cast<__m512>(v.r));
        std::memcpy(to, &half, sizeof half);
        return;
    }
#if defined(__AVX512BF16__)
    if constexpr (std::is_same_v<U, bf16> && detail::is_register<V, float, 64>) {
        auto const half = _mm512_cvtneps_pbh(static_cast<__m512>(v.r));
        std::memcpy(to, &half, sizeof half);
        return;
    }
#endif
    if constexpr (std::is_same_v<U, bf16> && detail::is_register<V, float, 64>) {
        __m512i const u = _mm512_castps_si512(static_cast<__m512>(v.r));
        __m512i const odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
        __m512i const magnitude = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff));
        __mmask16 const nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
        rounded = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
        __m256i const half = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
        std::memcpy(to, &half, sizeof half);
        return;
    }
#endif
    if constexpr (std::is_same_v<S, typename V::value_type>) {
        v.write(to);
    } else {
        store_as_n(to, v, V::size);
    }
}

/// Past the caches, for outputs that nobody reads soon; `to` aligned to the register. Ends with `stream_fence`.
template <class V>
TRM_INLINE void stream(typename V::value_type* to, V v) noexcept {
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>) {
        _mm512_stream_ps(to, static_cast<__m512>(v.r));
        return;
    }
#endif
#if defined(__AVX__)
    if constexpr (detail::is_register<V, float, 32>) {
        _mm256_stream_ps(to, static_cast<__m256>(v.r));
        return;
    }
#endif
    store(to, v);
}
TRM_INLINE void stream_fence() noexcept {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

}  // namespace simd
TRM_NAMESPACE_END
