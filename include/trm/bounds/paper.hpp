// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/sums.hpp>
#include <trm/core/stream_view.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// \file
/// Bounds on |J(pi) - J(mu) - L| from divergences between rollout policy mu and current policy pi.
///
/// eps = max over contexts of TV(mu, pi); delta = max over contexts of KL(mu || pi), nats; seq_kl = E_mu[sum_t KL_t];
/// seq_tv = TV between whole responses; mean_tv[t] = E_mu[TV at position t]. Formulas are printed with the paper's
/// constant 4 (R in [0,1]); `scale` turns it into 2 lead(s). All are non-decreasing in every argument. An argument that
/// is negative or not finite counts as unknown: it enters as its cap, or the result is the largest finite double where
/// the formula has no cap. A horizon below 1 gives 0. Constant time unless a span is passed.
/// Source: arXiv 2512.23075; centred constants: see bounds/README.md.

TRM_NAMESPACE_BEGIN
namespace bounds {

/// T (T-1) delta: TRPO's bound carried to sequences.
[[nodiscard]] inline double classical(std::int64_t horizon, double delta, scale s = {}) noexcept {
    if (horizon < 2) return 0.0;
    const double t = static_cast<double>(horizon);
    return detail::scaled(s, 0.5 * t * (t - 1.0) * detail::or_largest(delta));
}

/// 4 sum_{t=1}^{T} min(1, sqrt(delta/2)) min(1, sqrt((t-1) delta/2)).
[[nodiscard]] inline double pinsker_marginal(std::int64_t horizon, double delta, scale s = {}) noexcept {
    return detail::scaled(s, 2.0 * detail::pinsker(delta) * detail::sum_future_tv(horizon, std::nullopt, delta));
}

/// (4/3) T^{3/2} delta: the uncapped sum, rounded up to a formula. Never below `pinsker_marginal`.
[[nodiscard]] inline double pinsker_marginal_closed(std::int64_t horizon, double delta, scale s = {}) noexcept {
    if (horizon < 1) return 0.0;
    const double t = static_cast<double>(horizon);
    return detail::scaled(s, 2.0 / 3.0 * t * std::sqrt(t) * detail::or_largest(delta));
}

/// 4 T min(1, sqrt(delta/2)) min(1, sqrt(seq_kl/2)).
[[nodiscard]] inline double mixed_kl(std::int64_t horizon, double delta, double seq_kl, scale s = {}) noexcept {
    if (horizon < 1) return 0.0;
    return detail::scaled(s, 2.0 * static_cast<double>(horizon) * detail::pinsker(delta) * detail::pinsker(seq_kl));
}

/// 4 T min(1, eps) min(1, seq_tv).
[[nodiscard]] inline double mixed_tv(std::int64_t horizon, double eps, double seq_tv, scale s = {}) noexcept {
    if (horizon < 1) return 0.0;
    return detail::scaled(s, 2.0 * static_cast<double>(horizon) * detail::capped(eps) * detail::capped(seq_tv));
}

/// 4 sum_t min(1, eps) min(1, (t-1) eps).
[[nodiscard]] inline double coupling(std::int64_t horizon, double eps, scale s = {}) noexcept {
    return detail::scaled(s, 2.0 * detail::capped(eps) * detail::sum_future_tv(horizon, eps, std::nullopt));
}

/// 4 sum_t mean_tv[t] min(1, (T-t) eps, sqrt((T-t) delta/2)), t = 1..T, T = horizon, mean_tv[0] is position 1.
/// Positions past the end of the span have no divergence. Linear in the span's length.
[[nodiscard]] inline double adaptive(std::span<const double> mean_tv, std::int64_t horizon, std::optional<double> eps,
                                     std::optional<double> delta, scale s = {}) noexcept {
    double sum = 0.0;
    for (std::size_t t = 0; t < mean_tv.size(); ++t) {
        const double left = static_cast<double>(horizon - static_cast<std::int64_t>(t) - 1);
        if (left <= 0.0) break;
        sum += detail::capped(mean_tv[t]) * detail::future_tv(left, eps, delta);
    }
    return detail::scaled(s, 2.0 * sum);
}

/// The same with T = the span's length.
[[nodiscard]] inline double adaptive(std::span<const double> mean_tv, std::optional<double> eps,
                                     std::optional<double> delta, scale s = {}) noexcept {
    return bounds::adaptive(mean_tv, static_cast<std::int64_t>(mean_tv.size()), eps, delta, s);
}

/// The same with every mean_tv[t] <= tv: 4 min(1, tv) Z(T). Constant time.
[[nodiscard]] inline double adaptive_uniform(double tv, std::int64_t horizon, std::optional<double> eps,
                                             std::optional<double> delta, scale s = {}) noexcept {
    return detail::scaled(s, 2.0 * detail::capped(tv) * detail::sum_future_tv(horizon, eps, delta));
}

/// What is known about a pair of policies. Absent members rule out the bounds that need them.
struct divergences {
    std::int64_t horizon = 0;
    std::optional<double> eps{};
    std::optional<double> delta{};
    std::optional<double> seq_kl{};
    std::optional<double> seq_tv{};
    stream_view<double> mean_tv{};
};

enum class bound_name : std::uint8_t { classical, pinsker_marginal, mixed_kl, mixed_tv, coupling, adaptive };
inline constexpr std::size_t bound_count = 6;

/// Every bound that applies, and the smallest: the paper's Unified bound.
struct bound_table {
    std::array<std::optional<double>, bound_count> value{};
    std::optional<bound_name> binding{};

