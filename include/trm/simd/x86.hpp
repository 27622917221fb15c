// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/backend.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

/// \file
/// The backends of x86: arithmetic and bits in the vector types of g++ and clang, and instructions where these have no
/// expression for it, or where g++ 12 finds a worse one: it makes two instructions of a > b ? a : b, and splits comparisons
/// whose result it keeps in AVX-512's mask registers, in functions that have no such registers, into lanes. Macros, because
/// the names of the intrinsics differ by a prefix and a suffix.

#if TRM_SIMD_SSE2

// g++ 12 takes registers that are written in one branch and read in another, on the same condition, for uninitialised.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// Types and what all units have in common. Results come by reference, see TRM_ON_AVX2.
template <class T, std::size_t bytes>
struct x86_register {
    typedef T reg __attribute__((vector_size(bytes)));
    typedef integer_of<T> lanes __attribute__((vector_size(bytes)));
    typedef T anywhere __attribute__((vector_size(bytes), aligned(alignof(T)), may_alias));
    static constexpr std::size_t size = bytes / sizeof(T);
    static constexpr integer_of<T> exponent =
        sizeof(T) == 4 ? static_cast<integer_of<T>>(0x7f800000) : static_cast<integer_of<T>>(0x7ff0000000000000);

    static TRM_INLINE void load(reg& to, T const* from) noexcept { to = *reinterpret_cast<anywhere const*>(from); }
    static TRM_INLINE void store(T* to, reg const& v) noexcept { *reinterpret_cast<anywhere*>(to) = v; }
    static TRM_INLINE void abs(reg& to, reg const& v) noexcept {
        to = reinterpret_cast<reg>(reinterpret_cast<lanes>(v) & (std::numeric_limits<integer_of<T>>::max)());
    }
    static TRM_INLINE void power(reg& to, reg const& t) noexcept {
        to = reinterpret_cast<reg>((reinterpret_cast<lanes>(t) << (sizeof(T) == 4 ? 23 : 52)) +
                                   std::bit_cast<integer_of<T>>(T(1)));
    }
};

/// Masks are registers whose lanes are all ones or zero.
template <class T, std::size_t bytes>
struct x86_with_vector_masks : x86_register<T, bytes> {
    using base = x86_register<T, bytes>;
    using typename base::lanes;
    using typename base::reg;
    using truth = lanes;
    /// In 32 bits: g++ 12 makes a choice of 64-bit integers of such an expression, which SSE2 does not have, and gives up (-O1).
    typedef std::int32_t halves __attribute__((vector_size(bytes)));

    static TRM_INLINE void less(truth& to, reg const& a, reg const& b) noexcept { to = reinterpret_cast<truth>(a < b); }
    static TRM_INLINE void less_equal(truth& to, reg const& a, reg const& b) noexcept {
        to = reinterpret_cast<truth>(a <= b);
    }
    static TRM_INLINE void equal(truth& to, reg const& a, reg const& b) noexcept {
        to = reinterpret_cast<truth>(a == b);
    }
    static TRM_INLINE void select(reg& to, truth const& m, reg const& a, reg const& b) noexcept {
        if constexpr (bytes > 16) {
            to = m < 0 ? a : b;  // the blend instruction, folded where m is a constant
        } else {
            to = reinterpret_cast<reg>((reinterpret_cast<halves>(m) & reinterpret_cast<halves>(a)) |
                                       (~reinterpret_cast<halves>(m) & reinterpret_cast<halves>(b)));
        }
    }
    static TRM_INLINE void both(truth& to, truth const& a, truth const& b) noexcept { to = a & b; }
    static TRM_INLINE void either(truth& to, truth const& a, truth const& b) noexcept { to = a | b; }
    static TRM_INLINE void negate(truth& to, truth const& a) noexcept { to = ~a; }
    static TRM_INLINE void everywhere(truth& to) noexcept { to = ~truth{}; }
    static TRM_INLINE void add_where(reg& to, truth const& m, reg const& a, reg const& b) noexcept {
        to = a + reinterpret_cast<reg>(reinterpret_cast<halves>(m) & reinterpret_cast<halves>(b));
    }
    static TRM_INLINE void finite(truth& to, reg const& v) noexcept {
        to = reinterpret_cast<truth>((reinterpret_cast<lanes>(v) & base::exponent) != base::exponent);
    }
};

