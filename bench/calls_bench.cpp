// SPDX-License-Identifier: Apache-2.0
// What surrounds the kernel: threads on small batches, memory that is touched for the first time, sequences longer than
// the cache, in one call and measured first, and selections. Rows are threads/<executor>/<busy or idle
// before the call>/<tokens>, memory/<which>/<tokens>, long/<criteria>/<strategy>/<sequence length>/r<percent rejected> and
// select/<selection>/<tokens>/<threads>T.
#include "token_loss.hpp"

#include <trm/policy/length_neutral_mask.hpp>
#include <trm/policy/selection_batch.hpp>

#ifdef _OPENMP
#include <trm/interop/openmp.hpp>
#endif

namespace {

using namespace bench;

constexpr std::int64_t million = std::int64_t(1) << 20;
auto const ppo = quiet(trm::masked_loss{max_and_mean, trm::ppo_clip{}, trm::token_mean{}});
auto const ratio_max = quiet(trm::masked_loss{max_k2, trm::importance_ratio{}, trm::token_mean{}});

/// `idle`: milliseconds without work before each call, in which threads go to sleep. `of_serial`: over calls without
/// executor, taken by turns.
template <class Executor>
void threaded(benchmark::State& state, Executor const& execute, std::int64_t tokens, int idle) {
    auto& r = rollouts<float>::get(tokens, lengths::ragged, 10);
    std::vector<float> serial(static_cast<std::size_t>(tokens));
    double const want = ppo(r.view(), serial).loss;
    trm::workspace scratch;
    auto const view = r.view();
    auto const out = r.outputs();
    double loss = 0;
    std::vector<double> alone;
    row(
        state, tokens, 16, 1, [&] { loss = ppo(view, out, execute, scratch).loss; },
        [&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(idle));
            double const start = seconds();
            benchmark::DoNotOptimize(ppo(view, out, trm::serial_executor{}, scratch).loss);
            alone.push_back(seconds() - start);
            std::this_thread::sleep_for(std::chrono::milliseconds(idle));
        });
    state.counters["of_serial"] = state.counters["ns/token"] * static_cast<double>(tokens) * 1e-9 / median(alone);
    bool const same = loss == want && std::equal(serial.begin(), serial.end(), out.grad.begin());
    if (!same) state.SkipWithError("not the serial bits");
}

/// A gradient buffer that every call gets anew, as a function that returns a tensor must. 64 MiB: malloc asks the system
/// for new pages each time.
void fresh_gradient(benchmark::State& state, bool fresh) {
    std::int64_t const tokens = 16 * million;
    auto& r = rollouts<float>::get(tokens, lengths::ragged, 10);
    auto const view = r.view();
    trm::outputs<float> out = r.outputs();
    trm::workspace scratch;
    row(state, tokens, 16, 1, [&] {
        float* memory = nullptr;
        if (fresh) {
            memory = static_cast<float*>(std::malloc(static_cast<std::size_t>(tokens) * sizeof(float)));
            out.grad = r.span(memory);
        }
        auto result = ppo(view, out, trm::serial_executor{}, scratch);
        benchmark::DoNotOptimize(result.loss);
        std::free(memory);
    });
}

template <class Loss>
void one_call(benchmark::State& state, Loss const& loss, lengths shape, int rejected) {
    auto& r = rollouts<float>::get(4 * million, shape, rejected);
    pipeline_row(state, loss, r.view(), r.outputs(), 16, 1);
}
/// Statistics of all sequences, then decisions, then loss and gradient: the inputs are read twice, rejected gradients
/// never written twice.
template <class Loss>
void measure_first(benchmark::State& state, Loss const& loss, lengths shape, int rejected) {
    auto& r = rollouts<float>::get(4 * million, shape, rejected);
    auto const view = r.view();
    auto const out = r.outputs();
    trm::sequence_totals totals;
    double const want = loss(view, out).loss;
    double got = 0;
    row(state, 4 * million, 16, 1, [&] {
        trm::counts total;
        (void)loss.measure(view, totals);
        (void)loss.count(view, totals, total);
        got = loss.apply(view, totals, total, out).loss;
    });
    if (!close(got, want, 0)) state.SkipWithError("the strategies disagree");
}

