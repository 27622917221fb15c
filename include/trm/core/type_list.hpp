// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstddef>
#include <type_traits>
#include <variant>

/// \file
/// Types in a row, and what follows from one.

TRM_NAMESPACE_BEGIN

template <class... Ts>
struct type_list {
    static constexpr std::size_t size = sizeof...(Ts);
};

/// Position of T in a list; the size of the list if it is not there.
template <class T, class... Ts>
[[nodiscard]] constexpr std::size_t index_in(type_list<Ts...>) noexcept {
    std::size_t i = 0;
    (void)((std::is_same_v<T, Ts> || (++i, false)) || ...);
    return i;
}

/// f(std::type_identity<T>{}) for each type, until one returns true; whether one did.
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

template <class T, class F, class Variant>
[[nodiscard]] constexpr auto call_if_taken() noexcept {
    void (*call)(F&, Variant const&) = nullptr;
    if constexpr (std::is_invocable_v<F&, T const&>) call = [](F& f, Variant const& v) { f(*std::get_if<T>(&v)); };
    return call;
}

}  // namespace detail

/// f(alternative), if f takes it, of a variant that is never valueless. As std::visit, but nothing is compiled for alternatives
/// that f does not take.
template <class F, class... Ts>
void visit_taken(F&& f, std::variant<Ts...> const& v) {
    using function = std::remove_reference_t<F>;
    using variant = std::variant<Ts...>;
    static constexpr void (*calls[])(function&, variant const&) = {detail::call_if_taken<Ts, function, variant>()...};
    if (auto const call = calls[v.index()]) call(f, v);
}

namespace detail {

template <template <class> class Keep, class Kept, class... Ts>
struct list_filter {
    using type = Kept;
};
template <template <class> class Keep, class... Kept, class T, class... Rest>
struct list_filter<Keep, type_list<Kept...>, T, Rest...>
    : list_filter<Keep, std::conditional_t<Keep<T>::value, type_list<Kept..., T>, type_list<Kept...>>, Rest...> {};
template <template <class> class Keep, class... Ts>
typename list_filter<Keep, type_list<>, Ts...>::type filtered(type_list<Ts...>);

template <class... Ts>
std::variant<Ts...> variant_from(type_list<Ts...>);
template <class... Ts>
type_list<Ts...> list_from(std::variant<Ts...> const&);

}  // namespace detail

/// The types for which Keep<T>::value, in order.
template <template <class> class Keep, class List>
using list_filtered = decltype(detail::filtered<Keep>(List{}));
/// A variant of the types of a list, and back.
template <class List>
using variant_of = decltype(detail::variant_from(List{}));
template <class Variant>
using alternatives_of = decltype(detail::list_from(std::declval<Variant const&>()));

/// Type number `index` of a list.
template <std::size_t index, class List>
using type_in = std::variant_alternative_t<index, variant_of<List>>;

TRM_NAMESPACE_END