#define TRM_SIMD_BOTH(on, prefix, suffix)                                                                     \
    on static void set(reg& to, value v) noexcept { to = prefix##_set1_##suffix(v); }                         \
    on static void larger(reg& to, reg const& a, reg const& b) noexcept { to = prefix##_max_##suffix(a, b); } \
    on static void smaller(reg& to, reg const& a, reg const& b) noexcept { to = prefix##_min_##suffix(a, b); }
#define TRM_SIMD_FUSED(on, prefix, suffix)                                           \
    on static void fma(reg& to, reg const& a, reg const& b, reg const& c) noexcept { \
        to = prefix##_fmadd_##suffix(a, b, c);                                       \
    }
#define TRM_SIMD_UNFUSED \
    TRM_INLINE static void fma(reg& to, reg const& a, reg const& b, reg const& c) noexcept { to = a * b + c; }
#define TRM_SIMD_VECTOR_MASKS(T, unit, bytes, on, prefix, suffix, FMA)                               \
    template <>                                                                                      \
    struct backend<T, unit> : x86_with_vector_masks<T, bytes> {                                      \
        using value = T;                                                                             \
        TRM_SIMD_BOTH(on, prefix, suffix)                                                            \
        FMA on static std::uint32_t bits(truth const& m) noexcept {                                  \
            return static_cast<std::uint32_t>(prefix##_movemask_##suffix(reinterpret_cast<reg>(m))); \
        }                                                                                            \
        on static void pin(reg& v) noexcept { __asm__("" : "+x"(v)); }                               \
        on static void pin_in_order(reg& v) noexcept { __asm__ volatile("" : "+x"(v)); }             \
    };

#if defined(__FMA__)
TRM_SIMD_VECTOR_MASKS(float, sse2, 16, TRM_INLINE, _mm, ps, TRM_SIMD_FUSED(TRM_INLINE, _mm, ps))
TRM_SIMD_VECTOR_MASKS(double, sse2, 16, TRM_INLINE, _mm, pd, TRM_SIMD_FUSED(TRM_INLINE, _mm, pd))
#else
TRM_SIMD_VECTOR_MASKS(float, sse2, 16, TRM_INLINE, _mm, ps, TRM_SIMD_UNFUSED)
TRM_SIMD_VECTOR_MASKS(double, sse2, 16, TRM_INLINE, _mm, pd, TRM_SIMD_UNFUSED)
#endif
#if TRM_SIMD_HAS_AVX2
TRM_SIMD_VECTOR_MASKS(float, avx2, 32, TRM_ON_AVX2, _mm256, ps, TRM_SIMD_FUSED(TRM_ON_AVX2, _mm256, ps))
TRM_SIMD_VECTOR_MASKS(double, avx2, 32, TRM_ON_AVX2, _mm256, pd, TRM_SIMD_FUSED(TRM_ON_AVX2, _mm256, pd))
#endif

#if TRM_SIMD_HAS_AVX512
/// Masks are bits, in registers of their own. 0x99: quiet and signalling NaN, both infinities.
#define TRM_SIMD_BIT_MASKS(T, bit_type, on, suffix)                                                                 \
    template <>                                                                                                     \
    struct backend<T, avx512> : x86_register<T, 64> {                                                               \
        using value = T;                                                                                            \
        using truth = bit_type;                                                                                     \
        static constexpr truth all_bits = static_cast<truth>((1u << size) - 1u);                                    \
        TRM_SIMD_BOTH(on, _mm512, suffix)                                                                           \
        TRM_SIMD_FUSED(on, _mm512, suffix)                                                                          \
        on static void less(truth& to, reg const& a, reg const& b) noexcept {                                       \
            to = _mm512_cmp_##suffix##_mask(a, b, _CMP_LT_OQ);                                                      \
        }                                                                                                           \
        on static void less_equal(truth& to, reg const& a, reg const& b) noexcept {                                 \
            to = _mm512_cmp_##suffix##_mask(a, b, _CMP_LE_OQ);                                                      \
        }                                                                                                           \
        on static void equal(truth& to, reg const& a, reg const& b) noexcept {                                      \
            to = _mm512_cmp_##suffix##_mask(a, b, _CMP_EQ_OQ);                                                      \
        }                                                                                                           \
        on static void blend(reg& to, truth m, reg const& a, reg const& b) noexcept {                               \
            to = _mm512_mask_blend_##suffix(m, b, a);                                                               \
        }                                                                                                           \
        TRM_INLINE static void select(reg& to, truth m, reg const& a, reg const& b) noexcept {                      \
            if (__builtin_constant_p(m) && m == all_bits) { /* g++ does not fold the instruction */                 \
                to = a;                                                                                             \
            } else {                                                                                                \
                blend(to, m, a, b);                                                                                 \
            }                                                                                                       \
        }                                                                                                           \
        TRM_INLINE static void both(truth& to, truth a, truth b) noexcept { to = static_cast<truth>(a & b); }       \
        TRM_INLINE static void either(truth& to, truth a, truth b) noexcept { to = static_cast<truth>(a | b); }     \
        TRM_INLINE static void negate(truth& to, truth a) noexcept { to = static_cast<truth>(~a & all_bits); }      \
        TRM_INLINE static void everywhere(truth& to) noexcept { to = all_bits; }                                    \
        on static void add_where(reg& to, truth m, reg const& a, reg const& b) noexcept {                           \
            to = _mm512_mask_add_##suffix(a, m, a, b);                                                              \
        }                                                                                                           \
        on static void classify(truth& to, reg const& v) noexcept { to = _mm512_fpclass_##suffix##_mask(v, 0x99); } \
        TRM_INLINE static void finite(truth& to, reg const& v) noexcept {                                           \
            classify(to, v);                                                                                        \
            negate(to, to);                                                                                         \
        }                                                                                                           \
        TRM_INLINE static std::uint32_t bits(truth m) noexcept { return m; }                                        \
        on static void pin(reg& v) noexcept { __asm__("" : "+v"(v)); }                                              \
        on static void pin_in_order(reg& v) noexcept { __asm__ volatile("" : "+v"(v)); }                            \
    };
TRM_SIMD_BIT_MASKS(float, std::uint16_t, TRM_ON_AVX512, ps)
TRM_SIMD_BIT_MASKS(double, std::uint8_t, TRM_ON_AVX512, pd)
#undef TRM_SIMD_BIT_MASKS
#endif

#undef TRM_SIMD_VECTOR_MASKS
#undef TRM_SIMD_UNFUSED
#undef TRM_SIMD_FUSED
#undef TRM_SIMD_BOTH

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
