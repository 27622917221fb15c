// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c.h>
#include <trm/core/dtype.hpp>
#include <trm/core/executor.hpp>
#include <trm/core/status.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>

/// \file
/// Shared by the sources of the C interface: errors, structs that begin with their size, executors, dtypes.

TRM_NAMESPACE_BEGIN
namespace c_api {

/// Misuse that C++ types exclude. The code is outside errc's enumerators, not outside its range.
[[nodiscard]] constexpr status bad_argument(char const* what) noexcept {
    return {static_cast<errc>(TRM_BAD_ARGUMENT), -1, -1, what};
}
static_assert(static_cast<int>(errc::unsupported) == TRM_UNSUPPORTED && static_cast<int>(errc::ok) == TRM_OK &&
              static_cast<int>(errc::bad_spec) == TRM_BAD_SPEC && static_cast<int>(errc::bad_layout) == TRM_BAD_LAYOUT);

/// Larger structs are not structs of a later version, but memory that was not initialised.
inline constexpr std::size_t largest_struct = 8192;

/// The caller's struct as this version knows it.
template <class T>
[[nodiscard]] status read_struct(T const* from, T& to) noexcept {
    if (from == nullptr) return bad_argument("a struct is a null pointer");
    std::size_t n = 0;
    std::memcpy(&n, from, sizeof n);
    if (n < sizeof(T) || n > largest_struct) return bad_argument("size of a struct: make it with its _init function");
    auto const* const bytes = reinterpret_cast<unsigned char const*>(from);
    for (std::size_t i = sizeof(T); i < n; ++i)
        if (bytes[i] != 0)
            return {errc::unsupported, -1, -1, "a struct of a later version sets what this library does not know"};
    std::memcpy(&to, from, sizeof(T));
    return {};
}
/// Can `write_struct` write there?
template <class T>
[[nodiscard]] status check_struct(T const* to) noexcept {
    if (to == nullptr || (to->size >= sizeof(T) && to->size <= largest_struct)) return {};
    return bad_argument("size of a struct: make it with its _init function");
}
/// All of `from` but its size; the rest of a larger struct becomes 0.
template <class T>
void write_struct(T from, T* to) noexcept {
    if (to == nullptr) return;
    from.size = to->size;
    std::memset(reinterpret_cast<unsigned char*>(to) + sizeof(T), 0, to->size - sizeof(T));
    std::memcpy(to, &from, sizeof(T));
}

/// A status as the sentence that `to_string` (loss/checked.hpp) makes of it, cut to n bytes.
inline void print_status(status const& s, char* to, std::size_t n) noexcept {
    std::size_t used = 0;
    auto const add = [&](char const* format, auto... values) {
        if (used >= n) return;
        int const written = std::snprintf(to + used, n - used, format, values...);
        used += written > 0 ? static_cast<std::size_t>(written) : 0;
    };
    auto const wide = [](std::int64_t v) { return static_cast<long long>(v); };
    bool const ours = static_cast<int>(s.code) >= TRM_BAD_ARGUMENT;
    bool const has_what = s.what != nullptr && s.what[0] != '\0';
    add("%s", "trm: ");
    if (has_what) add("%s%s", s.what, ours ? "" : ": ");
    if (!ours) add("%s", message(s.code));
    if (s.expected >= 0) add(", %lld expected, %lld given", wide(s.expected), wide(s.actual));
    if (s.sequence >= 0 && s.token >= 0) {
        add(" (sequence %lld, token %lld)", wide(s.sequence), wide(s.token));
    } else if (s.sequence >= 0) {
        add(" (sequence %lld)", wide(s.sequence));
    } else if (s.token >= 0) {
        add(" (row %lld)", wide(s.token));
    }
}

/// Where in a text, and what instead.
struct text_place {
    std::int64_t position = -1, line = -1, column = -1;
    char const* message = nullptr;
    char const* suggestion = nullptr;
};

/// Tells the caller and returns the code.
inline int report(status const& s, trm_error* error, text_place const& place = {}) noexcept {
    int const code = static_cast<int>(s.code);
    if (error == nullptr || !check_struct(error).ok()) return code;
    trm_error e;
    std::memset(&e, 0, sizeof e);
    e.code = code;
    e.sequence = s.sequence;
    e.token = s.token;
    e.expected = s.expected;
    e.actual = s.actual;
    e.position = place.position;
    e.line = place.line;
    e.column = place.column;
    if (place.message != nullptr) {
        std::snprintf(e.message, sizeof e.message, "trm: %s", place.message);
    } else if (!s.ok()) {
        print_status(s, e.message, sizeof e.message);
    }
    if (place.suggestion != nullptr) std::snprintf(e.suggestion, sizeof e.suggestion, "%s", place.suggestion);
    write_struct(e, error);
    return code;
}

/// f() returns a status; what it throws becomes one.
template <class F>
[[nodiscard]] status without_exceptions(F const& f) noexcept {
#if TRM_EXCEPTIONS
    try {
        return f();
    } catch (std::bad_alloc const&) {
        return {errc::out_of_memory, -1, -1, "trm"};
    } catch (...) {
        return {static_cast<errc>(TRM_INTERNAL), -1, -1, "an executor threw an exception"};
    }
#else
    return f();
#endif
}
/// The body of every function that returns a trm_code.
template <class F>
int call(trm_error* error, F const& f) noexcept {
    if (status const s = check_struct(error); !s.ok()) return static_cast<int>(s.code);
    return report(without_exceptions(f), error);
}

/// A new object, or null.
template <class T>
[[nodiscard]] T* make() noexcept {
    return new (std::nothrow) T();
}

/// The caller's threads, or the calling one.
struct executor_of {
    trm_executor const* with;
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        if (with == nullptr || with->run == nullptr) return serial_executor{}(n, f);
        using task = std::remove_reference_t<F>;
        with->run(
            with->context, n, [](void* data, std::int64_t i) { (*static_cast<task*>(data))(i); },
            const_cast<std::remove_const_t<task>*>(&f));
    }
};

/// f(std::type_identity<S>) for the storage type of a dtype.
template <class F>
[[nodiscard]] status at_dtype(std::int32_t dtype, F const& f) {
    switch (dtype) {
        case TRM_F32:
            return f(std::type_identity<float>{});
        case TRM_F64:
            return f(std::type_identity<double>{});
        case TRM_BF16:
            return f(std::type_identity<bf16>{});
        case TRM_F16:
            return f(std::type_identity<f16>{});
        default:
            return bad_argument("dtype is not one of TRM_F32, TRM_F64, TRM_BF16, TRM_F16");
    }
}

/// No array has more elements.
inline constexpr std::int64_t most_elements = std::int64_t(1) << 56;

template <class T>
[[nodiscard]] bool is_aligned(void const* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p) % alignof(T) == 0;
}
/// An array that is there, aligned, and of a possible size.
template <class T>
[[nodiscard]] status check_array(void const* p, std::int64_t n, char const* missing) noexcept {
    if (n < 0 || n > most_elements) return {errc::bad_layout, -1, -1, "a number of elements is negative or too large"};
    if (p == nullptr && n > 0) return bad_argument(missing);
    return is_aligned<T>(p) ? status{} : bad_argument("a pointer is not aligned for its type");
}

}  // namespace c_api
TRM_NAMESPACE_END
