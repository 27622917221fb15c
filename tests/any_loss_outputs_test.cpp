// SPDX-License-Identifier: Apache-2.0
// A loss chosen at run time that only wants a gradient gives the bits of one that wants every output, and of one with a criterion
// more: the first may go through the fused loop of frequent policies, the others go through tiles.
#include "any_loss_outputs.hpp"

using namespace all_or_gradient;

TEST_CASE("the gradient alone has the bits of a call with every output", "[loss][parity]") {
    auto const criteria = every_criterion();
    // Lengths of their own: with and without whole registers, pairs of them, and the stretches that are summed in float.
    auto const b =
        batches::make<float>({{0, 1, 16, 17, 31, 33, 64, 2, 130, 1, 1030, 41, 5, 2500}, true, 0.3, 0.002}, 3);
    std::size_t n = 0;
    for (std::size_t i = 0; i < criteria.size(); ++i)
        for (std::size_t j = i; j < criteria.size(); ++j, ++n) {
            std::string const mask = i == j ? criteria[i] : criteria[i] + " && " + criteria[j];
            same_both_ways(spec_text(mask, n), b);
        }
    for (std::size_t k = 0; k < 2 * surrogates.size() * weights.size(); ++k) same_both_ways(spec_text("none", k), b);
}
TEST_CASE("the same where stages clamp log-ratios differently", "[loss][parity]") {
    auto const criteria = every_criterion();
    auto const b = batches::make<double>({{5, 70, 1, 300, 16, 1100}, true, 0.5, 0.02}, 4);
    for (std::size_t i = 0; i < criteria.size(); ++i)
        same_both_ways("log_ratio_clamp: 3; weight_clamp: 1; surrogate_clamp: 0.5; " + spec_text(criteria[i], i), b);
}
