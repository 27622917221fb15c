// SPDX-License-Identifier: Apache-2.0
// Promises that hold for every loss there is: random compositions of all policies and parameters that have a name, all storage
// types, layouts and numbers of threads, through the C interface, which has them all in one library.
#include "catch.hpp"
#include "interop_c.hpp"
#include "random_spec.hpp"

#include <trm/loss/spec.hpp>

#include <atomic>
#include <thread>

namespace {

constexpr int compositions = 40;  ///< a storage type

/// Runs tasks on three threads.
void on_threads(void*, std::int64_t n, trm_task task, void* data) {
    std::atomic<std::int64_t> next{0};
    auto const work = [&] {
        for (std::int64_t i = next++; i < n; i = next++) task(data, i);
    };
    std::thread a(work), b(work);
    work();
    a.join();
    b.join();
}
constexpr trm_executor three_threads{on_threads, nullptr};

template <class S>
c::results<S> run(trm_loss const* loss, trm_batch const& batch, std::size_t tokens,
                  trm_executor const* execute = nullptr) {
    c::results<S> r(tokens);
    trm_outputs const out = r.view();
    trm_error error = trm_error_init();
    int const code = trm_loss_call(loss, &batch, &out, execute, nullptr, &r.loss, &r.diagnostics, &error);
    INFO(error.message);
    REQUIRE(code == TRM_OK);
    return r;
}
template <class S>
c::results<S> run(trm_loss const* loss, batches::ragged<S> const& b, trm_executor const* execute = nullptr) {
    return run<S>(loss, c::batch_of(b), b.tokens(), execute);
}
template <class S>
c::results<S> restored(c::results<S> r, batches::ragged<S> const& b, std::size_t n) {
    r.grad = batches::at_origin(r.grad, b, n);
    r.weights = batches::at_origin(r.weights, b, n);
    r.keep = batches::at_origin(r.keep, b, n);
    r.reasons = batches::at_origin(r.reasons, b, n);
    return r;
}
/// A random loss that is not strict: hostile content is outside of the mask only, but strictness has tests of its own.
struct composed {
    trm::loss_spec spec;
    std::string text;
    c::loss loss;
    composed(int n, std::uint64_t seed) {
        batches::random r(seed + static_cast<std::uint64_t>(n));
        spec = specs::make(static_cast<std::size_t>(n), r);
        spec.strict = false;
        remake();
    }
    void remake() {
        text = trm::print_spec(spec);
        loss = c::from_text(text);
        INFO(text);
        REQUIRE(loss != nullptr);
    }
};
template <class S>
batches::ragged<S> sample(int n) {
    return batches::make<S>({{0, 1, 17, 33, 64, 5, 130, 0, 300, 2, 16, 31}, true, 0.3, 0.004},
                            static_cast<std::uint64_t>(n) + 1);
}

template <class S>
void same_bits_everywhere(int n) {
    composed const c(n, 100);
    INFO(c.text);
    auto const b = sample<S>(n);
    auto const want = run(c.loss.get(), b);
    CHECK(run(c.loss.get(), b, &three_threads) == want);
    auto const rows = batches::padded(b, n % 5);
    CHECK(restored(run(c.loss.get(), rows, &three_threads), rows, b.tokens()) == want);
}
template <class S>
void masked_content_never_matters(int n) {
    composed const c(n, 200);
    INFO(c.text);
    auto b = sample<S>(n);
    auto const want = run(c.loss.get(), b);
    for (std::size_t t = 0; t < b.tokens(); ++t) {
        if (b.mask[t] != 0) continue;
        using real = typename batches::ragged<S>::real;
        b.logp[t] = b.rollout[t] = b.proximal[t] = b.ref[t] = batches::narrow<S>(-1);
        b.advantages[t] = b.given[t] = b.token_weights[t] = real(1);
    }
    CHECK(run(c.loss.get(), b) == want);
}
/// Without a mask every finite token is kept; bands without ends are no mask.
template <class S>
void infinite_thresholds_are_no_mask(int n) {
    composed with(n, 300), without(n, 300);
    auto const open = [](auto& criterion) {
        if constexpr (requires { criterion.keep; }) criterion.keep = trm::band{};
        if constexpr (requires { criterion.positive; }) criterion.positive = criterion.negative = trm::band{};
    };
    std::erase_if(with.spec.mask, [](auto const& m) {
        return std::visit([](auto const& c) { return !requires { c.keep; } && !requires { c.positive; }; }, m);
    });
    for (auto& m : with.spec.mask) std::visit(open, m);
    // A sequence with a token that is not finite is rejected by any criterion over sequences, so here all are finite: factors
    // beyond the range of float are not.
    with.spec.weight_factors.clear();
    without.spec.weight_factors.clear();
    without.spec.mask.clear();
    with.remake();
    without.remake();
    INFO(with.text);
    auto const b = sample<S>(n);
    auto const a = run(with.loss.get(), b), z = run(without.loss.get(), b);
    CHECK(a.keep == z.keep);
    CHECK(std::memcmp(a.grad.data(), z.grad.data(), a.grad.size() * sizeof a.grad[0]) == 0);
    CHECK(std::memcmp(&a.loss, &z.loss, sizeof a.loss) == 0);  // the same bits, where penalties overflow as well
}
/// A larger band keeps at least as much.
template <class S>
void wider_bands_keep_more(int n) {
    composed c(n, 400);
    auto const alone = [](auto const& m) {
        return std::visit(
            [](auto const& p) { return requires { p.keep; } && !requires { p.sign; } && !requires { p.of_passing; }; },
            m);
    };
    std::erase_if(c.spec.mask, [&](auto const& m) { return !alone(m); });
    if (c.spec.mask.size() > 1) c.spec.mask.resize(1);
    if (c.spec.mask.empty()) return;
    std::vector<std::uint8_t> before;
    for (double at : {0.0, 0.01, 0.1, 0.5, 2.0, 30.0}) {
        std::visit(
            [&](auto& p) {
                if constexpr (requires { p.keep; }) p.keep = trm::within(-at, at);
            },
            c.spec.mask[0]);
        c.remake();
        INFO(c.text);
        auto const r = run(c.loss.get(), sample<S>(n));
        for (std::size_t t = 0; t < before.size(); ++t)
            if (before[t] > r.keep[t]) FAIL("token " << t << " is kept by the smaller band only");
        before = r.keep;
    }
}
/// Gradients scale with loss_scale, and accumulate onto what is there.
template <class S>
void scale_and_accumulate(int n) {
    composed const c(n, 500);
    INFO(c.text);
    auto const b = sample<S>(n);
    auto const batch = c::batch_of(b);
    auto const want = run(c.loss.get(), b);
    c::results<S> r(b.tokens());
    trm_outputs out = r.view();
    out.loss_scale = 4;  // exact
    REQUIRE(trm_loss_call(c.loss.get(), &batch, &out, nullptr, nullptr, &r.loss, nullptr, nullptr) == TRM_OK);
    using real = typename batches::ragged<S>::real;
    double const most = double(std::numeric_limits<real>::max()) / 16,
                 least = double(std::numeric_limits<real>::min()) * 16;
    for (std::size_t t = 0; t < b.tokens(); ++t) {
        double const g = std::fabs(double(want.grad[t]));
        if (g < most && (g == 0 || g > least)) CHECK(double(r.grad[t]) == 4 * double(want.grad[t]));
    }
    out.loss_scale = 1;
    out.accumulate = 1;
    std::fill(r.grad.begin(), r.grad.end(), real(0.5));
    REQUIRE(trm_loss_call(c.loss.get(), &batch, &out, nullptr, nullptr, &r.loss, nullptr, nullptr) == TRM_OK);
    double const u = sizeof(real) == 4 ? 0x1p-23 : 0x1p-52;  // the sum may be one operation with the product before it
    for (std::size_t t = 0; t < b.tokens(); ++t) {
        double const g = b.mask[t] == 0 ? 0.0 : double(want.grad[t]);
        if (std::fabs(g) < most) CHECK(std::fabs(double(r.grad[t]) - (0.5 + g)) <= u * (0.5 + std::fabs(g)));
    }
}

}  // namespace

TEMPLATE_TEST_CASE("any loss: the same bits for packed and padded, one thread and three", "[loss][property]", float,
                   double, trm::bf16, trm::f16) {
    same_bits_everywhere<TestType>(GENERATE(range(0, compositions)));
}
TEMPLATE_TEST_CASE("any loss: what stands in masked slots never matters", "[loss][property]", float, double, trm::bf16,
                   trm::f16) {
    masked_content_never_matters<TestType>(GENERATE(range(0, compositions)));
}
TEMPLATE_TEST_CASE("any loss: infinite thresholds are no mask", "[loss][property]", float, double) {
    infinite_thresholds_are_no_mask<TestType>(GENERATE(range(0, compositions)));
}
TEMPLATE_TEST_CASE("any criterion: a wider band keeps at least as much", "[loss][property]", float, trm::bf16) {
    wider_bands_keep_more<TestType>(GENERATE(range(0, compositions)));
}
TEMPLATE_TEST_CASE("any loss: scales and accumulates", "[loss][property]", float, double) {
    scale_and_accumulate<TestType>(GENERATE(range(0, compositions)));
}
