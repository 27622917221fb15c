// SPDX-License-Identifier: Apache-2.0
#include "any_loss_parity.hpp"

TEST_CASE("any_loss gives the bits of masked_loss, f64", "[loss][parity]") { any_parity::every_policy<double>(); }
TEST_CASE("select and three phases give what one call of any_loss gives, f64", "[loss]") {
    any_parity::every_phase<double>();
}