    [[nodiscard]] std::optional<double> operator[](bound_name n) const noexcept {
        return value[static_cast<std::size_t>(n)];
    }
    /// The Unified bound; the largest finite double if nothing applies.
    [[nodiscard]] double unified() const noexcept {
        return binding ? *value[static_cast<std::size_t>(*binding)] : detail::largest;
    }
};

/// All bounds at once. Where both are known, min(1, eps, sqrt(delta/2)) stands for a token's TV and
/// min(1, seq_tv, sqrt(seq_kl/2)) for the response's; without mean_tv, Adaptive takes the former for every position.
[[nodiscard]] inline bound_table all_bounds(const divergences& d, scale s = {}) noexcept {
    const auto usable = [](std::optional<double> x) { return x && detail::known(*x) ? x : std::nullopt; };
    const auto eps = usable(d.eps);
    const auto delta = usable(d.delta);
    const auto seq_kl = usable(d.seq_kl);
    const auto seq_tv = usable(d.seq_tv);
    const double token = std::fmin(eps ? detail::capped(*eps) : 1.0, delta ? detail::pinsker(*delta) : 1.0);
    const double response = std::fmin(seq_tv ? detail::capped(*seq_tv) : 1.0, seq_kl ? detail::pinsker(*seq_kl) : 1.0);

    bound_table out;
    const auto set = [&out](bound_name n, double v) {
        out.value[static_cast<std::size_t>(n)] = v;
        if (!out.binding || v < out.unified()) out.binding = n;
    };
    const bool token_known = eps || delta;
    if (token_known && !d.mean_tv.empty())
        set(bound_name::adaptive, bounds::adaptive(d.mean_tv, d.horizon, eps, delta, s));
    if (token_known && d.mean_tv.empty()) {
        set(bound_name::adaptive, bounds::adaptive_uniform(token, d.horizon, eps, delta, s));
    }
    if (delta) set(bound_name::classical, classical(d.horizon, *delta, s));
    if (delta) set(bound_name::pinsker_marginal, pinsker_marginal(d.horizon, *delta, s));
    if (token_known && seq_kl) set(bound_name::mixed_kl, mixed_tv(d.horizon, token, detail::pinsker(*seq_kl), s));
    if (token_known && seq_tv) set(bound_name::mixed_tv, mixed_tv(d.horizon, token, response, s));
    if (eps) set(bound_name::coupling, coupling(d.horizon, *eps, s));
    return out;
}

/// The minimum of all bounds that apply.
[[nodiscard]] inline double unified(const divergences& d, scale s = {}) noexcept { return all_bounds(d, s).unified(); }

[[nodiscard]] constexpr const char* to_string(bound_name n) noexcept {
    switch (n) {
        case bound_name::classical:
            return "classical";
        case bound_name::pinsker_marginal:
            return "Pinsker-Marginal";
        case bound_name::mixed_kl:
            return "Mixed (KL)";
        case bound_name::mixed_tv:
            return "Mixed (TV)";
        case bound_name::coupling:
            return "Coupling";
        case bound_name::adaptive:
            return "Adaptive";
    }
    return "?";
}

}  // namespace bounds
TRM_NAMESPACE_END
