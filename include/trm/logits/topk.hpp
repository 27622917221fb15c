// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/log_prob.hpp>

/// \file
/// Divergence bounds from what a rollout engine stores: the log-probs of its k most likely tokens and of the sampled token.
/// Everything else is one bucket. Coarsening never increases KL or TV (data processing inequality), so these are lower
/// bounds of the exact divergences: a mask built on them can miss, never reject what the exact one keeps. With k = 0
/// (sampled token against the rest) they are the binary KL and TV of DPPO; with k > 0 and the sampled token among the ids its
/// top-k divergence (DPPO puts a sampled token that is missing in the place of the last one; given as `targets` it joins the
/// list instead, which bounds more); with k = vocab they are exact.

TRM_NAMESPACE_BEGIN

struct partition_bounds {
    double kl_mu_pi = 0.0, kl_pi_mu = 0.0, tv = 0.0;
};

namespace logits_detail {

/// Adds the parts of a partition; what they leave over is the rest bucket.
struct partition {
    double kl = 0.0, reverse = 0.0, distance = 0.0, mu_mass = 0.0, pi_mass = 0.0;

    void add(double mu_logp, double pi_logp) noexcept {
        double const p = std::exp(mu_logp), q = std::exp(pi_logp);
        if (!(p == 0.0)) kl += p * (mu_logp - pi_logp);
        if (!(q == 0.0)) reverse += q * (pi_logp - mu_logp);
        distance += std::fabs(p - q);
        mu_mass += p;
        pi_mass += q;
    }
    /// Masses are 1 minus a sum of rounded probabilities: `noise` decides towards the smaller divergence.
    [[nodiscard]] partition_bounds finish(double noise) const noexcept {
        double const p = mu_mass < 1.0 ? 1.0 - mu_mass : 0.0, q = pi_mass < 1.0 ? 1.0 - pi_mass : 0.0;
        double const forward = kl + (p > noise ? p * std::log(p / (q + noise)) : 0.0);
        double const backward = reverse + (q > noise ? q * std::log(q / (p + noise)) : 0.0);
        double const tv = 0.5 * (distance + std::fabs(p - q));
        auto const clip = [](double v) { return v < 0.0 ? 0.0 : v; };
        if (is_nan(mu_mass + pi_mass)) return {mu_mass + pi_mass, mu_mass + pi_mass, mu_mass + pi_mass};
        return {clip(forward), clip(backward), tv > 1.0 ? 1.0 : tv};
    }
};

/// Probabilities rebuilt from rounded logarithms are known to about this much.
template <class T>
inline constexpr double mass_noise = sizeof(T) == 8 ? 0x1p-44 : 0x1p-20;

}  // namespace logits_detail

/// One token: `mu_logp` and `pi_logp` list the log-probs of the same distinct tokens under both policies. KL is inf where a
/// listed token is possible under one policy only.
template <arithmetic_type T>
[[nodiscard]] partition_bounds partition_divergence(std::span<T const> mu_logp, std::span<T const> pi_logp) noexcept {
    logits_detail::partition parts;
    for (std::size_t i = 0; i < mu_logp.size() && i < pi_logp.size(); ++i)
        parts.add(static_cast<double>(mu_logp[i]), static_cast<double>(pi_logp[i]));
    return parts.finish(logits_detail::mass_noise<T>);
}

/// What is known about the two policies at each row. Row-major [rows, k]; ids < 0 are unused slots. `targets` is the
/// sampled token, which joins the partition unless it is among the ids; leave all three target spans empty to do without.
template <arithmetic_type T>
struct topk_view {
    std::int64_t rows = 0;
    std::int64_t k = 0;
    std::span<std::int32_t const> ids{};  ///< the rollout's top-k
    std::span<T const> mu_logp{};  ///< stored by the rollout
    std::span<T const> pi_logp{};  ///< the current policy at the same ids: `gather_log_prob` or `linear_gather`
    std::span<std::int32_t const> targets{};
    std::span<T const> mu_target_logp{};
    std::span<T const> pi_target_logp{};
    std::uint8_t const* row_mask = nullptr;  ///< rows with 0 are not read, their results are 0
};

/// Where `topk_divergence` writes; every span is empty or has one element per row.
template <arithmetic_type T>
struct topk_out {
    std::span<T> kl_mu_pi{}, kl_pi_mu{}, tv{};
};

