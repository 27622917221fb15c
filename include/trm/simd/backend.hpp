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
/// What `vec` needs of a register: broadcast, load, store, compare, select, fma, min, max. Results come by reference, because
/// registers that the flags do not have must not be passed by value.

// Where the compiler is told that a number lives; memory where trm knows no better.
#if defined(__SSE2__)
#define TRM_SIMD_SCALAR_REGISTER "x"
#elif defined(__aarch64__)
#define TRM_SIMD_SCALAR_REGISTER "w"
#elif defined(__riscv_flen) && __riscv_flen >= 64 || defined(__s390x__)
#define TRM_SIMD_SCALAR_REGISTER "f"
#elif defined(__powerpc64__)
#define TRM_SIMD_SCALAR_REGISTER "d"
#else
#define TRM_SIMD_SCALAR_REGISTER "m"
#endif

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class T>
using integer_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

/// x86.hpp; any architecture else: what xsimd makes of it (backend_xsimd.hpp). `power` is 2^n for t = n + 1.5 * 2^(mantissa
/// bits): the addition has pushed the integer n into the low bits of t. `finite` looks at the exponent bits, so that
/// -ffast-math keeps it. `pin_in_order` is a `pin` that keeps its place among others.
template <class T, class A>
struct backend;

/// One lane.
template <class T>
struct backend<T, scalar> {
    using reg = T;
    using truth = bool;
    static constexpr std::size_t size = 1;

    static TRM_INLINE void set(T& to, T v) noexcept { to = v; }
    static TRM_INLINE void load(T& to, T const* p) noexcept { to = *p; }
    static TRM_INLINE void store(T* p, T v) noexcept { *p = v; }
    static TRM_INLINE void less(bool& to, T a, T b) noexcept { to = a < b; }
    static TRM_INLINE void less_equal(bool& to, T a, T b) noexcept { to = a <= b; }
    static TRM_INLINE void equal(bool& to, T a, T b) noexcept { to = a == b; }
    static TRM_INLINE void select(T& to, bool m, T a, T b) noexcept { to = m ? a : b; }
    static TRM_INLINE void fma(T& to, T a, T b, T c) noexcept {
#if TRM_SIMD_FMA
        to = std::fma(a, b, c);
#else
        to = a * b + c;
#endif
    }
    static TRM_INLINE void larger(T& to, T a, T b) noexcept { to = a > b ? a : b; }
    static TRM_INLINE void smaller(T& to, T a, T b) noexcept { to = a < b ? a : b; }
    static TRM_INLINE void abs(T& to, T v) noexcept { to = std::fabs(v); }
    static TRM_INLINE void both(bool& to, bool a, bool b) noexcept { to = a && b; }
    static TRM_INLINE void either(bool& to, bool a, bool b) noexcept { to = a || b; }
    static TRM_INLINE void negate(bool& to, bool a) noexcept { to = !a; }
    static TRM_INLINE void everywhere(bool& to) noexcept { to = true; }
    static TRM_INLINE void add_where(T& to, bool m, T a, T b) noexcept { to = a + (m ? b : T(0)); }
    static TRM_INLINE void finite(bool& to, T v) noexcept { to = is_finite(v); }
    static TRM_INLINE void power(T& to, T t) noexcept {
        using U = std::make_unsigned_t<integer_of<T>>;
        to = std::bit_cast<T>((std::bit_cast<U>(t) << (sizeof(T) == 4 ? 23 : 52)) + std::bit_cast<U>(T(1)));
    }
    static TRM_INLINE std::uint32_t bits(bool m) noexcept { return m ? 1u : 0u; }
    static TRM_INLINE void pin(T& v) noexcept { __asm__("" : "+" TRM_SIMD_SCALAR_REGISTER(v)); }
    static TRM_INLINE void pin_in_order(T&) noexcept {}
    static TRM_INLINE void log(T& to, T v) noexcept { to = std::log(v); }
    static TRM_INLINE void log1p(T& to, T v) noexcept { to = std::log1p(v); }
};

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END

#undef TRM_SIMD_SCALAR_REGISTER

#include <trm/simd/x86.hpp>
#if TRM_SIMD_XSIMD
#include <trm/simd/backend_xsimd.hpp>
#endif
