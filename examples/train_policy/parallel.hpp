// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

/// Runs f(0) ... f(n - 1) on so many threads, the caller's among them. The first exception of f is thrown again.
struct parallel_for {
    int threads = 1;

    template <class F>
    void operator()(std::int64_t n, F const& f) const {
        std::atomic<std::int64_t> next = 0;
        std::exception_ptr failure;
        std::mutex guard;
        auto const work = [&] {
            try {
                for (std::int64_t i = next++; i < n; i = next++) f(i);
            } catch (...) {
                next = n;
                std::lock_guard const lock(guard);
                if (!failure) failure = std::current_exception();
            }
        };
        {
            std::vector<std::jthread> helpers;
            for (std::int64_t i = 1; i < threads && i < n; ++i) helpers.emplace_back(work);
            work();
        }
        if (failure) std::rethrow_exception(failure);
    }
};
