// SPDX-License-Identifier: Apache-2.0
// The token pipeline against the machine's own ceiling for the same bytes (3 reads and 1 write of a float per token), a
// naive Eigen expression and a scalar loop, interleaved in one process. Counters: ns and GB/s per token, and percent of the
// best ceiling of the same size and thread count.
//
//     token_bench --benchmark_enable_random_interleaving=true --benchmark_repetitions=9

#include "logits_ceilings.hpp"

#include <trm/loss/any_loss.hpp>
#include <trm/loss/masked_loss.hpp>

#include <benchmark/benchmark.h>

#include <Eigen/Core>

#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>

namespace {

struct aligned_delete {
    void operator()(float* p) const { std::free(p); }
};
using floats = std::unique_ptr<float[], aligned_delete>;
floats make_floats(std::int64_t n) {
    auto const bytes = (static_cast<std::size_t>(n) * sizeof(float) + 4095) / 4096 * 4096 + 4096;
    return floats(static_cast<float*>(std::aligned_alloc(64, bytes)));
}

/// Ragged sequences, log-uniform in [1, longest]; `rejected` percent of them contain one token outside the trust region.
struct rollouts {
    std::int64_t tokens;
    floats logp, rollout, advantage, grad;
    std::vector<std::int64_t> cu{0};

    rollouts(std::int64_t n, int rejected, std::int64_t longest)
        : tokens(n), logp(make_floats(n)), rollout(make_floats(n)), advantage(make_floats(n)), grad(make_floats(n)) {
        std::mt19937_64 g(7);
        auto const uniform = [&] { return static_cast<double>(g() >> 11) * 0x1p-53; };
        for (std::int64_t i = 0; i < n; ++i) {
            rollout[i] = static_cast<float>(-0.05 - 3 * uniform());
            logp[i] = rollout[i] + static_cast<float>(0.05 * (uniform() + uniform() + uniform() - 1.5));
            advantage[i] = static_cast<float>(2 * uniform() - 1);
            grad[i] = 0;
        }
        while (cu.back() < n) {
            auto const length = static_cast<std::int64_t>(std::exp(uniform() * std::log(static_cast<double>(longest))));
            std::int64_t const first = cu.back();
            cu.push_back(std::min(n, first + std::max<std::int64_t>(1, length)));
            if (100 * uniform() < rejected)
                logp[first + static_cast<std::int64_t>(uniform() * static_cast<double>(cu.back() - first))] += 1;
        }
    }
    [[nodiscard]] auto span(floats const& f) const { return std::span(f.get(), static_cast<std::size_t>(tokens)); }
    [[nodiscard]] trm::batch_view<float> view() const {
        return {.logp = span(logp),
                .rollout_logp = span(rollout),
                .advantages = span(advantage),
                .layout = trm::packed{cu}};
    }
};
rollouts& data(std::int64_t n, int rejected, std::int64_t longest) {
    static std::map<std::array<std::int64_t, 3>, rollouts> cache;  // one batch at a time: 2^25 tokens are 512 MiB
    std::array<std::int64_t, 3> const key{n, rejected, longest};
    if (!cache.contains(key)) {
        cache.clear();
        cache.try_emplace(key, n, rejected, longest);
    }
    return cache.at(key);
}

using bench::V;
constexpr std::int64_t w = static_cast<std::int64_t>(V::size);

/// 3 reads and 1 write per token, four registers at a time, stores regular or non-temporal.
template <bool Stream>
void ceiling_block(rollouts const& r, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i + 4 * w <= end; i += 4 * w)
        for (std::int64_t k = i; k < i + 4 * w; k += w) {
            V const v = trm::simd::load<V>(r.logp.get() + k) +
                        trm::simd::load<V>(r.rollout.get() + k) * trm::simd::load<V>(r.advantage.get() + k);
            if constexpr (Stream) {
                trm::simd::stream(r.grad.get() + k, v);
            } else {
                trm::simd::store(r.grad.get() + k, v);
            }
        }
    if constexpr (Stream) trm::simd::stream_fence();
}
template <class Executor>
double ceiling_seconds(rollouts const& r, Executor const& run, bool stream) {
    std::int64_t const block = std::max<std::int64_t>(4 * w, r.tokens / 64);
    std::vector<double> seconds;
    std::int64_t const rounds = std::clamp<std::int64_t>((std::int64_t{1} << 26) / r.tokens, 5, 500);
    for (std::int64_t k = 0; k < rounds; ++k) {
        auto const start = std::chrono::steady_clock::now();
        run((r.tokens + block - 1) / block, [&](std::int64_t b) {
            auto const end = std::min(r.tokens, (b + 1) * block);
            stream ? ceiling_block<true>(r, b * block, end) : ceiling_block<false>(r, b * block, end);
        });
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::ranges::sort(seconds);
    return seconds[seconds.size() / 2];
}
bench::two_threads const& pool() {
    static bench::two_threads p;
    return p;
}

/// Times `body`, and beside it the better of two ceilings of the same bytes.
template <class Body>
void measure(benchmark::State& state, rollouts const& r, bool two, Body const& body) {
    double const best = two ? std::min(ceiling_seconds(r, pool(), false), ceiling_seconds(r, pool(), true))
                            : std::min(ceiling_seconds(r, trm::serial_executor{}, false),
                                       ceiling_seconds(r, trm::serial_executor{}, true));
    double seconds = 0;
    for (auto _ : state) {
        auto const start = std::chrono::steady_clock::now();
        body();
        double const one = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        state.SetIterationTime(one);
        seconds += one;
    }
    double const per_token = seconds / static_cast<double>(state.iterations()) / static_cast<double>(r.tokens);
    state.counters["ns/token"] = per_token * 1e9;
    state.counters["GB/s"] = 16e-9 / per_token;
    state.counters["%ceiling"] = 100 * best / static_cast<double>(r.tokens) / per_token;
}

auto const mask_max = trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.125)};
auto const mask_mean = mask_max && trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.5)};

