// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/reduce.hpp>

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
/// Loads that convert from a storage type, partial loads and stores for tails, and byte masks. A partial load never
/// touches memory past its end and fills the other lanes with zero.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// Is V one x86 register of `bytes` bytes that holds T? (Asked by size: naming __m512 in a template argument warns.)
template <class V, class T, std::size_t bytes>
inline constexpr bool is_register =
    !V::is_scalar && std::is_same_v<typename V::value_type, T> && V::size * sizeof(T) == bytes;

template <class V, class R>
TRM_INLINE V wrap(R raw) noexcept {
    return V(typename V::reg(raw));
}
template <class V, class R>
TRM_INLINE typename V::mask wrap_mask(R raw) noexcept {
    return typename V::mask(typename V::mask::reg(raw));
}
template <class V>
TRM_INLINE V from_array(typename V::value_type const* aligned) noexcept {
    return V::read(aligned);
}

}  // namespace detail

/// `V::size` elements from any alignment, widened to the arithmetic type. Objects of foreign types are read by memcpy and by
/// integer intrinsics, whose pointer types may alias anything, never through a pointer to another type.
template <class V, class S>
TRM_INLINE V load(S const* from) noexcept {
    using T = typename V::value_type;
    using U = storage_t<S>;
    if constexpr (std::is_same_v<S, T>) {
        return V::read(from);
#if defined(__AVX512F__)
    } else if constexpr (std::is_same_v<U, f16> && detail::is_register<V, float, 64>) {
        return detail::wrap<V>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<__m256i const*>(from))));
    } else if constexpr (std::is_same_v<U, bf16> && detail::is_register<V, float, 64>) {
        __m512i const wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<__m256i const*>(from)));
        return detail::wrap<V>(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
#endif
#if defined(__F16C__)
    } else if constexpr (std::is_same_v<U, f16> && detail::is_register<V, float, 32>) {
        return detail::wrap<V>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<__m128i const*>(from))));
#endif
#if defined(__AVX2__)
    } else if constexpr (std::is_same_v<U, bf16> && detail::is_register<V, float, 32>) {
        __m256i const wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(from)));
        return detail::wrap<V>(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
#endif
    } else {
        alignas(64) T buffer[V::size];
        for (std::size_t i = 0; i < V::size; ++i) {
            U u;
            std::memcpy(&u, from + i, sizeof u);
            buffer[i] = static_cast<T>(to_float(u));
        }
        return detail::from_array<V>(buffer);
    }
}

/// 2 `V::size` elements in any order, the same for every call: sums do not care, and unpacking bf16 gets cheaper.
template <class V, class S>
TRM_INLINE void load_two(S const* from, V& a, V& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<storage_t<S>, bf16> && detail::is_register<V, float, 64>) {
        __m512i const both = _mm512_loadu_si512(from);
        a = detail::wrap<V>(_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
        b = detail::wrap<V>(_mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536))));
        return;
    }
#endif
    a = load<V>(from);
    b = load<V>(from + V::size);
}

#if defined(__AVX2__)
namespace detail {
TRM_INLINE __m256i first_n_of_8(std::size_t n) noexcept {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TRM_INLINE __m256i first_n_of_4(std::size_t n) noexcept {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)), _mm256_setr_epi64x(0, 1, 2, 3));
}
}  // namespace detail
#endif

/// The first n elements (0 <= n < lanes), zero in the other lanes.
template <class V, class S>
TRM_INLINE V load_n(S const* from, std::size_t n) noexcept {
    using T = typename V::value_type;
    using U = storage_t<S>;
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<S, float> && detail::is_register<V, float, 64>)
        return detail::wrap<V>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), from));
    if constexpr (std::is_same_v<S, double> && detail::is_register<V, double, 64>)
        return detail::wrap<V>(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), from));
#endif
#if defined(__AVX2__)
    if constexpr (std::is_same_v<S, float> && detail::is_register<V, float, 32>)
        return detail::wrap<V>(_mm256_maskload_ps(from, detail::first_n_of_8(n)));
    if constexpr (std::is_same_v<S, double> && detail::is_register<V, double, 32>)
        return detail::wrap<V>(_mm256_maskload_pd(from, detail::first_n_of_4(n)));
#endif
    alignas(64) T buffer[V::size] = {};
    for (std::size_t i = 0; i < n; ++i) {
        U u;
        std::memcpy(&u, from + i, sizeof u);
        buffer[i] = static_cast<T>(to_float(u));
    }
    return detail::from_array<V>(buffer);
}

template <class V>
TRM_INLINE void store(typename V::value_type* to, V v) noexcept {
    v.write(to);
}

template <class V>
TRM_INLINE void store_n(typename V::value_type* to, V v, std::size_t n) noexcept {
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>) {
        _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1u), static_cast<__m512>(v.r));
        return;
    }
    if constexpr (detail::is_register<V, double, 64>) {
        _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << n) - 1u), static_cast<__m512d>(v.r));
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (detail::is_register<V, float, 32>) {
        _mm256_maskstore_ps(to, detail::first_n_of_8(n), static_cast<__m256>(v.r));
        return;
    }
    if constexpr (detail::is_register<V, double, 32>) {
        _mm256_maskstore_pd(to, detail::first_n_of_4(n), static_cast<__m256d>(v.r));
        return;
    }
#endif
    alignas(64) typename V::value_type buffer[V::size];
    v.write(buffer);
    for (std::size_t i = 0; i < n; ++i) to[i] = buffer[i];
}

