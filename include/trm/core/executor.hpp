// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstdint>

TRM_NAMESPACE_BEGIN

/// Runs f(0) ... f(n - 1) one after another. Any callable of this shape is an executor: each index exactly once, in any
/// order, on any thread, all finished on return. What it returns is ignored; results do not depend on the choice. An
/// exception that it throws passes through the call to its caller, for every function of trm that takes an executor; the
/// outputs of that call are then unspecified. f itself throws nothing.
struct serial_executor {
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        for (std::int64_t i = 0; i < n; ++i) f(i);
    }
};

/// Elements (tokens, logits) from which on waking other threads pays: they take a few microseconds to answer when they
/// spin, 50 and more when they sleep, and a core does 2^17 elements in 50 to 100.
inline constexpr std::int64_t default_grain = std::int64_t(1) << 17;

/// An executor for large calls only: calls over fewer than `grain` elements stay on the caller's thread. Any executor may
/// have a member `grain` of this meaning; one without is always used.
///
///     loss(batch, out, trm::with_grain{pool}, scratch);
///
/// A named executor is referred to (`Executor` is then a reference), a temporary one is kept.
template <class Executor>
struct with_grain {
    Executor execute;
    std::int64_t grain = default_grain;

    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        execute(n, f);
    }
};
template <class Executor>
with_grain(Executor&&) -> with_grain<Executor>;
template <class Executor>
with_grain(Executor&&, std::int64_t) -> with_grain<Executor>;

namespace detail {

template <class Executor>
struct unless_small {
    Executor const& execute;
    bool is_small;

    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        if (is_small) {
            serial_executor{}(n, f);
        } else {
            execute(n, f);
        }
    }
};
/// What a call over so many elements runs on.
template <class Executor>
[[nodiscard]] constexpr decltype(auto) executor_for(std::int64_t elements, Executor const& execute) noexcept {
    if constexpr (requires { execute.grain; }) {
        return unless_small<Executor>{execute, elements < execute.grain};
    } else {
        return (execute);
    }
}

}  // namespace detail

TRM_NAMESPACE_END
