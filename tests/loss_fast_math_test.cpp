// SPDX-License-Identifier: Apache-2.0
// A translation unit built with -ffast-math decides as the oracle does, NaN and infinities included. This half is built
// without the flag; the inline namespace of the library keeps the two apart.
#include "loss_fast_math.hpp"
#include "loss_parity.hpp"

TEST_CASE("-ffast-math keeps the same tokens", "[loss][property]") {
    auto b = batches::make<float>({batches::short_lengths(400, 11), true, 0.3, 0.001}, 1);
    batches::random r(1);
    double const bad[] = {batches::nan, batches::inf, -batches::inf};
    for (int k = 0; k < 60; ++k) {
        auto const at = static_cast<std::size_t>(r.below(static_cast<std::int64_t>(b.tokens())));
        std::vector<float>* const streams[] = {&b.logp, &b.rollout, &b.advantages, &b.given};
        (*streams[k % 4])[at] = float(bad[k % 3]);
    }
    auto view = b.view();
    view.proximal_logp = {};
    view.token_weights = {};
    auto const want = trm::reference::evaluate(fast_math_loss(), view);
    REQUIRE(want.nearest_decision > parity::bounds_of<float>.decision);
    REQUIRE(want.diagnostics.nonfinite_tokens > 20);
    REQUIRE(want.diagnostics.kept_tokens > 100);

    std::vector<float> grad(b.tokens(), 7.0f);
    std::vector<std::uint8_t> keep(b.tokens(), 7);
    std::vector<std::uint16_t> reasons(b.tokens(), 7);
    fast_math_call call{b.tokens(),
                        b.cu.size() - 1,
                        b.logp.data(),
                        b.rollout.data(),
                        b.advantages.data(),
                        b.given.data(),
                        b.mask.data(),
                        b.cu.data(),
                        grad.data(),
                        keep.data(),
                        reasons.data(),
                        0,
                        0};
    REQUIRE(run_fast_math(call) == 0);
    CHECK(keep == want.keep);
    CHECK(reasons == want.reasons);
    CHECK(call.nonfinite == want.diagnostics.nonfinite_tokens);
    double const bound = 2 * parity::bounds_of<float>.term;
    CHECK(parity::near(call.loss, want.loss, want.loss_size, bound));
    CHECK(parity::first(b.tokens(), [&](std::size_t i) {
              return !parity::near(double(grad[i]), want.grad[i], want.grad_size[i], bound);
          }) == b.tokens());
}
