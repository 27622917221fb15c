// SPDX-License-Identifier: Apache-2.0
// The fused head against the chunked products that it is made of (same backend, same blocks), what rejected rows cost, and
// how much memory it takes: `workspace_MiB` as stated, `peak_MiB` as the system saw it, `NxV_MiB` what logits would take.
#include "context.hpp"
#include "logits_ceilings.hpp"

#include <trm/logits/linear_gradient.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <string>

namespace {

using namespace bench;

template <class S>
struct problem {
    std::int64_t rows, width, vocab;
    std::vector<S> hidden, weight;
    std::vector<std::int32_t> ids;
    std::vector<float> logp, entropy, up, d_hidden, d_weight;
    std::vector<double> lse;
    problem(std::int64_t n, std::int64_t h, std::int64_t v)
        : rows(n),
          width(h),
          vocab(v),
          hidden(std::size_t(n * h)),
          weight(std::size_t(v * h)),
          ids(std::size_t(n), 17),
          logp(ids.size()),
          entropy(ids.size()),
          up(ids.size()),
          d_hidden(hidden.size()),
          d_weight(weight.size()),
          lse(ids.size()) {
        std::uint64_t state = 88172645463325252u;
        auto const next = [&](float scale) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            return trm::to_storage<S>(scale * (float(state >> 40) / 16777216.0f - 0.5f));
        };
        for (S& x : hidden) x = next(3.46f);
        for (S& x : weight) x = next(6.9f / std::sqrt(float(h)));
    }
    trm::linear_view<S, S> view() const {
        return {.hidden = hidden.data(), .weight = weight.data(), .rows = rows, .width = width, .vocab = vocab};
    }
};

/// A line of /proc/self/status in MiB; 0 where there is none.
double status_mib(std::string const& key) {
    std::ifstream in("/proc/self/status");
    for (std::string word; in >> word;)
        if (word == key + ":") {
            double kib = 0;
            in >> kib;
            return kib / 1024;
        }
    return 0;
}
/// Resident memory that f adds at its peak, Eigen's buffers and f's own workspace included.
template <class F>
double peak_mib(F const& f) {
    std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts again from here
    double const before = status_mib("VmRSS");
    f();
    return status_mib("VmHWM") - before;
}

/// The products of the forward pass, cut as there, and nothing else.
template <class S, class Exec>
void products(problem<S> const& p, trm::linear_blocks const& b, std::span<std::byte> ws, Exec const& exec) {
    namespace d = trm::logits_detail;
    d::arena a = d::aligned_arena(ws);
    auto* const list = a.take<std::int64_t>(b.rows * b.workers);
    auto const of_block = [&](std::int64_t i) {
        d::arena mine{a.at + i * d::head<S, S>::bytes(p.width, b)};
        return d::head<S, S>(p.view(), b, mine);
    };
    std::int64_t const panels = d::panels(b);
    for (std::int64_t next = 0; next < p.rows;) {
        d::row_blocks const blocks = d::next_kept(next, p.rows, b, list, [](std::int64_t) { return true; });
        exec(blocks.count(), [&](std::int64_t i) { of_block(i).gather(blocks[i]); });
        exec(blocks.count() * panels, [&](std::int64_t task) {
            auto const h = of_block(task / panels);
            std::int64_t const k = task % panels, n = std::ssize(blocks[task / panels]);
            d::for_panel(k, p.vocab, b, [&](std::int64_t c, std::int64_t m) { h.compute(k, n, c, m); });
            benchmark::DoNotOptimize(h.logits);
            benchmark::ClobberMemory();
        });
    }
}

template <class S, class Exec>
void forward(benchmark::State& state, problem<S>& p, std::int64_t workers, bool entropy, Exec const& exec) {
    trm::linear_blocks const b{.rows = 256, .vocab = 2048, .workers = workers};
    std::vector<std::byte> ws(std::size_t(trm::linear_workspace<S, S>(p.width, b)));
    std::vector<double> base, fused;
    trm::log_prob_out<float> out{.logp = p.logp, .logsumexp = p.lse};
    if (entropy) out.entropy = p.entropy;
    double const peak = peak_mib([&] {
        std::vector<std::byte> own(ws.size());
        (void)trm::linear_log_prob(p.view(), p.ids, out, own, b, trm::linear_gather<float>{}, exec);
    });
    products(p, b, ws, exec);
    for (auto _ : state) {
        double const t0 = clock_of(exec);
        products(p, b, ws, exec);
        double const t1 = clock_of(exec);
        (void)trm::linear_log_prob(p.view(), p.ids, out, ws, b, trm::linear_gather<float>{}, exec);
        double const t2 = clock_of(exec);
        base.push_back(t1 - t0);
        fused.push_back(t2 - t1);
        state.SetIterationTime(t2 - t1);
    }
    double const flop = 2.0 * double(p.rows) * double(p.width) * double(p.vocab);
    state.counters["GFLOP/s"] = flop / median(fused) * 1e-9;
    state.counters["products"] = flop / median(base) * 1e-9;
    state.counters["of_products"] = median(fused) / median(base);
    state.counters["workspace_MiB"] = double(ws.size()) / (1 << 20);
    state.counters["peak_MiB"] = peak;
    state.counters["NxV_MiB"] = double(p.rows * p.vocab) * 4 / (1 << 20);
}

