// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/policy/token.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

TRM_NAMESPACE_BEGIN

/// Quantiles of log-ratios x (nats), mergeable over threads, micro-batches and ranks: counts in bins that are equal steps of
/// log2 |x|, 16 to an octave from 2^-24 to 2^5, for each sign; smaller |x| share the bin of 0. A quantile is off by at most
/// 2.2% of x. Counts are exact below 2^53.
struct log_ratio_quantiles {
    static constexpr int per_octave = 16, octaves = 29, side = per_octave * octaves;
    std::array<double, 2 * side + 1> counts{};  ///< negative x from large to small, 0, positive x from small to large

    void add(double x, double n = 1) noexcept { counts[static_cast<std::size_t>(bin(x))] += n; }
    void merge(log_ratio_quantiles const& o) noexcept {
        for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += o.counts[i];
    }
    [[nodiscard]] double size() const noexcept {
        double n = 0;
        for (double c : counts) n += c;
        return n;
    }
    /// The log-ratio of rank ceil(q n), at least 1; 0 when empty. exp of it is the quantile of the ratio.
    [[nodiscard]] double log_ratio(double q) const noexcept {
        double const rank = (std::max)(1.0, std::ceil(q * size()));
        double below = 0;
        for (int i = 0; i < 2 * side + 1; ++i) {
            below += counts[static_cast<std::size_t>(i)];
            if (below >= rank) return middle(i - side);
        }
        return 0;
    }
    [[nodiscard]] double ratio(double q) const noexcept { return std::exp(log_ratio(q)); }

private:
    static int bin(double x) noexcept {
        double const magnitude = std::fabs(x);
        if (magnitude < 0x1p-24) return side;
        int const step = static_cast<int>(std::floor((std::log2(magnitude) + 24) * per_octave)) + 1;
        int const s = (std::min)(step, side);
        return x < 0 ? side - s : side + s;
    }
    static double middle(int signed_step) noexcept {
        if (signed_step == 0) return 0;
        double const m = std::exp2((std::abs(signed_step) - 0.5) / per_octave - 24);
        return signed_step < 0 ? -m : m;
    }
};

/// Quantiles of the chosen log-ratio over the loss_mask tokens of a batch whose two log-probabilities are finite. One pass of
/// its own, about 10 ns a token: for reports, not for every step. A stream that the ratio needs and the batch lacks is an
/// error; on error `out` is untouched.
template <storage_type S>
[[nodiscard]] status measure_quantiles(batch_view<S> const& batch, ratio_kind kind, log_ratio_quantiles& out) noexcept {
    if (status s = batch.layout.validate(); !s.ok()) return s;
    ratio_kind const k = resolve(kind, !batch.proximal_logp.empty());
    auto const target = k == ratio_kind::proximal_over_rollout ? batch.proximal_logp : batch.logp;
    auto const behaviour = k == ratio_kind::current_over_proximal ? batch.proximal_logp : batch.rollout_logp;
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    if (target.size() < extent || behaviour.size() < extent) return {errc::missing_stream, -1, -1, "log-probabilities"};
    if (!batch.loss_mask.empty())
        if (status s = detail::check_extent("loss_mask", extent, batch.loss_mask.size()); !s.ok()) return s;
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        token_run const run = batch.layout.run(i);
        for (std::int64_t t = run.begin; t < run.begin + run.size; ++t) {
            auto const at = static_cast<std::size_t>(t);
            if (!batch.loss_mask.empty() && batch.loss_mask[at] == 0) continue;
            using U = storage_t<S>;
            auto const p = static_cast<double>(to_float(reinterpret_cast<U const*>(target.data())[at]));
            auto const q = static_cast<double>(to_float(reinterpret_cast<U const*>(behaviour.data())[at]));
            if (is_finite(p) && is_finite(q)) out.add(p - q);
        }
    }
    return {};
}

TRM_NAMESPACE_END
