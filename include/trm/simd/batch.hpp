// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>
#include <trm/simd/arch.hpp>

#include <bit>
#include <cmath>
#include <cstddef>

/// \file
/// The vector vocabulary of the kernels: `vec<T, Arch>`, its mask, and friend functions that mean the same for an xsimd
/// batch and for one scalar. NaN behaviour never depends on a library's min or max: clamps and extrema are
/// compare-and-select.

TRM_NAMESPACE_BEGIN
namespace simd {

namespace detail {

template <class T, class A>
struct registers {
    using value = xsimd::batch<T, A>;
    using truth = xsimd::batch_bool<T, A>;
    static constexpr std::size_t size = value::size;
};
template <class T>
struct registers<T, scalar> {
    using value = T;
    using truth = bool;
    static constexpr std::size_t size = 1;
};

template <class T>
using integer_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class To, class From, class A>
TRM_INLINE auto recast(xsimd::batch<From, A> const& v) noexcept {
#if XSIMD_VERSION_MAJOR < 11
    return xsimd::bitwise_cast<xsimd::batch<To, A>>(v);
#else
    return xsimd::bitwise_cast<To>(v);
#endif
}
template <class To, class From, class A>
TRM_INLINE auto recast(xsimd::batch_bool<From, A> const& v) noexcept {
#if XSIMD_VERSION_MAJOR < 9
    return xsimd::bool_cast(v);
#else
    return xsimd::batch_bool_cast<To>(v);
#endif
}

}  // namespace detail

/// Truth values of the lanes of a vec<T, A>.
template <class T, class A>
struct vec_mask {
    using reg = typename detail::registers<T, A>::truth;
    reg r;

    vec_mask() = default;
    TRM_INLINE explicit vec_mask(reg v) noexcept : r(v) {}
    friend TRM_INLINE vec_mask operator&(vec_mask a, vec_mask b) noexcept { return vec_mask(static_cast<reg>(a.r & b.r)); }
    friend TRM_INLINE vec_mask operator|(vec_mask a, vec_mask b) noexcept { return vec_mask(static_cast<reg>(a.r | b.r)); }
    TRM_INLINE vec_mask operator!() const noexcept { return vec_mask(static_cast<reg>(!r)); }
    friend TRM_INLINE bool any(vec_mask m) noexcept {
        if constexpr (std::is_same_v<A, scalar>) {
            return m.r;
        } else {
            return xsimd::any(m.r);
        }
    }
    friend TRM_INLINE bool all(vec_mask m) noexcept {
        if constexpr (std::is_same_v<A, scalar>) {
            return m.r;
        } else {
            return xsimd::all(m.r);
        }
    }
};

/// One register of T: `size` lanes, unit of all kernels.
template <class T, class A = default_arch>
struct vec {
    using value_type = T;
    using arch = A;
    using mask = vec_mask<T, A>;
    using reg = typename detail::registers<T, A>::value;
    static constexpr std::size_t size = detail::registers<T, A>::size;
    static constexpr bool is_scalar = std::is_same_v<A, scalar>;

    reg r;

    vec() = default;
    TRM_INLINE explicit vec(T v) noexcept : r(v) {}
    TRM_INLINE explicit vec(reg v) noexcept
        requires(!is_scalar)
        : r(v) {}

    // Not memcpy: g++ 12 would then keep whole structures of registers in memory.
    static TRM_INLINE vec read(T const* from) noexcept {
        if constexpr (is_scalar) {
            return vec(*from);
        } else {
            return vec(reg(reg::load_unaligned(from)));
        }
    }
    TRM_INLINE void write(T* to) const noexcept {
        if constexpr (is_scalar) {
            *to = r;
        } else {
            r.store_unaligned(to);
        }
    }

