// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstddef>
#include <type_traits>
#include <variant>

/// \file
/// Types in a row, and what follows from one. Folds over packs throughout: they compile faster than recursion.

TRM_NAMESPACE_BEGIN

template <class... Ts>
struct type_list {
    static constexpr std::size_t size = sizeof...(Ts);
};

/// A variant of the types of a list.
template <class List>
struct list_variant;
template <class... Ts>
struct list_variant<type_list<Ts...>> {
    using type = std::variant<Ts...>;
};
template <class List>
using variant_of = typename list_variant<List>::type;

/// Position of T in a list; the size of the list if it is not there.
template <class T, class... Ts>
[[nodiscard]] constexpr std::size_t index_in(type_list<Ts...>) noexcept {
    std::size_t i = 0;
    (void)((std::is_same_v<T, Ts> || (++i, false)) || ...);
    return i;
}

/// f(std::type_identity<T>{}) for each type, until one returns true. Did one?
template <class... Ts, class F>
constexpr bool any_type(type_list<Ts...>, F&& f) {
    return (f(std::type_identity<Ts>{}) || ...);
}
/// f(std::type_identity<T>{}) for the type at `index`; nothing beyond the end.
template <class... Ts, class F>
TRM_INLINE constexpr void at_type(type_list<Ts...>, std::size_t index, F&& f) {
    std::size_t i = 0;
    (void)((i++ == index && (f(std::type_identity<Ts>{}), true)) || ...);
}

namespace detail {
template <class... As>
struct list_sum {
    template <class... Bs>
    friend constexpr list_sum<As..., Bs...> operator+(list_sum, list_sum<Bs...>) noexcept {
        return {};
    }
    using type = type_list<As...>;
};
}  // namespace detail

/// The types for which `Keep<T>::value`, in order.
template <template <class> class Keep, class List>
struct list_filter;
template <template <class> class Keep, class... Ts>
struct list_filter<Keep, type_list<Ts...>> {
    using type =
        typename decltype((detail::list_sum<>{} + ... +
                           std::conditional_t<Keep<Ts>::value, detail::list_sum<Ts>, detail::list_sum<>>{}))::type;
};

TRM_NAMESPACE_END
