// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <type_traits>

/// \file
/// Reversed bounds that the compiler can see are a compile error: clang sees constants at every level of optimisation, g++ with
/// -O1 or higher, both in constant expressions. Bounds known only at run time are refused by `validate()`: errc::bad_threshold.

#if defined(__clang__)
/// After the parameters of a function that takes `lower` and `upper`. (-Wpedantic of clang warns of its own attribute.)
// clang-format off
#define TRM_REFUSES_REVERSED_BOUNDS                                                            \
    _Pragma("clang diagnostic push") _Pragma("clang diagnostic ignored \"-Wgcc-compat\"")      \
    __attribute__((diagnose_if(lower > upper,                                                  \
        "trm: the lower bound is above the upper bound; the lower one comes first", "error"))) \
    _Pragma("clang diagnostic pop")
// clang-format on
#else
#define TRM_REFUSES_REVERSED_BOUNDS
#endif

TRM_NAMESPACE_BEGIN
namespace detail {

#if defined(__GNUC__) && !defined(__clang__)
/// Never defined, never called: the compiler refuses a call that it does not remove.
[[gnu::error("trm: the lower bound is above the upper bound; the lower one comes first")]] void
the_lower_bound_is_above_the_upper_bound();
#endif

/// For the g++ half of the above.
TRM_INLINE constexpr void check_order([[maybe_unused]] double lower, [[maybe_unused]] double upper) noexcept {
#if defined(__GNUC__) && !defined(__clang__)
    if (__builtin_constant_p(lower > upper) && lower > upper) the_lower_bound_is_above_the_upper_bound();
#endif
}

/// What deduction makes of arguments that fit no policy: a type whose only purpose is a sentence.
template <class... Args>
struct mistaken {};

template <class T>
concept number = std::is_arithmetic_v<T>;

}  // namespace detail
TRM_NAMESPACE_END
