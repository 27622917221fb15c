// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/dispatch.hpp>
#include <trm/simd/memory_x86.hpp>
#include <trm/simd/reduce.hpp>

#include <cstring>

/// \file
/// Loads that convert from a storage type, partial loads and stores for tails, and byte masks. A partial load never
/// touches memory past its end and fills the other lanes with zero.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class V>
using instructions_of = instructions<typename V::value_type, typename V::arch>;

}  // namespace detail

/// `V::size` elements from any alignment, widened to the arithmetic type. Objects of foreign types are read by memcpy, never
/// through a pointer to another type.
template <class V, class S>
TRM_INLINE V load(S const* from) noexcept {
    using T = typename V::value_type;
    using U = storage_t<S>;
    using isa = detail::instructions_of<V>;
    V v;
    if constexpr (std::is_same_v<S, T>) {
        return V::read(from);
    } else if constexpr (std::is_same_v<U, f16> && requires { isa::load_f16(v.r, from); }) {
        isa::load_f16(v.r, from);
        return v;
    } else if constexpr (std::is_same_v<U, bf16> && requires { isa::load_bf16(v.r, from); }) {
        isa::load_bf16(v.r, from);
        return v;
    } else {
        alignas(64) T buffer[V::size];
        for (std::size_t i = 0; i < V::size; ++i) {
            U u;
            std::memcpy(&u, from + i, sizeof u);
            buffer[i] = static_cast<T>(to_float(u));
        }
        return V::read(buffer);
    }
}

/// 2 `V::size` elements in any order, the same for every call: sums do not care, and unpacking bf16 gets cheaper.
template <class V, class S>
TRM_INLINE void load_two(S const* from, V& a, V& b) noexcept {
    using isa = detail::instructions_of<V>;
    if constexpr (std::is_same_v<storage_t<S>, bf16> && requires { isa::load_two_bf16(a.r, b.r, from); }) {
        isa::load_two_bf16(a.r, b.r, from);
    } else {
        a = load<V>(from);
        b = load<V>(from + V::size);
    }
}

/// The first n elements (0 <= n <= lanes), zero in the other lanes.
template <class V, class S>
TRM_INLINE V load_n(S const* from, std::size_t n) noexcept {
    using T = typename V::value_type;
    using U = storage_t<S>;
    using isa = detail::instructions_of<V>;
    if constexpr (std::is_same_v<S, T> && requires(V v) { isa::load_n(v.r, from, n); }) {
        V v;
        isa::load_n(v.r, from, n);
        return v;
    } else {
        if (n == V::size) return load<V>(from);
        alignas(64) T buffer[V::size] = {};
        for (std::size_t i = 0; i < n; ++i) {
            U u;
            std::memcpy(&u, from + i, sizeof u);
            buffer[i] = static_cast<T>(to_float(u));
        }
        return V::read(buffer);
    }
}

template <class V>
TRM_INLINE void store(typename V::value_type* to, V v) noexcept {
    v.write(to);
}

template <class V>
TRM_INLINE void store_n(typename V::value_type* to, V v, std::size_t n) noexcept {
    using isa = detail::instructions_of<V>;
    if constexpr (requires { isa::store_n(to, v.r, n); }) {
        isa::store_n(to, v.r, n);
    } else {
        alignas(64) typename V::value_type buffer[V::size];
        v.write(buffer);
        for (std::size_t i = 0; i < n; ++i) to[i] = buffer[i];
    }
}

/// True in the lanes whose byte is not zero.
template <class V>
TRM_INLINE typename V::mask load_mask(std::uint8_t const* bytes) noexcept {
    using T = typename V::value_type;
    using isa = detail::instructions_of<V>;
    if constexpr (requires(typename V::mask m) { isa::load_mask(m.r, bytes); }) {
        typename V::mask m;
        isa::load_mask(m.r, bytes);
        return m;
    } else {
        alignas(64) T buffer[V::size];
        for (std::size_t i = 0; i < V::size; ++i) buffer[i] = bytes[i] != 0 ? T(1) : T(0);
        return V::read(buffer) > V(T(0));
    }
}
template <class V>
TRM_INLINE typename V::mask load_mask_n(std::uint8_t const* bytes, std::size_t n) noexcept {
    std::uint8_t buffer[V::size < 16 ? 16 : V::size] = {};
    for (std::size_t i = 0; i < n; ++i) buffer[i] = bytes[i];
    return load_mask<V>(buffer);
}

/// True in the lanes i < n whose number is zero.
template <class V>
TRM_INLINE typename V::mask load_zeros(std::uint16_t const* from, std::size_t n) noexcept {
    std::uint8_t buffer[V::size < 16 ? 16 : V::size] = {};
    for (std::size_t i = 0; i < n; ++i) buffer[i] = from[i] == 0;
    return load_mask<V>(buffer);
}

/// True in the first n lanes.
template <class V>
TRM_INLINE typename V::mask first_n(std::size_t n) noexcept {
    using T = typename V::value_type;
    using isa = detail::instructions_of<V>;
    if constexpr (requires(typename V::mask m) { isa::first_n(m.r, n); }) {
        typename V::mask m;
        isa::first_n(m.r, n);
        return m;
    } else {
        alignas(64) T index[V::size];
        for (std::size_t i = 0; i < V::size; ++i) index[i] = static_cast<T>(i);
        return V::read(index) < V(static_cast<T>(n));
    }
}

/// The first n lanes as bytes 1 and 0.
template <class T, class A>
TRM_INLINE void store_mask(std::uint8_t* bytes, vec_mask<T, A> m, std::size_t n) noexcept {
    std::uint32_t bits = to_bits(m);
    for (std::size_t i = 0; i < n; i += 8, bits >>= 8) {
        std::uint64_t spread = bits & 0xffu;  // bit k to byte k
        spread = (spread | spread << 28) & 0x0000000f0000000fu;
        spread = (spread | spread << 14) & 0x0003000300030003u;
        spread = (spread | spread << 7) & 0x0101010101010101u;
        for (std::size_t k = 0; k < 8 && i + k < n; ++k) bytes[i + k] = static_cast<std::uint8_t>(spread >> 8 * k);
    }
}

namespace detail {

template <class A>
TRM_INLINE std::int64_t count_nonzero_in(std::uint8_t const* bytes, std::int64_t n) noexcept {
    using isa = instructions<float, A>;
    std::int64_t total = 0, i = 0;
    if constexpr (requires { isa::count_bytes(bytes); })
        for (; i + isa::bytes_at_once <= n; i += isa::bytes_at_once) total += isa::count_bytes(bytes + i);
    for (; i < n; ++i) total += bytes[i] != 0;
    return total;
}

}  // namespace detail

/// Bytes that are not zero.
[[nodiscard]] inline std::int64_t count_nonzero(std::uint8_t const* bytes, std::int64_t n) noexcept {
    if (!TRM_DISPATCH || n < 256) return detail::count_nonzero_in<compiled_arch>(bytes, n);
    std::int64_t total = 0;
    on_unit<default_arch>([&]<class Unit>(Unit)
                              __attribute__((always_inline)) { total = detail::count_nonzero_in<Unit>(bytes, n); });
    return total;
}

/// Ask for the cache line `bytes` after an address, which will be read soon. Only a hint; any address is allowed.
TRM_INLINE void prefetch(void const* address, std::size_t bytes) noexcept {
    __builtin_prefetch(reinterpret_cast<void const*>(reinterpret_cast<std::uintptr_t>(address) + bytes), 0, 3);
}

}  // namespace simd
TRM_NAMESPACE_END
