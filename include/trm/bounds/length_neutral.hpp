// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/paper.hpp>
#include <trm/bounds/trajectories.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// \file
/// Length-neutral trust-region mask: keep a response iff W(y) <= threshold * Z(T).
///
/// W(y) = sum_t |rho_t - 1| w_t,  w_t = min(1, (T-t) eps, sqrt((T-t) delta/2)),  Z(T) = sum_t w_t, t = 1..T.
/// Source: arXiv 2512.23075, appendix.
///
/// Guarantee: with eps, delta over all contexts, |J(pi) - J(mu) - L| <= lead(s) E_mu[W(y)] (2 E[W] with the paper's
/// constants on [0,1], half of that centred), the expectation over all responses. The kept ones contribute at most
/// lead(s) * threshold * Z(T) of it, whatever their lengths; what the rejected ones contribute is not bounded by the
/// threshold. With eps, delta from a batch it is an indication.
///
/// T is the horizon, fixed before sampling: taking a response's own length instead would let w_t depend on the future
/// and void the guarantee. w falls with t, so a token counts by where it stands in the response: a rank that holds a
/// piece of a sequence passes the piece's first position. W is then a sum over pieces (all-reduce with +), in any order
/// up to double rounding; permuting tokens without their positions changes it. The last position has weight 0.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// What the weights depend on. Neither eps nor delta known: w_t = 1 except at the end.
struct length_neutral {
    std::int64_t horizon = 0;
    std::optional<double> eps{};
    std::optional<double> delta{};

    /// w at a position counted from 0; 0 at and beyond the last.
    [[nodiscard]] double weight(std::int64_t position) const noexcept {
        return detail::future_tv(static_cast<double>(horizon - 1 - position), eps, delta);
    }
    /// Z(T), in constant time.
    [[nodiscard]] double budget() const noexcept { return detail::sum_future_tv(horizon, eps, delta); }
};

/// W of a sequence or of a piece of one. Pieces add up; `finite` is false if a sampled log-ratio was not finite.
struct length_neutral_sum {
    double value = 0.0;
    bool finite = true;

    void merge(const length_neutral_sum& o) noexcept {
        value += o.value;
        finite = finite && o.finite;
    }
};

/// W over a piece whose first token stands at `first` (from 0). `loss_mask` is empty or as long as `log_ratio`; slots
/// with 0 are not read. One expm1 and one sqrt a token.
template <arithmetic_type F>
[[nodiscard]] length_neutral_sum weigh(const length_neutral& rule, std::span<const F> log_ratio,
                                       std::span<const std::uint8_t> loss_mask = {}, std::int64_t first = 0) noexcept {
    length_neutral_sum sum;
    for (std::size_t i = 0; i < log_ratio.size(); ++i) {
        if (!loss_mask.empty() && loss_mask[i] == 0) continue;
        const auto x = static_cast<double>(log_ratio[i]);
        if (!detail::finite(x)) {
            sum.finite = false;
            continue;
        }
        const double step = std::expm1(std::clamp(x, -detail::log_limit, detail::log_limit));
        sum.value += std::fabs(step) * rule.weight(first + static_cast<std::int64_t>(i));
    }
    return sum;
}

/// The decision. A sum with a non-finite log-ratio, or a NaN anywhere, rejects.
[[nodiscard]] inline bool keep(const length_neutral& rule, const length_neutral_sum& w, double threshold) noexcept {
    return w.finite && detail::known(w.value) && detail::known(threshold) && w.value <= threshold * rule.budget();
}

/// The bound on the error from the mean of W over all responses.
[[nodiscard]] inline double length_neutral_bound(double mean_w, scale s = {}) noexcept {
    return detail::known(mean_w) ? detail::scaled(s, mean_w) : detail::largest;
}

/// W and decision for a ragged batch; `w` and `kept` are empty or hold one element a sequence. A sequence's own horizon,
/// where the batch gives one, replaces the rule's.
template <storage_type F>
[[nodiscard]] status decide(const trajectories<F>& b, const length_neutral& rule, double threshold, std::span<double> w,
                            std::span<std::uint8_t> kept) noexcept {
    if (const status s = check(b); !s.ok()) return s;
    if (!detail::known(threshold)) return {errc::bad_threshold, -1, -1, "threshold"};
    if (!w.empty() && w.size() != b.size()) return {errc::size_mismatch, -1, -1, "w"};
    if (!kept.empty() && kept.size() != b.size()) return {errc::size_mismatch, -1, -1, "kept"};
    for (std::size_t i = 0; i < b.size(); ++i) {
        length_neutral own = rule;
        if (!b.horizons.empty()) own.horizon = b.horizons[i];
        const auto first = b.first(i);
        length_neutral_sum sum;
        for (std::size_t t = first; t < first + b.length(i); ++t) {
            if (!b.sampled(t)) continue;
            const double x = b.ratio(t);
            sum.merge(bounds::weigh(own, std::span<const double>(&x, 1), {}, static_cast<std::int64_t>(t - first)));
        }
        if (!w.empty()) w[i] = sum.value;
        if (!kept.empty()) kept[i] = keep(own, sum, threshold) ? 1 : 0;
    }
    return {};
}

}  // namespace bounds
TRM_NAMESPACE_END
