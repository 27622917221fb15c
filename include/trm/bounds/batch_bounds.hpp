// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/evidence.hpp>
#include <trm/bounds/paper.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// \file
/// The paper's bounds fed from a batch: means where they want means, the batch's maximum where they want a maximum over
/// all contexts. Indications, not guarantees.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// What a batch says about the divergences the paper's bounds need.
struct batch_divergences {
    std::int64_t horizon = 0;  ///< largest
    bool horizons_differ = false;  ///< prompts have horizons of their own
    double delta = 0.0;  ///< largest KL seen: exact, or the largest k3
    std::optional<double> eps{};  ///< largest exact TV seen
    double seq_kl = 0.0;  ///< mean of the sequence KL
    std::optional<double> seq_tv{};  ///< E|prod rho - 1| / 2, at most 1
    std::vector<double> mean_tv{};  ///< per position: exact TV, or half of |rho - 1|
    bool from_sampled_tokens = false;  ///< delta is a k3 maximum: a detector
};

[[nodiscard]] inline batch_divergences measure(const evidence& e, std::int64_t horizon = 0) {
    batch_divergences d;
    d.from_sampled_tokens = !e.has_exact_kl();
    double n = 0.0;
    double eps = 0.0;
    double distance = 0.0;
    std::int64_t longest = 0;
    std::int64_t first = -1;
    for (const sequence_record& r : e.sequences) {
        n += r.weight;
        d.delta = (std::max)(d.delta, r.max_kl);
        eps = (std::max)(eps, r.max_tv);
        d.seq_kl += r.weight * r.kl;
        distance += r.weight * 0.5 * std::fabs(r.first_order + r.excess);
        longest = (std::max)({longest, r.length, r.horizon});
        d.horizons_differ = d.horizons_differ || (first >= 0 && r.horizon != first);
        first = r.horizon;
    }
    d.horizon = horizon > 0 ? (std::max)(horizon, longest) : longest;
    if (!(n > 0.0)) return d;
    d.seq_kl /= n;
    d.seq_tv = (std::min)(distance / n, 1.0);
    if (e.has_exact_tv()) d.eps = eps;
    for (const position_sums& p : e.totals()) {
        d.mean_tv.push_back((e.has_exact_tv() ? p.tv : 0.5 * p.magnitude) / n);
    }
    return d;
}

/// Every bound of the paper that applies. Prompts with horizons of their own enter each with its own: the error is a
/// mean over prompts, and so is the bound. (Adaptive then uses the largest horizon, which can only loosen it;
/// `adaptive_of` is exact there.)
[[nodiscard]] inline bound_table batch_bounds(const evidence& e, const batch_divergences& d, scale s = {}) noexcept {
    divergences in{d.horizon, d.eps, d.delta, d.seq_kl, d.seq_tv, d.mean_tv};
    bound_table out = all_bounds(in, s);
    if (!d.horizons_differ) return out;
    bound_table mean;
    double n = 0.0;
    in.mean_tv = {};
    for (const sequence_record& r : e.sequences) {
        in.horizon = r.horizon > 0 ? (std::max)(r.horizon, r.length) : d.horizon;
        const bound_table one = all_bounds(in, s);
        n += r.weight;
        for (std::size_t i = 0; i < bound_count; ++i) {
            if (one.value[i]) mean.value[i] = mean.value[i].value_or(0.0) + r.weight * *one.value[i];
        }
    }
    out.binding.reset();
    for (std::size_t i = 0; i < bound_count; ++i) {
        if (mean.value[i] && static_cast<bound_name>(i) != bound_name::adaptive) out.value[i] = *mean.value[i] / n;
        if (out.value[i] && (!out.binding || *out.value[i] < out.unified())) out.binding = static_cast<bound_name>(i);
    }
    return out;
}

/// Adaptive on a ragged batch, each sequence with its own horizon (its length where `horizons` is empty and `horizon`
/// is 0): 2 lead(s) / n * sum over sequences and positions of TV_t min(1, (T_i - t) eps, sqrt((T_i - t) delta / 2)), TV
/// exact where given and |rho - 1| / 2 elsewhere. One pass, no allocation. The sequence excluded by a non-finite value
/// is left out of n. Returns the largest finite double on misuse (see `check`) or if nothing is left.
template <storage_type F>
[[nodiscard]] double adaptive_of(const trajectories<F>& b, std::optional<double> eps, std::optional<double> delta,
                                 std::int64_t horizon = 0, scale s = {}) noexcept {
    if (!check(b).ok()) return detail::largest;
    double sum = 0.0;
    double n = 0.0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        const auto first = b.first(i);
        const auto last = first + b.length(i);
        if (!detail::usable(b, i, first, last)) continue;
        const double weight = b.weights.empty() ? 1.0 : b.weights[i];
        const auto length = static_cast<std::int64_t>(last - first);
        const std::int64_t own = (std::max)(length, b.horizons.empty() ? horizon : b.horizons[i]);
        n += weight;
        for (std::size_t t = first; t < last; ++t) {
            if (!b.sampled(t)) continue;
            const double x = std::clamp(b.ratio(t), -detail::log_limit, detail::log_limit);
            const double tv = b.tv.empty() ? 0.5 * std::fabs(std::expm1(x)) : static_cast<double>(b.tv[t]);
            const auto left = static_cast<double>(own - 1 - static_cast<std::int64_t>(t - first));
            sum += weight * tv * detail::future_tv(left, eps, delta);
        }
    }
    return n > 0.0 ? detail::scaled(s, 2.0 * sum / n) : detail::largest;
}

}  // namespace bounds
TRM_NAMESPACE_END
