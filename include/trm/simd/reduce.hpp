// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/batch.hpp>

#include <utility>

/// \file
/// From one register to one number. The order of additions is fixed, halves pairwise in double, so the bits depend on
/// the width of the register alone.

TRM_SIMD_QUIET_BEGIN
TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class L, class Half, std::size_t... i>
TRM_INLINE void split(L const& v, Half& low, Half& high, std::index_sequence<i...>) noexcept {
    low = __builtin_shufflevector(v, v, static_cast<int>(i)...);
    high = __builtin_shufflevector(v, v, static_cast<int>(i + sizeof...(i))...);
}

/// All lanes combined by f(a, b), which leaves its result in a: one half with the other, until one lane is left. Registers
/// of 16 bytes stay whole, because moves of their parts take longer.
template <class T, std::size_t n, class F>
TRM_INLINE T fold(lanes<T, n> const& v, F const& f) noexcept {
    if constexpr (sizeof v > 16) {
        lanes<T, n / 2> low, high;
        split(v, low, high, std::make_index_sequence<n / 2>{});
        f(low, high);
        return fold<T, n / 2>(low, f);
    } else {
        lanes<T, n> a = v;
        if constexpr (n == 4) f(a, __builtin_shufflevector(a, a, 2, 3, 2, 3));
        if constexpr (n == 4) f(a, __builtin_shufflevector(a, a, 1, 1, 1, 1));
        if constexpr (n == 2) f(a, __builtin_shufflevector(a, a, 1, 1));
        return a[0];
    }
}

}  // namespace detail

/// Sum of the lanes in double: the same bits on every machine of the same width.
template <class T, class A>
TRM_INLINE double sum(vec<T, A> v) noexcept {
    using wide = detail::lanes<double, vec<T, A>::size>;
    return detail::fold<double, vec<T, A>::size>(
        __builtin_convertvector(__builtin_bit_cast(typename vec<T, A>::lanes, v.r), wide),
        [](auto& a, auto const& b) TRM_INLINE_LAMBDA { a = a + b; });
}
/// Largest lane; lanes must not be NaN.
template <class T, class A>
TRM_INLINE T reduce_max(vec<T, A> v) noexcept {
    return detail::fold<T, vec<T, A>::size>(__builtin_bit_cast(typename vec<T, A>::lanes, v.r),
                                            [](auto& a, auto const& b) TRM_INLINE_LAMBDA { a = a > b ? a : b; });
}

}  // namespace simd
TRM_NAMESPACE_END
TRM_SIMD_QUIET_END
