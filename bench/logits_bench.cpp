// SPDX-License-Identifier: Apache-2.0
// Logits kernels against what memory allows. Every sample times the ceiling and the kernel one after the other, so that
// a busy machine disturbs both; the counters are medians: GB/s of useful bytes, `of_ceiling` their ratio.
#include "logits_ceilings.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>

#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>

namespace {

using namespace bench;

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
            x.data()[i] = trm::simd::detail::narrow<S>(3.46f * sum);
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

template <class Exec, class Ceiling, class Kernel>
void pairs(benchmark::State& state, Exec const& exec, double ceiling_bytes, double kernel_bytes, Ceiling const& ceiling,
           Kernel const& kernel) {
    std::vector<double> c, k;
    kernel();
    for (auto _ : state) {
        double const t0 = clock_of(exec);
        ceiling();
        double const t1 = clock_of(exec);
        kernel();
        double const t2 = clock_of(exec);
        c.push_back(t1 - t0);
        k.push_back(t2 - t1);
        state.SetIterationTime(t2 - t1);
    }
    double const top = ceiling_bytes / median(c) * 1e-9, got = kernel_bytes / median(k) * 1e-9;
    state.counters["GB/s"] = got;
    state.counters["ceiling"] = top;
    state.counters["of_ceiling"] = got / top;
}

std::atomic<float> sink;

template <class S, class Exec>
void read_ceiling(data<S>& d, std::int64_t bytes, Exec const& exec) {
    float const* p = reinterpret_cast<float const*>(d.x.data());
    blocks(bytes / 4, exec, [&](std::int64_t i, std::int64_t n) { sink = read_sum(p + i, n); });
}

template <class S, class Exec>
void forward(benchmark::State& state, std::int64_t vocab, bool entropy, Exec const& exec) {
    data<S>& d = get<S>();
    auto const view = d.view(vocab);
    trm::log_prob_out<float> out{d.logp, d.lse, {}};
    if (entropy) out.entropy = d.entropy;
    std::int64_t const bytes = view.rows * vocab * std::int64_t(sizeof(S));
    pairs(
        state, exec, double(bytes), double(bytes), [&] { read_ceiling(d, bytes, exec); },
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
    // In place destroys the logits; values of the same kind are put back outside the timed part.
    std::int64_t const n = view.rows * vocab, floats = n * std::int64_t(sizeof(S)) / 4;
    std::vector<S> const sample(d.x.data(), d.x.data() + vocab);
    double const bytes = 2.0 * double(n) * sizeof(S);
    float* const px = reinterpret_cast<float*>(d.x.data());
    float* const py = reinterpret_cast<float*>(d.y.data());
    std::vector<double> c, k;
    for (auto _ : state) {
        if (in_place)
            for (std::int64_t r = 0; r < view.rows; ++r)
                std::memcpy(d.x.data() + r * vocab, sample.data(), std::size_t(vocab) * sizeof(S));
        double const t0 = clock_of(exec);
        blocks(floats, exec, [&](std::int64_t i, std::int64_t m) {
            in_place ? scale_in_place(py + i, m) : copy_stream(py + i, px + i, m);
        });
        double const t1 = clock_of(exec);
        (void)trm::logits_gradient(view, d.ids, in, out, exec);
        double const t2 = clock_of(exec);
        c.push_back(t1 - t0);
        k.push_back(t2 - t1);
        state.SetIterationTime(t2 - t1);
    }
    state.counters["GB/s"] = bytes / median(k) * 1e-9;
    state.counters["ceiling"] = bytes / median(c) * 1e-9;
    state.counters["of_ceiling"] = median(c) / median(k);
}

/// Exact divergence of two matrices; the ceiling reads both.
template <class Exec>
void divergence(benchmark::State& state, std::int64_t vocab, bool tv, bool known, Exec const& exec) {
    data<float>& d = get<float>();
    auto const mu = d.view(vocab);
    auto pi = mu;
    pi.data = d.y.data();
    std::vector<float> kl(std::size_t(mu.rows)), distance(std::size_t(mu.rows));
    std::vector<double> mu_lse(std::size_t(mu.rows)), pi_lse(std::size_t(mu.rows));
    for (std::int64_t i = 0; i < mu.rows * vocab; ++i) d.y.data()[i] = d.x.data()[i] + 1e-3f * float(i % 64);
    trm::divergence_out<float> out{.kl_mu_pi = kl, .mu_logsumexp = mu_lse, .pi_logsumexp = pi_lse};
    (void)trm::exact_divergence(mu, pi, out, trm::known_logsumexp{}, exec);
    if (tv) out.tv = distance;
    std::vector<double> const a = mu_lse, b = pi_lse;
    trm::known_logsumexp const lse = known ? trm::known_logsumexp{a, b} : trm::known_logsumexp{};
    std::int64_t const n = mu.rows * vocab;
    pairs(
        state, exec, 8.0 * double(n), 8.0 * double(n),
        [&] {
            blocks(n, exec, [&](std::int64_t i, std::int64_t m) {
                sink = read_sum(d.x.data() + i, m) + read_sum(d.y.data() + i, m);
            });
        },
        [&] { (void)trm::exact_divergence(mu, pi, out, lse, exec); });
}

/// The textbook in scalar C++ and in whole-row passes, for the factor.
void scalar_forward(benchmark::State& state, std::int64_t vocab) {
    data<float>& d = get<float>();
    auto view = d.view(vocab);
    view.rows = std::max<std::int64_t>(1, view.rows / 8);
    std::int64_t const bytes = view.rows * vocab * 4;
    pairs(
        state, trm::serial_executor{}, double(bytes), double(bytes),
        [&] { read_ceiling(d, bytes, trm::serial_executor{}); },
        [&] {
            for (std::int64_t r = 0; r < view.rows; ++r) {
                float const* x = view.row(r);
                float top = x[0], sum = 0;
                for (std::int64_t i = 1; i < vocab; ++i) top = x[i] > top ? x[i] : top;
                for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(x[i] - top);
                d.logp[std::size_t(r)] = x[17] - top - std::log(sum);
            }
        });
}

template <class F>
void add(std::string const& name, F f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(11)->Unit(benchmark::kMillisecond);
}

template <class S>
void add_type(std::string const& type) {
    static two_threads const both;
    for (std::int64_t vocab : {std::int64_t(32768), std::int64_t(151936)}) {
        auto const v = "/" + type + "/V" + std::to_string(vocab);
        for (bool entropy : {false, true}) {
            auto const name = std::string("forward/") + (entropy ? "logp+entropy" : "logp") + v;
            add(name + "/1T", [=](benchmark::State& s) { forward<S>(s, vocab, entropy, trm::serial_executor{}); });
            add(name + "/2T", [=](benchmark::State& s) { forward<S>(s, vocab, entropy, both); });
        }
        auto const back = [=](std::string const& name, where to, double kept, bool entropy) {
            add("backward/" + name + v + "/1T",
                [=](benchmark::State& s) { backward<S>(s, vocab, to, kept, entropy, trm::serial_executor{}); });
            add("backward/" + name + v + "/2T",
                [=](benchmark::State& s) { backward<S>(s, vocab, to, kept, entropy, both); });
        };
        back("in_place", where::in_place, 1.0, false);
        back("in_place_half_kept", where::in_place, 0.5, false);
        back("in_place_half_kept_skip", where::in_place_skip, 0.5, false);
        back("copy", where::regular, 1.0, false);
        if constexpr (sizeof(S) == 4) {
            for (int which = 0; which < 3; ++which) {
                auto const name = std::string(which == 0   ? "divergence/kl"
                                              : which == 1 ? "divergence/kl+tv"
                                                           : "divergence/kl+tv_known_lse") +
                                  v;
                add(name + "/1T",
                    [=](benchmark::State& s) { divergence(s, vocab, which > 0, which == 2, trm::serial_executor{}); });
                add(name + "/2T", [=](benchmark::State& s) { divergence(s, vocab, which > 0, which == 2, both); });
            }
            add("forward/scalar" + v + "/1T", [=](benchmark::State& s) { scalar_forward(s, vocab); });
            back("copy_nt", where::streamed, 1.0, false);
            back("copy_nt+entropy", where::streamed, 1.0, true);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    add_type<float>("f32");
    add_type<trm::bf16>("bf16");
    benchmark::Initialize(&argc, argv);
    benchmark::AddCustomContext("register width in floats", std::to_string(trm::simd::width()));
    benchmark::RunSpecifiedBenchmarks();
}
