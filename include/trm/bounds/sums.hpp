// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/scale.hpp>

#include <cmath>
#include <cstdint>
#include <optional>

/// \file
/// Sums over positions in constant time: a horizon given as a number costs the same at 10 and at 10^7 tokens.

TRM_NAMESPACE_BEGIN
namespace bounds::detail {

/// sum_{k=1}^{n} sqrt(k). Below 64 added up, above by Euler-Maclaurin; both within 4 ulp.
/// The constant is zeta(-1/2).
[[nodiscard]] inline double sum_of_roots(double n) noexcept {
    if (n < 64.0) {
        double sum = 0.0;
        for (double k = 1.0; k <= n; k += 1.0) sum += std::sqrt(k);
        return sum;
    }
    const double root = std::sqrt(n);
    const double inverse = 1.0 / n;
    const double tail = (1.0 / 24.0 - inverse * inverse * (1.0 / 1920.0 - inverse * inverse / 9216.0)) / root;
    return root * (n * (2.0 / 3.0) + 0.5) + (tail - 0.2078862249773545660);
}

/// sum_{k=first}^{last} min(1, c sqrt(k)), first >= 1.
[[nodiscard]] inline double sum_capped_roots(double first, double last, double c) noexcept {
    if (last < first || c <= 0.0) return 0.0;
    const double turn = std::floor(1.0 / c / c);  // c sqrt(k) <= 1 up to here; may overflow to a huge value, harmless
    const double below = std::fmin(last, turn);
    double sum = 0.0;
    if (below >= first) sum += c * (sum_of_roots(below) - sum_of_roots(first - 1.0));
    const double start = std::fmax(first, below + 1.0);
    if (last >= start) sum += last - start + 1.0;
    return sum;
}

/// sum_{k=1}^{last} min(1, k e).
[[nodiscard]] inline double sum_capped_line(double last, double e) noexcept {
    if (last < 1.0 || e <= 0.0) return 0.0;
    const double below = std::fmin(last, std::floor(1.0 / e));
    return e * (0.5 * below * (below + 1.0)) + (last - below);
}

/// min(1, k eps, sqrt(k delta / 2)) with whichever of eps, delta is known; 1 if neither.
[[nodiscard]] inline double future_tv(double k, std::optional<double> eps, std::optional<double> delta) noexcept {
    double v = 1.0;
    if (eps && known(*eps)) v = std::fmin(v, k * std::fmin(*eps, 1.0));
    if (delta && known(*delta)) v = std::fmin(v, std::sqrt(k) * std::sqrt(0.5 * *delta));
    return k > 0.0 ? v : 0.0;
}

/// sum_{k=0}^{horizon-1} future_tv(k): the line is the smaller one up to k = delta / (2 eps^2), the root after it.
[[nodiscard]] inline double sum_future_tv(std::int64_t horizon, std::optional<double> eps,
                                          std::optional<double> delta) noexcept {
    if (horizon < 2) return 0.0;
    const double last = static_cast<double>(horizon - 1);
    const bool has_eps = eps && known(*eps);
    const bool has_delta = delta && known(*delta);
    if (!has_eps && !has_delta) return last;
    const double c = has_delta ? std::sqrt(0.5 * *delta) : 0.0;
    if (!has_eps) return sum_capped_roots(1.0, last, c);
    if (!has_delta) return sum_capped_line(last, *eps);
    if (c <= 0.0 || *eps <= 0.0) return 0.0;
    const double turn = std::fmin(c / *eps, 1e8);  // squared below; 1e16 positions stand for "never"
    const double line = std::fmin(last, std::floor(turn * turn));
    return sum_capped_line(line, *eps) + sum_capped_roots(line + 1.0, last, c);
}

}  // namespace bounds::detail
TRM_NAMESPACE_END
