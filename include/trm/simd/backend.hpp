// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/simd/arch.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

/// \file
/// What `vec` needs of a register: broadcast, load, store, compare, select, fma. Results come by reference, because registers
/// that the flags do not have must not be passed by value.

// Where the compiler is told that a number or a register lives; memory where trm knows no better.
#if defined(__SSE2__)
#define TRM_SIMD_IN_REGISTER "x"
#elif defined(__aarch64__) && !(defined(__clang__) && defined(__ARM_FEATURE_SVE_BITS))  // clang has no name for these
#define TRM_SIMD_IN_REGISTER "w"
#elif defined(__VSX__)
#define TRM_SIMD_IN_REGISTER "wa"
#elif defined(__riscv_flen) && __riscv_flen >= 64 || defined(__s390x__)
#define TRM_SIMD_IN_REGISTER "f"
#else
#define TRM_SIMD_IN_REGISTER "m"
#endif

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class T>
using integer_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

/// n lanes of T, in the vector types of g++ and clang.
template <class T, std::size_t n>
struct lanes_type {
    typedef T type __attribute__((vector_size(n * sizeof(T))));
};
template <class T, std::size_t n>
using lanes = typename lanes_type<T, n>::type;

/// x86.hpp; any architecture else: what xsimd makes of it (backend_xsimd.hpp). Arithmetic, and what arithmetic on bits gives,
/// is written once, in `vec`. `logic` is what masks are combined in. A unit may also have `larger`, `smaller`, `add_where`,
/// `any`, `all` and `count`, and of memory `load_n`, `store_n`, `first_n` and `stream`, where it has better instructions than
/// those that follow from the rest, and `pin_in_order`, a `pin` that keeps its place among others.
template <class T, class A>
struct backend;

/// One lane.
template <class T>
struct backend<T, scalar> {
    using reg = T;
    using truth = bool;
    using logic = bool;
    static constexpr std::size_t size = 1;

    static TRM_INLINE void set(T& to, T v) noexcept { to = v; }
    static TRM_INLINE void load(T& to, T const* p) noexcept { to = *p; }
    static TRM_INLINE void store(T* p, T v) noexcept { *p = v; }
    static TRM_INLINE void less(bool& to, T a, T b) noexcept { to = a < b; }
    static TRM_INLINE void less_equal(bool& to, T a, T b) noexcept { to = a <= b; }
    static TRM_INLINE void equal(bool& to, T a, T b) noexcept { to = a == b; }
    static TRM_INLINE void select(T& to, bool m, T a, T b) noexcept { to = m ? a : b; }
    static TRM_INLINE void fma(T& to, T a, T b, T c) noexcept { to = TRM_SIMD_FMA ? std::fma(a, b, c) : a * b + c; }
    static TRM_INLINE void everywhere(bool& to) noexcept { to = true; }
    static TRM_INLINE std::uint32_t bits(bool m) noexcept { return m; }
    static TRM_INLINE void pin(T& v) noexcept { __asm__("" : "+" TRM_SIMD_IN_REGISTER(v)); }
};

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END

#include <trm/simd/x86.hpp>
#if TRM_SIMD_XSIMD
#include <trm/simd/backend_xsimd.hpp>
#endif