/// True in the lanes whose byte is not zero.
template <class V>
TRM_INLINE typename V::mask load_mask(std::uint8_t const* bytes) noexcept {
    using T = typename V::value_type;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    if constexpr (detail::is_register<V, float, 64>) {
        __m128i const b = _mm_loadu_si128(reinterpret_cast<__m128i const*>(bytes));
        return detail::wrap_mask<V>(_mm_test_epi8_mask(b, b));
    }
    if constexpr (detail::is_register<V, double, 64>) {
        __m128i const b = _mm_loadl_epi64(reinterpret_cast<__m128i const*>(bytes));
        return detail::wrap_mask<V>(static_cast<__mmask8>(_mm_test_epi8_mask(b, b)));
    }
#endif
#if defined(__AVX2__)
    if constexpr (detail::is_register<V, float, 32>) {
        __m256i const b = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(bytes)));
        return detail::wrap_mask<V>(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, _mm256_setzero_si256())));
    }
#endif
#if defined(__SSE2__)
    if constexpr (detail::is_register<V, float, 16>) {
        std::int32_t four;
        std::memcpy(&four, bytes, sizeof four);
        __m128i const zero = _mm_setzero_si128(), b = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
        return detail::wrap_mask<V>(_mm_castsi128_ps(_mm_cmpgt_epi32(_mm_unpacklo_epi16(b, zero), zero)));
    }
#endif
    alignas(64) T buffer[V::size];
    for (std::size_t i = 0; i < V::size; ++i) buffer[i] = bytes[i] != 0 ? T(1) : T(0);
    return detail::from_array<V>(buffer) > V(T(0));
}
template <class V>
TRM_INLINE typename V::mask load_mask_n(std::uint8_t const* bytes, std::size_t n) noexcept {
    std::uint8_t buffer[V::size < 16 ? 16 : V::size] = {};
    for (std::size_t i = 0; i < n; ++i) buffer[i] = bytes[i];
    return load_mask<V>(buffer);
}

/// True in the lanes i < n whose number is zero.
template <class V>
TRM_INLINE typename V::mask load_zeros(std::uint16_t const* from, std::size_t n) noexcept {
    std::uint8_t buffer[V::size < 16 ? 16 : V::size] = {};
    for (std::size_t i = 0; i < n; ++i) buffer[i] = from[i] == 0;
    return load_mask<V>(buffer);
}

/// True in the first n lanes.
template <class V>
TRM_INLINE typename V::mask first_n(std::size_t n) noexcept {
#if defined(__AVX512F__)
    if constexpr (detail::is_register<V, float, 64>)
        return detail::wrap_mask<V>(static_cast<__mmask16>((1u << n) - 1u));
    if constexpr (detail::is_register<V, double, 64>)
        return detail::wrap_mask<V>(static_cast<__mmask8>((1u << n) - 1u));
#endif
#if defined(__AVX2__)
    if constexpr (detail::is_register<V, float, 32>)
        return detail::wrap_mask<V>(_mm256_castsi256_ps(detail::first_n_of_8(n)));
    if constexpr (detail::is_register<V, double, 32>)
        return detail::wrap_mask<V>(_mm256_castsi256_pd(detail::first_n_of_4(n)));
#endif
    using T = typename V::value_type;
    alignas(64) T index[V::size];
    for (std::size_t i = 0; i < V::size; ++i) index[i] = static_cast<T>(i);
    return detail::from_array<V>(index) < V(static_cast<T>(n));
}

/// The first n lanes as bytes 1 and 0.
template <class T, class A>
TRM_INLINE void store_mask(std::uint8_t* bytes, vec_mask<T, A> m, std::size_t n) noexcept {
    std::uint32_t bits = to_bits(m);
    for (std::size_t i = 0; i < n; i += 8, bits >>= 8) {
        std::uint64_t spread = bits & 0xffu;  // bit k to byte k
        spread = (spread | spread << 28) & 0x0000000f0000000fu;
        spread = (spread | spread << 14) & 0x0003000300030003u;
        spread = (spread | spread << 7) & 0x0101010101010101u;
        for (std::size_t k = 0; k < 8 && i + k < n; ++k) bytes[i + k] = static_cast<std::uint8_t>(spread >> 8 * k);
    }
}

/// Bytes that are not zero.
[[nodiscard]] inline std::int64_t count_nonzero(std::uint8_t const* bytes, std::int64_t n) noexcept {
    std::int64_t total = 0, i = 0;
#if defined(__AVX512BW__)
    for (; i + 64 <= n; i += 64) {
        __m512i const b = _mm512_loadu_si512(bytes + i);
        total += std::popcount(static_cast<std::uint64_t>(_mm512_test_epi8_mask(b, b)));
    }
#elif defined(__AVX2__)
    for (; i + 32 <= n; i += 32) {
        __m256i const b = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(bytes + i));
        auto const zeros =
            static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, _mm256_setzero_si256())));
        total += 32 - std::popcount(zeros);
    }
#elif defined(__SSE2__)
    for (; i + 16 <= n; i += 16) {
        __m128i const b = _mm_loadu_si128(reinterpret_cast<__m128i const*>(bytes + i));
        auto const zeros = static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(b, _mm_setzero_si128())));
        total += 16 - std::popcount(zeros);
    }
#endif
    for (; i < n; ++i) total += bytes[i] != 0;
    return total;
}

/// Ask for the cache line `bytes` after an address, which will be read soon. Only a hint; any address is allowed.
TRM_INLINE void prefetch(void const* address, std::size_t bytes) noexcept {
    __builtin_prefetch(reinterpret_cast<void const*>(reinterpret_cast<std::uintptr_t>(address) + bytes), 0, 3);
}

}  // namespace simd
TRM_NAMESPACE_END
