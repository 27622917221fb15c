// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/vec_mask.hpp>

#include <bit>
#include <limits>

/// \file
/// The vector vocabulary of the kernels: `vec<T, Arch>`, its mask, and friend functions that mean the same for a register
/// and for one scalar. NaN behaviour never depends on a library's min or max: both are a comparison and a selection.

TRM_SIMD_QUIET_BEGIN
TRM_NAMESPACE_BEGIN
namespace simd {

/// One register of T: `size` lanes, unit of all kernels.
template <class T, class A = compiled_arch>
struct vec {
    using value_type = T;
    using arch = A;
    using mask = vec_mask<T, A>;
    using backend = detail::backend<T, A>;
    using reg = typename backend::reg;
    using integer = std::make_unsigned_t<detail::integer_of<T>>;
    typedef T lanes __attribute__((vector_size(sizeof(reg))));
    typedef integer integers __attribute__((vector_size(sizeof(reg))));
    static constexpr std::size_t size = backend::size;
    static constexpr bool is_scalar = std::is_same_v<A, scalar>;

    reg r;

    vec() = default;
    TRM_INLINE explicit vec(T v) noexcept { backend::set(r, v); }
    TRM_INLINE vec(vec const& o) noexcept : r(o.r) {}  // as for vec_mask
    TRM_INLINE vec& operator=(vec const& o) noexcept {
        r = o.r;
        return *this;
    }

    // Not memcpy, for the same reason.
    static TRM_INLINE vec read(T const* from) noexcept {
        vec x;
        backend::load(x.r, from);
        return x;
    }
    TRM_INLINE void write(T* to) const noexcept { backend::store(to, r); }

#define TRM_SIMD_OPERATOR(op)                                  \
    friend TRM_INLINE vec operator op(vec a, vec b) noexcept { \
        a.r = a.r op b.r;                                      \
        return a;                                              \
    }
    TRM_SIMD_OPERATOR(+)
    TRM_SIMD_OPERATOR(-)
    TRM_SIMD_OPERATOR(*)
    TRM_SIMD_OPERATOR(/)
#undef TRM_SIMD_OPERATOR
    TRM_INLINE vec operator-() const noexcept {
        vec x;
        x.r = -r;
        return x;
    }
    friend TRM_INLINE mask operator<(vec a, vec b) noexcept {
        mask x;
        backend::less(x.r, a.r, b.r);
        return x;
    }
    friend TRM_INLINE mask operator<=(vec a, vec b) noexcept {
        mask x;
        backend::less_equal(x.r, a.r, b.r);
        return x;
    }
    friend TRM_INLINE mask operator>(vec a, vec b) noexcept { return b < a; }
    friend TRM_INLINE mask operator>=(vec a, vec b) noexcept { return b <= a; }
    friend TRM_INLINE mask operator==(vec a, vec b) noexcept {
        mask x;
        backend::equal(x.r, a.r, b.r);
        return x;
    }

