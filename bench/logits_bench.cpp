// SPDX-License-Identifier: Apache-2.0
// Logits kernels against what memory allows, a scalar loop and naive Eigen. Every sample times the ceilings and the kernel
// one after the other, so that a busy machine disturbs all; the counters are medians: GB/s of useful bytes, `ceiling` those
// of the fastest plain loop that moves the same bytes, `of_ceiling` their ratio. `trm_speedup` of scalar and Eigen: how many
// times longer they take than trm, interleaved the same way.
#include "context.hpp"
#include "logits_ceilings.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>

#include <benchmark/benchmark.h>

#if __has_include(<Eigen/Core>)
#define TRM_BENCH_EIGEN 1
#include <Eigen/Core>
#endif

#include <cmath>
#include <cstring>
#include <memory>
#include <string>

namespace {

using namespace bench;

std::atomic<float> sink;

constexpr std::int64_t elements = std::int64_t(1) << 27;  // 512 MiB of f32

template <class S>
struct data {
    buffer<S> x{elements}, y{elements};
    std::vector<std::int32_t> ids;
    std::vector<float> logp, entropy, up;
    std::vector<double> lse;
    data() {
        std::uint64_t state = 88172645463325252u;
        for (std::int64_t i = 0; i < elements; ++i) {
            float sum = 0;  // nearly normal, standard deviation 2
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            for (int k = 0; k < 4; ++k) sum += float((state >> (16 * k)) & 0xffff) / 65536.0f - 0.5f;
            x.data()[i] = trm::to_storage<S>(3.46f * sum);
        }
    }
    trm::logits_view<S> view(std::int64_t vocab) {
        std::int64_t const rows = elements / vocab;
        ids.assign(std::size_t(rows), 17);
        logp.resize(std::size_t(rows));
        entropy.resize(std::size_t(rows));
        lse.resize(std::size_t(rows));
        up.assign(std::size_t(rows), -1.0f);
        return {.data = x.data(), .rows = rows, .vocab = vocab};
    }
};

template <class S>
data<S>& get() {
    static data<S> d;
    return d;
}

/// Seconds of f, on the clock that fits `exec`.
template <class Exec, class F>
double timed(Exec const& exec, F const& f) {
    double const start = clock_of(exec);
    f();
    return clock_of(exec) - start;
}

/// Plain loops over the same bytes; the fastest is the ceiling.
template <class Exec>
using ceilings = std::vector<std::function<void(Exec const&)>>;

template <class Exec>
ceilings<Exec> reading(float const* x, std::int64_t n) {
    ceilings<Exec> c;
    for (auto const loop : {read_plain, read_groups})
        c.push_back(
            [=](Exec const& exec) { blocks(n, exec, [&](std::int64_t i, std::int64_t m) { sink = loop(x + i, m); }); });
    return c;
}
template <class Exec>
ceilings<Exec> reading_two(float const* x, float const* y, std::int64_t n) {
    ceilings<Exec> c;
    c.push_back([=](Exec const& exec) {
        blocks(n, exec, [&](std::int64_t i, std::int64_t m) { sink = read_two(x + i, y + i, m); });
    });
    for (auto const loop : {read_plain, read_groups})
        c.push_back([=](Exec const& exec) {
            blocks(n, exec, [&](std::int64_t i, std::int64_t m) { sink = loop(x + i, m) + loop(y + i, m); });
        });
    return c;
}
template <class Exec>
ceilings<Exec> scaling(float* x, std::int64_t n) {
    ceilings<Exec> c;
    for (auto const loop : {scale_in_place<1>, scale_in_place<4>})
        c.push_back(
            [=](Exec const& exec) { blocks(n, exec, [&](std::int64_t i, std::int64_t m) { loop(x + i, m); }); });
    return c;
}
template <class Exec>
ceilings<Exec> copying(float* y, float const* x, std::int64_t n, bool past_caches) {
    auto const loop = past_caches ? copy<true> : copy<false>;
    return {[=](Exec const& exec) { blocks(n, exec, [&](std::int64_t i, std::int64_t m) { loop(y + i, x + i, m); }); }};
}

/// Times ceilings and kernel in turn; `prepare` runs before each round, untimed.
template <class Exec, class Prepare, class Kernel>
void against(benchmark::State& state, Exec const& exec, double bytes, ceilings<Exec> const& c, Prepare const& prepare,
             Kernel const& kernel) {
    std::vector<std::vector<double>> top(c.size());
    std::vector<double> k;
    for (auto _ : state) {
        prepare();
        for (std::size_t i = 0; i < c.size(); ++i) top[i].push_back(timed(exec, [&] { c[i](exec); }));
        k.push_back(timed(exec, kernel));
        state.SetIterationTime(k.back());
    }
    double best = median(top[0]);
    for (auto const& t : top) best = std::min(best, median(t));
    state.counters["GB/s"] = bytes / median(k) * 1e-9;
    state.counters["ceiling"] = bytes / best * 1e-9;
    state.counters["of_ceiling"] = best / median(k);
}

/// A ceiling alone, so that a report can show it.
template <class Exec>
void ceiling(benchmark::State& state, Exec const& exec, double bytes, ceilings<Exec> const& c) {
    std::vector<std::vector<double>> top(c.size());
    for (auto _ : state) {
        for (std::size_t i = 0; i < c.size(); ++i) top[i].push_back(timed(exec, [&] { c[i](exec); }));
        state.SetIterationTime(top[0].back());
    }
    double best = median(top[0]);
    for (auto const& t : top) best = std::min(best, median(t));
    state.counters["GB/s"] = bytes / best * 1e-9;
}

template <class S>
float* floats(buffer<S>& b) {
    return reinterpret_cast<float*>(b.data());
}

template <class S, class Exec>
void forward(benchmark::State& state, std::int64_t vocab, bool entropy, Exec const& exec) {
    data<S>& d = get<S>();
    auto const view = d.view(vocab);
    trm::log_prob_out<float> out{d.logp, d.lse, {}};
    if (entropy) out.entropy = d.entropy;
    std::int64_t const bytes = view.rows * vocab * std::int64_t(sizeof(S));
    against(
        state, exec, double(bytes), reading<Exec>(floats(d.x), bytes / 4), [] {},
        [&] { (void)trm::log_prob(view, d.ids, out, exec); });
}

enum class where { in_place, in_place_skip, streamed, regular };

template <class S, class Exec>
void backward(benchmark::State& state, std::int64_t vocab, where to, double kept, bool entropy, Exec const& exec) {
    data<S>& d = get<S>();
    auto const view = d.view(vocab);
    (void)trm::log_prob(view, d.ids, trm::log_prob_out<float>{d.logp, d.lse, d.entropy});
    for (std::size_t r = 0; r < d.up.size(); ++r) d.up[r] = double(r * 7919 % 1000) < kept * 1000 ? -1e-7f : 0.0f;
    trm::logits_gradient_in<float> in{.logsumexp = d.lse, .d_logp = d.up};
    if (entropy) {
        in.d_entropy = d.up;
        in.entropy = d.entropy;
    }
    bool const in_place = to == where::in_place || to == where::in_place_skip;
    trm::logits_gradient_out<S> const out{
        in_place ? d.x.data() : d.y.data(), 0,
        to == where::in_place_skip ? trm::logits_write::nonzero_rows : trm::logits_write::overwrite,
        to == where::streamed};
    std::int64_t const n = view.rows * vocab, words = n * std::int64_t(sizeof(S)) / 4;
    std::vector<S> const sample(d.x.data(), d.x.data() + vocab);
    auto const restore = [&] {  // in place destroys the logits; values of the same kind come back
        if (in_place)
            for (std::int64_t r = 0; r < view.rows; ++r)
                std::memcpy(d.x.data() + r * vocab, sample.data(), std::size_t(vocab) * sizeof(S));
    };
    against(state, exec, 2.0 * double(n) * sizeof(S),
            in_place ? scaling<Exec>(floats(d.y), words)
                     : copying<Exec>(floats(d.y), floats(d.x), words, to == where::streamed),
            restore, [&] { (void)trm::logits_gradient(view, d.ids, in, out, exec); });
    restore();
}

/// Exact divergence of two matrices; the ceiling reads both.
template <class S, class Exec>
void divergence(benchmark::State& state, std::int64_t vocab, bool tv, bool known, Exec const& exec) {
    data<S>& d = get<S>();
    auto const mu = d.view(vocab);
    auto pi = mu;
    pi.data = d.y.data();
    std::vector<float> kl(std::size_t(mu.rows)), distance(std::size_t(mu.rows));
    std::vector<double> mu_lse(std::size_t(mu.rows)), pi_lse(std::size_t(mu.rows));
    for (std::int64_t i = 0; i < mu.rows * vocab; ++i)
        d.y.data()[i] = trm::to_storage<S>(trm::to_float(d.x.data()[i]) + 1e-2f * float(i % 64));
    trm::divergence_out<float> out{.kl_mu_pi = kl, .mu_logsumexp = mu_lse, .pi_logsumexp = pi_lse};
    (void)trm::exact_divergence(mu, pi, out, trm::known_logsumexp{}, exec);
    if (tv) out.tv = distance;
    std::vector<double> const a = mu_lse, b = pi_lse;
    trm::known_logsumexp const lse = known ? trm::known_logsumexp{a, b} : trm::known_logsumexp{};
    std::int64_t const bytes = mu.rows * vocab * std::int64_t(sizeof(S));
    against(
        state, exec, 2.0 * double(bytes), reading_two<Exec>(floats(d.x), floats(d.y), bytes / 4), [] {},
        [&] { (void)trm::exact_divergence(mu, pi, out, lse, exec); });
}

void scalar_row(float const* x, std::int64_t n, float& logp) {
    float top = x[0], sum = 0;
    for (std::int64_t i = 1; i < n; ++i) top = x[i] > top ? x[i] : top;
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
    logp = x[17] - top - std::log(sum);
}
#if defined(TRM_BENCH_EIGEN)
void eigen_row(float const* x, std::int64_t n, float& logp) {
    Eigen::Map<Eigen::ArrayXf const> const row(x, n);
    float const top = row.maxCoeff();
    logp = row[17] - top - std::log((row - top).exp().sum());
}
void eigen_row_entropy(float const* x, std::int64_t n, float& logp) {
    Eigen::Map<Eigen::ArrayXf const> const row(x, n);
    float const top = row.maxCoeff();
    Eigen::ArrayXf const e = (row - top).exp();
    float const sum = e.sum();
    logp = row[17] - top - std::log(sum) + (std::log(sum) - (e * (row - top)).sum() / sum);
}
#endif

/// The textbook, row by row, on one thread.
template <class Row>
void textbook(benchmark::State& state, std::int64_t vocab, bool entropy, int share, Row const& row) {
    data<float>& d = get<float>();
    auto view = d.view(vocab);
    view.rows = std::max<std::int64_t>(1, view.rows / share);
    std::span const logp = std::span(d.logp).first(std::size_t(view.rows));
    trm::log_prob_out<float> const out{
        logp, {}, entropy ? std::span(d.entropy).first(std::size_t(view.rows)) : std::span<float>{}};
    std::span const ids = std::span(d.ids).first(std::size_t(view.rows));
    std::int64_t const bytes = view.rows * vocab * 4;
    trm::serial_executor const exec;
    std::vector<double> ours, theirs;
    against(
        state, exec, double(bytes), reading<trm::serial_executor>(floats(d.x), bytes / 4),
        [&] { ours.push_back(timed(exec, [&] { (void)trm::log_prob(view, ids, out); })); },
        [&] {
            theirs.push_back(timed(exec, [&] {
                for (std::int64_t r = 0; r < view.rows; ++r) row(view.row(r), vocab, logp[std::size_t(r)]);
            }));
        });
    state.counters["trm_speedup"] = median(theirs) / median(ours);
}

template <class F>
void add(std::string const& name, F f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(11)->Unit(benchmark::kMillisecond);
}

two_threads const& both() {
    static two_threads const t;
    return t;
}
/// f(state, executor) on one thread and on two.
template <class F>
void add_both(std::string const& name, F f) {
    add(name + "/1T", [=](benchmark::State& s) { f(s, trm::serial_executor{}); });
    add(name + "/2T", [=](benchmark::State& s) { f(s, both()); });
}

void add_ceilings() {
    auto const row = [](std::string const& name, double streams, auto make) {
        add_both("ceiling/" + name, [=](benchmark::State& s, auto const& exec) {
            using Exec = std::remove_cvref_t<decltype(exec)>;
            data<float>& d = get<float>();
            ceiling(s, exec, streams * 4 * double(elements), make.template operator()<Exec>(d));
        });
    };
    row("read", 1, []<class E>(data<float>& d) { return reading<E>(d.x.data(), elements); });
    row("read_two", 2, []<class E>(data<float>& d) { return reading_two<E>(d.x.data(), d.y.data(), elements); });
    row("in_place", 2, []<class E>(data<float>& d) { return scaling<E>(d.y.data(), elements); });
    row("copy", 2, []<class E>(data<float>& d) { return copying<E>(d.y.data(), d.x.data(), elements, false); });
    row("copy_nt", 2, []<class E>(data<float>& d) { return copying<E>(d.y.data(), d.x.data(), elements, true); });
}

template <class S>
void add_type(std::string const& type) {
    for (std::int64_t vocab : {std::int64_t(32768), std::int64_t(151936)}) {
        auto const v = "/" + type + "/V" + std::to_string(vocab);
        for (bool entropy : {false, true})
            add_both(std::string("forward/") + (entropy ? "logp+entropy" : "logp") + v,
                     [=](benchmark::State& s, auto const& exec) { forward<S>(s, vocab, entropy, exec); });
        auto const back = [=](std::string const& name, where to, double kept, bool entropy) {
            add_both("backward/" + name + v,
                     [=](benchmark::State& s, auto const& exec) { backward<S>(s, vocab, to, kept, entropy, exec); });
        };
        back("in_place", where::in_place, 1.0, false);
        back("in_place_half_kept", where::in_place, 0.5, false);
        back("in_place_half_kept_skip", where::in_place_skip, 0.5, false);
        back("copy", where::regular, 1.0, false);
        for (auto const& [name, tv, known] : {std::tuple("kl", false, false), std::tuple("kl+tv", true, false),
                                              std::tuple("kl+tv_known_lse", true, true)})
            add_both("divergence/" + std::string(name) + v,
                     [=, tv = tv, known = known](benchmark::State& s, auto const& exec) {
                         divergence<S>(s, vocab, tv, known, exec);
                     });
        if constexpr (sizeof(S) == 4) {
            add("forward/scalar" + v + "/1T", [=](benchmark::State& s) { textbook(s, vocab, false, 8, scalar_row); });
#if defined(TRM_BENCH_EIGEN)
            add("forward/eigen" + v + "/1T", [=](benchmark::State& s) { textbook(s, vocab, false, 2, eigen_row); });
            add("forward/eigen+entropy" + v + "/1T",
                [=](benchmark::State& s) { textbook(s, vocab, true, 2, eigen_row_entropy); });
#endif
            back("copy_nt", where::streamed, 1.0, false);
            back("copy_nt+entropy", where::streamed, 1.0, true);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    add_ceilings();
    add_type<float>("f32");
    add_type<trm::bf16>("bf16");
    benchmark::Initialize(&argc, argv);
    bench::add_vector_context();
    benchmark::RunSpecifiedBenchmarks();
}
