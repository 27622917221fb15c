// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../larger.hpp"

#include <trm/policy/token.hpp>
#include <trm/simd/softmax.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

/// Errors of the elementary functions. The reference of float is double, that of double is long double: glibc's functions are
/// within 1 ulp (double) and 2 ulp (long double) of their own type, which is 2^-29 and 2^-10 of the ulps that are counted here.
/// table.cpp compares this reference with MPFR where MPFR is installed.
namespace accuracy {

template <class T>
using wide = std::conditional_t<sizeof(T) == 4, double, long double>;

/// e^x - 1 - x: its series where the difference would cancel.
template <class W>
W k3_of(W x) {
    if (std::fabs(x) > W(0.6)) return std::expm1(x) - x;
    W sum = 0, term = x;
    for (int n = 2; n < 24; ++n) sum += term *= x / static_cast<W>(n);
    return sum;
}

/// Distance between numbers of type T near `want`.
template <class T, class W>
W ulp_of(W want) {
    int const lowest = std::numeric_limits<T>::min_exponent - 1;
    int const e = want == 0 ? lowest : std::ilogb(want);
    return std::ldexp(W(1), (e < lowest ? lowest : e) - (std::numeric_limits<T>::digits - 1));
}

/// Largest errors, and where. Results below the smallest normal number count as absolute errors of it.
struct worst {
    double relative = 0, ulp = 0, at = 0;
    std::uint64_t points = 0;

    template <class T, class W>
    void add(T got, W want, T x) {
        ++points;
        W const d = std::fabs(W(got) - want), least = std::fabs(want);
        // Neither is larger than so far: an ulp of T is at least |want| * eps / 2. The exact quotients cost more than the rest.
        if (d <= W(relative) * least && d <= W(ulp) * W(std::numeric_limits<T>::epsilon()) / 2 * least) return;
        double const in_ulp = static_cast<double>(d / ulp_of<T>(want));
        W const size = std::fmax(std::fabs(want), W((std::numeric_limits<T>::min)()));
        relative = larger(relative, static_cast<double>(d / size));
        if (!(in_ulp <= ulp) && !trm::is_nan(ulp)) {
            ulp = in_ulp;
            at = static_cast<double>(x);
        }
    }
};

/// A function of one number: its domain, what the library computes, what is right, and the bound that its comment states.
template <class T>
struct function {
    char const* name;
    T lowest, highest;
    void (*compute)(T const* x, T* y, std::size_t n);
    wide<T> (*reference)(wide<T> x);
    double relative;  ///< bound of the comment, or 0
    double ulp;  ///< bound of the comment, or 0
};

template <class T, class A, class F>
void over_registers(T const* x, T* y, std::size_t n, F f) {
    using V = trm::simd::vec<T, A>;
    for (std::size_t i = 0; i + V::size <= n; i += V::size) trm::simd::store(y + i, f(trm::simd::load<V>(x + i)));
}
/// f as a function of arrays.
#define TRM_ACCURACY_OF(expression) \
    [](T const* x, T* y, std::size_t n) { over_registers<T, A>(x, y, n, [](auto v) { return expression; }); }

/// The functions of arrays whose length is a multiple of 16. The bounds are those of math.hpp, policy/token.hpp and softmax.hpp.
template <class T, class A>
std::vector<function<T>> functions() {
    namespace s = trm::simd;
    using W = wide<T>;
    constexpr bool f = sizeof(T) == 4;
    T const limit = f ? T(87) : T(700), most = (std::numeric_limits<T>::max)();
    T const tiny = (std::numeric_limits<T>::min)();
    auto const exp = [](W x) { return std::exp(x); };
    auto const expm1 = [](W x) { return std::expm1(x); };
    auto const complement = [](W x) { return std::fmax(-std::expm1(x), W((std::numeric_limits<T>::min)())); };
    double const e = f ? 1.5e-7 : 3e-16, k = f ? 1.3e-6 : 3e-15;
    return {
        {"exp", T(-20), T(20), TRM_ACCURACY_OF(s::exp_k3(v).exp), exp, e, 0},
        {"exp to the end of the range", -limit, limit, TRM_ACCURACY_OF(s::exp_k3(v).exp), exp, e, 0},
        {"expm1", T(-20), T(20), TRM_ACCURACY_OF(s::exp_k3(v).expm1), expm1, k, 0},
        {"k3", T(-20), T(20), TRM_ACCURACY_OF(s::exp_k3(v).k3), k3_of<W>, k, 0},
        {"k3, |x| <= 0.34", T(-0.34), T(0.34), TRM_ACCURACY_OF(s::exp_k3_small(v).k3), k3_of<W>, k, 0},
        {"1 - p from log p", -limit, T(0), TRM_ACCURACY_OF(trm::detail::probability(v).complement), complement, k, 0},
        {"log", tiny, most, TRM_ACCURACY_OF(log(v)), [](W x) { return std::log(x); }, 0, 1},
        {"log1p", T(-0.9999), most, TRM_ACCURACY_OF(log1p(v)), [](W x) { return std::log1p(x); }, 0, 1},
        {"exp2", f ? T(-126) : T(-1022), f ? T(127) : T(1023), TRM_ACCURACY_OF(s::exp2(v)),
         [](W x) { return std::exp2(x); }, f ? 2e-7 : 4e-16, 0},
    };
}
#undef TRM_ACCURACY_OF

/// One block of at most `size` points.
template <class T>
class measured {
public:
    static constexpr std::size_t size = 4096;
    explicit measured(function<T> const& f) : f_(f), x_(size), y_(size) {}
    void add(T x) {
        if (!(x >= f_.lowest && x <= f_.highest)) return;
        x_[n_++] = x;
        if (n_ == size) flush();
    }
    worst result() {
        flush();
        return all_;
    }

private:
    void flush() {
        std::size_t const used = n_;
        while (n_ % 16 != 0) {
            x_[n_] = x_[n_ - 1];
            ++n_;
        }
        f_.compute(x_.data(), y_.data(), n_);
        for (std::size_t i = 0; i < used; ++i) all_.add(y_[i], f_.reference(static_cast<wide<T>>(x_[i])), x_[i]);
        n_ = 0;
    }
    function<T> f_;
    std::vector<T> x_, y_;
    std::size_t n_ = 0;
    worst all_;
};

/// Every float of the domain whose bits are `first`, `first` + `step`, ...: step 1 is all of them.
inline worst measure_float(function<float> const& f, std::uint32_t first, std::uint32_t step) {
    measured<float> m(f);
    for (std::uint64_t bits = first; bits <= 0xffffffffu; bits += step)
        m.add(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    return m.result();
}
/// n doubles: half of them uniform in the domain's bits, half uniform in [-1, 1] and in the domain.
template <class R>
worst measure_double(function<double> const& f, std::uint64_t n, R& random) {
    measured<double> m(f);
    for (std::uint64_t i = 0; i < n; ++i) {
        double const v = random.uniform();
        if (i % 4 == 0) m.add(2 * v - 1);
        else if (i % 4 == 1)
            m.add(std::fmax(f.lowest, -700.0) + v * (std::fmin(f.highest, 700.0) - std::fmax(f.lowest, -700.0)));
        else if (double const d = std::bit_cast<double>(random()); std::isfinite(d)) m.add(d);
    }
    return m.result();
}

}  // namespace accuracy
