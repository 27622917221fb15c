// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/status.hpp>
#include <trm/simd/batch.hpp>

#if TRM_DISPATCH
#include <cpuid.h>

#include <cstdlib>
#include <cstring>
#endif

/// \file
/// Kernels on the unit of the CPU. A kernel is written once, over `vec<T, A>`, and handed to `on_unit` as a function of A; with
/// default flags it is compiled for every unit of x86 and entered through a function that has the unit's instructions. It runs
/// at their speed as far as it is inlined there (`TRM_INLINE`, `TRM_INLINE_LAMBDA`). What stays outside, such as a
/// user's functor that the compiler does not inline, is compiled for the flags: slow, but right. Without optimisation (-O0) all is
/// compiled for the flags, whatever unit is asked for.
///
/// The environment variable TRM_CPU = baseline, v3 or v4 sets the unit of the program, read once.

TRM_NAMESPACE_BEGIN
namespace simd {

namespace detail {

/// A, or the flags' unit where code for A is left out because nothing is optimised.
template <class A>
using compiled_for = std::conditional_t<TRM_DISPATCH && !TRM_SIMD_ALL && !is_supported<A>, compiled_arch, A>;

/// x86-64, x86-64-v3 and x86-64-v4.
enum class level : std::uint8_t { baseline, v3, v4 };

#if TRM_DISPATCH

[[nodiscard]] inline level level_of_cpu() noexcept {
    auto const has = [](unsigned leaf, int bit) {  // bits of ECX, for what has no name that all compilers know
        unsigned a = 0, b = 0, c = 0, d = 0;
        return __get_cpuid(leaf, &a, &b, &c, &d) != 0 && (c >> bit & 1) != 0;
    };
    bool const f16c = has(1, 29), movbe = has(1, 22), lzcnt = has(0x80000001u, 5);
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt") || !f16c || !movbe || !lzcnt)
        return level::baseline;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return level::v3;
    return level::v4;
}

struct choice {
    level cpu, use;
    char const* wrong;  ///< what is wrong with TRM_CPU, or null
};
[[nodiscard]] inline choice choose(level cpu, char const* wanted) noexcept {
    if (wanted == nullptr || *wanted == '\0') return {cpu, cpu, nullptr};
    level use = level::baseline;
    if (std::strcmp(wanted, "v4") == 0) {
        use = level::v4;
    } else if (std::strcmp(wanted, "v3") == 0) {
        use = level::v3;
    } else if (std::strcmp(wanted, "baseline") != 0) {
        return {cpu, cpu, "TRM_CPU in the environment must be baseline, v3 or v4"};
    }
    if (use > cpu) return {cpu, cpu, "TRM_CPU in the environment asks for a vector unit that this CPU does not have"};
    return {cpu, use, nullptr};
}
[[nodiscard]] inline choice const& chosen() noexcept {
    static choice const once = choose(level_of_cpu(), std::getenv("TRM_CPU"));
    return once;
}

/// f(unit) for the unit of the CPU.
template <class F>
TRM_INLINE decltype(auto) with_unit_of_cpu(F const& f) noexcept {
#if TRM_SIMD_ALL
    if (chosen().use == level::v4) return f(avx512{});
    if (chosen().use == level::v3) return f(avx2{});
#endif
    return f(sse2{});
}

#if TRM_SIMD_ALL
template <class F>
[[gnu::noinline]] TRM_FLATTEN TRM_TARGET_AVX2 void enter(F const& f, avx2 unit) noexcept {
    f(unit);
}
template <class F>
[[gnu::noinline]] TRM_FLATTEN TRM_TARGET_AVX512 void enter(F const& f, avx512 unit) noexcept {
    f(unit);
}
#endif

#endif

template <class F, class A>
[[gnu::noinline]] TRM_FLATTEN void enter(F const& f, A unit) noexcept {
    f(unit);
}

}  // namespace detail

/// Stands for the widest of `sse2`, `avx2` and `avx512` that the CPU has, or what TRM_CPU says.
struct best_of_cpu {
    static constexpr bool supported() noexcept { return TRM_DISPATCH; }
#if TRM_DISPATCH
    [[nodiscard]] static char const* name() noexcept {
        return detail::with_unit_of_cpu([](auto unit) { return unit.name(); });
    }
#endif
};

/// f(unit) in a function of its own that has the instructions of A; f is a TRM_INLINE_LAMBDA that throws nothing.
/// `best_of_cpu` becomes the unit of the CPU here.
template <class A, class F>
TRM_INLINE void on_unit(F const& f) noexcept {
#if TRM_DISPATCH
    if constexpr (std::is_same_v<A, best_of_cpu>)
        return detail::with_unit_of_cpu([&](auto unit) TRM_INLINE_LAMBDA { detail::enter(f, unit); });
    else
#endif
        detail::enter(f, detail::compiled_for<A>{});
}

/// The registers of T on a unit that is not known yet: `on<Unit>` inside `on_unit<arch>`.
template <class T, class A>
struct registers {
    using value_type = T;
    using arch = A;
    template <class Unit>
    using on = vec<T, Unit>;
};

/// Can this program run on A, here? `unsupported` if the CPU does not have the unit, or if TRM_CPU is wrong.
template <class A>
[[nodiscard]] status check_unit() noexcept {
#if TRM_DISPATCH
    auto const refuse = [](char const* what) { return status{errc::unsupported, -1, -1, what}; };
    detail::choice const& c = detail::chosen();
    if (std::is_same_v<A, best_of_cpu> && c.wrong != nullptr) return refuse(c.wrong);
    if ((std::is_same_v<A, avx2> && c.cpu < detail::level::v3) ||
        (std::is_same_v<A, avx512> && c.cpu < detail::level::v4))
        return refuse("this CPU does not have the vector unit that was asked for");
#endif
    return {};
}

/// Lanes of T that one register holds: 16 floats for AVX-512, 8 for AVX2, 4 for SSE2.
template <class T = float, class A = default_arch>
[[nodiscard]] constexpr int width() noexcept {
#if TRM_DISPATCH
    if constexpr (std::is_same_v<A, best_of_cpu>)
        return detail::with_unit_of_cpu([](auto unit) { return width<T, decltype(unit)>(); });
    else
#endif
        return static_cast<int>(vec<T, detail::compiled_for<A>>::size);
}

}  // namespace simd
TRM_NAMESPACE_END
