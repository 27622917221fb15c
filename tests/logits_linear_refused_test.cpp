// SPDX-License-Identifier: Apache-2.0
// What TRM_CPU asks for in vain is refused by the fused head over kept ids before it writes anything.
#include "catch.hpp"

#include <trm/logits/linear_support.hpp>

#include <cstdlib>
#include <string>
#include <vector>

using namespace trm;

namespace {

bool const is_wrong = setenv("TRM_CPU", "avx2", 1) == 0;  // read once, when the first function is called

}  // namespace

TEST_CASE("a wrong TRM_CPU is refused by the fused head over kept ids", "[logits][simd]") {
    REQUIRE(is_wrong);
    std::vector<float> const z(6, 0.5f), ones(2, 1.0f);
    std::vector<double> const lse(2, 1.0);
    std::vector<std::int32_t> const targets{0, 1}, ids{0, 1, 2, 0}, cu{0, 2, 4};
    std::vector<float> logp(2, 7.0f), d_hidden(4, 7.0f);
    std::vector<double> memory(4, 7.0);
    linear_view<float, float> const head{.hidden = z.data(), .weight = z.data(), .rows = 2, .width = 2, .vocab = 3};
    kept_ids const kept{ids, cu};
    auto const refused = [&](status const& s) {
        CHECK(s.code == errc::unsupported);
        CHECK(std::string(s.what) == "TRM_CPU in the environment must be baseline, v3 or v4");
        CHECK(logp == std::vector<float>(2, 7.0f));
        CHECK(d_hidden == std::vector<float>(4, 7.0f));
        CHECK(memory == std::vector<double>(4, 7.0));
    };
    refused(linear_log_prob_of_kept(head, kept, targets, log_prob_out<float>{.logp = logp}));
    refused(linear_gradient_of_kept(head, kept, targets, logits_gradient_in<float>{.logsumexp = lse, .d_logp = ones},
                                    linear_gradient_out{.d_hidden = d_hidden.data()}, memory));
}
