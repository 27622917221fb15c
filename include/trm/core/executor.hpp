// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/config.hpp>

#include <cstdint>

TRM_NAMESPACE_BEGIN

/// Runs f(0) ... f(n - 1) one after another. Any callable of this shape is an executor: each index exactly once, in any
/// order, on any thread, all finished on return. Results do not depend on the choice.
struct serial_executor {
    template <class F>
    void operator()(std::int64_t n, F&& f) const {
        for (std::int64_t i = 0; i < n; ++i) f(i);
    }
};

TRM_NAMESPACE_END
