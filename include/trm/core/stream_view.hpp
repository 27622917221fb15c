// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstddef>
#include <span>
#include <type_traits>

TRM_NAMESPACE_BEGIN

namespace detail {

/// Whether a view of an argument of type R (an lvalue reference, or not) stays valid after the call. It does for a named
/// object, and for a temporary that is itself a view, such as std::span and std::string_view, which declare that with std::ranges::enable_borrowed_range.
template <class R>
inline constexpr bool outlives_its_view =
    std::is_lvalue_reference_v<R> || std::ranges::enable_borrowed_range<std::remove_cvref_t<R>>;

template <class R>
constexpr void refuse_temporary() noexcept {
    static_assert(outlives_its_view<R>,
                  "trm: this container is a temporary, gone before its view is read; give it a name");
}

}  // namespace detail

/// std::span<T const> that does not bind to temporary containers: what the members of `batch_view` are. It converts from
/// all that std::span<T const> converts from (arrays, std::array, vectors, spans, a pointer and a size, iterators) and to
/// std::span<T const>, which it is. A temporary of a view type that std::ranges does not know to be one is refused too:
/// name it, or specialise std::ranges::enable_borrowed_range.
template <class T>
class stream_view : public std::span<T const> {
    using base = std::span<T const>;

public:
    constexpr stream_view() noexcept = default;
    constexpr stream_view(base s) noexcept : base(s) {}
    template <class R>
        requires(!std::is_base_of_v<base, std::remove_cvref_t<R>> && std::is_convertible_v<R&, base>)
    constexpr stream_view(R&& values) noexcept(noexcept(base(values))) : base(values) {
        detail::refuse_temporary<R>();
    }
    template <class It>
        requires std::is_constructible_v<base, It, std::size_t>
    constexpr stream_view(It first, std::size_t size) : base(first, size) {}
    template <class It, class End>
        requires(std::is_constructible_v<base, It, End> && !std::is_convertible_v<End, std::size_t>)
    constexpr stream_view(It first, End last) : base(first, last) {}
};

TRM_NAMESPACE_END

/// \cond
template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<trm::stream_view<T>> = true;
template <class T>
inline constexpr bool std::ranges::enable_view<trm::stream_view<T>> = true;
/// \endcond
