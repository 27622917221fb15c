// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/backend.hpp>

#include <xsimd/xsimd.hpp>

/// \file
/// `vec` on any architecture that xsimd has: included where trm has no better one of its own.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class T, class A>
struct backend {
    using batch = xsimd::batch<T, A>;
    using logic = xsimd::batch_bool<T, A>;
    using reg = typename batch::register_type;
    using truth = typename logic::register_type;
    using in = reg const&;
    static constexpr std::size_t size = batch::size;

    static TRM_INLINE void set(reg& to, T v) noexcept { to = batch(v); }
    static TRM_INLINE void load(reg& to, T const* p) noexcept { to = batch(batch::load_unaligned(p)); }
    static TRM_INLINE void store(T* p, in v) noexcept { batch(v).store_unaligned(p); }
    static TRM_INLINE void less(truth& to, in a, in b) noexcept { to = batch(a) < batch(b); }
    static TRM_INLINE void less_equal(truth& to, in a, in b) noexcept { to = batch(a) <= batch(b); }
    static TRM_INLINE void equal(truth& to, in a, in b) noexcept { to = batch(a) == batch(b); }
    static TRM_INLINE void select(reg& to, truth const& m, in a, in b) noexcept {
        to = xsimd::select(logic(m), batch(a), batch(b));
    }
    static TRM_INLINE void fma(reg& to, in a, in b, in c) noexcept { to = xsimd::fma(batch(a), batch(b), batch(c)); }
    static TRM_INLINE void everywhere(truth& to) noexcept { to = logic(true); }
    static TRM_INLINE bool any(truth const& m) noexcept { return xsimd::any(logic(m)); }
    static TRM_INLINE bool all(truth const& m) noexcept { return xsimd::all(logic(m)); }
    static TRM_INLINE int count(truth const& m) noexcept {
        batch const ones = xsimd::select(logic(m), batch(T(1)), batch(T(0)));
#if XSIMD_VERSION_MAJOR < 9
        return static_cast<int>(xsimd::hadd(ones));
#else
        return static_cast<int>(xsimd::reduce_add(ones));
#endif
    }
    static TRM_INLINE std::uint32_t bits(truth const& m) noexcept {
#if XSIMD_VERSION_MAJOR < 9
        std::uint32_t b = 0;  // rarely asked for
        for (std::size_t i = 0; i < size; ++i) b |= static_cast<std::uint32_t>(logic(m).get(i)) << i;
        return b;
#else
        return static_cast<std::uint32_t>(logic(m).mask());
#endif
    }
    static TRM_INLINE void pin(reg& v) noexcept { __asm__("" : "+" TRM_SIMD_IN_REGISTER(v)); }
};

}  // namespace detail
}  // namespace simd
TRM_NAMESPACE_END
