// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstdint>
#include <type_traits>

// This folder is the only place that names xsimd. GCC 12 reports false uninitialised reads inside its own AVX-512
// intrinsics; the pragma keeps a consumer's -Werror build clean.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if XSIMD_VERSION_MAJOR < 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR < 1)
#error "trm needs xsimd 8.1 or newer"
#endif

TRM_NAMESPACE_BEGIN
namespace simd {

/// One lane, no instruction set assumed: the fallback, and the twin that vector results are compared with.
struct scalar {
    static constexpr bool supported() noexcept { return true; }
    static constexpr char const* name() noexcept { return "scalar"; }
};

using sse2 = xsimd::sse2;
using avx2 = xsimd::fma3<xsimd::avx2>;  ///< AVX2 with FMA, x86-64-v3
using avx512 = xsimd::avx512bw;         ///< AVX-512 F, CD, DQ, BW, x86-64-v4

/// True if this translation unit's flags allow code for `A`.
template <class A>
inline constexpr bool is_supported = A::supported();

/// The widest instruction set that this translation unit was compiled for.
using default_arch = std::conditional_t<
    is_supported<xsimd::default_arch>,
    std::conditional_t<is_supported<avx512>, avx512, std::conditional_t<is_supported<avx2>, avx2, xsimd::default_arch>>,
    scalar>;

/// Lanes of T that one register of the default architecture holds: 16 floats for AVX-512, 8 for AVX2, 4 for SSE2. A
/// program that prints 4 on a modern machine was compiled without -march and runs several times slower than it could.
template <class T = float, class A = default_arch>
[[nodiscard]] constexpr int width() noexcept;

}  // namespace simd
TRM_NAMESPACE_END
