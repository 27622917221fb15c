// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <trm/loss/quantiles.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

TEST_CASE("quantiles of log-ratios match sorting, merge, and skip what is masked or not finite", "[loss][unit]") {
    std::mt19937_64 g(3);
    auto const uniform = [&] { return static_cast<double>(g() >> 11) * 0x1p-53; };
    std::vector<float> logp, rollout;
    std::vector<std::uint8_t> mask;
    std::vector<double> x;
    for (int i = 0; i < 5000; ++i) {
        rollout.push_back(static_cast<float>(-1 - uniform()));
        double const size = std::exp(-14 + 16 * uniform());
        logp.push_back(rollout.back() + static_cast<float>(uniform() < 0.4 ? -size : size));
        mask.push_back(i % 7 != 0);
        if (i % 11 == 0)
            logp.back() = i % 2 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::infinity();
        if (mask.back() && i % 11 != 0)
            x.push_back(static_cast<double>(logp.back()) - static_cast<double>(rollout.back()));
    }
    std::ranges::sort(x);
    std::vector<std::int32_t> const cu{0, 1000, 1000, 5000};
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = rollout, .loss_mask = mask, .layout = trm::packed{cu}};
    trm::log_ratio_quantiles all;
    REQUIRE(trm::measure_quantiles(batch, trm::ratio_kind::current_over_rollout, all).ok());
    REQUIRE(all.size() == static_cast<double>(x.size()));
    for (double q : {0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0}) {
        auto const rank = static_cast<std::size_t>(std::max(1.0, std::ceil(q * static_cast<double>(x.size()))));
        CHECK(std::fabs(all.log_ratio(q) - x[rank - 1]) <= 0.0225 * std::fabs(x[rank - 1]) + 0x1p-24);
    }
    trm::log_ratio_quantiles first, second;
    for (std::size_t i = 0; i < x.size(); ++i) (i % 3 ? first : second).add(x[i]);
    first.merge(second);
    CHECK(first.counts == all.counts);
    CHECK(trm::log_ratio_quantiles{}.log_ratio(0.5) == 0);
    CHECK(trm::measure_quantiles(batch, trm::ratio_kind::proximal_over_rollout, all).code == trm::errc::missing_stream);
}
