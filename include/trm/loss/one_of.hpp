// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/type_list.hpp>

#include <cstddef>
#include <tuple>

TRM_NAMESPACE_BEGIN
namespace detail {

/// f(std::type_identity<T>{}) for the type at `index` among the first n of a list, the last of them if there is none: a question for each
/// in the place of a call. In a loop whose answers never change, processors foresee them, and values stay in registers. The first is
/// expected.
template <std::size_t n, class T, class... Ts, class F>
TRM_ALWAYS_INLINE inline void with_type(type_list<T, Ts...>, std::size_t index, F&& f) {
    if constexpr (n == 1) {
        f(std::type_identity<T>{});
    } else if (index == 0) [[likely]] {
        f(std::type_identity<T>{});
    } else {
        with_type<n - 1>(type_list<Ts...>{}, index - 1, f);
    }
}

/// One of several policies, chosen at run time.
template <class... Ps>
class one_of {
    std::tuple<Ps...> policies_{};
    std::size_t index_ = 0;

public:
    using list = type_list<Ps...>;
    /// False if `any` holds something else.
    template <class Variant>
    [[nodiscard]] bool take(Variant const& any) noexcept {
        bool taken = false;
        visit_taken(
            [&]<class P>(P const& p) -> void
                requires(index_in<P>(list{}) < list::size)
            {
                std::get<P>(policies_) = p;
                index_ = index_in<P>(list{});
                taken = true;
            },
            any);
        return taken;
    }
    template <class P>
    [[nodiscard]] TRM_INLINE P const& get() const noexcept {
        return std::get<P>(policies_);
    }
    template <class P>
    [[nodiscard]] TRM_INLINE bool holds() const noexcept {
        return index_ == index_in<P>(list{});
    }
    /// f(the policy), as with_type; it is one of the first n.
    template <std::size_t n = sizeof...(Ps), class F>
    TRM_ALWAYS_INLINE inline void visit(F&& f) const noexcept {
        with_type<n>(list{}, index_,
                     [&]<class P>(std::type_identity<P>) TRM_ALWAYS_INLINE { f(std::get<P>(policies_)); });
    }
};

}  // namespace detail
TRM_NAMESPACE_END