template <class Loss>
void pipeline(benchmark::State& state, Loss const& loss, std::int64_t longest = 16384) {
    auto& r = data(state.range(0), static_cast<int>(state.range(1)), longest);
    bool const two = state.range(2) == 2;
    auto const view = r.view();
    trm::workspace scratch;
    trm::outputs<float> out;
    out.grad = r.span(r.grad);
    measure(state, r, two, [&] {
        auto const result = two ? loss(view, out, pool(), scratch) : loss(view, out, trm::serial_executor{}, scratch);
        if (!result.status.ok()) state.SkipWithError("loss refused the batch");
        benchmark::DoNotOptimize(result.loss);
    });
}
template <class Loss>
Loss quiet(Loss loss) {
    loss.options.diagnose = false;
    return loss;
}

/// What a careful Eigen user writes, sequence by sequence.
void eigen(benchmark::State& state) {
    auto& r = data(state.range(0), static_cast<int>(state.range(1)), 16384);
    measure(state, r, false, [&] {
        double loss = 0;
        for (std::size_t i = 0; i + 1 < r.cu.size(); ++i) {
            using array = Eigen::Map<Eigen::ArrayXf>;
            auto const n = r.cu[i + 1] - r.cu[i];
            array lp(r.logp.get() + r.cu[i], n), mu(r.rollout.get() + r.cu[i], n), a(r.advantage.get() + r.cu[i], n),
                g(r.grad.get() + r.cu[i], n);
            Eigen::ArrayXf const x = (lp - mu).max(-20.0f).min(20.0f), ratio = x.exp();
            bool const keep = (x.square() * 0.5f).maxCoeff() <= 0.125f && (ratio - 1.0f - x).mean() <= 0.5f;
            if (keep) {
                g = ((a > 0.0f && ratio > 1.2f) || (a < 0.0f && ratio < 0.8f))
                        .select(0.0f, -(ratio * a) / static_cast<float>(r.tokens));
                loss -= (ratio * a).min(ratio.max(0.8f).min(1.2f) * a).sum();
            } else {
                g.setZero();
            }
        }
        benchmark::DoNotOptimize(loss);
    });
}
/// One token at a time with <cmath>.
void scalar(benchmark::State& state) {
    auto& r = data(state.range(0), static_cast<int>(state.range(1)), 16384);
    measure(state, r, false, [&] {
        double loss = 0;
        for (std::size_t i = 0; i + 1 < r.cu.size(); ++i) {
            float worst = 0;
            double mean = 0, sum = 0;
            for (std::int64_t t = r.cu[i]; t < r.cu[i + 1]; ++t) {
                float const x = std::clamp(r.logp[t] - r.rollout[t], -20.0f, 20.0f), ratio = std::exp(x),
                            a = r.advantage[t];
                worst = std::max(worst, x * x / 2);
                mean += static_cast<double>(std::expm1(x) - x);
                bool const clipped = (a > 0 && ratio > 1.2f) || (a < 0 && ratio < 0.8f);
                r.grad[t] = clipped ? 0.0f : -ratio * a / static_cast<float>(r.tokens);
                sum -= static_cast<double>(std::min(ratio * a, std::clamp(ratio, 0.8f, 1.2f) * a));
            }
            bool const keep = worst <= 0.125f && mean <= 0.5 * static_cast<double>(r.cu[i + 1] - r.cu[i]);
            if (keep) loss += sum;
            if (!keep) std::fill(r.grad.get() + r.cu[i], r.grad.get() + r.cu[i + 1], 0.0f);
        }
        benchmark::DoNotOptimize(loss);
    });
}

