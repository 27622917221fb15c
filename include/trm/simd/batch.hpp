// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/simd/backend.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>

/// \file
/// The vector vocabulary of the kernels: `vec<T, Arch>`, its mask, and friend functions that mean the same for a register
/// and for one scalar. NaN behaviour never depends on a library's min or max: both are a comparison and a selection.

TRM_NAMESPACE_BEGIN
namespace simd {

/// Truth values of the lanes of a vec<T, A>. Copies are spelled out: g++ 12 keeps structures of registers that it copies as
/// classes in memory.
template <class T, class A>
struct vec_mask {
    using backend = detail::backend<T, A>;
    using reg = typename backend::truth;
    reg r;

    vec_mask() = default;
    TRM_INLINE explicit vec_mask(reg v) noexcept : r(v) {}
    TRM_INLINE vec_mask(vec_mask const& o) noexcept : r(o.r) {}
    TRM_INLINE vec_mask& operator=(vec_mask const& o) noexcept {
        r = o.r;
        return *this;
    }
    friend TRM_INLINE vec_mask operator&(vec_mask a, vec_mask b) noexcept { return vec_mask(backend::both(a.r, b.r)); }
    friend TRM_INLINE vec_mask operator|(vec_mask a, vec_mask b) noexcept {
        return vec_mask(backend::either(a.r, b.r));
    }
    TRM_INLINE vec_mask operator!() const noexcept { return vec_mask(backend::negate(r)); }
    /// True in every lane, as a constant that the compiler sees through.
    static TRM_INLINE vec_mask everywhere() noexcept { return vec_mask(backend::everywhere()); }
    /// Lane i as bit i.
    friend TRM_INLINE std::uint32_t to_bits(vec_mask m) noexcept { return backend::bits(m.r); }
    friend TRM_INLINE bool any(vec_mask m) noexcept { return backend::bits(m.r) != 0; }
    friend TRM_INLINE bool all(vec_mask m) noexcept { return backend::bits(m.r) == (1u << backend::size) - 1u; }
    /// True lanes.
    friend TRM_INLINE int count(vec_mask m) noexcept {
        std::uint32_t const bits = backend::bits(m.r);
        // SSE2 has no such instruction and the library's function is slow: a table in a number
        if constexpr (backend::size <= 4) return static_cast<int>(0x4332322132212110u >> 4 * bits & 0xfu);
        return std::popcount(bits);
    }
};

/// One register of T: `size` lanes, unit of all kernels.
template <class T, class A = default_arch>
struct vec {
    using value_type = T;
    using arch = A;
    using mask = vec_mask<T, A>;
    using backend = detail::backend<T, A>;
    using reg = typename backend::reg;
    static constexpr std::size_t size = backend::size;
    static constexpr bool is_scalar = std::is_same_v<A, scalar>;

    reg r;

    vec() = default;
    TRM_INLINE explicit vec(T v) noexcept : r(backend::set(v)) {}
    TRM_INLINE explicit vec(reg v) noexcept
        requires(!is_scalar)
        : r(v) {}
    TRM_INLINE vec(vec const& o) noexcept : r(o.r) {}  // as for vec_mask
    TRM_INLINE vec& operator=(vec const& o) noexcept {
        r = o.r;
        return *this;
    }

    // Not memcpy, for the same reason.
    static TRM_INLINE vec read(T const* from) noexcept { return of(backend::load(from)); }
    TRM_INLINE void write(T* to) const noexcept { backend::store(to, r); }

    friend TRM_INLINE vec operator+(vec a, vec b) noexcept { return of(a.r + b.r); }
    friend TRM_INLINE vec operator-(vec a, vec b) noexcept { return of(a.r - b.r); }
    friend TRM_INLINE vec operator*(vec a, vec b) noexcept { return of(a.r * b.r); }
    friend TRM_INLINE vec operator/(vec a, vec b) noexcept { return of(a.r / b.r); }
    TRM_INLINE vec operator-() const noexcept { return of(-r); }
    friend TRM_INLINE mask operator<(vec a, vec b) noexcept { return mask(backend::less(a.r, b.r)); }
    friend TRM_INLINE mask operator<=(vec a, vec b) noexcept { return mask(backend::less_equal(a.r, b.r)); }
    friend TRM_INLINE mask operator>(vec a, vec b) noexcept { return mask(backend::less(b.r, a.r)); }
    friend TRM_INLINE mask operator>=(vec a, vec b) noexcept { return mask(backend::less_equal(b.r, a.r)); }
    friend TRM_INLINE mask operator==(vec a, vec b) noexcept { return mask(backend::equal(a.r, b.r)); }

