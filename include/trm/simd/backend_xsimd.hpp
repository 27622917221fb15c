// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/backend.hpp>

#include <xsimd/xsimd.hpp>

/// \file
/// `vec` on any architecture that xsimd has: included where trm has no better one of its own.

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

    static TRM_INLINE reg set(T v) noexcept { return batch(v); }
    static TRM_INLINE reg load(T const* p) noexcept { return batch(batch::load_unaligned(p)); }
    static TRM_INLINE void store(T* p, reg v) noexcept { batch(v).store_unaligned(p); }
    static TRM_INLINE truth less(reg a, reg b) noexcept { return batch(a) < batch(b); }
    static TRM_INLINE truth less_equal(reg a, reg b) noexcept { return batch(a) <= batch(b); }
    static TRM_INLINE truth equal(reg a, reg b) noexcept { return batch(a) == batch(b); }
    static TRM_INLINE reg select(truth m, reg a, reg b) noexcept {
        return xsimd::select(truth_batch(m), batch(a), batch(b));
    }
    static TRM_INLINE reg fma(reg a, reg b, reg c) noexcept { return xsimd::fma(batch(a), batch(b), batch(c)); }
    static TRM_INLINE reg larger(reg a, reg b) noexcept { return select(less(b, a), a, b); }
    static TRM_INLINE reg smaller(reg a, reg b) noexcept { return select(less(a, b), a, b); }
    static TRM_INLINE reg abs(reg v) noexcept { return xsimd::abs(batch(v)); }
    static TRM_INLINE truth both(truth a, truth b) noexcept { return truth_batch(a) & truth_batch(b); }
    static TRM_INLINE truth either(truth a, truth b) noexcept { return truth_batch(a) | truth_batch(b); }
    static TRM_INLINE truth negate(truth a) noexcept { return !truth_batch(a); }
    static TRM_INLINE truth everywhere() noexcept { return truth_batch(true); }
    static TRM_INLINE reg add_where(truth m, reg a, reg b) noexcept {
        return batch(a) + batch(select(m, b, batch(T(0))));
    }
    static TRM_INLINE truth finite(reg v) noexcept {
        using Int = integer_of<T>;
        xsimd::batch<Int, A> const exponent(sizeof(T) == 4 ? static_cast<Int>(0x7f800000)
                                                           : static_cast<Int>(0x7ff0000000000000));
        return truth_batch(recast<T>((recast<Int>(batch(v)) & exponent) != exponent));
    }
    static TRM_INLINE reg power(reg t) noexcept {
        using Int = integer_of<T>;
        constexpr int shift = sizeof(T) == 4 ? 23 : 52;
        return batch(recast<T>((recast<Int>(batch(t)) << shift) + xsimd::batch<Int, A>(std::bit_cast<Int>(T(1)))));
    }
    static TRM_INLINE std::uint32_t bits(truth m) noexcept {
        std::uint32_t b = 0;
        for (std::size_t i = 0; i < size; ++i) b |= static_cast<std::uint32_t>(truth_batch(m).get(i)) << i;
        return b;
    }
    // Lane by lane through <cmath> with -ffast-math, which would delete the corrections in xsimd's logarithms, and at -O0,
    // where those of xsimd 8.1 do not compile for every architecture.
    static TRM_INLINE reg log(reg v) noexcept {
#if TRM_FAST_MATH || !defined(__OPTIMIZE__)
        return lanes(v, [](T x) { return std::log(x); });
#else
        return xsimd::log(batch(v));
#endif
    }
    static TRM_INLINE reg log1p(reg v) noexcept {
#if TRM_FAST_MATH || !defined(__OPTIMIZE__)
        return lanes(v, [](T x) { return std::log1p(x); });
#else
        return xsimd::log1p(batch(v));
#endif
    }

private:
    template <class F>
    [[gnu::noinline]] static reg lanes(reg v, F f) noexcept {
        alignas(64) T buffer[size];
        store(buffer, v);
        for (T& x : buffer) x = f(x);
        return load(buffer);
    }
};

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END
