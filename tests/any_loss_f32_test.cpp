// SPDX-License-Identifier: Apache-2.0
#include "any_loss_parity.hpp"

TEST_CASE("any_loss gives the bits of masked_loss, f32", "[loss][parity]") {
    any_parity::every_policy<float>();
    any_parity::recent_policies<float>();
    any_parity::check_seen(trm::catalogue::surrogates{});
    any_parity::check_seen(trm::catalogue::criteria<trm::any_divergence>{});
}
TEST_CASE("select and three phases give what one call of any_loss gives, f32", "[loss]") {
    any_parity::every_phase<float>();
}