    friend TRM_INLINE vec operator+(vec a, vec b) noexcept { return vec(static_cast<reg>(a.r + b.r)); }
    friend TRM_INLINE vec operator-(vec a, vec b) noexcept { return vec(static_cast<reg>(a.r - b.r)); }
    friend TRM_INLINE vec operator*(vec a, vec b) noexcept { return vec(static_cast<reg>(a.r * b.r)); }
    friend TRM_INLINE vec operator/(vec a, vec b) noexcept { return vec(static_cast<reg>(a.r / b.r)); }
    TRM_INLINE vec operator-() const noexcept { return vec(static_cast<reg>(-r)); }
    friend TRM_INLINE mask operator<(vec a, vec b) noexcept { return mask(a.r < b.r); }
    friend TRM_INLINE mask operator<=(vec a, vec b) noexcept { return mask(a.r <= b.r); }
    friend TRM_INLINE mask operator>(vec a, vec b) noexcept { return mask(a.r > b.r); }
    friend TRM_INLINE mask operator>=(vec a, vec b) noexcept { return mask(a.r >= b.r); }

    friend TRM_INLINE vec select(mask m, vec a, vec b) noexcept {
        if constexpr (is_scalar) {
            return m.r ? a : b;
        } else {
            return vec(xsimd::select(m.r, a.r, b.r));
        }
    }
    /// a * b + c, rounded once where the machine can, twice (product, then sum) where it cannot.
    friend TRM_INLINE vec fma(vec a, vec b, vec c) noexcept {
#if defined(__AVX512F__)
        // xsimd 8.1 multiplies, then adds; g++ contracts that, clang does not.
        if constexpr (!is_scalar && size * sizeof(T) == 64) {
            if constexpr (sizeof(T) == 4) {
                return vec(reg(_mm512_fmadd_ps(static_cast<__m512>(a.r), static_cast<__m512>(b.r), static_cast<__m512>(c.r))));
            } else {
                return vec(
                    reg(_mm512_fmadd_pd(static_cast<__m512d>(a.r), static_cast<__m512d>(b.r), static_cast<__m512d>(c.r))));
            }
        } else
#endif
        if constexpr (!is_scalar) {
            return vec(xsimd::fma(a.r, b.r, c.r));
        } else {
#if defined(__FMA__) || defined(__aarch64__)
            return vec(std::fma(a.r, b.r, c.r));
#else
            return vec(a.r * b.r + c.r);
#endif
        }
    }
    friend TRM_INLINE vec abs(vec v) noexcept {
        if constexpr (is_scalar) {
            return vec(std::fabs(v.r));
        } else {
            return vec(xsimd::abs(v.r));
        }
    }
    /// Natural logarithm of positive finite lanes (xsimd: 0.8 ulp). With -ffast-math lane by lane through <cmath>: the
    /// compiler would delete the corrections in xsimd's logarithms.
    friend TRM_INLINE vec log(vec v) noexcept {
        if constexpr (is_scalar) {
            return vec(std::log(v.r));
        } else if constexpr (TRM_FAST_MATH) {
            return lanes(v, [](T x) { return std::log(x); });
        } else {
            return vec(xsimd::log(v.r));
        }
    }
    /// log(1 + v) for v > -1; like `log`.
    friend TRM_INLINE vec log1p(vec v) noexcept {
        if constexpr (is_scalar) {
            return vec(std::log1p(v.r));
        } else if constexpr (TRM_FAST_MATH) {
            return lanes(v, [](T x) { return std::log1p(x); });
        } else {
            return vec(xsimd::log1p(v.r));
        }
    }
    /// Per lane: is the exponent field not all ones? Integer arithmetic, so that -ffast-math keeps it.
    friend TRM_INLINE mask finite(vec v) noexcept {
        if constexpr (is_scalar) {
            return mask(is_finite(v.r));
        } else {
            using I = detail::integer_of<T>;
            constexpr I exponent = static_cast<I>(sizeof(T) == 4 ? 0x7f800000 : 0x7ff0000000000000);
            xsimd::batch<I, A> const ones(exponent);
            return mask(detail::recast<T>((detail::recast<I>(v.r) & ones) != ones));
        }
    }
    /// 2^n for t = n + 1.5 * 2^(mantissa bits): the addition has pushed the integer n into the low bits of t.
    friend TRM_INLINE vec exp2_of_shifted(vec t) noexcept {
        using I = detail::integer_of<T>;
        constexpr int shift = sizeof(T) == 4 ? 23 : 52;
        constexpr I one = std::bit_cast<I>(T(1));
        if constexpr (is_scalar) {
            using U = std::make_unsigned_t<I>;
            return vec(std::bit_cast<T>((std::bit_cast<U>(t.r) << shift) + static_cast<U>(one)));
        } else {
            return vec(detail::recast<T>((detail::recast<I>(t.r) << shift) + xsimd::batch<I, A>(one)));
        }
    }

private:
    template <class F>
    [[gnu::noinline]] static vec lanes(vec v, F f) noexcept {
        alignas(64) T buffer[size];
        v.write(buffer);
        for (T& x : buffer) x = f(x);
        return read(buffer);
    }
};

/// An opaque register move: the optimiser may not contract, reassociate or hoist arithmetic across it. Between stages it
/// makes the fused and the tile-by-tile pipeline round alike; inside `exp_k3` it keeps -ffast-math away.
template <class T, class A>
TRM_INLINE vec<T, A> pin(vec<T, A> v) noexcept {
    if constexpr (std::is_same_v<A, scalar>) {
#if defined(__SSE2__)
        __asm__("" : "+x"(v.r));
#elif defined(__aarch64__)
        __asm__("" : "+w"(v.r));
#endif
    } else {
        auto raw = static_cast<typename xsimd::batch<T, A>::register_type>(v.r);
#if defined(__AVX512F__)
        __asm__("" : "+v"(raw));
#elif defined(__SSE2__)
        __asm__("" : "+x"(raw));
#elif defined(__aarch64__)
        __asm__("" : "+w"(raw));
#endif
        v.r = xsimd::batch<T, A>(raw);
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
TRM_INLINE V max(V a, V b) noexcept {  ///< b where the comparison is false, NaN included
    return select(a > b, a, b);
}
template <class V>
TRM_INLINE V min(V a, V b) noexcept {  ///< b where the comparison is false, NaN included
    return select(a < b, a, b);
}
template <class V>
TRM_INLINE V clamp(V v, V lo, V hi) noexcept {  ///< NaN stays NaN
    return select(v < lo, lo, select(v > hi, hi, v));
}
/// 0 where the mask is false. Not a product: NaN and infinity vanish too.
template <class V>
TRM_INLINE V zero_unless(typename V::mask m, V v) noexcept {
    return select(m, v, V(typename V::value_type(0)));
}

template <class T, class A>
constexpr int width() noexcept {
    return static_cast<int>(vec<T, A>::size);
}

/// Sum of the lanes in double, halves added pairwise: the same bits on every machine of the same width.
template <class V>
TRM_INLINE double sum(V v) noexcept {
    alignas(64) typename V::value_type buffer[V::size];
    v.write(buffer);
    alignas(64) double wide[V::size];
    for (std::size_t i = 0; i < V::size; ++i) wide[i] = static_cast<double>(buffer[i]);
    for (std::size_t half = V::size / 2; half > 0; half /= 2)
        for (std::size_t i = 0; i < half; ++i) wide[i] += wide[i + half];
    return wide[0];
}
/// Largest lane; lanes must not be NaN.
template <class V>
TRM_INLINE typename V::value_type reduce_max(V v) noexcept {
    alignas(64) typename V::value_type buffer[V::size];
    v.write(buffer);
    auto best = buffer[0];
    for (std::size_t i = 1; i < V::size; ++i) best = buffer[i] > best ? buffer[i] : best;
    return best;
}

}  // namespace simd
TRM_NAMESPACE_END