void ppo(benchmark::State& s) { pipeline(s, trm::masked_loss{mask_mean, trm::ppo_clip{}, trm::token_mean{}}); }
void ppo_quiet(benchmark::State& s) {
    pipeline(s, quiet(trm::masked_loss{mask_mean, trm::ppo_clip{}, trm::token_mean{}}));
}
void trm_max(benchmark::State& s) {
    pipeline(s, quiet(trm::masked_loss{mask_max, trm::importance_ratio{}, trm::token_mean{}}));
}
void short_sequences(benchmark::State& s) {
    pipeline(s, quiet(trm::masked_loss{mask_mean, trm::ppo_clip{}, trm::token_mean{}}), 64);
}
void chosen_at_run_time(benchmark::State& s) {
    using d = trm::any_divergence;
    trm::loss_spec spec;
    spec.mask = {trm::sequence_mask{d{d::id::k2}, trm::stat::max, trm::at_most(0.125)},
                 trm::sequence_mask{d{d::id::k3}, trm::stat::mean, trm::at_most(0.5)}};
    spec.surrogate = trm::ppo_clip{};
    spec.aggregate = trm::token_mean{};
    pipeline(s, quiet(trm::any_loss{spec}));
}

constexpr std::int64_t sizes[] = {1 << 14, 1 << 18, 1 << 22, 1 << 25};
void grid(benchmark::internal::Benchmark* b, bool all) {
    b->UseManualTime()->ArgNames({"tokens", "rejected%", "threads"});
    for (std::int64_t const n : sizes)
        for (std::int64_t const rejected : {0, 10, 80})
            for (std::int64_t const threads : {1, 2})
                if (all || (rejected == 10 && threads == 1)) b->Args({n, rejected, threads});
}
void whole(benchmark::internal::Benchmark* b) { grid(b, true); }
void part(benchmark::internal::Benchmark* b) { grid(b, false); }

BENCHMARK(ppo)->Apply(whole);
BENCHMARK(ppo_quiet)->Apply(part);
BENCHMARK(trm_max)->Apply(part);
BENCHMARK(short_sequences)->Apply(part);
BENCHMARK(chosen_at_run_time)->Apply(part);
BENCHMARK(eigen)->Apply(part);
BENCHMARK(scalar)->Apply(part);

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    benchmark::AddCustomContext("floats per register", std::to_string(trm::simd::width()));
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