    friend TRM_INLINE vec select(mask m, vec a, vec b) noexcept {
        vec x;
        backend::select(x.r, m.r, a.r, b.r);
        return x;
    }
    /// a * b + c, rounded once where the machine can, twice (product, then sum) where it cannot.
    friend TRM_INLINE vec fma(vec a, vec b, vec c) noexcept {
        vec x;
        backend::fma(x.r, a.r, b.r, c.r);
        return x;
    }
    /// a + b where the mask is true, a elsewhere (a must not be -0).
    friend TRM_INLINE vec add_where(mask m, vec a, vec b) noexcept {
        if constexpr (requires { backend::add_where(a.r, m.r, b.r); }) backend::add_where(a.r, m.r, b.r);
        else a = a + select(m, b, vec(T(0)));
        return a;
    }
    /// b > a ? b : a where the mask is true, a elsewhere.
    friend TRM_INLINE vec max_where(mask m, vec a, vec b) noexcept {
        if constexpr (requires { backend::max_where(a.r, m.r, b.r); }) backend::max_where(a.r, m.r, b.r);
        else a = larger(select(m, b, a), a);
        return a;
    }
    /// a * b where the mask is true, 0 elsewhere (b is finite; of which sign the 0 is, differs).
    friend TRM_INLINE vec mul_or_zero(mask m, vec a, vec b) noexcept {
        if constexpr (requires { backend::mul_or_zero(a.r, m.r, b.r); }) backend::mul_or_zero(a.r, m.r, b.r);
        else a = select(m, a, vec(T(0))) * b;
        return a;
    }
    /// The bits that v has in common with `bits`.
    static TRM_INLINE vec common(vec v, integer bits) noexcept {
        v.r = __builtin_bit_cast(reg, __builtin_bit_cast(integers, v.r) & bits);
        return v;
    }
    friend TRM_INLINE vec abs(vec v) noexcept { return common(v, (std::numeric_limits<integer>::max)() >> 1); }
    /// Per lane: is the exponent field not all ones? A test of bits, which as a number are a power of two, so that -ffast-math
    /// keeps it.
    friend TRM_INLINE mask finite(vec v) noexcept {
        constexpr T infinity = std::numeric_limits<T>::infinity(), largest = sizeof(T) == 4 ? T(0x1p127) : T(0x1p1023);
        return common(v, std::bit_cast<integer>(infinity)) <= vec(largest);
    }
    /// 2^n for t = n + 1.5 * 2^(mantissa bits): the addition has pushed the integer n into the low bits of t.
    friend TRM_INLINE vec exp2_of_shifted(vec t) noexcept {
        constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
        t.r = __builtin_bit_cast(reg, (__builtin_bit_cast(integers, t.r) << mantissa) + std::bit_cast<integer>(T(1)));
        return t;
    }
    /// a > b ? a : b, so b where either is NaN: what the x86 instruction does, stated so that every backend agrees.
    static TRM_INLINE vec larger(vec a, vec b) noexcept {
        if constexpr (requires { backend::larger(a.r, a.r, b.r); }) backend::larger(a.r, a.r, b.r);
        else a = select(b < a, a, b);
        return a;
    }
    /// a < b ? a : b, so b where either is NaN.
    static TRM_INLINE vec smaller(vec a, vec b) noexcept {
        if constexpr (requires { backend::smaller(a.r, a.r, b.r); }) backend::smaller(a.r, a.r, b.r);
        else a = select(a < b, a, b);
        return a;
    }
};

/// An opaque register move: the optimiser may not contract, reassociate or hoist arithmetic across it. Between stages it
/// makes the fused and the tile-by-tile pipeline round alike; inside `exp_k3` it keeps -ffast-math away.
template <class T, class A>
TRM_INLINE vec<T, A> pin(vec<T, A> v) noexcept {
    detail::backend<T, A>::pin(v.r);
    return v;
}
/// Keeps loads in program order: g++ 12 shuffles the loads of a group, which defeats hardware prefetchers.
template <class T, class A>
TRM_INLINE vec<T, A> in_order(vec<T, A> v) noexcept {
    if constexpr (requires { detail::backend<T, A>::pin_in_order(v.r); }) detail::backend<T, A>::pin_in_order(v.r);
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
template <class V>
inline constexpr bool has_fma =
    TRM_SIMD_FMA || std::is_same_v<typename V::arch, avx2> || std::is_same_v<typename V::arch, avx512>;

/// -(a * b), in one instruction where there are fused ones: 0 - a * b, whose zeros are positive.
template <class V>
TRM_INLINE V negated_product(V a, V b) noexcept {
    if constexpr (has_fma<V>) {
        return fma(-a, b, V(typename V::value_type(0)));
    } else {
        return -(a * b);
    }
}

}  // namespace simd
TRM_NAMESPACE_END
TRM_SIMD_QUIET_END
