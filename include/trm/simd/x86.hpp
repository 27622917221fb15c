// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/backend.hpp>

/// \file
/// The backends of x86: arithmetic and bits in the vector types of g++ and clang, and instructions where these have no
/// expression for it, or where g++ 12 finds a worse one: it makes two instructions of a > b ? a : b, and splits comparisons
/// whose result it keeps in AVX-512's mask registers, in functions that have no such registers, into lanes. Macros, because
/// the names of the intrinsics differ by a prefix and a suffix.

#if TRM_SIMD_SSE2

TRM_SIMD_QUIET_BEGIN
TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// Types and what all units have in common. Results come by reference, see TRM_ON_AVX2.
template <class T, std::size_t bytes>
struct x86_register {
    static constexpr std::size_t size = bytes / sizeof(T);
    typedef T reg __attribute__((vector_size(bytes)));
    typedef T anywhere __attribute__((vector_size(bytes), aligned(alignof(T)), may_alias));
    using in = reg const&;

    static TRM_INLINE void load(reg& to, T const* from) noexcept { to = *reinterpret_cast<anywhere const*>(from); }
    static TRM_INLINE void store(T* to, in v) noexcept { *reinterpret_cast<anywhere*>(to) = v; }
};

/// Masks are registers whose lanes are all ones or zero.
template <class T, std::size_t bytes>
struct x86_with_vector_masks : x86_register<T, bytes> {
    using typename x86_register<T, bytes>::reg;
    using typename x86_register<T, bytes>::in;
    typedef integer_of<T> truth __attribute__((vector_size(bytes)));
    using logic = truth;
    /// In 32 bits: g++ 12 makes a choice of 64-bit integers of such an expression, which SSE2 does not have, and gives up (-O1).
    typedef std::int32_t halves __attribute__((vector_size(bytes)));

    static TRM_INLINE void less(truth& to, in a, in b) noexcept { to = truth(a < b); }
    static TRM_INLINE void less_equal(truth& to, in a, in b) noexcept { to = truth(a <= b); }
    static TRM_INLINE void equal(truth& to, in a, in b) noexcept { to = truth(a == b); }
    static TRM_INLINE void select(reg& to, truth const& m, in a, in b) noexcept {
        if constexpr (bytes > 16) {
            to = m < 0 ? a : b;  // the blend instruction, folded where m is a constant
        } else {
            to = reinterpret_cast<reg>((reinterpret_cast<halves>(m) & reinterpret_cast<halves>(a)) |
                                       (~reinterpret_cast<halves>(m) & reinterpret_cast<halves>(b)));
        }
    }
    static TRM_INLINE void add_where(reg& to, truth const& m, in b) noexcept {
        to = to + reinterpret_cast<reg>(reinterpret_cast<halves>(m) & reinterpret_cast<halves>(b));
    }
    static TRM_INLINE void everywhere(truth& to) noexcept { to = ~truth{}; }
    static TRM_INLINE void first_n(truth& to, std::size_t n) noexcept {
        alignas(bytes) static constexpr integer_of<T> index[] = {0, 1, 2, 3, 4, 5, 6, 7};
        reg lane;
        x86_register<T, bytes>::load(lane, reinterpret_cast<T const*>(index));
        to = truth(truth(lane) < static_cast<integer_of<T>>(n));
    }
};

