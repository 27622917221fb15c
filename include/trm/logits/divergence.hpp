// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_pair.hpp>

/// \file
/// Exact divergences over the whole vocabulary between the rollout policy mu and the current policy pi.

TRM_NAMESPACE_BEGIN

/// Where `exact_divergence` writes; every span is empty or has one element per row. Feed `kl_mu_pi` to the token
/// pipeline as its `given` divergence: that is the mask of arXiv 2512.23075.
template <arithmetic_type T>
struct divergence_out {
    std::span<T> kl_mu_pi{};  ///< KL(mu || pi) = sum_v mu_v log(mu_v / pi_v)
    std::span<T> kl_pi_mu{};
    std::span<T> tv{};  ///< 1/2 sum_v |mu_v - pi_v|, in [0, 1]
    std::span<double> mu_logsumexp{};
    std::span<double> pi_logsumexp{};
};

/// logsumexp of both rows, when `log_prob` has been there before: one read instead of two for TV. One element per row.
struct known_logsumexp {
    stream_view<double> mu{};
    stream_view<double> pi{};
};

namespace logits_detail {

/// All results of one pair of rows.
struct pair_result {
    double kl_mu_pi, kl_pi_mu, tv, mu_lse, pi_lse;
};

template <class V, class S1, class S2, class M1, class M2>
[[nodiscard]] pair_result row_divergence(logits_view<S1> const& mu, M1 mu_mask, logits_view<S2> const& pi, M2 pi_mask,
                                         std::int64_t r, bool tv) noexcept {
    divergence_partial const p =
        sum_pair<V>(mu.row(r), mu.temperature, mu_mask, pi.row(r), pi.temperature, pi_mask, mu.vocab);
    pair_result out{p.kl_mu_pi(), p.kl_pi_mu(), 0.0, p.mu_logsumexp(), p.pi_logsumexp()};
    if (is_nan(out.kl_mu_pi)) {
        out.tv = out.kl_mu_pi;
    } else if (tv) {
        double const v = sum_normalised<false, V>(mu.row(r), mu.temperature, out.mu_lse, mu_mask, pi.row(r),
                                                  pi.temperature, out.pi_lse, pi_mask, mu.vocab)
                             .tv;
        out.tv = v > 1.0 ? 1.0 : v;
    }
    return out;
}

template <class V, class S1, class S2, class M1, class M2>
[[nodiscard]] pair_result row_divergence_known(logits_view<S1> const& mu, M1 mu_mask, logits_view<S2> const& pi,
                                               M2 pi_mask, std::int64_t r, double mu_lse, double pi_lse) noexcept {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
    if (!is_finite(mu_lse) || !is_finite(pi_lse)) return {nan, nan, nan, mu_lse, pi_lse};
    normalised_sums const s = sum_normalised<true, V>(mu.row(r), mu.temperature, mu_lse, mu_mask, pi.row(r),
                                                      pi.temperature, pi_lse, pi_mask, mu.vocab);
    auto const at_least_0 = [](double v) { return v < 0.0 ? 0.0 : v; };
    return {s.holes.mu_outside ? inf : at_least_0(s.kl_mu_pi), s.holes.pi_outside ? inf : at_least_0(s.kl_pi_mu),
            s.tv > 1.0 ? 1.0 : s.tv, mu_lse, pi_lse};
}

template <arithmetic_type T>
[[nodiscard]] status check_outputs(divergence_out<T> const& out, std::int64_t rows) noexcept {
    if (status s = check_span(out.kl_mu_pi, rows, "kl_mu_pi"); !s.ok()) return s;
    if (status s = check_span(out.kl_pi_mu, rows, "kl_pi_mu"); !s.ok()) return s;
    if (status s = check_span(out.tv, rows, "tv"); !s.ok()) return s;
    if (status s = check_span(out.mu_logsumexp, rows, "mu_logsumexp"); !s.ok()) return s;
    return check_span(out.pi_logsumexp, rows, "pi_logsumexp");
}

}  // namespace logits_detail