/// Lower bounds of KL and TV per row, see the top of this file. Some k exponentials and no vocabulary-sized work. Errors:
/// size_mismatch.
template <arithmetic_type T>
status topk_divergence(topk_view<T> const& v, topk_out<T> const& out) noexcept {
    namespace d = logits_detail;
    auto const cells = static_cast<std::size_t>(v.rows * v.k);
    if (v.rows < 0 || v.k < 0 || v.ids.size() != cells || v.mu_logp.size() != cells || v.pi_logp.size() != cells)
        return {errc::size_mismatch, -1, -1, "top-k"};
    if (status s = d::check_span(v.targets, v.rows, "targets"); !s.ok()) return s;
    if (v.mu_target_logp.size() != v.targets.size() || v.pi_target_logp.size() != v.targets.size())
        return {errc::size_mismatch, -1, -1, "target log-probs"};
    if (status s = d::check_span(out.kl_mu_pi, v.rows, "kl_mu_pi"); !s.ok()) return s;
    if (status s = d::check_span(out.kl_pi_mu, v.rows, "kl_pi_mu"); !s.ok()) return s;
    if (status s = d::check_span(out.tv, v.rows, "tv"); !s.ok()) return s;
    for (std::size_t r = 0; r < static_cast<std::size_t>(v.rows); ++r) {
        partition_bounds b;
        if (v.row_mask == nullptr || v.row_mask[r] != 0) {
            d::partition parts;
            bool alone = !v.targets.empty();
            for (std::size_t i = r * static_cast<std::size_t>(v.k); i < (r + 1) * static_cast<std::size_t>(v.k); ++i) {
                if (v.ids[i] < 0) continue;
                parts.add(static_cast<double>(v.mu_logp[i]), static_cast<double>(v.pi_logp[i]));
                if (alone && v.ids[i] == v.targets[r]) alone = false;
            }
            if (alone) parts.add(static_cast<double>(v.mu_target_logp[r]), static_cast<double>(v.pi_target_logp[r]));
            b = parts.finish(d::mass_noise<T>);
        }
        if (!out.kl_mu_pi.empty()) out.kl_mu_pi[r] = static_cast<T>(b.kl_mu_pi);
        if (!out.kl_pi_mu.empty()) out.kl_pi_mu[r] = static_cast<T>(b.kl_pi_mu);
        if (!out.tv.empty()) out.tv[r] = static_cast<T>(b.tv);
    }
    return {};
}

/// log p of stored ids, [rows, per_row], from logits and their logsumexp. Ids < 0 or outside vocab_mask give -inf.
template <class S, arithmetic_type T>
status gather_log_prob(logits_view<S> const& v, std::span<std::int32_t const> ids, std::int64_t per_row,
                       std::span<double const> logsumexp, std::span<T> out) noexcept {
    namespace d = logits_detail;
    if (status s = d::check_view(v); !s.ok()) return s;
    auto const cells = static_cast<std::size_t>(v.rows * per_row);
    if (per_row < 0 || ids.size() != cells || out.size() != cells) return {errc::size_mismatch, -1, -1, "ids"};
    if (logsumexp.size() != static_cast<std::size_t>(v.rows)) return {errc::size_mismatch, -1, -1, "logsumexp"};
    for (std::int64_t r = 0; r < v.rows; ++r) {
        std::uint8_t const* const mask = v.mask_row(r);
        for (std::int64_t k = r * per_row; k < (r + 1) * per_row; ++k) {
            std::int64_t const id = ids[static_cast<std::size_t>(k)];
            T& to = out[static_cast<std::size_t>(k)];
            if (!v.kept(r)) {
                to = T(0);
                continue;
            }
            if (id >= v.vocab) return {errc::bad_layout, -1, r, "ids: outside the vocabulary"};
            double z = -std::numeric_limits<double>::infinity();
            if (id >= 0 && (mask == nullptr || mask[id] != 0)) {
                double const x = static_cast<double>(to_float(std::bit_cast<storage_t<S>>(v.row(r)[id])));
                if (!(x <= static_cast<double>(d::nothing<float>))) z = x / v.temperature;
            }
            to = static_cast<T>(z - logsumexp[static_cast<std::size_t>(r)]);
        }
    }
    return {};
}

TRM_NAMESPACE_END
