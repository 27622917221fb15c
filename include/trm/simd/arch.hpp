// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <type_traits>

/// \file
/// The vector units. Those of x86 (SSE2, AVX2 with FMA, AVX-512) need nothing but the compiler; for the rest (64-bit NEON, and
/// with xsimd 14 VSX and SVE of a width that the flags fix) there is xsimd, which takes as long to compile as a loss and is
/// included only where it is used. What has neither (32-bit NEON, RISC-V, s390x) computes lane by lane, in the same arithmetic.
///
/// With the default flags of x86-64 every kernel is compiled for all three units of x86 and the CPU's is chosen when it is
/// called, see dispatch.hpp (TRM_DISPATCH of core/config.hpp).

#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && \
    defined(__AVX512VL__)
#define TRM_SIMD_AVX512 1
#else
#define TRM_SIMD_AVX512 0
#endif
#if defined(__AVX2__) && defined(__FMA__)
#define TRM_SIMD_AVX2 1
#else
#define TRM_SIMD_AVX2 0
#endif
#if defined(__SSE2__)
#define TRM_SIMD_SSE2 1
#else
#define TRM_SIMD_SSE2 0
#endif
// Where kernels are dispatched there is code for all units, not only those of the flags. But not without optimisation: then
// functions are called that do not know the units, and registers cannot be passed between them.
#if TRM_DISPATCH && defined(__OPTIMIZE__)
#define TRM_SIMD_ALL 1
#else
#define TRM_SIMD_ALL 0
#endif
// Does a fused multiply-add take one instruction?
#if defined(__FMA__) || defined(__aarch64__) || (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
#define TRM_SIMD_FMA 1
#else
#define TRM_SIMD_FMA 0
#endif

// g++ 12 reports false reads of uninitialised registers, in its own AVX-512 intrinsics and where they are written in one
// branch and read in another on the same condition; without optimisation some intrinsics are macros, whose sign conversions
// it reports where they are used. A consumer's build with -Werror stays clean.
#if defined(__GNUC__) && !defined(__clang__)
#define TRM_SIMD_QUIET_BEGIN                                                                   \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"") \
        _Pragma("GCC diagnostic ignored \"-Wuninitialized\"") _Pragma("GCC diagnostic ignored \"-Wsign-conversion\"")
#define TRM_SIMD_QUIET_END _Pragma("GCC diagnostic pop")
#else
#define TRM_SIMD_QUIET_BEGIN
#define TRM_SIMD_QUIET_END
#endif

// <immintrin.h> takes fifteen times as long as <emmintrin.h>.
TRM_SIMD_QUIET_BEGIN
#if defined(__AVX__) || TRM_SIMD_ALL
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif
// 32-bit NEON has no double and flushes subnormal numbers to zero; the registers of RVV in xsimd have no operators. A whole
// program with TRM_SIMD_XSIMD=1 runs on xsimd on x86, too, to compare it.
#if !defined(TRM_SIMD_XSIMD) && (TRM_SIMD_SSE2 || (defined(__ARM_NEON) && !defined(__aarch64__)) || defined(__riscv))
#define TRM_SIMD_XSIMD 0
#else
#include <xsimd/xsimd.hpp>
#if XSIMD_VERSION_MAJOR < 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR < 1)
#error "trm needs xsimd 8.1 or newer"
#endif
#undef TRM_SIMD_XSIMD
#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#define TRM_SIMD_XSIMD 0
#else
#define TRM_SIMD_XSIMD 1
#endif
#endif
TRM_SIMD_QUIET_END

// Units that code can be generated for.
#define TRM_SIMD_HAS_AVX2 (TRM_SIMD_AVX2 || TRM_SIMD_ALL)
#define TRM_SIMD_HAS_AVX512 (TRM_SIMD_AVX512 || TRM_SIMD_ALL)

// Functions that use instructions of a unit. Where the flags have the unit they are inlined as all others. Where they do not,
// the functions say so themselves and are inlined into kernels that say the same; forcing that is an error. Vector registers
// pass between them by reference only, because how they are passed by value depends on the flags.
#define TRM_SIMD_V3 "avx,avx2,fma,f16c,bmi,bmi2,lzcnt,movbe,popcnt"
#define TRM_TARGET_AVX2 __attribute__((target(TRM_SIMD_V3)))
#define TRM_TARGET_AVX512 __attribute__((target(TRM_SIMD_V3 ",avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#if TRM_SIMD_ALL
#define TRM_ON_AVX2 TRM_TARGET_AVX2 inline
#define TRM_ON_AVX512 TRM_TARGET_AVX512 inline
#else
#define TRM_ON_AVX2 TRM_INLINE
#define TRM_ON_AVX512 TRM_INLINE
#endif

TRM_NAMESPACE_BEGIN
namespace simd {

/// One lane, no instruction set assumed: the fallback, and the twin that vector results are compared with.
struct scalar {
    static constexpr bool supported() noexcept { return true; }
    static constexpr char const* name() noexcept { return "scalar"; }
};
struct sse2 {
    static constexpr bool supported() noexcept { return TRM_SIMD_SSE2; }
    static constexpr char const* name() noexcept { return "sse2"; }
};
/// AVX2 with FMA, x86-64-v3.
struct avx2 {
    static constexpr bool supported() noexcept { return TRM_SIMD_HAS_AVX2; }
    static constexpr char const* name() noexcept { return "fma3+avx2"; }
};
/// AVX-512 F, CD, DQ, BW, VL, x86-64-v4.
struct avx512 {
    static constexpr bool supported() noexcept { return TRM_SIMD_HAS_AVX512; }
    static constexpr char const* name() noexcept { return "avx512bw"; }
};

/// Does this translation unit have code for `A`? Whether the CPU can run it is another question: `check_unit`.
template <class A>
inline constexpr bool is_supported = A::supported();

/// Is A compiled for CPUs without AVX2, beside what all others run on? Then small code matters more than speed.
template <class A>
inline constexpr bool is_last_resort = TRM_SIMD_ALL && std::is_same_v<A, sse2>;

/// The widest instruction set that this translation unit was compiled for.
#if TRM_SIMD_XSIMD
using compiled_arch = xsimd::default_arch;
#else
using compiled_arch =
    std::conditional_t<TRM_SIMD_AVX512, avx512,
                       std::conditional_t<TRM_SIMD_AVX2, avx2, std::conditional_t<TRM_SIMD_SSE2, sse2, scalar>>>;
#endif

/// The widest of `sse2`, `avx2` and `avx512` that the CPU has, chosen at run time: see dispatch.hpp.
struct best_of_cpu;

/// What losses, logits functions and bounds run on unless they are told otherwise.
using default_arch = std::conditional_t<TRM_DISPATCH, best_of_cpu, compiled_arch>;

}  // namespace simd
TRM_NAMESPACE_END