/// KL in both directions, TV and both logsumexps of every row that the row_mask of neither view excludes; 0 elsewhere.
///
/// Both rows are read together, once for the KLs; TV reads them again while they are in cache, unless `known` is given.
/// Each view has its own storage type, temperature and vocabulary mask. Error of KL and TV: 4e-6 (1 + value) for f32
/// arithmetic, some 1e-7 usually, 1e-11 for f64. KL >= 0 and TV in [0, 1] hold exactly. KL is inf where one policy has support that the other lacks; all results of a row are NaN if either row has
/// NaN, +inf or no finite logit: the token pipeline masks such tokens. Two exponentials per pair of entries, four with TV.
/// Errors: those of `log_prob`; size_mismatch if the views differ in shape.
template <class Arch = simd::default_arch, class S1, class S2, arithmetic_type T, class Exec = serial_executor>
[[nodiscard]] status exact_divergence(logits_view<S1> const& mu, logits_view<S2> const& pi,
                                      divergence_out<T> const& out, known_logsumexp const& known = {},
                                      Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_view(mu); !s.ok()) return s;
    if (status s = d::check_view(pi); !s.ok()) return s;
    if (mu.rows != pi.rows || mu.vocab != pi.vocab) return {errc::size_mismatch, -1, -1, "logits of mu and pi"};
    if (status s = d::check_outputs(out, mu.rows); !s.ok()) return s;
    if (status s = d::check_span(known.mu, mu.rows, "known logsumexp"); !s.ok()) return s;
    if (known.mu.size() != known.pi.size()) return {errc::size_mismatch, -1, -1, "known logsumexp"};

    using V = d::pair_registers<S1, S2, Arch>;
    d::for_rows(mu.rows, mu.vocab, exec, [&](std::int64_t r) {
        auto const i = static_cast<std::size_t>(r);
        auto const row = [&](auto mu_mask, auto pi_mask) {
            return known.mu.empty() ? d::row_divergence<V>(mu, mu_mask, pi, pi_mask, r, !out.tv.empty())
                                    : d::row_divergence_known<V>(mu, mu_mask, pi, pi_mask, r, known.mu[i], known.pi[i]);
        };
        d::pair_result p{};
        if (mu.kept(r) && pi.kept(r))
            p = mu.vocab_mask == nullptr && pi.vocab_mask == nullptr
                    ? row(d::whole_row{}, d::whole_row{})
                    : row(d::optional_mask{mu.mask_row(r)}, d::optional_mask{pi.mask_row(r)});
        if (!out.kl_mu_pi.empty()) out.kl_mu_pi[i] = static_cast<T>(p.kl_mu_pi);
        if (!out.kl_pi_mu.empty()) out.kl_pi_mu[i] = static_cast<T>(p.kl_pi_mu);
        if (!out.tv.empty()) out.tv[i] = static_cast<T>(p.tv);
        if (!out.mu_logsumexp.empty()) out.mu_logsumexp[i] = p.mu_lse;
        if (!out.pi_logsumexp.empty()) out.pi_logsumexp[i] = p.pi_lse;
    });
    return {};
}

/// One vocabulary shard of every row, to `merge` with the others: KLs and logsumexps of the whole follow. TV needs the
/// normalisers first: merge, then call `exact_divergence` per shard with `known` and add up the shards' TV.
template <class Arch = simd::default_arch, class S1, class S2, class Exec = serial_executor>
[[nodiscard]] status divergence_partials(logits_view<S1> const& mu, logits_view<S2> const& pi,
                                         std::span<divergence_partial> out, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_view(mu); !s.ok()) return s;
    if (status s = d::check_view(pi); !s.ok()) return s;
    if (mu.rows != pi.rows || mu.vocab != pi.vocab) return {errc::size_mismatch, -1, -1, "logits of mu and pi"};
    if (static_cast<std::int64_t>(out.size()) != mu.rows) return {errc::size_mismatch, -1, -1, "partials"};
    using V = d::pair_registers<S1, S2, Arch>;
    d::for_rows(mu.rows, mu.vocab, exec, [&](std::int64_t r) {
        divergence_partial p;
        if (mu.kept(r) && pi.kept(r))
            p = d::sum_pair<V>(mu.row(r), mu.temperature, d::optional_mask{mu.mask_row(r)}, pi.row(r), pi.temperature,
                               d::optional_mask{pi.mask_row(r)}, mu.vocab);
        out[static_cast<std::size_t>(r)] = p;
    });
    return {};
}

TRM_NAMESPACE_END
