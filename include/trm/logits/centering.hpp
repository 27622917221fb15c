// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_centered.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/topk.hpp>

/// \file
/// Score centering (Marek and Ryabinin, arXiv 2609.20807): tokens are sampled from q, the rollout policy, while the gradient is
/// that of log p, so that even an advantage that is the same for all tokens moves the policy, by A sum_v w_v q_v d log p_v. The
/// method subtracts this: with C = sum_v sg(m_v) log p_v, m_v = w(p_v / q_v) q_v and w the weight of sampled tokens (1, or a
/// function of the token's ratio), the loss gets + A C. Without weights the row of the gradient becomes -A (e_y - q) instead of
/// -A (e_y - p).
///
/// `centered_gradient` has both rows of logits and is exact. `center_scores` has the k most likely tokens H of q, as inference
/// servers give them, and takes the rest of q as rho p, rho = (1 - sum_H q) / max(1 - sum_H p, 1e-6): then
/// C = sum_H sg(m_v - alpha p_v) log p_v up to a constant, alpha = rho w(1 / rho). The published formulas: NeMo-RL's
/// `score_centering` and, open, SkyRL #2244.

TRM_NAMESPACE_BEGIN

/// How the loss weights a sampled token, as a function of p / q: 1, or the ratio with its bound. `token_weight` of the loss
/// with the same bound weights the sampled token itself.
struct score_centering {
    bool weighted = false;
    weight_bound bound = unbounded;

    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() ? status{} : status{errc::bad_threshold, -1, -1, "score_centering"};
    }
    /// m = w(p / q) q, for q = 0 too.
    [[nodiscard]] constexpr double part(double p, double q) const noexcept {
        if (!weighted) return q;
        return p < bound.lower * q ? bound.below * q : p > bound.upper * q ? bound.above * q : p;
    }
};

/// Where `center_scores` writes; every span is empty or has one element per row, `d_logp` one per row and token.
template <arithmetic_type T>
struct center_out {
    std::span<T> d_logp{};  ///< d loss / d log p of the listed tokens: `gathered_gradient::d_logp`
    std::span<double> value{};  ///< d_center C of the row, a term of the loss
};

/// d_center_r (m_v - alpha p_v) for every listed token, from the log-probs of the rollout's top-k under both policies
/// (`list.targets` are not looked at), for `logits_gradient` or `linear_gradient` to spread over the vocabulary.
///
/// d_center_r = d loss / d C of the row: the token's advantage with the loss's scale, 0 where it is rejected. That is minus
/// the gradient of the same loss with `policy_gradient` and without weight. Rows with d_center 0 get zeros. What the current policy cannot
/// produce (log p = -inf) has no gradient; an id that is listed again counts once.
/// Errors: those of `topk_divergence`, bad_threshold. Two exponentials per token, k^2 / 2 comparisons of ids.
template <arithmetic_type T>
[[nodiscard]] status center_scores(topk_view<T> const& list, std::span<T const> d_center, score_centering const& rule,
                                   center_out<T> const& out) noexcept {
    namespace d = logits_detail;
    topk_view<T> v = list;
    v.targets = {};
    v.mu_target_logp = v.pi_target_logp = {};
    if (status s = rule.validate(); !s.ok()) return s;
    if (status s = topk_divergence(v, topk_out<T>{}); !s.ok()) return s;
    auto const rows = static_cast<std::size_t>(v.rows), k = static_cast<std::size_t>(v.k);
    if (d_center.size() != rows) return {errc::size_mismatch, -1, -1, "d_center"};
    if (!out.d_logp.empty() && out.d_logp.size() != rows * k) return {errc::size_mismatch, -1, -1, "d_logp"};
    if (status s = d::check_span(out.value, v.rows, "value"); !s.ok()) return s;
    for (std::size_t r = 0; r < rows; ++r) {
        std::size_t const first = r * k, end = first + k;
        double const up = static_cast<double>(d_center[r]);
        double value = 0;
        if ((v.row_mask != nullptr && v.row_mask[r] == 0) || up == 0.0) {
            for (std::size_t i = first; i < end && !out.d_logp.empty(); ++i) out.d_logp[i] = T(0);
        } else {
            d::centering_head const head(v, r);
            double const rho = head.rest_q() / head.rest_p(), alpha = rule.part(1.0, rho);
            for (std::size_t i = first; i < end; ++i) {
                double c = 0;
                if (head.counts(i)) {
                    double const p = head.p(i), lp = static_cast<double>(v.pi_logp[i]);
                    c = up * (rule.part(p, head.q(i)) - alpha * p);
                    value += c * lp;
                }
                if (!out.d_logp.empty()) out.d_logp[i] = static_cast<T>(c);
            }
        }
        if (!out.value.empty()) out.value[r] = value;
    }
    return {};
}

