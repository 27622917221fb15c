// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "context.hpp"
#include "rollouts.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <cstdlib>
#include <map>

/// What a row of the token benchmarks is: a kernel and, between its samples, the ceilings of the same bytes.
namespace bench {

inline two_threads const& pool() {
    static two_threads const p;
    return p;
}
/// f(executor) for one thread or two.
template <class F>
decltype(auto) with_threads(int threads, F&& f) {
    return threads == 2 ? f(pool()) : f(trm::serial_executor{});
}

/// GHz while it runs: additions that wait for each other take a cycle each. Of two registers: newer CPUs add constants for nothing.
inline double gigahertz() {
    double const start = seconds();
    std::uint64_t x = 1, step = 3;
    __asm__ volatile("" : "+r"(step));
    for (int i = 0; i < 20000; ++i) {
        for (int k = 0; k < 16; ++k) {
            x += step;
            __asm__ volatile("" : "+r"(x));
        }
    }
    benchmark::DoNotOptimize(x);
    return 20000 * 16 / (seconds() - start) * 1e-9;
}

/// Three reads and a write per token, nothing else: u registers of each stream at a time.
enum class stores { regular, streamed, in_place };
template <int U, stores Where>
void read_three(float const* a, float const* b, float* c, float* to, std::int64_t begin, std::int64_t end) {
    float* const out = Where == stores::in_place ? c : to;
    on_kernel_unit([&]<class V>() TRM_INLINE_LAMBDA {
        V const zero(0.0f);
        for (std::int64_t i = begin; i + U * w<V> <= end; i += U * w<V>) {
            V v[U];
            for (int k = 0; k < U; ++k)
                v[k] = fma(trm::simd::load<V>(a + i + k * w<V>) - trm::simd::load<V>(b + i + k * w<V>), zero,
                           trm::simd::load<V>(c + i + k * w<V>));
            for (int k = 0; k < U; ++k) {
                if constexpr (Where == stores::streamed) {
                    trm::simd::stream(out + i + k * w<V>, v[k]);
                } else {
                    trm::simd::store(out + i + k * w<V>, v[k]);
                }
            }
        }
    });
    if constexpr (Where == stores::streamed) trm::simd::stream_fence();
}
using ceiling_loop = void (*)(float const*, float const*, float*, float*, std::int64_t, std::int64_t);

/// The fastest loop of each kind for a size and number of threads: regular, streamed, in place.
class ceilings {
public:
    /// Loops over as many tokens of the f32 streams as have `bytes` in four streams.
    ceilings(std::int64_t bytes, int threads)
        : tokens_(std::max<std::int64_t>(bytes / 16, 256)),
          threads_(threads),
          data_(rollouts<float>::at_least(tokens_)) {
        static std::map<std::pair<std::int64_t, int>, std::array<ceiling_loop, 3>> known;
        auto& best = known[{tokens_, threads}];
        if (best[0] == nullptr)
            best = {fastest({read_three<1, stores::regular>, read_three<2, stores::regular>,
                             read_three<4, stores::regular>}),
                    fastest({read_three<1, stores::streamed>, read_three<4, stores::streamed>}),
                    fastest({read_three<1, stores::in_place>, read_three<4, stores::in_place>})};
        best_ = best;
    }
    [[nodiscard]] double run(std::size_t kind) const { return time(best_[kind]); }

private:
    [[nodiscard]] double time(ceiling_loop loop) const {
        std::int64_t const block = std::max<std::int64_t>(256, (tokens_ / 64 + 63) / 64 * 64);
        float* const c = data_.advantage();
        double const start = seconds();
        with_threads(threads_, [&](auto const& run) {
            run((tokens_ + block - 1) / block, [&](std::int64_t b) {
                loop(data_.logp(), data_.rollout(), c, data_.grad(), b * block, std::min(tokens_, (b + 1) * block));
            });
        });
        return seconds() - start;
    }
    [[nodiscard]] ceiling_loop fastest(std::initializer_list<ceiling_loop> loops) const {
        std::vector<std::pair<double, ceiling_loop>> all;
        for (ceiling_loop f : loops) {
            double t = time(f);
            for (int k = 0; k < 4; ++k) t = std::min(t, time(f));
            all.emplace_back(t, f);
        }
        return std::min_element(all.begin(), all.end(), [](auto a, auto b) { return a.first < b.first; })->second;
    }

    std::int64_t tokens_;
    int threads_;
    rollouts<float>& data_;
    std::array<ceiling_loop, 3> best_{};
};

/// Seconds that a row may take. TRM_BENCH_ROW_SECONDS shortens runs whose numbers do not matter.
inline double row_seconds() {
    char const* const given = std::getenv("TRM_BENCH_ROW_SECONDS");
    return given != nullptr ? std::atof(given) : 0.15;
}

/// Times `body` and the ceilings of `bytes` a token by turns. Counters are of medians: ns, GB/s and cycles a token, spread of the
/// samples (upper less lower quartile, over the median), and the share of the best regular, streamed and in-place ceiling.
/// `before` runs ahead of each sample, untimed.
template <class Body, class Before>
void row(benchmark::State& state, std::int64_t tokens, double bytes, int threads, Body const& body,
         Before const& before) {
    ceilings const top(static_cast<std::int64_t>(bytes * static_cast<double>(tokens)), threads);
    double ghz = 0;
    std::vector<double> taken, ceiling[3];
    auto const sample = [&] {
        before();
        double const start = seconds();
        body();
        return seconds() - start;
    };
    (void)sample();
    double const once = sample() + top.run(0) + top.run(1) + top.run(2);
    auto const rounds = static_cast<std::int64_t>(std::clamp(row_seconds() / once, 3.0, 100.0));
    for (auto _ : state) {
        for (std::int64_t i = 0; i < rounds; ++i) {
            for (std::size_t k = 0; k < 3; ++k) ceiling[k].push_back(top.run(k));
            if (i % 8 == 0) ghz = std::max(ghz, gigahertz());
            if (tokens < (1 << 20)) body();  // small batches are measured where they were left in cache
            taken.push_back(sample());
        }
        state.SetIterationTime(median(taken));
    }
    double const t = median(taken), per_token = t / static_cast<double>(tokens);
    std::sort(taken.begin(), taken.end());
    state.counters["ns/token"] = per_token * 1e9;
    state.counters["GB/s"] = bytes / per_token * 1e-9;
    state.counters["cycles/token"] = per_token * ghz * 1e9;
    state.counters["spread"] = (taken[taken.size() * 3 / 4] - taken[taken.size() / 4]) / t;
    state.counters["of_regular"] = median(ceiling[0]) / t;
    state.counters["of_streamed"] = median(ceiling[1]) / t;
    state.counters["of_in_place"] = median(ceiling[2]) / t;
    state.counters["of_best"] = std::min({median(ceiling[0]), median(ceiling[1]), median(ceiling[2])}) / t;
}
template <class Body>
void row(benchmark::State& state, std::int64_t tokens, double bytes, int threads, Body const& body) {
    row(state, tokens, bytes, threads, body, [] {});
}

inline std::string size_name(std::int64_t tokens) {
    int log2 = 0;
    while (tokens >> (log2 + 1) != 0) ++log2;
    return "2^" + std::to_string(log2);
}
template <class F>
void add_row(std::string const& name, F f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);
}
inline int run_rows(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    bench::add_vector_context();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}

}  // namespace bench
