// SPDX-License-Identifier: Apache-2.0
// Built against a copy of the library to which the diff in policy/README.md has been applied: the new divergence is known to text, to
// both kinds of loss, and to the oracle.
#include "any_loss_parity.hpp"

using namespace trm;

TEST_CASE("the divergence of policy/README.md is known everywhere", "[readme]") {
    CHECK(is_listed<catalogue::divergences, jeffreys>);
    masked_loss const fixed{token_mask{jeffreys{}, at_most(0.4)}, importance_ratio{}, token_mean{}};
    spec_result const read = parse_spec("mask: jeffreys <= 0.4");
    INFO(read.message);
    REQUIRE(read.ok());
    CHECK(print_spec(to_spec(fixed)) == print_spec(read.spec));

    auto const b = batches::make<float>(any_parity::shape(), 1);
    auto const one = parity::run_of<float>(fixed, b.view()), other = parity::run_of<float>(any_loss{read}, b.view());
    CHECK(any_parity::difference(one, other) == "");
    auto const want = parity::compare<float>(fixed, b.view());
    CHECK(want.diagnostics.rejected_tokens[0] > 0);
    CHECK(want.diagnostics.kept_tokens > 0);
}
