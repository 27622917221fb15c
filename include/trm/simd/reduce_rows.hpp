// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/reduce.hpp>

#include <cstring>
#include <utility>

/// \file
/// `sum` and `reduce_max` of several registers together, from memory. Each level of the tree of additions takes two registers
/// to one with a single exchange of lanes, so a register costs a third of what it costs alone. Same order of additions, same bits.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// What compilers have as vectors of n numbers, whatever the machine has.
template <class T, std::size_t n>
struct lanes {
    typedef T type __attribute__((vector_size(n * sizeof(T))));
};

/// As many numbers as `to` holds from memory, in double. g++ 12 converts a vector piece by piece where it is not told how.
template <class Unit, class T, class Wide>
TRM_INLINE void load_wide(Unit, T const* from, Wide& to) noexcept {
    typename lanes<T, sizeof to / sizeof(double)>::type narrow;
    std::memcpy(&narrow, from, sizeof narrow);
    to = __builtin_convertvector(narrow, Wide);
}
#if TRM_SIMD_HAS_AVX2
TRM_ON_AVX2 void load_wide(avx2, float const* from, lanes<double, 4>::type& to) noexcept {
    to = reinterpret_cast<lanes<double, 4>::type>(_mm256_cvtps_pd(_mm_loadu_ps(from)));
}
#endif
#if TRM_SIMD_HAS_AVX512
TRM_ON_AVX512 void load_wide(avx512, float const* from, lanes<double, 8>::type& to) noexcept {
    to = reinterpret_cast<lanes<double, 8>::type>(_mm512_cvtps_pd(_mm256_loadu_ps(from)));
}
#endif

/// to[i] op to[i ^ distance] of a where i has no bit `distance`, of b where it has.
template <std::size_t distance, class L, class Op, std::size_t... i>
TRM_INLINE void fold_two(L& a, L const& b, Op const& op, std::index_sequence<i...>) noexcept {
    constexpr std::size_t n = sizeof...(i);
    L const kept = __builtin_shufflevector(a, b, ((i & distance) != 0 ? i + n : i)...);
    L const moved = __builtin_shufflevector(a, b, ((i & distance) != 0 ? (i ^ distance) + n : i ^ distance)...);
    op(a, kept, moved);
}
/// n registers of n lanes to one: lane i of rows[0] is register i over all its lanes, halves pairwise.
template <std::size_t distance, std::size_t n, class L, class Op>
TRM_INLINE void fold_rows(L (&rows)[n], Op const& op) noexcept {
    if constexpr (distance > 0) {
        for (std::size_t r = 0; r < distance; ++r)
            fold_two<distance>(rows[r], rows[r + distance], op, std::make_index_sequence<n>{});
        fold_rows<distance / 2>(rows, op);
    }
}

}  // namespace detail

/// How many registers `sums` and `maxima` take together.
template <class V>
inline constexpr std::size_t rows_together = V::size / 2;

/// to[i] = sum(register i) for the rows_together<V> registers that stand one after another at `from`.
template <class V>
TRM_INLINE void sums(typename V::value_type const* from, double* to) noexcept {
    constexpr std::size_t n = rows_together<V>;
    using wide = typename detail::lanes<double, n>::type;
    wide rows[n];
    for (std::size_t r = 0; r < n; ++r) {
        wide high;
        detail::load_wide(typename V::arch{}, from + 2 * r * n, rows[r]);
        detail::load_wide(typename V::arch{}, from + (2 * r + 1) * n, high);
        rows[r] = rows[r] + high;
    }
    detail::fold_rows<n / 2>(rows,
                             [](wide& r, wide const& a, wide const& b) __attribute__((always_inline)) { r = a + b; });
    std::memcpy(to, &rows[0], sizeof rows[0]);
}
/// to[i] = reduce_max(register i), likewise.
template <class V>
TRM_INLINE void maxima(typename V::value_type const* from, typename V::value_type* to) noexcept {
    constexpr std::size_t n = rows_together<V>;
#if TRM_DISPATCH  // g++ 12 takes comparisons of vectors apart here, see README.md
    for (std::size_t r = 0; r < n; ++r) to[r] = reduce_max(V::read(from + r * V::size));
#else
    using half = typename detail::lanes<typename V::value_type, n>::type;
    auto const larger = [](half& r, half const& a, half const& b) __attribute__((always_inline)) { r = a > b ? a : b; };
    half rows[n];
    for (std::size_t r = 0; r < n; ++r) {
        half low, high;
        std::memcpy(&low, from + 2 * r * n, sizeof low);
        std::memcpy(&high, from + (2 * r + 1) * n, sizeof high);
        larger(rows[r], low, high);
    }
    detail::fold_rows<n / 2>(rows, larger);
    std::memcpy(to, &rows[0], sizeof rows[0]);
#endif
}

}  // namespace simd
TRM_NAMESPACE_END
