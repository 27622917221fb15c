// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/simd/memory.hpp>

/// \file
/// Stores that round to a storage type (nearest, ties to even), and non-temporal stores.

TRM_NAMESPACE_BEGIN
namespace simd {

/// The first n lanes, rounded to the storage type.
template <class S, class V>
TRM_INLINE void store_as_n(S* to, V v, std::size_t n) noexcept {
    if constexpr (std::is_same_v<S, typename V::value_type>) {
        store_n(to, v, n);
    } else {
        alignas(64) typename V::value_type buffer[V::size];
        v.write(buffer);
        for (std::size_t i = 0; i < n; ++i) {
            auto const u = to_storage<S>(buffer[i]);
            std::memcpy(to + i, &u, sizeof u);
        }
    }
}

/// All lanes, rounded to the storage type. Subnormal bf16 results may become zero where the CPU converts.
template <class S, class V>
TRM_INLINE void store_as(S* to, V v) noexcept {
    using isa [[maybe_unused]] = detail::instructions_of<V>;
    if constexpr (std::is_same_v<S, typename V::value_type>) {
        v.write(to);
    } else if constexpr (requires { isa::store(detail::storage<S>{}, to, v.r); }) {
        isa::store(detail::storage<S>{}, to, v.r);
    } else {
        store_as_n(to, v, V::size);
    }
}

/// Past the caches, for outputs that nobody reads soon; `to` aligned to the register. Ends with `stream_fence`.
template <class V>
TRM_INLINE void stream(typename V::value_type* to, V v) noexcept {
    if constexpr (requires { V::backend::stream(to, v.r); }) V::backend::stream(to, v.r);
    else v.write(to);
}
TRM_INLINE void stream_fence() noexcept {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

}  // namespace simd
TRM_NAMESPACE_END
