// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/version.hpp>

/// \file
/// Compiler facts and the ABI namespace.
///
/// Every entity of trm lives in `trm::<abi>`, an inline namespace whose name spells the version and every compiler flag
/// that changes the code of an inline function: instruction sets, fast-math, exceptions. Two translation units built
/// with different flags therefore never share a symbol, and passing a trm type between them is a link error instead of
/// an illegal instruction at run time. Users write `trm::` and never see it.

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "trm needs C++20: add -std=c++20"
#endif

// The accuracy of every formula rests on float and double being rounded to float and double, which the x87 unit does not do.
#if defined(__FLT_EVAL_METHOD__) && (__FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2)
#error "trm needs arithmetic in the precision of its types: on 32-bit x86 add -msse2 -mfpmath=sse"
#endif

// Are kernels compiled for several vector units, of which the CPU's is chosen at run time? With the default flags of x86-64,
// which know nothing but SSE2. With other flags the compiler was told what the CPU can do. Define it as 0 to do without.
#if !defined(TRM_DISPATCH)
#if defined(__x86_64__) && !defined(__SSE3__) && defined(__GNUC__)
#define TRM_DISPATCH 1
#else
#define TRM_DISPATCH 0
#endif
#elif TRM_DISPATCH && !(defined(__x86_64__) && !defined(__SSE3__))
#error "TRM_DISPATCH is for x86-64 without -march and the like: with such flags the compiler's vector unit is used"
#endif

#if TRM_DISPATCH
#define TRM_ISA_BASE x86_64
#elif defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && \
    defined(__AVX512VL__)
#define TRM_ISA_BASE avx512
#elif defined(__AVX512F__)
#define TRM_ISA_BASE avx512f
#elif defined(__AVX2__)
#define TRM_ISA_BASE avx2
#elif defined(__AVX__)
#define TRM_ISA_BASE avx
#elif defined(__SSE4_2__)
#define TRM_ISA_BASE sse42
#elif defined(__SSE4_1__)
#define TRM_ISA_BASE sse41
#elif defined(__SSSE3__)
#define TRM_ISA_BASE ssse3
#elif defined(__SSE3__)
#define TRM_ISA_BASE sse3
#elif defined(__SSE2__)
#define TRM_ISA_BASE sse2
#elif defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define TRM_ISA_BASE TRM_JOIN(sve, __ARM_FEATURE_SVE_BITS)
#elif defined(__ARM_FEATURE_SVE)
#define TRM_ISA_BASE neon_sve
#elif defined(__ARM_NEON)
#define TRM_ISA_BASE neon
#elif defined(__riscv_vector)
#define TRM_ISA_BASE rvv
#elif defined(__VSX__)
#define TRM_ISA_BASE vsx
#elif defined(__VEC__)
#define TRM_ISA_BASE zvector
#else
#define TRM_ISA_BASE scalar
#endif

#if defined(__FMA__)
#define TRM_ISA_FMA fma
#else
#define TRM_ISA_FMA nofma
#endif

#if defined(__AVX512BF16__)
#define TRM_ISA_EXTRA bf16
#elif defined(__AVX512VBMI__)
#define TRM_ISA_EXTRA vbmi
#elif defined(__F16C__)
#define TRM_ISA_EXTRA f16c
#else
#define TRM_ISA_EXTRA base
#endif

#if defined(__FAST_MATH__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define TRM_FAST_MATH 1
#define TRM_ABI_MATH fm
#else
#define TRM_FAST_MATH 0
#define TRM_ABI_MATH ieee
#endif

#if defined(__cpp_exceptions)
#define TRM_EXCEPTIONS 1
#define TRM_ABI_EXCEPTIONS eh
#else
#define TRM_EXCEPTIONS 0
#define TRM_ABI_EXCEPTIONS noeh
#endif

#define TRM_JOIN_(a, b) a##b
#define TRM_JOIN(a, b) TRM_JOIN_(a, b)
#define TRM_PASTE_(a, b, c, d, e, f, g) v##a##_##b##_##c##_##d##_##e##_##f##_##g
#define TRM_PASTE(a, b, c, d, e, f, g) TRM_PASTE_(a, b, c, d, e, f, g)
#define TRM_ABI                                                                                             \
    TRM_PASTE(TRM_VERSION_MAJOR, TRM_VERSION_MINOR, TRM_ISA_BASE, TRM_ISA_FMA, TRM_ISA_EXTRA, TRM_ABI_MATH, \
              TRM_ABI_EXCEPTIONS)

#define TRM_NAMESPACE_BEGIN \
    namespace trm {         \
    inline namespace TRM_ABI {
#define TRM_NAMESPACE_END \
    }                     \
    }

/// Hot-path functions: inlined whatever the optimiser thinks, so that a policy costs its arithmetic and nothing else.
/// `TRM_INLINE_LAMBDA`: the same for a lambda, after its parameters. `TRM_FLATTEN`: a function that hot-path functions are inlined
/// into.
///
/// g++ optimises an always_inline function once for every function around it, which takes a third of the time to compile a loss; so
/// there a function that enters a kernel takes in all that it calls, at once. Do not mix the two: what an always_inline function calls
/// may then stay a call. `TRM_ALWAYS_INLINE` is for functions that only prefetch (those have no effect, and g++ drops calls of them),
/// and for choices in a loop (`one_of`), which must be there before g++ decides what stays in registers.
/// Without optimisation nothing is inlined: compilers would take minutes for code that is slow all the same.
#if !defined(__OPTIMIZE__)
#define TRM_ALWAYS_INLINE
#define TRM_INLINE inline
#define TRM_INLINE_LAMBDA
#define TRM_FLATTEN
#elif defined(__GNUC__) && !defined(__clang__)
#define TRM_ALWAYS_INLINE __attribute__((always_inline))
#define TRM_INLINE inline
#define TRM_INLINE_LAMBDA
#define TRM_FLATTEN __attribute__((flatten))
#else
#define TRM_ALWAYS_INLINE __attribute__((always_inline))
#define TRM_INLINE inline TRM_ALWAYS_INLINE
#define TRM_INLINE_LAMBDA TRM_ALWAYS_INLINE
#define TRM_FLATTEN
#endif

/// Before a loop over a few registers, whose number is a constant: below -O3 g++ keeps such loops, and the registers in memory.
#if defined(__clang__)
#define TRM_UNROLL
#else
#define TRM_UNROLL _Pragma("GCC unroll 16")
#endif