/// Forward and backward with a fraction of the rows kept, paired with all rows kept.
template <class S, class Exec>
void both_ways(benchmark::State& state, problem<S>& p, double kept, std::int64_t workers, Exec const& exec) {
    trm::linear_blocks const b{.rows = 256, .vocab = 2048, .workers = workers};
    std::vector<std::byte> ws(std::size_t(trm::linear_gradient_workspace<S, S>(p.width, b)));
    auto const run = [&](double fraction) {
        std::vector<std::uint8_t> mask(p.ids.size());
        for (std::size_t r = 0; r < mask.size(); ++r) mask[r] = double((r / 64) % 4) < fraction * 4;  // whole sequences
        auto view = p.view();
        view.row_mask = mask.data();
        for (std::size_t r = 0; r < mask.size(); ++r) p.up[r] = mask[r] != 0 ? -1.0f : 0.0f;
        double const t = clock_of(exec);
        (void)trm::linear_log_prob(view, p.ids, trm::log_prob_out<float>{.logp = p.logp, .logsumexp = p.lse}, ws, b,
                                   trm::linear_gather<float>{}, exec);
        (void)trm::linear_gradient(
            view, p.ids, trm::logits_gradient_in<float>{.logsumexp = p.lse, .d_logp = p.up},
            trm::linear_gradient_out{.d_hidden = p.d_hidden.data(), .d_weight = p.d_weight.data()}, ws, b, exec);
        return clock_of(exec) - t;
    };
    double const peak = peak_mib([&] {
        std::vector<std::byte> own(ws.size());
        ws.swap(own);
        (void)run(kept);
        ws.swap(own);
    });
    std::vector<double> all, some;
    for (auto _ : state) {
        all.push_back(run(1.0));
        some.push_back(run(kept));
        state.SetIterationTime(some.back());
    }
    state.counters["of_all_rows"] = median(some) / median(all);
    state.counters["GFLOP/s"] = 8.0 * kept * double(p.rows) * double(p.width) * double(p.vocab) / median(some) * 1e-9;
    state.counters["workspace_MiB"] = double(ws.size()) / (1 << 20);
    state.counters["peak_MiB"] = peak;
    state.counters["NxV_MiB"] = double(p.rows * p.vocab) * 4 / (1 << 20);
}

template <class F>
void add(std::string const& name, F f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);
}

template <class S>
void add_type(std::string const& type, std::int64_t rows, std::int64_t width, std::int64_t vocab) {
    static two_threads const both;
    auto make = [=]() -> problem<S>& {  // one problem at a time: weight and its gradient are up to 1.2 GiB
        static std::unique_ptr<problem<S>> p;
        if (p == nullptr || p->rows != rows || p->vocab != vocab) {
            p = nullptr;
            p = std::make_unique<problem<S>>(rows, width, vocab);
        }
        return *p;
    };
    auto const tail =
        "/" + type + "/N" + std::to_string(rows) + "/H" + std::to_string(width) + "/V" + std::to_string(vocab);
    for (bool entropy : {false, true}) {
        auto const name = std::string("linear/") + (entropy ? "logp+entropy" : "logp") + tail;
        add(name + "/1T", [=](benchmark::State& s) { forward(s, make(), 1, entropy, trm::serial_executor{}); });
        add(name + "/2T", [=](benchmark::State& s) { forward(s, make(), 2, entropy, both); });
    }
    for (double kept : {0.5, 0.25}) {
        auto const name = "linear/forward+backward/kept" + std::to_string(int(kept * 100)) + tail;
        add(name + "/1T", [=](benchmark::State& s) { both_ways(s, make(), kept, 1, trm::serial_executor{}); });
        add(name + "/2T", [=](benchmark::State& s) { both_ways(s, make(), kept, 2, both); });
    }
}

}  // namespace

int main(int argc, char** argv) {
    add_type<float>("f32", 1024, 1024, 32768);
    add_type<float>("f32", 256, 1024, 151936);
    add_type<trm::bf16>("bf16", 1024, 1024, 32768);
    benchmark::Initialize(&argc, argv);
    bench::add_vector_context();
    benchmark::RunSpecifiedBenchmarks();
}
