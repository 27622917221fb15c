// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/batch.hpp>

/// \file
/// From one register to one number. The order of additions is fixed, halves pairwise in double, so the bits depend on
/// the width of the register alone.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// So that the names exist where no register has sums and maxima of its own.
struct no_register;
void lane_sum(no_register const&);
void lane_max(no_register const&);

#if TRM_SIMD_SSE2
TRM_INLINE double lane_sum(backend<double, sse2>::reg const& v) noexcept {
    return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)));
}
TRM_INLINE double lane_sum(backend<float, sse2>::reg const& v) noexcept {
    return lane_sum(_mm_add_pd(_mm_cvtps_pd(v), _mm_cvtps_pd(_mm_movehl_ps(v, v))));
}
TRM_INLINE double lane_max(backend<double, sse2>::reg const& v) noexcept {
    return _mm_cvtsd_f64(_mm_max_sd(v, _mm_unpackhi_pd(v, v)));
}
TRM_INLINE float lane_max(backend<float, sse2>::reg const& v) noexcept {
    __m128 const half = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}
#endif
#if TRM_SIMD_HAS_AVX2
TRM_ON_AVX2 double lane_sum(backend<double, avx2>::reg const& v) noexcept {
    return lane_sum(_mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1)));
}
TRM_ON_AVX2 double lane_sum(backend<float, avx2>::reg const& v) noexcept {
    __m256d const low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    return lane_sum(_mm256_add_pd(low, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))));
}
TRM_ON_AVX2 double lane_max(backend<double, avx2>::reg const& v) noexcept {
    return lane_max(_mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1)));
}
TRM_ON_AVX2 float lane_max(backend<float, avx2>::reg const& v) noexcept {
    return lane_max(_mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
#endif
#if TRM_SIMD_HAS_AVX512
TRM_ON_AVX512 double lane_sum(backend<double, avx512>::reg const& v) noexcept {
    return lane_sum(_mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1)));
}
TRM_ON_AVX512 double lane_sum(backend<float, avx512>::reg const& v) noexcept {
    __m512d const low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    return lane_sum(_mm512_add_pd(low, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))));
}
TRM_ON_AVX512 double lane_max(backend<double, avx512>::reg const& v) noexcept {
    return lane_max(_mm256_max_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1)));
}
TRM_ON_AVX512 float lane_max(backend<float, avx512>::reg const& v) noexcept {
    return lane_max(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
#endif

}  // namespace detail

/// Sum of the lanes in double: the same bits on every machine of the same width.
template <class V>
TRM_INLINE double sum(V v) noexcept {
    if constexpr (requires { detail::lane_sum(v.r); }) {
        return detail::lane_sum(v.r);
    } else {
        alignas(64) typename V::value_type buffer[V::size];
        v.write(buffer);
        alignas(64) double wide[V::size];
        for (std::size_t i = 0; i < V::size; ++i) wide[i] = static_cast<double>(buffer[i]);
        for (std::size_t half = V::size / 2; half > 0; half /= 2)
            for (std::size_t i = 0; i < half; ++i) wide[i] += wide[i + half];
        return wide[0];
    }
}
/// Largest lane; lanes must not be NaN.
template <class V>
TRM_INLINE typename V::value_type reduce_max(V v) noexcept {
    if constexpr (requires { detail::lane_max(v.r); }) {
        return detail::lane_max(v.r);
    } else {
        alignas(64) typename V::value_type buffer[V::size];
        v.write(buffer);
        auto best = buffer[0];
        for (std::size_t i = 1; i < V::size; ++i) best = buffer[i] > best ? buffer[i] : best;
        return best;
    }
}

}  // namespace simd
TRM_NAMESPACE_END