/// The first phase of a loss whose mask compares tokens with each other.
template <class Mask>
void selected(benchmark::State& state, Mask const& mask, int threads) {
    auto& r = rollouts<float>::get(million, lengths::ragged, 10);
    auto view = r.view();
    std::vector<std::int32_t> prompts;
    for (std::int64_t i = 0; i < view.layout.sequences(); ++i) prompts.push_back(static_cast<std::int32_t>(i / 8));
    view.group_of = prompts;
    trm::masked_loss const loss{mask, trm::importance_ratio{}, trm::token_mean{}};
    trm::workspace scratch;
    trm::selection serial, chosen;
    bool ok = loss.select(view, serial, scratch).ok();
    row(state, million, 14, threads, [&] {  // 12 bytes read, 2 written
        auto const s = with_threads(threads, [&](auto const& run) { return loss.select(view, chosen, run, scratch); });
        ok = ok && s.ok();
    });
    if (!ok || !std::ranges::equal(serial.reasons(), chosen.reasons())) state.SkipWithError("not the serial bits");
}
template <class Mask>
void add_selection(std::string const& name, Mask const& mask) {
    for (int const threads : {1, 2})
        add_row("select/" + name + "/2^20/" + std::to_string(threads) + "T",
                [=](benchmark::State& s) { selected(s, mask, threads); });
}

}  // namespace

int main(int argc, char** argv) {
    for (int const log2 : {8, 10, 12, 14, 16, 17, 18, 20}) {
        std::int64_t const tokens = std::int64_t(1) << log2;
        auto const add = [&](char const* name, auto const& execute) {
            for (int const idle : {0, 2})
                add_row(std::string("threads/") + name + (idle > 0 ? "/idle/" : "/busy/") + size_name(tokens),
                        [=, &execute](benchmark::State& s) { threaded(s, execute, tokens, idle); });
        };
        static trm::serial_executor const serial;
        add("serial", serial);
        add("pool", pool());
#ifdef _OPENMP
        static trm::openmp_executor const openmp{2};
        add("openmp", openmp);
#endif
    }
    add_row("memory/reused_gradient/2^24", [](benchmark::State& s) { fresh_gradient(s, false); });
    add_row("memory/fresh_gradient/2^24", [](benchmark::State& s) { fresh_gradient(s, true); });
    for (lengths const shape : {lengths::million, lengths::four_million})
        for (int const rejected : {0, 80, 100}) {
            if (shape == lengths::four_million && rejected == 80) continue;  // it is one sequence
            auto const tail = std::string("/") + name_of(shape) + "/r" + std::to_string(rejected);
            auto const add = [&](std::string const& name, auto const& loss) {
                add_row("long/" + name + "/one_call" + tail,
                        [=, &loss](benchmark::State& s) { one_call(s, loss, shape, rejected); });
                add_row("long/" + name + "/measure_first" + tail,
                        [=, &loss](benchmark::State& s) { measure_first(s, loss, shape, rejected); });
            };
            add("max", ratio_max);
            add("max_and_mean", ppo);
        }
    add_selection("prefix", trm::prefix_mask{trm::k2{}, trm::at_most(0.125)});
    add_selection("signed", trm::signed_sequence_mask{trm::k1{}, trm::stat::mean, trm::at_most(1e-4)});
    add_selection("group", trm::group_mask{trm::k2{}, trm::stat::max, trm::at_most(0.125)});
    add_selection("quantile", trm::quantile_mask{trm::k2{}, 0.9, trm::at_most(2e-3)});
    add_selection("top_mean", trm::top_mean_mask{trm::k2{}, 8, trm::at_most(3e-3)});
    add_selection("length_neutral", trm::length_neutral_mask{0.03, 1 << 14});
    add_selection("budget", trm::budget_mask{trm::k2{}, 3e-4});
    return run_rows(argc, argv);
}