    friend TRM_INLINE vec select(mask m, vec a, vec b) noexcept { return of(backend::select(m.r, a.r, b.r)); }
    /// a * b + c, rounded once where the machine can, twice (product, then sum) where it cannot.
    friend TRM_INLINE vec fma(vec a, vec b, vec c) noexcept { return of(backend::fma(a.r, b.r, c.r)); }
    /// a + b where the mask is true, a elsewhere (a must not be -0).
    friend TRM_INLINE vec add_where(mask m, vec a, vec b) noexcept { return of(backend::add_where(m.r, a.r, b.r)); }
    friend TRM_INLINE vec abs(vec v) noexcept { return of(backend::abs(v.r)); }
    /// Per lane: is the exponent field not all ones? Integer arithmetic, so that -ffast-math keeps it.
    friend TRM_INLINE mask finite(vec v) noexcept { return mask(backend::finite(v.r)); }
    /// 2^n for t = n + 1.5 * 2^(mantissa bits): the addition has pushed the integer n into the low bits of t.
    friend TRM_INLINE vec exp2_of_shifted(vec t) noexcept { return of(backend::power(t.r)); }
    /// a > b ? a : b, so b where either is NaN: what the x86 instruction does, stated so that every backend agrees.
    static TRM_INLINE vec larger(vec a, vec b) noexcept { return of(backend::larger(a.r, b.r)); }
    /// a < b ? a : b, so b where either is NaN.
    static TRM_INLINE vec smaller(vec a, vec b) noexcept { return of(backend::smaller(a.r, b.r)); }

private:
    static TRM_INLINE vec of(reg v) noexcept {
        vec x;
        x.r = v;
        return x;
    }
};

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
#if defined(__AVX512F__)
#define TRM_SIMD_VECTOR_REGISTER "v"
#elif defined(__SSE2__)
#define TRM_SIMD_VECTOR_REGISTER "x"
#elif defined(__aarch64__) && !(defined(__clang__) && defined(__ARM_FEATURE_SVE_BITS))  // clang has no name for these
#define TRM_SIMD_VECTOR_REGISTER "w"
#elif defined(__VSX__)
#define TRM_SIMD_VECTOR_REGISTER "wa"
#else
#define TRM_SIMD_VECTOR_REGISTER "m"
#endif

/// An opaque register move: the optimiser may not contract, reassociate or hoist arithmetic across it. Between stages it
/// makes the fused and the tile-by-tile pipeline round alike; inside `exp_k3` it keeps -ffast-math away.
template <class T, class A>
TRM_INLINE vec<T, A> pin(vec<T, A> v) noexcept {
    if constexpr (std::is_same_v<A, scalar>) {
        __asm__("" : "+" TRM_SIMD_SCALAR_REGISTER(v.r));
    } else {
        __asm__("" : "+" TRM_SIMD_VECTOR_REGISTER(v.r));
    }
    return v;
}

/// `pin` where -ffast-math would otherwise rewrite the formula, nothing elsewhere.
template <class V>
TRM_INLINE V exact(V v) noexcept {
#if TRM_FAST_MATH
    return pin(v);
#else
    return v;
#endif
}

/// A number in every lane, rounded to the lane type; beyond its range it becomes infinite (IEC 559).
template <class V>
TRM_INLINE V broadcast(double v) noexcept {
    return V(static_cast<typename V::value_type>(v));
}

template <class V>
TRM_INLINE V(max)(V a, V b) noexcept {
    return V::larger(a, b);
}
template <class V>
TRM_INLINE V(min)(V a, V b) noexcept {
    return V::smaller(a, b);
}
/// NaN stays NaN.
template <class V>
TRM_INLINE V clamp(V v, V lo, V hi) noexcept {
    return (max)(lo, (min)(hi, v));
}
/// 0 where the mask is false. Not a product: NaN and infinity vanish too.
template <class V>
TRM_INLINE V zero_unless(typename V::mask m, V v) noexcept {
    return select(m, v, V(typename V::value_type(0)));
}

/// Does `fma` round once?
inline constexpr bool has_fma = TRM_SIMD_FMA;

/// -(a * b), in one instruction where there are fused ones: 0 - a * b, whose zeros are positive.
template <class V>
TRM_INLINE V negated_product(V a, V b) noexcept {
    if constexpr (has_fma) {
        return fma(-a, b, V(typename V::value_type(0)));
    } else {
        return -(a * b);
    }
}

#undef TRM_SIMD_SCALAR_REGISTER
#undef TRM_SIMD_VECTOR_REGISTER

template <class T, class A>
constexpr int width() noexcept {
    return static_cast<int>(vec<T, A>::size);
}

}  // namespace simd
TRM_NAMESPACE_END
