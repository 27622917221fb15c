// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

TRM_NAMESPACE_BEGIN
namespace detail {

/// A reference to something that can be called, as std::function_ref of C++26: what takes one is compiled once, not once for
/// every function that it is given.
template <class Signature>
class function_ref;
template <class R, class... Args>
class function_ref<R(Args...)> {
    void const* object_;
    R (*call_)(void const*, Args...);

public:
    /// `f` must outlive the reference.
    template <class F>
        requires(!std::same_as<F, function_ref>)
    function_ref(F const& f) noexcept
        : object_(&f), call_([](void const* object, Args... args) -> R {
              return (*static_cast<F const*>(object))(std::forward<Args>(args)...);
          }) {}
    R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }
};

}  // namespace detail
TRM_NAMESPACE_END
