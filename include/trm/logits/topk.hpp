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
///
/// Lists are taken as inference servers write them: in any order, the sampled token first and again among the k, -inf for
/// tokens that top-p removed. The bounds hold for log-probs of one softmax at each side: what contradicts that is refused.

TRM_NAMESPACE_BEGIN

struct partition_bounds {
    double kl_mu_pi = 0.0, kl_pi_mu = 0.0, tv = 0.0;
};

namespace logits_detail {

/// Log-probs stored as bf16 may sum to a little more than 1.
inline constexpr double most_mass = 1.02;
/// How far two log-probs of one token in one list may be apart.
[[nodiscard]] inline bool same_logp(double a, double b) noexcept {
    return a == b || is_nan(a) || is_nan(b) || std::fabs(a - b) <= 0x1p-8 * (1.0 + std::fabs(a));
}

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
    /// Is it no partition: more than probability 1 in the list?
    [[nodiscard]] bool overfull() const noexcept { return mu_mass > most_mass || pi_mass > most_mass; }
    /// The least of s log(s / t) for s within `noise` of p and t within `noise` of q.
    [[nodiscard]] static double least(double p, double q, double noise) noexcept {
        double const t = q + noise, from = p > noise ? p - noise : 0.0, to = p + noise;
        double const bottom = t / 2.718281828459045;  // of the convex function of s
        double const s = bottom < from ? from : bottom > to ? to : bottom;
        return s > 0.0 ? s * std::log(s / t) : 0.0;
    }
    /// Masses are 1 minus a sum of rounded probabilities: `noise` decides towards the smaller divergence.
    [[nodiscard]] partition_bounds finish(double noise) const noexcept {
        double const p = mu_mass < 1.0 ? 1.0 - mu_mass : 0.0, q = pi_mass < 1.0 ? 1.0 - pi_mass : 0.0;
        double const forward = kl + least(p, q, noise), backward = reverse + least(q, p, noise);
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
/// listed token is possible under one policy only. NaN if the lists differ in length or one sums to more than probability 1, as
/// a list with a token twice may.
template <arithmetic_type T>
[[nodiscard]] partition_bounds partition_divergence(std::span<T const> mu_logp, std::span<T const> pi_logp) noexcept {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    if (mu_logp.size() != pi_logp.size()) return {nan, nan, nan};
    logits_detail::partition parts;
    for (std::size_t i = 0; i < mu_logp.size(); ++i)
        parts.add(static_cast<double>(mu_logp[i]), static_cast<double>(pi_logp[i]));
    return parts.overfull() ? partition_bounds{nan, nan, nan} : parts.finish(logits_detail::mass_noise<T>);
}

/// What is known about the two policies at each row. Row-major [rows, k]; ids < 0 are unused slots; an id that is listed again
/// counts once. `targets` is the sampled token, which joins the partition unless it is among the ids or negative; leave all
/// three target spans empty to do without.
template <arithmetic_type T>
struct topk_view {
    std::int64_t rows = 0;
    std::int64_t k = 0;
    stream_view<std::int32_t> ids{};  ///< the rollout's top-k
    stream_view<T> mu_logp{};  ///< stored by the rollout
    stream_view<T> pi_logp{};  ///< the current policy at the same ids: `gather_log_prob` or `linear_gather`
    stream_view<std::int32_t> targets{};
    stream_view<T> mu_target_logp{};
    stream_view<T> pi_target_logp{};
    std::uint8_t const* row_mask = nullptr;  ///< rows with 0 are not read, their results are 0
};

/// Where `topk_divergence` writes; every span is empty or has one element per row.
template <arithmetic_type T>
struct topk_out {
    std::span<T> kl_mu_pi{}, kl_pi_mu{}, tv{};
};

namespace logits_detail {

/// The first slot in [first, end) that lists an id, or `end`.
template <arithmetic_type T>
[[nodiscard]] std::size_t slot_of(topk_view<T> const& v, std::size_t first, std::size_t end, std::int32_t id) noexcept {
    while (first < end && v.ids[first] != id) ++first;
    return first;
}
/// The partition of one row, or why there is none.
template <arithmetic_type T>
[[nodiscard]] status partition_of(topk_view<T> const& v, std::size_t r, partition& parts) noexcept {
    constexpr char const* twice = "top-k: one id with two log-probs";
    auto const first = r * static_cast<std::size_t>(v.k), end = first + static_cast<std::size_t>(v.k);
    auto const at = [](std::span<T const> s, std::size_t i) { return static_cast<double>(s[i]); };
    for (std::size_t i = first; i < end; ++i) {
        if (v.ids[i] < 0) continue;
        std::size_t const j = slot_of(v, first, i, v.ids[i]);
        if (j == i) parts.add(at(v.mu_logp, i), at(v.pi_logp, i));
        else if (!same_logp(at(v.mu_logp, i), at(v.mu_logp, j)) || !same_logp(at(v.pi_logp, i), at(v.pi_logp, j)))
            return {errc::bad_layout, -1, static_cast<std::int64_t>(r), twice};
    }
    if (!v.targets.empty() && v.targets[r] >= 0) {
        std::size_t const j = slot_of(v, first, end, v.targets[r]);
        if (j == end) parts.add(at(v.mu_target_logp, r), at(v.pi_target_logp, r));
        else if (!same_logp(at(v.mu_target_logp, r), at(v.mu_logp, j)) ||
                 !same_logp(at(v.pi_target_logp, r), at(v.pi_logp, j)))
            return {errc::bad_layout, -1, static_cast<std::int64_t>(r), twice};
    }
    if (parts.overfull())
        return {errc::bad_layout, -1, static_cast<std::int64_t>(r), "top-k: probabilities sum to more than 1"};
    return {};
}

}  // namespace logits_detail

/// Lower bounds of KL and TV per row, see the top of this file: never above the exact divergence by more than what the rounding
/// of the log-probs does to it (1e-12 (1 + value) for f64, 2e-6 (1 + value) for f32). Some k exponentials, k^2 / 2 comparisons of
/// ids and no vocabulary-sized work. NaN among the log-probs of a row gives NaN.
/// Errors, before anything is written: size_mismatch; bad_layout, whose token names the row, if an id is listed twice with
/// different log-probs (by more than 0.004 (1 + |log p|), the rounding of bf16) or probabilities sum to more than 1.02.
template <arithmetic_type T>
[[nodiscard]] status topk_divergence(topk_view<T> const& v, topk_out<T> const& out) noexcept {
    namespace d = logits_detail;
    if (v.rows < 0 || v.k < 0 || !d::fits(v.rows, v.k)) return {errc::bad_layout, -1, -1, "top-k: rows or k"};
    auto const cells = static_cast<std::size_t>(v.rows * v.k);
    if (v.ids.size() != cells || v.mu_logp.size() != cells || v.pi_logp.size() != cells)
        return {errc::size_mismatch, -1, -1, "top-k"};
    if (status s = d::check_span(v.targets, v.rows, "targets"); !s.ok()) return s;
    if (v.mu_target_logp.size() != v.targets.size() || v.pi_target_logp.size() != v.targets.size())
        return {errc::size_mismatch, -1, -1, "target log-probs"};
    if (status s = d::check_span(out.kl_mu_pi, v.rows, "kl_mu_pi"); !s.ok()) return s;
    if (status s = d::check_span(out.kl_pi_mu, v.rows, "kl_pi_mu"); !s.ok()) return s;
    if (status s = d::check_span(out.tv, v.rows, "tv"); !s.ok()) return s;
    auto const rows = static_cast<std::size_t>(v.rows);
    auto const kept = [&](std::size_t r) { return v.row_mask == nullptr || v.row_mask[r] != 0; };
    for (std::size_t r = 0; r < rows; ++r) {
        d::partition parts;
        if (!kept(r)) continue;
        if (status s = d::partition_of(v, r, parts); !s.ok()) return s;
    }
    if (out.kl_mu_pi.empty() && out.kl_pi_mu.empty() && out.tv.empty()) return {};
    for (std::size_t r = 0; r < rows; ++r) {
        partition_bounds b;
        d::partition parts;
        if (kept(r) && d::partition_of(v, r, parts).ok()) b = parts.finish(d::mass_noise<T>);
        if (!out.kl_mu_pi.empty()) out.kl_mu_pi[r] = static_cast<T>(b.kl_mu_pi);
        if (!out.kl_pi_mu.empty()) out.kl_pi_mu[r] = static_cast<T>(b.kl_pi_mu);
        if (!out.tv.empty()) out.tv[r] = static_cast<T>(b.tv);
    }
    return {};
}

/// log p of stored ids, [rows, per_row], from logits and their logsumexp, never above 0. Ids < 0 or outside vocab_mask give -inf.
/// Errors, before anything is written: those of `log_prob`; bad_layout also for an id of a kept row outside the vocabulary.
template <class S, arithmetic_type T>
[[nodiscard]] status gather_log_prob(logits_view<S> const& v, std::span<std::int32_t const> ids, std::int64_t per_row,
                                     std::span<double const> logsumexp, std::span<T> out) noexcept {
    namespace d = logits_detail;
    if (status s = d::check_view(v); !s.ok()) return s;
    if (per_row < 0 || !d::fits(v.rows, per_row)) return {errc::bad_layout, -1, -1, "ids: per_row"};
    auto const cells = static_cast<std::size_t>(v.rows * per_row);
    if (ids.size() != cells || out.size() != cells) return {errc::size_mismatch, -1, -1, "ids"};
    if (logsumexp.size() != static_cast<std::size_t>(v.rows)) return {errc::size_mismatch, -1, -1, "logsumexp"};
    for (std::int64_t k = 0; k < v.rows * per_row; ++k)
        if (ids[static_cast<std::size_t>(k)] >= v.vocab && v.kept(k / per_row))
            return {errc::bad_layout, -1, k / per_row, "ids: outside the vocabulary"};
    for (std::int64_t r = 0; r < v.rows; ++r) {
        std::uint8_t const* const mask = v.mask_row(r);
        for (std::int64_t k = r * per_row; k < (r + 1) * per_row; ++k) {
            std::int64_t const id = ids[static_cast<std::size_t>(k)];
            T& to = out[static_cast<std::size_t>(k)];
            if (!v.kept(r)) {
                to = T(0);
                continue;
            }
            double z = -std::numeric_limits<double>::infinity();
            if (id >= 0 && (mask == nullptr || mask[id] != 0)) {
                double const x = d::to_double(v.row(r)[id]);
                if (!(x <= static_cast<double>(d::nothing<float>))) z = x / v.temperature;
            }
            double const lp = z - logsumexp[static_cast<std::size_t>(r)];
            to = lp > 0.0 ? T(0) : static_cast<T>(lp);
        }
    }
    return {};
}

TRM_NAMESPACE_END
