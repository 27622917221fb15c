// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/scale.hpp>
#include <trm/core/batch_view.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

/// \file
/// A ragged batch of sampled responses, as the bounds read it: non-owning, in any storage type.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// Sequences are where the layout says, `packed` or `padded` (`segments` is unsupported: gather a sequence's pieces
/// first, its tokens' positions matter). Give either `log_ratio` or both log-probabilities; every other stream may be
/// empty. Slots with loss_mask 0 count as positions but have rho = 1 and KL = TV = 0, and their content is never read
/// into arithmetic.
template <storage_type F>
struct trajectories {
    using real = default_arithmetic_t<F>;

    layout_view layout{};
    stream_view<F> log_ratio{};             ///< [tokens] log pi - log mu, nats
    stream_view<F> logp{};                  ///< [tokens] log pi, if log_ratio is empty
    stream_view<F> rollout_logp{};          ///< [tokens] log mu, if log_ratio is empty
    stream_view<real> kl{};                 ///< [tokens] exact KL(mu || pi) at the position, nats
    stream_view<real> tv{};                 ///< [tokens] exact TV at the position
    stream_view<std::uint8_t> loss_mask{};  ///< [tokens] non-zero: sampled by the policy; empty: all
    stream_view<double> rewards{};          ///< [n]
    stream_view<std::int64_t> groups{};  ///< [n] prompt id, the same on every rank; negative or empty: a group of
        ///< its own
    stream_view<std::int64_t> horizons{};  ///< [n] most tokens a response to this prompt may have
    stream_view<double> weights{};  ///< [n] > 0, probability or count of the sequence; empty: 1

    [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(layout.sequences()); }
    [[nodiscard]] std::size_t tokens() const noexcept { return static_cast<std::size_t>(layout.extent()); }
    [[nodiscard]] std::size_t first(std::size_t i) const noexcept {
        return static_cast<std::size_t>(layout.run(static_cast<std::int64_t>(i)).begin);
    }
    [[nodiscard]] std::size_t length(std::size_t i) const noexcept {
        return static_cast<std::size_t>(layout.run(static_cast<std::int64_t>(i)).size);
    }
    [[nodiscard]] bool sampled(std::size_t token) const noexcept { return loss_mask.empty() || loss_mask[token] != 0; }
    [[nodiscard]] double ratio(std::size_t token) const noexcept {
        if (!log_ratio.empty()) return widen(log_ratio[token]);
        return widen(logp[token]) - widen(rollout_logp[token]);
    }

private:
    [[nodiscard]] static double widen(const F& x) noexcept {
        return static_cast<double>(to_float(std::bit_cast<storage_t<F>>(x)));
    }
};

/// The streams a `batch_view` shares with a certificate; add rewards, groups and exact divergences as you have them.
template <storage_type F>
[[nodiscard]] trajectories<F> trajectories_of(const batch_view<F>& b) noexcept {
    trajectories<F> t;
    t.layout = b.layout;
    t.logp = b.logp;
    t.rollout_logp = b.rollout_logp;
    t.loss_mask = b.loss_mask;
    return t;
}

/// Sizes and layout; values are not inspected.
template <storage_type F>
[[nodiscard]] status check(const trajectories<F>& t) noexcept {
    const auto bad = [](errc code, const char* what) { return status{code, -1, -1, what}; };
    if (const status s = t.layout.validate(); !s.ok()) return s;
    if (t.layout.is_segments()) return bad(errc::unsupported, "segments");
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

/// e^x - 1 and k3(x) = e^x - 1 - x, neither with cancellation: below |x| = 1/4 the series of k3 is good to 4e-16 and
/// x + k3 gives the other; above, expm1 and a subtraction lose two bits at most. k3 of a log-ratio sampled from mu is an
/// unbiased, non-negative estimate of KL(mu || pi).
struct ratio_step {
    double step = 0.0;
    double k3 = 0.0;
};

[[nodiscard]] inline ratio_step step_of(double x) noexcept {
    if (std::fabs(x) >= 0.25) {
        const double step = std::expm1(x);
        return {step, step - x};
    }
    constexpr double inverse[] = {1.0 / 13, 1.0 / 12, 1.0 / 11, 1.0 / 10, 1.0 / 9, 1.0 / 8,
                                  1.0 / 7,  1.0 / 6,  1.0 / 5,  1.0 / 4,  1.0 / 3};
    double s = 1.0;  // 1 + x/3 (1 + x/4 (1 + ... (1 + x/13)))
    for (const double k : inverse) s = 1.0 + s * (x * k);
    const double k3 = 0.5 * x * x * s;
    return {x + k3, k3};
}

[[nodiscard]] inline double k3(double x) noexcept { return step_of(x).k3; }

/// Log-ratios beyond this are held there, so that sums of squared ratios stay finite; such a batch is never healthy.
inline constexpr double log_limit = 300.0;

}  // namespace detail
}  // namespace bounds
TRM_NAMESPACE_END
