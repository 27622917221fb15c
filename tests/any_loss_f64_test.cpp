// SPDX-License-Identifier: Apache-2.0
#include "any_loss_parity.hpp"

#include <trm/loss/any_loss_extern.hpp>

TEST_CASE("any_loss gives the bits of masked_loss, f64", "[loss][parity]") { any_parity::every_policy<double>(); }
TEST_CASE("select and three phases give what one call of any_loss gives, f64", "[loss]") {
    any_parity::every_phase<double>();
}

TEST_CASE("a spec is read when the loss is called", "[spec][unit]") {
    using namespace trm;
    auto const b = batches::make<double>({{3, 9, 40}, true, 0.3, 0.0}, 4);
    auto const view = b.view();
    any_loss loss{parse_spec("surrogate: importance_ratio; aggregate: token_sum")};
    double const sum = loss(view).loss;
    loss.spec.aggregate = token_mean{over_count(10)};
    CHECK(std::fabs(loss(view).loss - sum / 10) < 1e-6 * std::fabs(sum));
    loss.spec.log_ratio_clamp = 0.01;
    CHECK(std::fabs(loss(view).loss - sum / 10) > 1e-6 * std::fabs(sum));
    loss.spec.log_ratio_clamp = -1;
    CHECK(loss(view).status.code == errc::bad_threshold);
    loss.spec.log_ratio_clamp = 20;
    loss.spec.strict = true;
    auto bad = b;
    bad.mask.assign(bad.tokens(), 1);
    bad.logp[5] = batches::nan;
    CHECK(loss(bad.view()).status.code == errc::nonfinite_input);
}
