// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <bit>
#include <cstdint>
#include <type_traits>

TRM_NAMESPACE_BEGIN

/// bfloat16 storage: the upper half of a binary32. It may alias other types of two bytes, so that memory of a foreign
/// bfloat16 can be read through it. A log-probability stored so is rounded by up to 2^-9 relative:
/// 0.004 nats near -1 and 0.03 nats near -10, more than many trust regions are wide.
struct [[gnu::may_alias]] bf16 {
    std::uint16_t bits;
};

/// IEEE binary16 storage.
struct [[gnu::may_alias]] f16 {
    std::uint16_t bits;
};

/// Exact widening.
[[nodiscard]] constexpr float to_float(bf16 v) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(v.bits) << 16);
}
/// Exact widening, subnormals included.
[[nodiscard]] constexpr float to_float(f16 v) noexcept {
    std::uint32_t const sign = static_cast<std::uint32_t>(v.bits & 0x8000u) << 16;
    std::uint32_t const rest = v.bits & 0x7fffu;
    if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest >= 0x0400u) return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000u));
    float const magnitude = static_cast<float>(rest) * 0x1p-24f;  // subnormal: exact in binary32
    return sign ? -magnitude : magnitude;
}
[[nodiscard]] constexpr float to_float(float v) noexcept { return v; }
[[nodiscard]] constexpr double to_float(double v) noexcept { return v; }

/// Round to nearest, ties to even; NaN stays NaN.
[[nodiscard]] constexpr bf16 to_bf16(float v) noexcept {
    std::uint32_t const u = std::bit_cast<std::uint32_t>(v);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
/// Round to nearest, ties to even; overflow to infinity; NaN stays NaN.
[[nodiscard]] constexpr f16 to_f16(float v) noexcept {
    std::uint32_t const u = std::bit_cast<std::uint32_t>(v);
    std::uint16_t const sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
    std::uint32_t const a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
    if (a >= 0x47800000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
    if (a < 0x38800000u) {  // subnormal or zero: the float unit rounds for us
        float const scaled = std::bit_cast<float>(a) + 0.5f;  // ulp of 0.5 is 2^-24, the spacing of f16 subnormals
        return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(scaled) - 0x3f000000u))};
    }
    std::uint32_t const r = a + 0xfffu + ((a >> 13) & 1u);
    return {static_cast<std::uint16_t>(sign | ((r - 0x38000000u) >> 13))};
}

/// Opt-in for foreign storage types: `template <> struct trm::storage_traits<c10::BFloat16> { using type = trm::bf16; };`
/// The foreign type must have the bits of `type`.
template <class T>
struct storage_traits {
    using type = T;
};

template <class T>
using storage_t = typename storage_traits<std::remove_cv_t<T>>::type;

/// What streams may hold: float, double, `bf16`, `f16`, and foreign types by `storage_traits`.
template <class T>
concept storage_type = std::is_same_v<storage_t<T>, float> || std::is_same_v<storage_t<T>, double> ||
                       std::is_same_v<storage_t<T>, bf16> || std::is_same_v<storage_t<T>, f16>;

/// What is computed in.
template <class T>
concept arithmetic_type = std::is_same_v<T, float> || std::is_same_v<T, double>;

/// v rounded to what S stores: to nearest, ties to even. A double becomes bf16 or f16 by way of float.
template <storage_type S, arithmetic_type T>
[[nodiscard]] constexpr storage_t<S> to_storage(T v) noexcept {
    if constexpr (std::is_same_v<storage_t<S>, bf16>) return to_bf16(static_cast<float>(v));
    else if constexpr (std::is_same_v<storage_t<S>, f16>) return to_f16(static_cast<float>(v));
    else return static_cast<storage_t<S>>(v);
}

/// Arithmetic that suits a storage type when nothing else decides: double for double, float for the rest.
template <storage_type T>
using default_arithmetic_t = std::conditional_t<std::is_same_v<storage_t<T>, double>, double, float>;

/// A log-probability above this is no rounding error: log p is at most 0, but a difference logit - logsumexp rounds to about
/// an ulp of the logits, here taken up to 64.
template <storage_type S>
inline constexpr double positive_tolerance = std::is_same_v<storage_t<S>, bf16>  ? 0.25
                                             : std::is_same_v<storage_t<S>, f16> ? 0x1p-5
                                                                                 : 1e-4;

/// Finite test on bits: -ffast-math may delete std::isfinite, never this.
[[nodiscard]] constexpr bool is_finite(float v) noexcept {
    return (std::bit_cast<std::uint32_t>(v) & 0x7f800000u) != 0x7f800000u;
}
[[nodiscard]] constexpr bool is_finite(double v) noexcept {
    return (std::bit_cast<std::uint64_t>(v) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}
[[nodiscard]] constexpr bool is_nan(double v) noexcept {
    return (std::bit_cast<std::uint64_t>(v) & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
}

TRM_NAMESPACE_END
