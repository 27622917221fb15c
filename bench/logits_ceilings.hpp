// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/executor.hpp>
#include <trm/simd/dispatch.hpp>
#include <trm/simd/narrow.hpp>
#include <trm/simd/softmax.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include <sys/mman.h>
#include <time.h>

/// What the machine can do, measured in the same process and between the same samples as the kernels.
namespace bench {

/// f.operator()<V>() for the registers that the kernels use.
template <class F>
TRM_INLINE void on_kernel_unit(F const& f) {
    trm::simd::on_unit<trm::simd::default_arch>(
        [&]<class Unit>(Unit) TRM_INLINE_LAMBDA { f.template operator()<trm::simd::vec<float, Unit>>(); });
}
template <class V>
inline constexpr std::int64_t w = static_cast<std::int64_t>(V::size);

/// Sum of n floats, as a stream of one register and as groups of eight: which one a machine reads faster depends on its
/// prefetchers and page size, so ceilings take the better.
inline float read_plain(float const* x, std::int64_t n) {
    float sum = 0;
    on_kernel_unit([&]<class V>() TRM_INLINE_LAMBDA {
        V s(0.0f);
        for (std::int64_t i = 0; i + w<V> <= n; i += w<V>) s = s + trm::simd::in_order(trm::simd::load<V>(x + i));
        sum = float(trm::simd::sum(s));
    });
    return sum;
}
inline float read_groups(float const* x, std::int64_t n) {
    float sum = 0;
    on_kernel_unit([&]<class V>() TRM_INLINE_LAMBDA {
        V s[8];
        for (auto& v : s) v = V(0.0f);
        for (std::int64_t i = 0; i + 8 * w<V> <= n; i += 8 * w<V>)
            for (int k = 0; k < 8; ++k) s[k] = s[k] + trm::simd::in_order(trm::simd::load<V>(x + i + k * w<V>));
        sum = float(trm::simd::sum(((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))));
    });
    return sum;
}
/// The same for two arrays, read side by side.
inline float read_two(float const* x, float const* y, std::int64_t n) {
    float sum = 0;
    on_kernel_unit([&]<class V>() TRM_INLINE_LAMBDA {
        V s(0.0f), t(0.0f);
        for (std::int64_t i = 0; i + w<V> <= n; i += w<V>) {
            s = s + trm::simd::in_order(trm::simd::load<V>(x + i));
            t = t + trm::simd::in_order(trm::simd::load<V>(y + i));
        }
        sum = float(trm::simd::sum(s + t));
    });
    return sum;
}
template <int unroll>
void scale_in_place(float* x, std::int64_t n) {
    on_kernel_unit([&]<class V>() TRM_INLINE_LAMBDA {
        V const one(1.0000001f);
        for (std::int64_t i = 0; i + unroll * w<V> <= n; i += unroll * w<V>) {
            V v[unroll];
            for (int k = 0; k < unroll; ++k) v[k] = trm::simd::load<V>(x + i + k * w<V>) * one;
            for (int k = 0; k < unroll; ++k) trm::simd::store(x + i + k * w<V>, v[k]);
        }
    });
}
template <bool past_caches>
void copy(float* y, float const* x, std::int64_t n) {
    on_kernel_unit([&]<class V>() TRM_INLINE_LAMBDA {
        for (std::int64_t i = 0; i + 4 * w<V> <= n; i += 4 * w<V>) {
            V v[4];
            for (int k = 0; k < 4; ++k) v[k] = trm::simd::load<V>(x + i + k * w<V>);
            for (int k = 0; k < 4; ++k) {
                if constexpr (past_caches) {
                    trm::simd::stream(y + i + k * w<V>, v[k]);
                } else {
                    trm::simd::store(y + i + k * w<V>, v[k]);
                }
            }
        }
        if constexpr (past_caches) trm::simd::stream_fence();
    });
}

/// Calls the blocks from the caller and one helper thread, dynamically.
class two_threads {
public:
    two_threads() : worker_([this] { loop(); }) {}
    two_threads(two_threads const&) = delete;
    ~two_threads() {
        {
            std::lock_guard const lock(mutex_);
            stop_ = true;
            ++round_;
        }
        wake_.notify_one();
        worker_.join();
    }
    template <class F>
    void operator()(std::int64_t n, F const& f) const {
        auto* self = const_cast<two_threads*>(this);
        self->run(n, [&f](std::int64_t i) { f(i); });
    }

private:
    void run(std::int64_t n, std::function<void(std::int64_t)> f) {
        {
            std::lock_guard const lock(mutex_);
            task_ = std::move(f);
            count_ = n;
            next_ = 0;
            done_ = false;
            ++round_;
        }
        wake_.notify_one();
        work();
        while (!done_.load()) std::this_thread::yield();
    }
    void work() {
        for (std::int64_t i; (i = next_++) < count_;) task_(i);
    }
    void loop() {
        std::uint64_t seen = 0;
        for (;;) {
            {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [&] { return round_ != seen; });
                seen = round_;
                if (stop_) return;
            }
            work();
            done_ = true;
        }
    }
    std::mutex mutex_;
    std::condition_variable wake_;
    std::function<void(std::int64_t)> task_;
    std::int64_t count_ = 0;
    std::atomic<std::int64_t> next_{0};
    std::atomic<bool> done_{false};
    std::uint64_t round_ = 0;
    bool stop_ = false;
    std::thread worker_;
};

/// n elements in blocks of 2^18 through an executor.
template <class Exec, class F>
void blocks(std::int64_t n, Exec const& exec, F const& f) {
    constexpr std::int64_t size = std::int64_t(1) << 18;
    exec((n + size - 1) / size, [&](std::int64_t b) { f(b * size, std::min(size, n - b * size)); });
}

/// A buffer on 2 MiB pages where the system allows, touched.
template <class T>
class buffer {
public:
    explicit buffer(std::int64_t n) : data_(static_cast<T*>(std::aligned_alloc(1 << 21, round(n)))) {
#if defined(MADV_HUGEPAGE)
        (void)madvise(data_, round(n), MADV_HUGEPAGE);
#endif
        std::fill_n(reinterpret_cast<char*>(data_), round(n), char(0));
    }
    buffer(buffer const&) = delete;
    ~buffer() { std::free(data_); }
    T* data() { return data_; }
    T const* data() const { return data_; }

private:
    static std::size_t round(std::int64_t n) {
        return (std::size_t(n) * sizeof(T) + (std::size_t(1) << 21) - 1) >> 21 << 21;
    }
    T* data_;
};

inline double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
/// The clock for work that `exec` spreads: wall time, or for one thread its CPU time, which other processes disturb less.
template <class Exec>
double clock_of(Exec const&) {
    if constexpr (std::is_same_v<Exec, trm::serial_executor>) {
        timespec t{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
    } else {
        return seconds();
    }
}
inline double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + std::ptrdiff_t(v.size() / 2), v.end());
    return v[v.size() / 2];
}

}  // namespace bench
