// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/evidence.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

/// \file
/// Estimates of the error that need no maximum over contexts: second-moment bounds and direct estimates.
///
/// Both are trm's own; include/trm/bounds/README.md derives them. Fed with every response weighted by its probability
/// under mu they are exact; fed with samples they are consistent estimates.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// The three ways to bound position t's share of the error, per unit of max R - min R.
struct second_moment_terms {
    double a = 0.0;  ///< E|rho_t - 1|, the future's TV taken as 1
    double b = 0.0;  ///< sqrt(E[(rho_t - 1)^2] E[sum_{j>t} KL_j] / 2): Pinsker, then Cauchy-Schwarz
    double c = 0.0;  ///< E[|rho_t - 1| sum_{j>t} TV_j]; needs exact TV

    [[nodiscard]] double least(bool with_tv) const noexcept {
        const double ab = (std::min)(a, b);
        return with_tv ? (std::min)(ab, c) : ab;
    }
};

[[nodiscard]] inline second_moment_terms terms_of(const position_sums& p, double sequences) noexcept {
    if (!(sequences > 0.0)) return {};
    return {p.magnitude / sequences, std::sqrt(0.5 * p.square * p.future_kl) / sequences, p.product_tv / sequences};
}

/// |Error| <= (max R - min R) sum_t min(a_t, b_t, c_t); c_t only `with_tv`. Linear in positions.
[[nodiscard]] inline double second_moment(std::span<const position_sums> totals, double sequences, bool with_tv,
                                          reward_range r = {}) noexcept {
    double sum = 0.0;
    for (const position_sums& p : totals) sum += terms_of(p, sequences).least(with_tv);
    return detail::scaled({r, constants::centred}, sum);
}

[[nodiscard]] inline double second_moment(const evidence& e, reward_range r = {}) {
    double n = 0.0;
    for (const group_sums& g : e.groups) n += g.sequences;
    return bounds::second_moment(e.totals(), n, e.has_exact_tv(), r);
}

/// Sums behind the direct estimates; mergeable. `baseline` is the b of R - b and must be the same everywhere.
struct direct_sums {
    double sequences = 0.0;
    double ratio_excess = 0.0;   ///< prod rho - 1
    double ratio_square = 0.0;   ///< (prod rho)^2
    double absolute = 0.0;       ///< |S|
    double below = 0.0;          ///< max(-S, 0), at most max(1 + sum_t (rho_t - 1), 0)
    double first_order = 0.0;    ///< sum_t (rho_t - 1)
    double observed = 0.0;       ///< (R - b) S
    double improvement = 0.0;    ///< (R - b)(prod rho - 1)
    double surrogate = 0.0;      ///< (R - b) sum_t (rho_t - 1)
    double largest_ratio = 0.0;  ///< max of weight * prod rho: not a sum, but merges as a maximum
    double largest_below = 0.0;  ///< max of weight * max(-S, 0): likewise

    void add(const sequence_record& r, double baseline) noexcept {
        const double step = r.first_order + r.excess;
        const double w = r.weight;
        const double gain = w * (r.reward - baseline);
        sequences += w;
        ratio_excess += w * step;
        ratio_square += w * ((1.0 + step) * (1.0 + step));
        absolute += w * std::fabs(r.excess);
        below += w * (std::max)(-r.excess, 0.0);
        first_order += w * r.first_order;
        observed += gain * r.excess;
        improvement += gain * step;
        surrogate += gain * r.first_order;
        largest_ratio = (std::max)(largest_ratio, w * (1.0 + step));
        largest_below = (std::max)(largest_below, w * (std::max)(-r.excess, 0.0));
    }
    void add(const direct_sums& o, double times = 1.0) noexcept {
        sequences += times * o.sequences;
        ratio_excess += times * o.ratio_excess;
        ratio_square += times * o.ratio_square;
        absolute += times * o.absolute;
        below += times * o.below;
        first_order += times * o.first_order;
        observed += times * o.observed;
        improvement += times * o.improvement;
        surrogate += times * o.surrogate;
        largest_ratio = (std::max)(largest_ratio, o.largest_ratio);
        largest_below = (std::max)(largest_below, o.largest_below);
    }
};

/// The error itself, as far as importance weights can tell. Means over sequences, rejected or not.
struct direct_estimate {
    double worst_case = 0.0;    ///< (max R - min R)/2 E|S|: the largest error any reward in the range could cause
    double one_sided =
        0.0;     ///< (max R - min R) E[max(-S, 0)]: the same number, since E[S] = 0, without prod rho's tail
    double observed = 0.0;      ///< E[(R - b) S]: the error for the rewards that came; 0 without rewards
    double improvement = 0.0;   ///< E[(R - b)(prod rho - 1)] = J(pi) - J(mu)
    double surrogate = 0.0;     ///< E[(R - b) sum_t (rho_t - 1)] = L
    double ratio_excess = 0.0;  ///< E[prod rho] - 1: 0 in expectation
    double ess = 0.0;           ///< effective sample size of prod rho, as a fraction of the batch
    double tail_share = 0.0;    ///< share of the largest sequence in the sum of prod rho
    double one_sided_share = 0.0;  ///< share of the largest sequence in the sum of max(-S, 0)
    double first_order = 0.0;      ///< E[sum_t (rho_t - 1)]: 0 in expectation
};

[[nodiscard]] inline direct_estimate direct_of(const direct_sums& s, reward_range r = {}) noexcept {
    direct_estimate d;
    if (!(s.sequences > 0.0)) return d;
    const double n = s.sequences;
    const double total = n + s.ratio_excess;
    d.worst_case = detail::scaled({r, constants::centred}, 0.5 * s.absolute / n);
    d.one_sided = detail::scaled({r, constants::centred}, s.below / n);
    d.one_sided_share = s.below > 0.0 ? s.largest_below / s.below : 0.0;
    d.first_order = s.first_order / n;
    d.observed = s.observed / n;
    d.improvement = s.improvement / n;
    d.surrogate = s.surrogate / n;
    d.ratio_excess = s.ratio_excess / n;
    d.ess = s.ratio_square > 0.0 ? (total / n) * (total / s.ratio_square) : 0.0;
    d.tail_share = total > 0.0 ? s.largest_ratio / total : 1.0;
    return d;
}

[[nodiscard]] inline direct_sums sum_direct(std::span<const sequence_record> sequences, double baseline) noexcept {
    direct_sums s;
    for (const sequence_record& r : sequences) s.add(r, baseline);
    return s;
}

/// b at mid-range: the smallest |R - b| can be made.
[[nodiscard]] inline double mid_range(reward_range r) noexcept { return 0.5 * r.min + 0.5 * r.max; }

[[nodiscard]] inline direct_estimate direct(std::span<const sequence_record> sequences, reward_range r = {}) noexcept {
    return direct_of(bounds::sum_direct(sequences, mid_range(r)), r);
}

}  // namespace bounds
TRM_NAMESPACE_END
