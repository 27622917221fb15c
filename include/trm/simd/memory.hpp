// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/convert_x86.hpp>
#include <trm/simd/dispatch.hpp>
#include <trm/simd/reduce.hpp>

#include <bit>
#include <cstring>

/// \file
/// Loads that convert from a storage type, partial loads and stores for tails, and byte masks. A partial load never
/// touches memory past its end and fills the other lanes with zero. Objects of foreign types are read by memcpy, never through a
/// pointer to another type.

TRM_NAMESPACE_BEGIN
namespace simd {
namespace detail {

template <class V>
using instructions_of = instructions<typename V::value_type, typename V::arch>;
template <class S>
using storage = std::type_identity<storage_t<S>>;

/// The first n elements, one by one.
template <class V, class S>
TRM_INLINE V load_each(S const* from, std::size_t n) noexcept {
    alignas(64) typename V::value_type buffer[V::size] = {};
    for (std::size_t i = 0; i < n; ++i) {
        storage_t<S> u;
        std::memcpy(&u, from + i, sizeof u);
        buffer[i] = static_cast<typename V::value_type>(to_float(u));
    }
    return V::read(buffer);
}

}  // namespace detail

/// `V::size` elements from any alignment, widened to the arithmetic type.
template <class V, class S>
TRM_INLINE V load(S const* from) noexcept {
    using isa = detail::instructions_of<V>;
    V v;
    if constexpr (std::is_same_v<S, typename V::value_type>) v = V::read(from);
    else if constexpr (requires { isa::load(detail::storage<S>{}, v.r, from); })
        isa::load(detail::storage<S>{}, v.r, from);
    else v = detail::load_each<V>(from, V::size);
    return v;
}

/// 2 `V::size` elements in any order, the same for every call: sums do not care, and unpacking bf16 gets cheaper.
template <class V, class S>
TRM_INLINE void load_two(S const* from, V& a, V& b) noexcept {
    if constexpr (std::is_same_v<storage_t<S>, bf16> && std::is_same_v<typename V::value_type, float>) {
        typename V::integers pairs;
        std::memcpy(&pairs, from, sizeof pairs);
        a.r = __builtin_bit_cast(typename V::reg, pairs << 16);
        b.r = __builtin_bit_cast(typename V::reg, pairs & 0xffff0000u);
    } else {
        a = load<V>(from);
        b = load<V>(from + V::size);
    }
}

/// The first n elements (0 <= n <= lanes), zero in the other lanes.
template <class V, class S>
TRM_INLINE V load_n(S const* from, std::size_t n) noexcept {
    V v;
    if constexpr (std::is_same_v<S, typename V::value_type> && requires { V::backend::load_n(v.r, from, n); })
        V::backend::load_n(v.r, from, n);
    else v = n == V::size ? load<V>(from) : detail::load_each<V>(from, n);
    return v;
}

template <class V>
TRM_INLINE void store(typename V::value_type* to, V v) noexcept {
    v.write(to);
}

template <class V>
TRM_INLINE void store_n(typename V::value_type* to, V v, std::size_t n) noexcept {
    if constexpr (requires { V::backend::store_n(to, v.r, n); }) {
        V::backend::store_n(to, v.r, n);
    } else {
        alignas(64) typename V::value_type buffer[V::size];
        v.write(buffer);
        for (std::size_t i = 0; i < n; ++i) to[i] = buffer[i];
    }
}

/// The same where n is nearly always all of them.
template <class V, class S>
TRM_INLINE V load_first(S const* from, std::size_t n) noexcept {
    return n == V::size ? load<V>(from) : load_n<V>(from, n);
}
template <class V>
TRM_INLINE void store_first(typename V::value_type* to, V v, std::size_t n) noexcept {
    if (n == V::size) {
        store(to, v);
    } else {
        store_n(to, v, n);
    }
}

/// True in the lanes whose byte is not zero.
template <class V>
TRM_INLINE typename V::mask load_mask(std::uint8_t const* bytes) noexcept {
    using T = typename V::value_type;
    using isa = detail::instructions_of<V>;
    typename V::mask m;
    if constexpr (requires { isa::load_mask(m.r, bytes); }) {
        isa::load_mask(m.r, bytes);
    } else {
        alignas(64) T buffer[V::size];
        for (std::size_t i = 0; i < V::size; ++i) buffer[i] = bytes[i] != 0 ? T(1) : T(0);
        m = V::read(buffer) > V(T(0));
    }
    return m;
}
/// True in the lanes i < n with f(i).
template <class V, class F>
TRM_INLINE typename V::mask mask_of(std::size_t n, F const& f) noexcept {
    std::uint8_t buffer[V::size < 16 ? 16 : V::size] = {};
    for (std::size_t i = 0; i < n; ++i) buffer[i] = f(i);
    return load_mask<V>(buffer);
}
template <class V>
TRM_INLINE typename V::mask load_mask_n(std::uint8_t const* bytes, std::size_t n) noexcept {
    if (n == V::size) return load_mask<V>(bytes);
    return mask_of<V>(n, [bytes](std::size_t i) TRM_INLINE_LAMBDA { return bytes[i] != 0; });
}
/// True in the lanes i < n whose number is zero.
template <class V>
TRM_INLINE typename V::mask load_zeros(std::uint16_t const* from, std::size_t n) noexcept {
    if constexpr (V::size >= 8)
        if (n == V::size) {
            detail::lanes<std::uint16_t, V::size> numbers;
            std::memcpy(&numbers, from, sizeof numbers);
            auto const zeros = __builtin_convertvector(numbers == 0, detail::lanes<std::int8_t, V::size>);
            std::uint8_t bytes[V::size < 16 ? 16 : V::size] = {};
            std::memcpy(bytes, &zeros, sizeof zeros);
            return load_mask<V>(bytes);
        }
    return mask_of<V>(n, [from](std::size_t i) TRM_INLINE_LAMBDA { return from[i] == 0; });
}
/// True in the first n lanes.
template <class V>
TRM_INLINE typename V::mask first_n(std::size_t n) noexcept {
    typename V::mask m;
    if constexpr (requires { V::backend::first_n(m.r, n); }) V::backend::first_n(m.r, n);
    else m = mask_of<V>(n, [](std::size_t) TRM_INLINE_LAMBDA { return true; });
    return m;
}

/// The first n lanes as bytes 1 and 0.
template <class T, class A>
TRM_INLINE void store_mask(std::uint8_t* bytes, vec_mask<T, A> m, std::size_t n) noexcept {
    using isa = detail::instructions<T, A>;
    if constexpr (requires { isa::store_mask(bytes, m.r); })
        if (n == vec<T, A>::size) return isa::store_mask(bytes, m.r);
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

TRM_INLINE std::uint64_t word_at(std::uint8_t const* bytes) noexcept {
    std::uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
}
/// Of a word. A byte is not zero if its highest bit is set or the others carry into that when 127 is added.
TRM_INLINE std::int64_t nonzero_bytes(std::uint64_t word) noexcept {
    constexpr std::uint64_t low = 0x7f7f7f7f7f7f7f7f, one_each = 0x0101010101010101;
    std::uint64_t const highest = (((word & low) + low) | word) & ~low;
    return static_cast<std::int64_t>((highest >> 7) * one_each >> 56);
}
template <class A>
TRM_INLINE std::int64_t count_nonzero_in(std::uint8_t const* bytes, std::int64_t n) noexcept {
    // Not 64: masks of AVX-512 have no vector type.
    constexpr std::size_t size = sizeof(vec<double, A>) < 32 ? sizeof(vec<double, A>) : 32;
    using words = lanes<std::uint64_t, size / 8>;
    constexpr std::int64_t width = size;
    std::int64_t total = 0, i = 0;
    while (i + width <= n) {
        lanes<std::uint8_t, size> zeros = {}, b;
        std::int64_t const from = i;
        for (int k = 0; k < 255 && i + width <= n; ++k, i += width) {
            std::memcpy(&b, bytes + i, size);
            zeros -= __builtin_bit_cast(lanes<std::uint8_t, size>, b == 0);
        }
        total += i - from;
        for (std::size_t k = 0; k < size / 8; ++k) {
            std::uint64_t const word = __builtin_bit_cast(words, zeros)[k], every_other = 0x00ff00ff00ff00ff;
            std::uint64_t const pairs = (word & every_other) + (word >> 8 & every_other);
            total -= static_cast<std::int64_t>(pairs * 0x0001000100010001u >> 48);
        }
    }
    for (; i + 8 <= n; i += 8) total += nonzero_bytes(word_at(bytes + i));
    if (i == n) return total;
    if (n >= 8) {  // a word that ends where the bytes do, without those counted before
        int const counted = 8 * static_cast<int>(8 - (n - i));
        std::uint64_t const last = word_at(bytes + n - 8);
        return total + nonzero_bytes(std::endian::native == std::endian::little ? last >> counted : last << counted);
    }
    for (; i < n; ++i) total += bytes[i] != 0;
    return total;
}

}  // namespace detail

/// Bytes that are not zero.
[[nodiscard]] inline std::int64_t count_nonzero(std::uint8_t const* bytes, std::int64_t n) noexcept {
    if (!TRM_DISPATCH || n < 256) return detail::count_nonzero_in<compiled_arch>(bytes, n);
    std::int64_t total = 0;
    on_unit<default_arch>([&]<class Unit>(Unit)
                              TRM_INLINE_LAMBDA { total = detail::count_nonzero_in<Unit>(bytes, n); });
    return total;
}

/// Ask for the cache line `bytes` after an address, which will be read soon, in the cache of this level (1 or 2). Only a hint; any
/// address is allowed.
template <int Level = 1>
TRM_ALWAYS_INLINE inline void prefetch(void const* address, std::size_t bytes) noexcept {
    __builtin_prefetch(reinterpret_cast<void const*>(reinterpret_cast<std::uintptr_t>(address) + bytes), 0, 4 - Level);
}

}  // namespace simd
TRM_NAMESPACE_END
