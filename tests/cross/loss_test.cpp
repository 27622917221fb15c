// SPDX-License-Identifier: Apache-2.0
// A few losses against the oracle, few enough to be compiled for several architectures.
#include "loss_parity.hpp"

using namespace trm;

namespace {

auto const mask = token_mask{binary_kl{}, at_most(0.11)} && sequence_mask{k3{}, stat::mean, at_most(0.05)} &&
                  sequence_mask{k2{}, stat::max, at_most(0.9)};

template <class T, class S>
void compare(std::uint64_t seed) {
    auto const b = batches::make<S>({batches::edge_lengths()}, seed);
    masked_loss const loss{mask, ppo_clip{}, token_mean{}};
    auto const want = parity::compare<T>(loss, b.view());
    CHECK(want.diagnostics.kept_tokens > 0);
    CHECK(want.diagnostics.kept_tokens < want.diagnostics.tokens);
}

}  // namespace

TEST_CASE("loss, gradient and diagnostics match the oracle") {
    SECTION("f32") { compare<float, float>(1); }
    SECTION("f64") { compare<double, double>(1); }
}
