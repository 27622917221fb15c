// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/spec_value.hpp>
#include <trm/policy/clamp.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// `20`, `[-20, 5]` or `none`: that, like an infinite end, is 80.
void read_clamp(auto const& n, clamp_range& to, std::string const& key, spec_problem& problem) {
    refuse_over(n, problem);
    refuse_band(n, problem);
    if (n.is == spec_node::kind::word && n.text == "none" && n.items.empty()) {
        to = no_clamp;
    } else if (n.is == spec_node::kind::list) {
        if (n.items.size() != 2) return problem.set(n.at, key + " takes a number or [lower, upper]");
        read_value(n.items[0], to.lower, key, problem);
        read_value(n.items[1], to.upper, key, problem);
        if (to.lower == -std::numeric_limits<double>::infinity()) to.lower = no_clamp.lower;
        if (to.upper == std::numeric_limits<double>::infinity()) to.upper = no_clamp.upper;
    } else {
        double size = 0;
        read_value(n, size, key, problem);
        to = size;
    }
    if (to.ok()) return;
    bool const is_range = n.is == spec_node::kind::list;
    problem.set(n.at, key + (is_range ? " must be [lower, upper], lower in [-80, 0), upper in (0, 80]"
                                      : " must be in (0, 80]"));
}
/// What is added to a denominator.
void read_epsilon(auto const& n, double& to, std::string const& key, spec_problem& problem) {
    read_value(n, to, key, problem);
    if (!(to >= 0 && to <= 1)) problem.set(n.at, key + " must be in [0, 1]");
}
[[nodiscard]] inline spec_node clamp_node(clamp_range c) {
    if (c == clamp_range(c.upper)) return number_node(c.upper);
    spec_node n;
    n.is = spec_node::kind::list;
    n.items = {number_node(c.lower), number_node(c.upper)};
    return n;
}

}  // namespace detail
TRM_NAMESPACE_END
