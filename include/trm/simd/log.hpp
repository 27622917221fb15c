// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/batch.hpp>

#include <cmath>
#include <limits>

/// \file
/// Logarithms: the method and the polynomials of FreeBSD's e_log.c and e_logf.c (Sun Microsystems, 1993), without branches.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

/// log(1 + f) = f - f^2/2 + s (f^2/2 + R) with s = f / (2 + f) and R = s^2 (q[0] + s^2 q[1] + ...), for 1 + f between `root`
/// = sqrt(1/2) and sqrt(2); ln 2 split so that n * high is exact. `root` and `one` are bits.
template <class T>
struct log_constants;
template <>
struct log_constants<float> {
    using bits = std::uint32_t;
    static constexpr bits one = 0x3f800000, root = 0x3f3504f3, mantissa = 0x007fffff, integer = 0x4b000000;
    static constexpr int shift = 23;
    static constexpr float bias = 0x1p23f + 127, big = 0x1p23f;
    static constexpr float q[] = {0x1.555554p-1f, 0x1.999c26p-2f, 0x1.23d3dcp-2f, 0x1.f13c4cp-3f};
    static constexpr float ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
};
template <>
struct log_constants<double> {
    using bits = std::uint64_t;
    static constexpr bits one = 0x3ff0000000000000, root = 0x3fe6a09e00000000, mantissa = 0x000fffffffffffff,
                          integer = 0x4330000000000000;
    static constexpr int shift = 52;
    static constexpr double bias = 0x1p52 + 1023, big = 0x1p54;
    static constexpr double q[] = {0x1.5555555555593p-1, 0x1.999999997fa04p-2, 0x1.2492494229359p-2,
                                   0x1.c71c51d8e78afp-3, 0x1.7466496cb03dep-3, 0x1.39a09d078c69fp-3,
                                   0x1.2f112df3e5244p-3};
    static constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
};

/// x = 2^n (1 + f) for positive normal x.
template <class V>
struct log_parts {
    V n, f;

    explicit TRM_INLINE log_parts(V x) noexcept {
        using T = typename V::value_type;
        using C = log_constants<T>;
        typedef typename C::bits lanes __attribute__((vector_size(sizeof(typename V::reg))));
        using reg = typename V::reg;
        lanes const i = reinterpret_cast<lanes>(x.r) + (C::one - C::root);
        n.r = reinterpret_cast<reg>((i >> C::shift) | C::integer);  // as the low bits of 2^23 or 2^52
        n = exact(n - V(C::bias));
        f.r = reinterpret_cast<reg>((i & C::mantissa) + C::root);
        f = exact(f - V(T(1)));
    }
};

/// log(2^n (1 + f)) + rest. Products that meet a sum are spelled as fma, so that every caller gets the same bits.
template <class V>
TRM_INLINE V log_of(log_parts<V> const& x, V rest) noexcept {
    using T = typename V::value_type;
    using C = log_constants<T>;
    constexpr int degree = static_cast<int>(sizeof(C::q) / sizeof(C::q[0])) - 1;
    V const half(T(0.5)), f = x.f, s = f / (V(T(2)) + f), z = s * s;
    V q(C::q[degree]);
    for (int i = degree - 1; i >= 0; --i) q = fma(q, z, V(C::q[i]));
    V const half_f = half * f, r = pin(z * q);
    V const sum = fma(s, fma(half_f, f, r), fma(x.n, V(C::ln2_low), rest));
    return fma(x.n, V(C::ln2_high), exact(fma(-half_f, f, sum)) + f);
}

/// What logarithms say about 0, infinity, negative numbers and NaN.
template <class V>
TRM_INLINE V log_limits(V x, V log_x) noexcept {
    using limits = std::numeric_limits<typename V::value_type>;
    V const zero(typename V::value_type(0)), infinity(limits::infinity());
    V const positive = select(x < infinity, log_x, infinity);
    return select(x > zero, positive, select(x == zero, -infinity, V(limits::quiet_NaN())));
}

}  // namespace detail

/// Natural logarithm, 1 ulp.
template <class T, class A>
TRM_INLINE vec<T, A> log(vec<T, A> x) noexcept {
    using V = vec<T, A>;
    if constexpr (requires { V::backend::log(x.r, x.r); }) {
        V::backend::log(x.r, x.r);
        return x;
    } else {
        using C = detail::log_constants<T>;
        auto const tiny = x < V((std::numeric_limits<T>::min)());
        detail::log_parts<V> parts(select(tiny, x * V(C::big), x));
        parts.n = parts.n - zero_unless(tiny, V(sizeof(T) == 4 ? T(23) : T(54)));
        return detail::log_limits(x, detail::log_of(parts, V(T(0))));
    }
}

/// log(1 + x), 1 ulp. With u = 1 + x rounded, log(1 + x) is log(u) and what u has lost, divided by u.
template <class T, class A>
TRM_INLINE vec<T, A> log1p(vec<T, A> x) noexcept {
    using V = vec<T, A>;
    if constexpr (requires { V::backend::log1p(x.r, x.r); }) {
        V::backend::log1p(x.r, x.r);
        return x;
    } else {
        V const one(T(1)), u = exact(x + one);
        detail::log_parts<V> const parts(u);
        V const lost = select(parts.n < V(T(2)), x - exact(u - one), one - exact(u - x));
        return detail::log_limits(u, detail::log_of(parts, lost / u));
    }
}

}  // namespace simd
TRM_NAMESPACE_END
