// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/backend.hpp>

#include <bit>

TRM_SIMD_QUIET_BEGIN
TRM_NAMESPACE_BEGIN
namespace simd {

/// Truth values of the lanes of a vec<T, A>. Copies are spelled out: g++ 12 keeps structures of registers that it copies as
/// classes in memory.
template <class T, class A>
struct vec_mask {
    using backend = detail::backend<T, A>;
    using reg = typename backend::truth;
    using logic = typename backend::logic;
    reg r;

    vec_mask() = default;
    TRM_INLINE vec_mask(vec_mask const& o) noexcept : r(o.r) {}
    TRM_INLINE vec_mask& operator=(vec_mask const& o) noexcept {
        r = o.r;
        return *this;
    }
    /// True in every lane, as a constant that the compiler sees through.
    static TRM_INLINE vec_mask everywhere() noexcept {
        vec_mask m;
        backend::everywhere(m.r);
        return m;
    }
    friend TRM_INLINE vec_mask operator&(vec_mask a, vec_mask b) noexcept {
        a.r = static_cast<reg>(logic(a.r) & logic(b.r));
        return a;
    }
    friend TRM_INLINE vec_mask operator|(vec_mask a, vec_mask b) noexcept {
        a.r = static_cast<reg>(logic(a.r) | logic(b.r));
        return a;
    }
    TRM_INLINE vec_mask operator!() const noexcept {
        vec_mask m = everywhere();
        m.r = static_cast<reg>(logic(r) ^ logic(m.r));
        return m;
    }
    /// Lane i as bit i.
    friend TRM_INLINE std::uint32_t to_bits(vec_mask m) noexcept { return backend::bits(m.r); }
    friend TRM_INLINE bool any(vec_mask m) noexcept {
        if constexpr (requires { backend::any(m.r); }) return backend::any(m.r);
        else return to_bits(m) != 0;
    }
    friend TRM_INLINE bool all(vec_mask m) noexcept {
        if constexpr (requires { backend::all(m.r); }) return backend::all(m.r);
        else return to_bits(m) == (1u << backend::size) - 1u;
    }
    /// True lanes.
    friend TRM_INLINE int count(vec_mask m) noexcept {
        if constexpr (requires { backend::count(m.r); }) {
            return backend::count(m.r);
        } else if constexpr (backend::size <= 4) {
            // SSE2 has no such instruction and the library's function is slow: a table in a number
            return static_cast<int>(0x4332322132212110u >> 4 * to_bits(m) & 0xfu);
        } else {
            return std::popcount(to_bits(m));
        }
    }
};

}  // namespace simd
TRM_NAMESPACE_END
TRM_SIMD_QUIET_END
