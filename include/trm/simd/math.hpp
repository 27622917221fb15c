// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/batch.hpp>

TRM_NAMESPACE_BEGIN
namespace simd {

/// e^x, e^x - 1 and k3(x) = e^x - 1 - x from one polynomial. What a caller does not use costs nothing.
template <class V>
struct exp_k3_result {
    V exp;
    V expm1;
    V k3;
};

namespace detail {

/// Minimax polynomials q with e^f = 1 + f + f^2 q(f) on |f| <= ln(2)/2: relative error of q 1.3e-7 (float), 3e-18
/// (double). Constants of the range reduction: ln 2 split so that n * high is exact for |n| < 2^9.
template <class T>
struct exp_constants;
template <>
struct exp_constants<float> {
    static constexpr float q[] = {0x1.ffffffb2f36d0p-2f, 0x1.5554dd2c9ef4fp-3f, 0x1.5555b9c1c21b9p-5f,
                                  0x1.120b5b468522ap-7f, 0x1.6c6a071d975ebp-10f};
    static constexpr float log2e = 0x1.715476p+0f, magic = 0x1.8p23f;
    static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
};
template <>
struct exp_constants<double> {
    static constexpr double q[] = {0x1.0000000000000p-1,  0x1.5555555555557p-3,  0x1.555555555554ep-5,
                                   0x1.11111111100dep-7,  0x1.6c16c16c1a0a9p-10, 0x1.a01a01abe80b1p-13,
                                   0x1.a01a01905640fp-16, 0x1.71de022e90733p-19, 0x1.27e510e53f024p-22,
                                   0x1.af4df4678e2adp-26, 0x1.1f19ffe65eaccp-29};
    static constexpr double log2e = 0x1.71547652b82fep+0, magic = 0x1.8p52;
    static constexpr double ln2_high = 0x1.62e42fefa0000p-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
};

template <class V>
TRM_INLINE V horner(V f) noexcept {
    using C = exp_constants<typename V::value_type>;
    constexpr int n = static_cast<int>(sizeof(C::q) / sizeof(C::q[0]));
    V q(C::q[n - 1]);
    TRM_UNROLL for (int i = n - 2; i >= 0; --i) q = fma(q, f, V(C::q[i]));
    return q;
}

}  // namespace detail

/// e^x, e^x - 1 and e^x - 1 - x, each to relative accuracy, for |x| <= 87 (float) or 700 (double); callers clamp first.
/// With n = round(x / ln 2), f = x - n ln 2, s = 2^n: e^x = s + s (f + f^2 q) and k3 = s f^2 q + ((s f + (s - 1)) - x); for
/// n = 0 the bracket vanishes exactly, so tiny x lose nothing (the naive float formula is 45% wrong at x = 1e-3).
/// Relative error over [-20, 20]: float 1.5e-7 (exp), 1.3e-6 (k3); double 3e-16 (exp), 3e-15 (k3). NaN stays NaN.
template <class V>
TRM_INLINE exp_k3_result<V> exp_k3(V x) noexcept {
    using C = detail::exp_constants<typename V::value_type>;
    V const magic(C::magic);
    V const t = exact(fma(x, V(C::log2e), magic));
    V const n = exact(t - magic);
    V const s = exp2_of_shifted(t);
    V f = exact(fma(n, V(-C::ln2_high), x));
    f = exact(fma(n, V(-C::ln2_low), f));
    V const tail = pin(exact(f * f) * detail::horner(f));  // never fused: e^x may not depend on who else uses it
    V const linear = exact(fma(s, f, exact(s - V(typename V::value_type(1)))));
    return {fma(s, f + tail, s), fma(s, tail, linear), fma(s, tail, exact(linear - x))};
}

/// Up to here `exp_k3` finds n = 0, so that nothing is left of the range reduction.
inline constexpr double small_exponent = 0.34;

/// `exp_k3` for |x| <= small_exponent: the same bits, at two thirds of the cost.
template <class V>
TRM_INLINE exp_k3_result<V> exp_k3_small(V x) noexcept {
    V const tail = pin(exact(x * x) * detail::horner(x));
    V const expm1 = exact(x + tail);
    return {expm1 + V(typename V::value_type(1)), expm1, tail};
}

/// e^x; domain and accuracy of `exp_k3`.
template <class V>
TRM_INLINE V exp(V x) noexcept {
    return exp_k3(x).exp;
}

/// e^x - 1; domain and accuracy of `exp_k3`.
template <class V>
TRM_INLINE V expm1(V x) noexcept {
    return exp_k3(x).expm1;
}

namespace detail {

// Logarithms: the method and the polynomials of FreeBSD's e_log.c and e_logf.c (Sun Microsystems, 1993), without branches.

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
        using reg = typename V::reg;
        typename V::integers const i = __builtin_bit_cast(typename V::integers, x.r) + (C::one - C::root);
        n.r = __builtin_bit_cast(reg, (i >> C::shift) | C::integer);  // as the low bits of 2^23 or 2^52
        n = exact(n - V(C::bias));
        f.r = __builtin_bit_cast(reg, (i & C::mantissa) + C::root);
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
    TRM_UNROLL for (int i = degree - 1; i >= 0; --i) q = fma(q, z, V(C::q[i]));
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
    auto const tiny = x < V((std::numeric_limits<T>::min)());
    detail::log_parts<V> parts(select(tiny, x * V(detail::log_constants<T>::big), x));
    parts.n = parts.n - zero_unless(tiny, V(sizeof(T) == 4 ? T(23) : T(54)));
    return detail::log_limits(x, detail::log_of(parts, V(T(0))));
}

/// log(1 + x), 1 ulp. With u = 1 + x rounded, log(1 + x) is log(u) and what u has lost, divided by u.
template <class T, class A>
TRM_INLINE vec<T, A> log1p(vec<T, A> x) noexcept {
    using V = vec<T, A>;
    V const one(T(1)), u = exact(x + one);
    detail::log_parts<V> const parts(u);
    V const lost = select(parts.n < V(T(2)), x - exact(u - one), one - exact(u - x));
    return detail::log_limits(u, detail::log_of(parts, lost / u));
}

}  // namespace simd
TRM_NAMESPACE_END
