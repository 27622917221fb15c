// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/divergence.hpp>
#include <trm/logits/linear_head.hpp>

/// \file
/// Language-model head and log-prob in one: hidden and weight to logp, entropy and divergence without N x V logits. Needs
/// Eigen; nothing else in trm does. Eigen itself takes its packing buffers (some MiB, depending on the cache sizes it sees)
/// from the heap for each product; everything else lives in the caller's workspace.

TRM_NAMESPACE_BEGIN

/// Log-probabilities of further tokens, such as those of the rollout's stored top-k.
template <arithmetic_type T>
struct linear_gather {
    std::span<std::int32_t const> ids{};  ///< [rows, per_row]; an id outside the vocabulary gives -inf
    std::int64_t per_row = 0;
    std::span<T> logp{};  ///< [rows, per_row]
};

namespace logits_detail {

/// What `linear_divergence` sums per row of a block.
[[nodiscard]] constexpr std::int64_t pair_bytes(linear_blocks const& b) noexcept {
    return padded(b.rows * static_cast<std::int64_t>(sizeof(divergence_partial))) +
           padded(b.rows * static_cast<std::int64_t>(sizeof(logits_partial))) + padded(b.rows * 8);
}

}  // namespace logits_detail

/// Bytes of workspace for `linear_log_prob`: rows width + rows vocab floats per worker (blocks' sizes, not the batch's and
/// never the vocabulary's), 256 width more for bf16 or f16 weights, and some 100 bytes per row of a block.
template <class H, class W>
[[nodiscard]] constexpr std::int64_t linear_workspace(std::int64_t width, linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return 64 + d::padded(b.rows * b.workers * 8) +
           b.workers *
               (d::head<H, W>::bytes(width, b) + d::padded(b.rows * static_cast<std::int64_t>(sizeof(logits_partial))));
}
/// The same for `linear_divergence`: both heads' blocks.
template <class H1, class W1, class H2, class W2>
[[nodiscard]] constexpr std::int64_t linear_divergence_workspace(std::int64_t mu_width, std::int64_t pi_width,
                                                                 linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return 64 + d::padded(b.rows * b.workers * 8) +
           b.workers * (d::head<H1, W1>::bytes(mu_width, b) + d::head<H2, W2>::bytes(pi_width, b) + d::pair_bytes(b));
}

namespace logits_detail {

template <arithmetic_type T>
[[nodiscard]] status check_gather(linear_gather<T> const& g, std::int64_t rows) noexcept {
    auto const n = static_cast<std::size_t>(rows * g.per_row);
    if (g.per_row < 0 || g.ids.size() != n || g.logp.size() != n) return {errc::size_mismatch, -1, -1, "gather"};
    return {};
}

/// Picks z of the stored ids that fall into the chunk [first, first + count).
template <arithmetic_type T>
void gather_chunk(linear_gather<T> const& g, std::int64_t row, float const* x, double temperature, std::int64_t first,
                  std::int64_t count) noexcept {
    for (std::int64_t k = row * g.per_row; k < (row + 1) * g.per_row; ++k) {
        std::int64_t const at = g.ids[static_cast<std::size_t>(k)] - first;
        if (at >= 0 && at < count)
            g.logp[static_cast<std::size_t>(k)] = static_cast<T>(static_cast<double>(x[at]) / temperature);
    }
}

template <arithmetic_type T>
void fill_skipped(std::size_t r, log_prob_out<T> const& out, linear_gather<T> const& g, T gathered) noexcept {
    if (!out.logp.empty()) out.logp[r] = T(0);
    if (!out.logsumexp.empty()) out.logsumexp[r] = 0.0;
    if (!out.entropy.empty()) out.entropy[r] = T(0);
    auto const k = static_cast<std::size_t>(g.per_row);
    for (std::size_t i = r * k; i < (r + 1) * k; ++i) g.logp[i] = gathered;
}

template <arithmetic_type T>
void write_row_result(std::size_t r, logits_partial const& p, log_prob_out<T> const& out,
                      linear_gather<T> const& g) noexcept {
    if (!out.logp.empty()) out.logp[r] = static_cast<T>(p.logp());
    if (!out.logsumexp.empty()) out.logsumexp[r] = p.logsumexp();
    if (!out.entropy.empty()) out.entropy[r] = static_cast<T>(p.entropy());
    auto const k = static_cast<std::size_t>(g.per_row);
    for (std::size_t i = r * k; i < (r + 1) * k; ++i)
        g.logp[i] = static_cast<T>(static_cast<double>(g.logp[i]) - p.logsumexp());
}

}  // namespace logits_detail

