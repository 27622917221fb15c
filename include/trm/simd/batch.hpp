// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/vec_mask.hpp>

#include <limits>

/// \file
/// The vector vocabulary of the kernels: `vec<T, Arch>`, its mask, and friend functions that mean the same for a register
/// and for one scalar. NaN behaviour never depends on a library's min or max: both are a comparison and a selection.

// g++ 12 takes registers that are written in one branch and read in another, on the same condition, for uninitialised.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

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
    static constexpr std::size_t size = backend::size;
    static constexpr bool is_scalar = std::is_same_v<A, scalar>;

    reg r;

    vec() = default;
    TRM_INLINE explicit vec(T v) noexcept { backend::set(r, v); }
    TRM_INLINE explicit vec(reg const& v) noexcept
        requires(!is_scalar)
        : r(v) {}
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

    friend TRM_INLINE vec operator+(vec a, vec b) noexcept {
        a.r = a.r + b.r;
        return a;
    }
    friend TRM_INLINE vec operator-(vec a, vec b) noexcept {
        a.r = a.r - b.r;
        return a;
    }
    friend TRM_INLINE vec operator*(vec a, vec b) noexcept {
        a.r = a.r * b.r;
        return a;
    }
    friend TRM_INLINE vec operator/(vec a, vec b) noexcept {
        a.r = a.r / b.r;
        return a;
    }
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
        vec x;
        backend::add_where(x.r, m.r, a.r, b.r);
        return x;
    }
    friend TRM_INLINE vec abs(vec v) noexcept {
        vec x;
        backend::abs(x.r, v.r);
        return x;
    }
    /// Per lane: is the exponent field not all ones? Integer arithmetic, so that -ffast-math keeps it.
    friend TRM_INLINE mask finite(vec v) noexcept {
        mask x;
        backend::finite(x.r, v.r);
        return x;
    }
    /// 2^n for t = n + 1.5 * 2^(mantissa bits): the addition has pushed the integer n into the low bits of t.
    friend TRM_INLINE vec exp2_of_shifted(vec t) noexcept {
        vec x;
        backend::power(x.r, t.r);
        return x;
    }
    /// a > b ? a : b, so b where either is NaN: what the x86 instruction does, stated so that every backend agrees.
    static TRM_INLINE vec larger(vec a, vec b) noexcept {
        vec x;
        backend::larger(x.r, a.r, b.r);
        return x;
    }
    /// a < b ? a : b, so b where either is NaN.
    static TRM_INLINE vec smaller(vec a, vec b) noexcept {
        vec x;
        backend::smaller(x.r, a.r, b.r);
        return x;
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
    detail::backend<T, A>::pin_in_order(v.r);
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

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
