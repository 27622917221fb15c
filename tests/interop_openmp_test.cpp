// SPDX-License-Identifier: Apache-2.0
#include <trm/interop/openmp.hpp>
#include <trm/trm.hpp>

#include "catch.hpp"
#include "loss_batch.hpp"

#include <omp.h>

#include <atomic>
#include <bit>
#include <vector>

namespace {

std::vector<std::uint64_t> bits_of(trm::result const& r, std::vector<float> const& grad) {
    std::vector<std::uint64_t> bits{std::bit_cast<std::uint64_t>(r.loss)};
    for (auto member : trm::diagnostics::sums()) bits.push_back(std::bit_cast<std::uint64_t>(r.diagnostics.*member));
    for (double x : {r.diagnostics.max_x, r.diagnostics.min_x}) bits.push_back(std::bit_cast<std::uint64_t>(x));
    for (float g : grad) bits.push_back(std::bit_cast<std::uint32_t>(g));
    return bits;
}

}  // namespace

TEST_CASE("OpenMP runs each block once", "[unit][openmp]") {
    for (int threads : {0, 1, 2, 5}) {
        std::vector<std::atomic<int>> seen(200);
        std::atomic<int> most{0};
        trm::openmp_executor{threads}(200, [&](std::int64_t i) {
            ++seen[static_cast<std::size_t>(i)];
            most = omp_get_num_threads();
        });
        for (auto const& n : seen) CHECK(n == 1);
        if (threads > 0 && omp_get_dynamic() == 0) CHECK(most == threads);
        trm::openmp_executor{threads}(0, [](std::int64_t) { FAIL("no blocks"); });
    }
}

TEST_CASE("OpenMP gives the serial call's bits", "[unit][openmp]") {
    batches::random next(7);
    std::vector<std::int64_t> cu{0};
    std::vector<float> logp, mu, advantages;
    for (int s = 0; s < 500; ++s) {
        for (std::int64_t t = next.below(120); t > 0; --t) {
            mu.push_back(-0.01f - static_cast<float>(std::fabs(next.normal())));
            logp.push_back(mu.back() + 0.1f * static_cast<float>(next.normal()));
        }
        advantages.push_back(static_cast<float>(next.normal()));
        cu.push_back(static_cast<std::int64_t>(logp.size()));
    }
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = mu, .sequence_advantages = advantages, .layout = trm::packed{cu}};
    auto const check = [&](auto const& loss) {
        std::vector<float> serial(logp.size()), parallel(logp.size());
        trm::outputs<float> out;
        out.grad = serial;
        auto const expected = bits_of(trm::checked(loss)(batch, out), serial);
        out.grad = parallel;
        for (int threads : {1, 2, 3, 8})
            for (std::int64_t grain : {std::int64_t(0), trm::default_grain})
                CHECK(bits_of(trm::checked(loss)(batch, out, trm::openmp_executor{threads, grain}), parallel) ==
                      expected);
    };
    auto const mask = trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.03)};
    check(trm::masked_loss{mask, trm::importance_ratio{}, trm::token_mean{}});
    check(trm::masked_loss{mask, trm::importance_ratio{}, trm::seq_mean_token_mean{trm::over_kept}});
}