#define TRM_SIMD_UNIT(T, on, in_register, prefix, suffix)                                      \
    on static void set(reg& to, T v) noexcept { to = prefix##_set1_##suffix(v); }              \
    on static void larger(reg& to, in a, in b) noexcept { to = prefix##_max_##suffix(a, b); }  \
    on static void smaller(reg& to, in a, in b) noexcept { to = prefix##_min_##suffix(a, b); } \
    on static void stream(T* to, in v) noexcept { prefix##_stream_##suffix(to, v); }           \
    on static void pin(reg& v) noexcept { __asm__("" : "+" in_register(v)); }                  \
    on static void pin_in_order(reg& v) noexcept { __asm__ volatile("" : "+" in_register(v)); }
#define TRM_SIMD_FUSED(on, prefix, suffix) \
    on static void fma(reg& to, in a, in b, in c) noexcept { to = prefix##_fmadd_##suffix(a, b, c); }
#define TRM_SIMD_BITS(on, prefix, suffix)                                                        \
    on static std::uint32_t bits(truth const& m) noexcept {                                      \
        return static_cast<std::uint32_t>(prefix##_movemask_##suffix(reinterpret_cast<reg>(m))); \
    }

#if defined(__FMA__)
#define TRM_SIMD_SSE2_FMA(suffix) TRM_SIMD_FUSED(TRM_INLINE, _mm, suffix)
#else
#define TRM_SIMD_SSE2_FMA(suffix) \
    TRM_INLINE static void fma(reg& to, in a, in b, in c) noexcept { to = a * b + c; }
#endif
#define TRM_SIMD_ON_SSE2(T, suffix)                                     \
    template <>                                                         \
    struct backend<T, sse2> : x86_with_vector_masks<T, 16> {            \
        TRM_SIMD_UNIT(T, TRM_INLINE, TRM_SIMD_IN_REGISTER, _mm, suffix) \
        TRM_SIMD_SSE2_FMA(suffix)                                       \
        TRM_SIMD_BITS(TRM_INLINE, _mm, suffix)                          \
    };
TRM_SIMD_ON_SSE2(float, ps)
TRM_SIMD_ON_SSE2(double, pd)
#undef TRM_SIMD_ON_SSE2
#undef TRM_SIMD_SSE2_FMA

#if TRM_SIMD_HAS_AVX2
#define TRM_SIMD_ON_AVX2(T, suffix)                                                      \
    template <>                                                                          \
    struct backend<T, avx2> : x86_with_vector_masks<T, 32> {                             \
        TRM_SIMD_UNIT(T, TRM_ON_AVX2, TRM_SIMD_IN_REGISTER, _mm256, suffix)              \
        TRM_SIMD_FUSED(TRM_ON_AVX2, _mm256, suffix)                                      \
        TRM_SIMD_BITS(TRM_ON_AVX2, _mm256, suffix)                                       \
        TRM_ON_AVX2 static void load_n(reg& to, T const* from, std::size_t n) noexcept { \
            truth m;                                                                     \
            first_n(m, n);                                                               \
            to = _mm256_maskload_##suffix(from, reinterpret_cast<__m256i>(m));           \
        }                                                                                \
        TRM_ON_AVX2 static void store_n(T* to, in v, std::size_t n) noexcept {           \
            truth m;                                                                     \
            first_n(m, n);                                                               \
            _mm256_maskstore_##suffix(to, reinterpret_cast<__m256i>(m), v);              \
        }                                                                                \
    };
TRM_SIMD_ON_AVX2(float, ps)
TRM_SIMD_ON_AVX2(double, pd)
#undef TRM_SIMD_ON_AVX2
#endif

#if TRM_SIMD_HAS_AVX512
/// Masks are bits, in registers of their own.
#define TRM_SIMD_ON_AVX512(T, on, bit_type, suffix)                                                                 \
    template <>                                                                                                     \
    struct backend<T, avx512> : x86_register<T, 64> {                                                               \
        using truth = bit_type;                                                                                     \
        using logic = truth;                                                                                        \
        TRM_SIMD_UNIT(T, on, "v", _mm512, suffix)                                                                   \
        TRM_SIMD_FUSED(on, _mm512, suffix)                                                                          \
        on static void less(truth& to, in a, in b) noexcept { to = _mm512_cmp_##suffix##_mask(a, b, _CMP_LT_OQ); }  \
        on static void less_equal(truth& to, in a, in b) noexcept {                                                 \
            to = _mm512_cmp_##suffix##_mask(a, b, _CMP_LE_OQ);                                                      \
        }                                                                                                           \
        on static void equal(truth& to, in a, in b) noexcept { to = _mm512_cmp_##suffix##_mask(a, b, _CMP_EQ_OQ); } \
        on static void blend(reg& to, truth m, in a, in b) noexcept { to = _mm512_mask_blend_##suffix(m, b, a); }   \
        /* known to be true everywhere: g++ does not fold the instructions */                                       \
        TRM_INLINE static bool is_all(truth m) noexcept { return __builtin_constant_p(m) && m == first(size); }     \
        TRM_INLINE static void select(reg& to, truth m, in a, in b) noexcept {                                      \
            if (is_all(m)) to = a;                                                                                  \
            else blend(to, m, a, b);                                                                                \
        }                                                                                                           \
        on static void add_some(reg& to, truth m, in b) noexcept { to = _mm512_mask_add_##suffix(to, m, to, b); }   \
        TRM_INLINE static void add_where(reg& to, truth m, in b) noexcept {                                         \
            if (is_all(m)) to = to + b;                                                                             \
            else add_some(to, m, b);                                                                                \
        }                                                                                                           \
        on static void max_some(reg& to, truth m, in b) noexcept { to = _mm512_mask_max_##suffix(to, m, b, to); }   \
        TRM_INLINE static void max_where(reg& to, truth m, in b) noexcept {                                         \
            if (is_all(m)) larger(to, b, to);                                                                       \
            else max_some(to, m, b);                                                                                \
        }                                                                                                           \
        on static void mul_some(reg& to, truth m, in b) noexcept { to = _mm512_maskz_mul_##suffix(m, to, b); }      \
        TRM_INLINE static void mul_or_zero(reg& to, truth m, in b) noexcept {                                       \
            if (is_all(m)) to = to * b;                                                                             \
            else mul_some(to, m, b);                                                                                \
        }                                                                                                           \
        TRM_INLINE static std::uint32_t bits(truth m) noexcept { return m; }                                        \
        static constexpr truth first(std::size_t n) noexcept { return static_cast<truth>((1u << n) - 1u); }         \
        TRM_INLINE static void everywhere(truth& to) noexcept { to = first(size); }                                 \
        TRM_INLINE static void first_n(truth& to, std::size_t n) noexcept { to = first(n); }                        \
        on static void load_n(reg& to, T const* p, std::size_t n) noexcept {                                        \
            to = _mm512_maskz_loadu_##suffix(first(n), p);                                                          \
        }                                                                                                           \
        on static void store_n(T* p, in v, std::size_t n) noexcept { _mm512_mask_storeu_##suffix(p, first(n), v); } \
    };
TRM_SIMD_ON_AVX512(float, TRM_ON_AVX512, std::uint16_t, ps)
TRM_SIMD_ON_AVX512(double, TRM_ON_AVX512, std::uint8_t, pd)
#undef TRM_SIMD_ON_AVX512
#endif

#undef TRM_SIMD_BITS
#undef TRM_SIMD_FUSED
#undef TRM_SIMD_UNIT

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END
TRM_SIMD_QUIET_END

#endif
