// SPDX-License-Identifier: Apache-2.0
// One program, all vector units of x86: which one is chosen, and that each computes the same.
#include "loss_parity.hpp"

#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>

using namespace trm;

/// A user's divergence, which nothing says should be inlined: |x| (1 + |x|).
struct own_divergence {
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    template <class V>
    V operator()(log_ratio<V> const& l) const {
        return abs(l.value) * (V(typename V::value_type(1)) + abs(l.value));
    }
};

TRM_NAMESPACE_BEGIN
namespace reference {
inline double divergence(own_divergence const&, token const&, pair const& l) {
    return std::fabs(l.x) * (1 + std::fabs(l.x));
}
}  // namespace reference
TRM_NAMESPACE_END

namespace {

auto const losses = std::tuple{
    masked_loss{sequence_mask{k2{}, stat::max, at_most(2)} && token_mask{k3{}, at_most(0.4)}, ppo_clip{}, token_mean{}},
    masked_loss{token_mask{own_divergence{}, at_most(0.9)}, importance_ratio{}, token_mean{}}};

/// f(unit) for every unit that this program has code for and this CPU can run.
template <class F>
void on_every_unit(F&& f) {
    auto const run = [&]<class A>(A unit) {
        if constexpr (simd::is_supported<A>)
            if (simd::check_unit<A>().ok()) {
                INFO(A::name());
                f(unit);
            }
    };
    run(simd::sse2{});
    run(simd::avx2{});
    run(simd::avx512{});
}

batches::shape ragged() { return {.lengths = {0, 1, 15, 16, 17, 5, 31, 32, 0, 33, 63, 64, 65, 129, 300}}; }

}  // namespace

TEST_CASE("losses on every vector unit agree with the reference", "[simd][dispatch]") {
    auto const b = batches::make<float>(ragged(), 3);
    auto const view = b.view();
    auto const check = [&](auto const& loss) {
        auto const oracle = reference::evaluate(loss, view);
        int units = 0;
        on_every_unit([&](auto unit) {
            ++units;
            parity::check(parity::run_of<float>(loss.on(unit), view), oracle, view, parity::bounds_of<float>.term);
        });
        CHECK(units >= 1);
        parity::check(parity::run_of<float>(loss, view), oracle, view, parity::bounds_of<float>.term);
    };
    std::apply([&](auto const&... loss) { (check(loss), ...); }, losses);
}

TEST_CASE("the unit of the CPU computes the bits of that unit", "[simd][dispatch]") {
    auto const b = batches::make<float>(ragged(), 4);
    auto const& loss = std::get<0>(losses);
    auto const chosen = parity::run_of<float>(loss, b.view());
    int same = 0;
    on_every_unit([&]<class A>(A unit) {
        if (simd::width<float, A>() != simd::width()) return;
        ++same;
        auto const told = parity::run_of<float>(loss.on(unit), b.view());
        CHECK(told.grad == chosen.grad);
        CHECK(told.result.loss == chosen.result.loss);
    });
    CHECK(same == (simd::is_supported<simd::sse2> ? 1 : 0));
}

TEST_CASE("logits functions on every vector unit agree", "[simd][dispatch]") {
    std::size_t const rows = 3, vocab = 1003;
    batches::random r(6);
    std::vector<float> z(rows * vocab);
    for (auto& v : z) v = static_cast<float>(3 * r.normal());
    std::vector<std::int32_t> const targets{0, 501, 1002};
    logits_view<float> const view{.data = z.data(), .rows = 3, .vocab = 1003};
    auto const run = [&]<class A>(A) {
        std::vector<double> out(rows), entropy(rows), d_logp(rows, 0.5), d_entropy(rows, -0.25), lse(rows);
        REQUIRE(log_prob<A>(view, targets, log_prob_out<double>{out, lse, entropy}).ok());
        std::vector<float> d(rows * vocab);
        logits_gradient_in<double> const in{
            .logsumexp = lse, .d_logp = d_logp, .d_entropy = d_entropy, .entropy = entropy};
        REQUIRE(logits_gradient<A>(view, targets, in, logits_gradient_out<float>{.data = d.data()}).ok());
        out.insert(out.end(), entropy.begin(), entropy.end());
        out.insert(out.end(), d.begin(), d.end());
        return out;
    };
    auto const want = run(simd::scalar{});
    auto const check = [&](auto unit) {
        auto const got = run(unit);
        CHECK(parity::first(got.size(), [&](std::size_t i) {
                  return !(std::fabs(got[i] - want[i]) <= 1e-5 * (i < 2 * rows ? 1 : 0.1));
              }) == got.size());
    };
    on_every_unit(check);
    check(simd::default_arch{});
}

#if TRM_DISPATCH

#if defined(__GNUC__) && !defined(__clang__)
TEST_CASE("x86-64-v3 is what the compiler calls so", "[simd][dispatch]") {
    using simd::detail::level;
    CHECK((simd::detail::level_of_cpu() >= level::v3) == (__builtin_cpu_supports("x86-64-v3") != 0));
}
#endif

TEST_CASE("TRM_CPU: what the environment may ask for", "[simd][dispatch]") {
    using simd::detail::choose;
    using simd::detail::level;
    for (level const cpu : {level::baseline, level::v3, level::v4}) {
        CHECK(choose(cpu, nullptr).use == cpu);
        CHECK(choose(cpu, "").use == cpu);
        CHECK(choose(cpu, "baseline").use == level::baseline);
        CHECK(choose(cpu, "baseline").wrong == nullptr);
        for (char const* wrong : {"v2", "avx2", "V3", "v3 ", "0", "native"}) {
            INFO(wrong);
            CHECK(choose(cpu, wrong).use == cpu);
            CHECK(std::string(choose(cpu, wrong).wrong) == "TRM_CPU in the environment must be baseline, v3 or v4");
        }
    }
    CHECK(choose(level::v4, "v3").use == level::v3);
    CHECK(choose(level::v4, "v4").wrong == nullptr);
    CHECK(std::string(choose(level::v3, "v4").wrong) ==
          "TRM_CPU in the environment asks for a vector unit that this CPU does not have");
    CHECK(choose(level::baseline, "v3").wrong != nullptr);
}

TEST_CASE("a vector unit that the CPU does not have is refused before anything is written", "[simd][dispatch]") {
    if (simd::detail::chosen().cpu == simd::detail::level::v4) {
        CHECK(simd::check_unit<simd::avx512>().ok());
        return;
    }
    auto const b = batches::make<float>(ragged(), 4);
    std::vector<float> grad(static_cast<std::size_t>(b.view().layout.extent()), 7.0f);
    result const r = std::get<0>(losses).on(simd::avx512{})(b.view(), grad);
    CHECK(r.status.code == errc::unsupported);
    CHECK(std::string(r.status.what) == "this CPU does not have the vector unit that was asked for");
    CHECK(grad[0] == 7.0f);
}

#endif
