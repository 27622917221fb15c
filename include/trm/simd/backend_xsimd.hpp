// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/backend.hpp>

#include <xsimd/xsimd.hpp>

/// \file
/// `vec` on any architecture that xsimd has: included where trm has no better one of its own.

// Where the compiler is told that a register lives.
#if defined(__aarch64__) && !(defined(__clang__) && defined(__ARM_FEATURE_SVE_BITS))  // clang has no name for these
#define TRM_SIMD_VECTOR_REGISTER "w"
#elif defined(__VSX__)
#define TRM_SIMD_VECTOR_REGISTER "wa"
#else
#define TRM_SIMD_VECTOR_REGISTER "m"
#endif

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

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

/// Any architecture that xsimd has.
template <class T, class A>
struct backend {
    using batch = xsimd::batch<T, A>;
    using truth_batch = xsimd::batch_bool<T, A>;
    using reg = typename batch::register_type;
    using truth = typename truth_batch::register_type;
    static constexpr std::size_t size = batch::size;

    static TRM_INLINE void set(reg& to, T v) noexcept { to = batch(v); }
    static TRM_INLINE void load(reg& to, T const* p) noexcept { to = batch(batch::load_unaligned(p)); }
    static TRM_INLINE void store(T* p, reg const& v) noexcept { batch(v).store_unaligned(p); }
    static TRM_INLINE void less(truth& to, reg const& a, reg const& b) noexcept { to = batch(a) < batch(b); }
    static TRM_INLINE void less_equal(truth& to, reg const& a, reg const& b) noexcept { to = batch(a) <= batch(b); }
    static TRM_INLINE void equal(truth& to, reg const& a, reg const& b) noexcept { to = batch(a) == batch(b); }
    static TRM_INLINE void select(reg& to, truth const& m, reg const& a, reg const& b) noexcept {
        to = xsimd::select(truth_batch(m), batch(a), batch(b));
    }
    static TRM_INLINE void fma(reg& to, reg const& a, reg const& b, reg const& c) noexcept {
        to = xsimd::fma(batch(a), batch(b), batch(c));
    }
    static TRM_INLINE void larger(reg& to, reg const& a, reg const& b) noexcept {
        to = xsimd::select(batch(b) < batch(a), batch(a), batch(b));
    }
    static TRM_INLINE void smaller(reg& to, reg const& a, reg const& b) noexcept {
        to = xsimd::select(batch(a) < batch(b), batch(a), batch(b));
    }
    static TRM_INLINE void abs(reg& to, reg const& v) noexcept { to = xsimd::abs(batch(v)); }
    static TRM_INLINE void both(truth& to, truth const& a, truth const& b) noexcept {
        to = truth_batch(a) & truth_batch(b);
    }
    static TRM_INLINE void either(truth& to, truth const& a, truth const& b) noexcept {
        to = truth_batch(a) | truth_batch(b);
    }
    static TRM_INLINE void negate(truth& to, truth const& a) noexcept { to = !truth_batch(a); }
    static TRM_INLINE void everywhere(truth& to) noexcept { to = truth_batch(true); }
    static TRM_INLINE void add_where(reg& to, truth const& m, reg const& a, reg const& b) noexcept {
        to = batch(a) + xsimd::select(truth_batch(m), batch(b), batch(T(0)));
    }
    static TRM_INLINE void finite(truth& to, reg const& v) noexcept {
        using Int = integer_of<T>;
        xsimd::batch<Int, A> const exponent(sizeof(T) == 4 ? static_cast<Int>(0x7f800000)
                                                           : static_cast<Int>(0x7ff0000000000000));
        to = truth_batch(recast<T>((recast<Int>(batch(v)) & exponent) != exponent));
    }
    static TRM_INLINE void power(reg& to, reg const& t) noexcept {
        using Int = integer_of<T>;
        constexpr int shift = sizeof(T) == 4 ? 23 : 52;
        to = batch(recast<T>((recast<Int>(batch(t)) << shift) + xsimd::batch<Int, A>(std::bit_cast<Int>(T(1)))));
    }
    static TRM_INLINE bool any(truth const& m) noexcept { return xsimd::any(truth_batch(m)); }
    static TRM_INLINE bool all(truth const& m) noexcept { return xsimd::all(truth_batch(m)); }
    static TRM_INLINE int count(truth const& m) noexcept {
        using Int = integer_of<T>;
        using ints = xsimd::batch<Int, A>;
        ints const ones = recast<Int>(batch(xsimd::select(truth_batch(m), recast<T>(ints(Int(1))), batch(T(0)))));
#if XSIMD_VERSION_MAJOR < 9
        return static_cast<int>(xsimd::hadd(ones));
#else
        return static_cast<int>(xsimd::reduce_add(ones));
#endif
    }
    static TRM_INLINE std::uint32_t bits(truth const& m) noexcept {
#if XSIMD_VERSION_MAJOR < 9
        std::uint32_t b = 0;  // rarely asked for
        for (std::size_t i = 0; i < size; ++i) b |= static_cast<std::uint32_t>(truth_batch(m).get(i)) << i;
        return b;
#else
        return static_cast<std::uint32_t>(truth_batch(m).mask());
#endif
    }
    static TRM_INLINE void pin(reg& v) noexcept { __asm__("" : "+" TRM_SIMD_VECTOR_REGISTER(v)); }
    static TRM_INLINE void pin_in_order(reg&) noexcept {}
    // Lane by lane through <cmath> with -ffast-math, which would delete the corrections in xsimd's logarithms, and at -O0,
    // where those of xsimd 8.1 do not compile for every architecture.
    static TRM_INLINE void log(reg& to, reg const& v) noexcept {
#if TRM_FAST_MATH || !defined(__OPTIMIZE__)
        to = lanes(v, [](T x) { return std::log(x); });
#else
        to = xsimd::log(batch(v));
#endif
    }
    static TRM_INLINE void log1p(reg& to, reg const& v) noexcept {
#if TRM_FAST_MATH || !defined(__OPTIMIZE__)
        to = lanes(v, [](T x) { return std::log1p(x); });
#else
        to = xsimd::log1p(batch(v));
#endif
    }

private:
    template <class F>
    [[gnu::noinline]] static reg lanes(reg v, F f) noexcept {
        alignas(64) T buffer[size];
        store(buffer, v);
        for (T& x : buffer) x = f(x);
        load(v, buffer);
        return v;
    }
};

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END

#undef TRM_SIMD_VECTOR_REGISTER
