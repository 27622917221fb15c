// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/scale.hpp>
#include <trm/core/status.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

/// \file
/// A ragged batch of sampled responses, as the bounds read it: non-owning, any float type that converts to double.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// Sequence i holds tokens offsets[i] .. offsets[i+1]. Give either `log_ratio` or both log-probabilities; every other
/// stream may be empty. Slots with loss_mask 0 count as positions but have rho = 1 and KL = TV = 0, and their content
/// is never read into arithmetic.
template <class F>
struct trajectories {
    std::span<const std::int64_t> offsets{};    ///< [n + 1], from 0, never decreasing
    std::span<const F> log_ratio{};             ///< [tokens] log pi - log mu, nats
    std::span<const F> logp{};                  ///< [tokens] log pi, if log_ratio is empty
    std::span<const F> rollout_logp{};          ///< [tokens] log mu, if log_ratio is empty
    std::span<const F> kl{};                    ///< [tokens] exact KL(mu || pi) at the position, nats
    std::span<const F> tv{};                    ///< [tokens] exact TV at the position
    std::span<const std::uint8_t> loss_mask{};  ///< [tokens] non-zero: sampled by the policy; empty: all
    std::span<const double> rewards{};          ///< [n]
    std::span<const std::int64_t> groups{};     ///< [n] prompt id; negative or empty: a group of its own
    std::span<const std::int64_t> horizons{};   ///< [n] most tokens a response to this prompt may have
    std::span<const double> weights{};          ///< [n] > 0, probability or count of the sequence; empty: 1

    [[nodiscard]] std::size_t size() const noexcept { return offsets.empty() ? 0 : offsets.size() - 1; }
    [[nodiscard]] std::size_t tokens() const noexcept {
        return offsets.empty() ? 0 : static_cast<std::size_t>(offsets.back());
    }
    [[nodiscard]] bool sampled(std::size_t token) const noexcept { return loss_mask.empty() || loss_mask[token] != 0; }
    [[nodiscard]] double ratio(std::size_t token) const noexcept {
        if (!log_ratio.empty()) return static_cast<double>(log_ratio[token]);
        return static_cast<double>(logp[token]) - static_cast<double>(rollout_logp[token]);
    }
};

/// Sizes and offsets. `sequence` names the first offender; values are not inspected.
template <class F>
[[nodiscard]] status check(const trajectories<F>& t) noexcept {
    const auto bad = [](errc code, const char* what, std::int64_t sequence = -1) {
        return status{code, sequence, -1, what};
    };
    if (t.offsets.empty()) return bad(errc::size_mismatch, "offsets");
    if (t.offsets[0] != 0) return bad(errc::decreasing_offsets, "offsets", 0);
    for (std::size_t i = 0; i < t.size(); ++i) {
        if (t.offsets[i + 1] < t.offsets[i]) {
            return bad(errc::decreasing_offsets, "offsets", static_cast<std::int64_t>(i));
        }
    }
    const std::size_t tokens = t.tokens();
    const auto wrong = [](auto stream, std::size_t n) { return !stream.empty() && stream.size() != n; };
    if (t.log_ratio.empty() && tokens > 0) {
        if (t.logp.empty() || t.rollout_logp.empty()) return bad(errc::missing_stream, "log_ratio");
        if (t.logp.size() != tokens) return bad(errc::size_mismatch, "logp");
        if (t.rollout_logp.size() != tokens) return bad(errc::size_mismatch, "rollout_logp");
    }
    if (wrong(t.log_ratio, tokens)) return bad(errc::size_mismatch, "log_ratio");
    if (wrong(t.kl, tokens)) return bad(errc::size_mismatch, "kl");
    if (wrong(t.tv, tokens)) return bad(errc::size_mismatch, "tv");
    if (wrong(t.loss_mask, tokens)) return bad(errc::size_mismatch, "loss_mask");
    if (wrong(t.rewards, t.size())) return bad(errc::size_mismatch, "rewards");
    if (wrong(t.groups, t.size())) return bad(errc::size_mismatch, "groups");
    if (wrong(t.horizons, t.size())) return bad(errc::size_mismatch, "horizons");
    if (wrong(t.weights, t.size())) return bad(errc::size_mismatch, "weights");
    return {};
}

namespace detail {

/// k3(x) = e^x - 1 - x without cancellation: the series below |x| = 1/4 leaves 2e-16 relative, expm1 the rest.
/// Unbiased for KL(mu || pi) when x is the log-ratio of a token drawn from mu; never negative.
[[nodiscard]] inline double k3(double x) noexcept {
    if (std::fabs(x) >= 0.25) return std::expm1(x) - x;
    double s = 0.0;
    for (double k = 14.0; k >= 3.0; k -= 1.0) s = (1.0 + s) * x / k;
    return 0.5 * x * x * (1.0 + s);
}

/// Log-ratios beyond this are held there, so that sums of squared ratios stay finite; such a batch is never healthy.
inline constexpr double log_limit = 300.0;

}  // namespace detail
}  // namespace bounds
TRM_NAMESPACE_END