/// `log_prob` of logits = hidden weight^T without holding them: at most `rows` x `vocab` of the blocks exist at a time. Rows
/// with row_mask 0 are dropped before the product, so that a batch with half of its rows masked costs half; their results
/// are 0. f32 accumulation for every storage type. Accuracy: that of an f32 product, then as `log_prob`.
/// Errors: bad_layout, size_mismatch (also for a workspace smaller than `linear_workspace`), bad_threshold.
template <class Arch = simd::default_arch, class H, class W, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
status linear_log_prob(linear_view<H, W> const& v, Targets const& targets, log_prob_out<T> const& out,
                       std::span<std::byte> workspace, linear_blocks const& b = {}, linear_gather<T> const& gather = {},
                       Exec const& exec = {}) noexcept {
    namespace d = logits_detail;
    using V = simd::vec<float, Arch>;
    logits_view<float> const shape{.rows = v.rows, .vocab = v.vocab, .row_mask = v.row_mask};
    if (status s = d::check_head(v, b); !s.ok()) return s;
    if (status s = d::check_targets(shape, targets, v.vocab); !s.ok()) return s;
    if (status s = d::check_span(out.logp, v.rows, "logp"); !s.ok()) return s;
    if (status s = d::check_span(out.logsumexp, v.rows, "logsumexp"); !s.ok()) return s;
    if (status s = d::check_span(out.entropy, v.rows, "entropy"); !s.ok()) return s;
    if (status s = d::check_gather(gather, v.rows); !s.ok()) return s;
    if (static_cast<std::int64_t>(workspace.size()) < linear_workspace<H, W>(v.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};

    constexpr T none = -std::numeric_limits<T>::infinity();
    for (std::int64_t r = 0; r < v.rows; ++r)
        d::fill_skipped(static_cast<std::size_t>(r), out, gather, v.kept(r) ? none : T(0));
    d::arena a = d::aligned_arena(workspace);
    auto* const list = a.take<std::int64_t>(b.rows * b.workers);
    std::int64_t const each =
        d::head<H, W>::bytes(v.width, b) + d::padded(b.rows * static_cast<std::int64_t>(sizeof(logits_partial)));
    d::for_kept(
        v.rows, b, list, [&](std::int64_t r) { return v.kept(r); }, exec,
        [&](std::int64_t worker, std::int64_t const* rows, std::int64_t n) {
            d::arena mine{a.at + worker * each};
            d::head<H, W> const h(v, b, mine);
            auto* const partial = mine.take<logits_partial>(b.rows);
            for (std::int64_t i = 0; i < n; ++i) partial[i] = logits_partial{};
            h.gather(rows, n);
            for (std::int64_t c = 0; c < v.vocab; c += b.vocab) {
                std::int64_t const m = v.vocab - c < b.vocab ? v.vocab - c : b.vocab;
                h.compute(n, c, m);
                for (std::int64_t i = 0; i < n; ++i) {
                    std::int64_t const target = std::data(targets)[rows[i]];
                    partial[i].merge(d::row_partial<V>(h.row(i, m), 0, target - c, !out.entropy.empty()));
                    d::gather_chunk(gather, rows[i], h.row(i, m).data, v.temperature, c, m);
                }
            }
            for (std::int64_t i = 0; i < n; ++i)
                d::write_row_result(static_cast<std::size_t>(rows[i]), partial[i], out, gather);
        });
    return {};
}

/// `linear_log_prob` of pi and the exact divergences between the rollout head mu and pi, over the same chunks. TV needs the
/// normalisers before it starts: with `divergence.tv` both products are computed twice, unless one chunk holds the
/// vocabulary. A row is skipped if either row_mask says so. Errors: those of `linear_log_prob` and `exact_divergence`.
template <class Arch = simd::default_arch, class H1, class W1, class H2, class W2, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
status linear_divergence(linear_view<H1, W1> const& mu, linear_view<H2, W2> const& pi, Targets const& targets,
                         log_prob_out<T> const& out, divergence_out<T> const& divergence,
                         std::span<std::byte> workspace, linear_blocks const& b = {}, Exec const& exec = {}) noexcept {
    namespace d = logits_detail;
    using V = simd::vec<float, Arch>;
    if (status s = d::check_head(mu, b); !s.ok()) return s;
    if (status s = d::check_head(pi, b); !s.ok()) return s;
    if (mu.rows != pi.rows || mu.vocab != pi.vocab) return {errc::size_mismatch, -1, -1, "heads of mu and pi"};
    logits_view<float> const shape{.rows = pi.rows, .vocab = pi.vocab, .row_mask = pi.row_mask};
    if (status s = d::check_targets(shape, targets, pi.vocab); !s.ok()) return s;
    if (status s = d::check_span(out.logp, pi.rows, "logp"); !s.ok()) return s;
    if (status s = d::check_span(out.logsumexp, pi.rows, "logsumexp"); !s.ok()) return s;
    if (status s = d::check_span(out.entropy, pi.rows, "entropy"); !s.ok()) return s;
    if (status s = d::check_span(divergence.kl_mu_pi, pi.rows, "kl_mu_pi"); !s.ok()) return s;
    if (status s = d::check_span(divergence.kl_pi_mu, pi.rows, "kl_pi_mu"); !s.ok()) return s;
    if (status s = d::check_span(divergence.mu_logsumexp, pi.rows, "mu_logsumexp"); !s.ok()) return s;
    if (status s = d::check_span(divergence.pi_logsumexp, pi.rows, "pi_logsumexp"); !s.ok()) return s;
    if (status s = d::check_span(divergence.tv, pi.rows, "tv"); !s.ok()) return s;
    if (static_cast<std::int64_t>(workspace.size()) <
        linear_divergence_workspace<H1, W1, H2, W2>(mu.width, pi.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};

    auto const write = [&](std::size_t r, double kl, double reverse, double mu_lse, double pi_lse) {
        if (!divergence.kl_mu_pi.empty()) divergence.kl_mu_pi[r] = static_cast<T>(kl);
        if (!divergence.kl_pi_mu.empty()) divergence.kl_pi_mu[r] = static_cast<T>(reverse);
        if (!divergence.mu_logsumexp.empty()) divergence.mu_logsumexp[r] = mu_lse;
        if (!divergence.pi_logsumexp.empty()) divergence.pi_logsumexp[r] = pi_lse;
    };
    for (std::int64_t r = 0; r < pi.rows; ++r) {
        d::fill_skipped(static_cast<std::size_t>(r), out, linear_gather<T>{}, T(0));
        write(static_cast<std::size_t>(r), 0.0, 0.0, 0.0, 0.0);
        if (!divergence.tv.empty()) divergence.tv[static_cast<std::size_t>(r)] = T(0);
    }
    d::arena a = d::aligned_arena(workspace);
    auto* const list = a.take<std::int64_t>(b.rows * b.workers);
    std::int64_t const each =
        d::head<H1, W1>::bytes(mu.width, b) + d::head<H2, W2>::bytes(pi.width, b) + d::pair_bytes(b);
    d::for_kept(
        pi.rows, b, list, [&](std::int64_t r) { return mu.kept(r) && pi.kept(r); }, exec,
        [&](std::int64_t worker, std::int64_t const* rows, std::int64_t n) {
            d::arena mine{a.at + worker * each};
            d::head<H1, W1> const hm(mu, b, mine);
            d::head<H2, W2> const hp(pi, b, mine);
            auto* const pair = mine.take<divergence_partial>(b.rows);
            auto* const partial = mine.take<logits_partial>(b.rows);
            auto* const tv = mine.take<double>(b.rows);
            for (std::int64_t i = 0; i < n; ++i) pair[i] = {}, partial[i] = {}, tv[i] = 0.0;
            hm.gather(rows, n);
            hp.gather(rows, n);
            // f(i, x, y, c) for the logits of every row of the block and chunk
            auto const visit = [&](bool compute, auto const& f) {
                for (std::int64_t c = 0; c < pi.vocab; c += b.vocab) {
                    std::int64_t const m = pi.vocab - c < b.vocab ? pi.vocab - c : b.vocab;
                    if (compute) {
                        hm.compute(n, c, m);
                        hp.compute(n, c, m);
                    }
                    for (std::int64_t i = 0; i < n; ++i) f(i, hm.row(i, m), hp.row(i, m), c);
                }
            };
            visit(true, [&](std::int64_t i, logits_view<float> const& x, logits_view<float> const& y, std::int64_t c) {
                std::int64_t const target = std::data(targets)[rows[i]];
                pair[i].merge(d::sum_pair<V>(x.data, x.temperature, d::whole_row{}, y.data, y.temperature,
                                             d::whole_row{}, y.vocab));
                partial[i].merge(d::row_partial<V>(y, 0, target - c, !out.entropy.empty()));
            });
            if (!divergence.tv.empty())
                visit(pi.vocab > b.vocab,
                      [&](std::int64_t i, logits_view<float> const& x, logits_view<float> const& y, std::int64_t) {
                          tv[i] += d::sum_normalised<false, V>(x.data, x.temperature, pair[i].mu_logsumexp(),
                                                               d::whole_row{}, y.data, y.temperature,
                                                               pair[i].pi_logsumexp(), d::whole_row{}, y.vocab)
                                       .tv;
                      });
            for (std::int64_t i = 0; i < n; ++i) {
                auto const r = static_cast<std::size_t>(rows[i]);
                d::write_row_result(r, partial[i], out, linear_gather<T>{});
                write(r, pair[i].kl_mu_pi(), pair[i].kl_pi_mu(), pair[i].mu_logsumexp(), pair[i].pi_logsumexp());
                if (!divergence.tv.empty()) divergence.tv[r] = static_cast<T>(tv[i] > 1.0 ? 1.0 : tv[i]);
            }
        });
    return {};
}

TRM_NAMESPACE_END