/// Inputs of `centered_gradient`, one element per row. Both logsumexps come from `log_prob` on the views.
template <arithmetic_type T>
struct centered_gradient_in {
    stream_view<double> mu_logsumexp{};
    stream_view<double> pi_logsumexp{};
    stream_view<T> d_logp{};  ///< of the sampled token, its weight included
    stream_view<T> d_center{};  ///< see `center_scores`
};

/// Exact score centering over the whole vocabulary:
/// d_logits[r, v] = (d_logp (1[v = target] - p_v) + d_center (m_v - p_v sum_u m_u)) / temperature of pi,
/// p = softmax(pi), q = softmax(mu). Rows that either view leaves out, with both gradients 0 or without finite logsumexp are not read
/// and get zeros (or nothing, see `logits_write`). `out.stream` is ignored. `out` may be the logits of pi. Accuracy: p and q as in
/// `logits_gradient`. Two exponentials per entry, four with weights, which read both rows twice.
/// Errors: those of `logits_gradient` and `exact_divergence`, bad_threshold. No allocation.
template <class Arch = simd::default_arch, class S1, class S2, token_ids Targets, arithmetic_type T, class O,
          class Exec = serial_executor>
[[nodiscard]] status centered_gradient(logits_view<S1> const& mu, logits_view<S2> const& pi, Targets const& targets,
                                       centered_gradient_in<T> const& in, score_centering const& rule,
                                       logits_gradient_out<O> const& out, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    auto const rows = static_cast<std::size_t>(pi.rows);
    if (status s = rule.validate(); !s.ok()) return s;
    if (status s = d::check_view(mu); !s.ok()) return s;
    logits_gradient_in<T> const plain{.logsumexp = in.pi_logsumexp, .d_logp = in.d_logp};
    if (status s = d::check_gradient(pi, std::size(targets), plain, out); !s.ok()) return s;
    if (status s = d::check_targets(pi, targets); !s.ok()) return s;
    if (mu.rows != pi.rows || mu.vocab != pi.vocab) return {errc::size_mismatch, -1, -1, "logits of mu and pi"};
    if (in.mu_logsumexp.size() != rows) return {errc::size_mismatch, -1, -1, "mu_logsumexp"};
    if (in.d_center.size() != rows) return {errc::size_mismatch, -1, -1, "d_center"};
    using V = d::pair_registers<S1, S2, Arch>;
    std::int64_t const stride = out.row_stride != 0 ? out.row_stride : pi.vocab;
    bool const accumulate = out.mode == logits_write::accumulate;
    d::for_rows(pi.rows, pi.vocab, exec, [&](std::int64_t r) {
        auto const i = static_cast<std::size_t>(r);
        O* const y = out.data + r * stride;
        double const up = static_cast<double>(in.d_logp[i]), center = static_cast<double>(in.d_center[i]);
        bool const finite = is_finite(in.mu_logsumexp[i]) && is_finite(in.pi_logsumexp[i]);
        if (!mu.kept(r) || !pi.kept(r) || (up == 0.0 && center == 0.0) || !finite) {
            if (out.mode == logits_write::overwrite)
                std::memset(static_cast<void*>(y), 0, static_cast<std::size_t>(pi.vocab) * sizeof(O));
            return;
        }
        d::optional_mask const mu_mask{mu.mask_row(r)}, pi_mask{pi.mask_row(r)};
        simd::on_unit<Arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
            d::centered_row<typename V::template on<Unit>> const row{
                mu.temperature, in.mu_logsumexp[i], pi.temperature, in.pi_logsumexp[i], rule.weighted, rule.bound};
            double const total = rule.weighted ? row.sum(mu.row(r), mu_mask, pi.row(r), pi_mask, pi.vocab) : 1.0;
            row.write(mu.row(r), mu_mask, pi.row(r), pi_mask, pi.vocab, up + center * total, center, y, accumulate);
        });
        d::add_to(y + std::int64_t{std::data(targets)[r]}, up / pi.temperature);
    });
    return {};
}

TRM_NAMESPACE_END
