// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/bootstrap.hpp>

#include <cstdint>
#include <optional>

/// \file
/// One line of a certificate: a number, where it comes from, and what that is worth.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// What a number is. `exact`: a bound, because the divergences were given over all contexts. `estimated`: a consistent
/// estimate from the batch with a bootstrap interval. `plug_in`: a formula that needs a maximum over all contexts, fed
/// with the maximum over the batch: an indication. Only `exact` is a guarantee.
enum class claim : std::uint8_t { exact, estimated, plug_in };

enum class rung_name : std::uint8_t {
    direct,
    one_sided,
    blocks,
    second_moment,
    classical,
    pinsker_marginal,
    mixed_kl,
    mixed_tv,
    coupling,
    adaptive
};

/// Why a rung may or may not carry the headline.
enum class rung_status : std::uint8_t {
    ok,
    unhealthy,    ///< direct, one-sided: the ratios' tails are too heavy, see `health`
    no_interval,  ///< fewer than two prompt groups: an estimate without an interval
    batch_max,    ///< plug-in from exact divergences: the batch need not contain the worst context
    detector      ///< plug-in from sampled tokens: the largest k3 detects, it does not even estimate, the largest KL
};

struct rung {
    rung_name name = rung_name::direct;
    claim kind = claim::estimated;
    rung_status state = rung_status::ok;
    double value = 0.0;
    std::optional<interval> range{};
    bool vacuous = true;  ///< the upper limit is at least max R - min R
    std::int64_t block = 0;  ///< w, of `blocks`

    /// The upper end of the interval; the value itself where there is none.
    [[nodiscard]] double upper() const noexcept { return range ? range->high : value; }
};

/// A value with its interval, if there are groups to resample.
struct estimate {
    double value = 0.0;
    std::optional<interval> range{};

    [[nodiscard]] double lower() const noexcept { return range ? range->low : value; }
};

/// Whether the direct rung may be believed.
struct direct_health {
    double ess = 0.0;         ///< fraction
    double tail_share = 0.0;  ///< of the largest sequence in the sum of prod rho
    estimate ratio_excess{};  ///< E[prod rho] - 1; its interval should contain 0
    bool saturated = false;   ///< some log-ratio was held at +-300
    bool good = false;
    double one_sided_share = 0.0;  ///< of the largest sequence in the sum of max(-S, 0)
    estimate first_order{};        ///< E[sum_t (rho_t - 1)]; its interval should contain 0
    bool one_sided_good = false;
};

}  // namespace bounds
TRM_NAMESPACE_END
