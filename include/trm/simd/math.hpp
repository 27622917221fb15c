// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/log.hpp>
#include <trm/simd/reduce.hpp>

#include <limits>

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
    for (int i = n - 2; i >= 0; --i) q = fma(q, f, V(C::q[i]));
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

/// p = e^l and 1 - p = -expm1(l), the latter kept at or above the smallest normal number. l is clamped to [-87, 0]
/// (float) or [-700, 0] (double), so a log-probability above 0 counts as 0.
template <class V>
struct probability_pair {
    V p;
    V complement;
};
template <class V>
TRM_INLINE probability_pair<V> probability(V log_p) noexcept {
    using T = typename V::value_type;
    constexpr T lowest = sizeof(T) == 4 ? T(-87) : T(-700);
    auto const e = exp_k3(clamp(log_p, V(lowest), V(T(0))));
    return {e.exp, (max)(-e.expm1, V((std::numeric_limits<T>::min)()))};
}

/// KL between Bernoulli(a) and Bernoulli(b): a k3(y) + (1 - a) k3(log((1 - b) / (1 - a))), y = log(b.p / a.p), a sum of two
/// non-negative terms, so that close probabilities lose nothing. Beyond |y| = 2, where nothing cancels, a k3(y) is
/// b.p - a.p - a.p y, so that `expm1_y` and `k3_y` are read for |y| <= 2 only: y may be of any size, while exponentials may
/// not. Relative error 3e-6 (float), 3e-14 (double), unless a complement is at its floor; there the value is finite instead
/// of infinite. Values below 1e-35 (float) or 1e-300 (double) have that absolute error.
template <class V>
TRM_INLINE V bernoulli_kl(probability_pair<V> a, probability_pair<V> b, V y, V expm1_y, V k3_y) noexcept {
    using T = typename V::value_type;
    constexpr T limit = sizeof(T) == 4 ? T(87.3366) : T(708.3965);  // above -log of the smallest normal number
    auto const near_y = abs(y) <= V(T(2));
    V const change = select(near_y, a.p * expm1_y, b.p - a.p);
    V const first = select(near_y, a.p * k3_y, (max)(fma(-a.p, y, change), V(T(0))));
    V const shift = -change / a.complement;  // (1 - b) / (1 - a) - 1
    V const inner = log1p(clamp(shift, V(T(-0.5)), V(T(0.5))));
    V const outer = log(b.complement / a.complement);
    V const z = select(abs(shift) < V(T(0.5)), inner, clamp(outer, V(-limit), V(limit)));
    return fma(a.complement, exp_k3(z).k3, first);
}

}  // namespace simd
TRM_NAMESPACE_END
