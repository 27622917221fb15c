// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/centering.hpp>
#include <trm/logits/linear.hpp>
#include <trm/logits/linear_backward.hpp>

/// \file
/// Exact score centering from two fused heads: the rollout policy's, whose weights or storage differ, and the current one's.

TRM_NAMESPACE_BEGIN

/// Bytes of workspace for `linear_centered_gradient`: that of `linear_gradient`, a block of the rollout head per worker, and 8 bytes
/// per row of a panel.
template <class H1, class W1, class H2, class W2>
[[nodiscard]] constexpr std::int64_t linear_centered_workspace(std::int64_t mu_width, std::int64_t pi_width,
                                                               linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return linear_gradient_workspace<H2, W2>(pi_width, b) +
           b.workers * (d::head<H1, W1>::bytes(mu_width, b) + d::sums_bytes<double>(b));
}

namespace logits_detail {

/// Rows of d logits of exact score centering.
template <class V, class H1, class W1, class H2, class W2, class Targets, class T, class Exec>
struct centered_rows {
    linear_view<H1, W1> const& mu;
    linear_view<H2, W2> const& pi;
    Targets const& targets;
    centered_gradient_in<T> const& in;
    score_centering const& rule;
    linear_blocks const& b;
    Exec const& exec;
    std::byte* memory;

    struct work {
        head<H1, W1> mu;
        double* sums;  ///< of m, by [panels, rows]
    };
    [[nodiscard]] work of_block(std::int64_t i) const noexcept {
        arena mine{memory + i * (head<H1, W1>::bytes(mu.width, b) + sums_bytes<double>(b))};
        head<H1, W1> const h(mu, b, mine);
        return {h, mine.take<double>(b.rows * panels(b))};
    }
    [[nodiscard]] bool keep(std::int64_t r) const noexcept {
        auto const i = static_cast<std::size_t>(r);
        return mu.kept(r) && pi.kept(r) && is_finite(in.mu_logsumexp[i]) && is_finite(in.pi_logsumexp[i]) &&
               (in.d_logp[i] != T(0) || in.d_center[i] != T(0));
    }
    /// f(pair of rows, x, y) with the logits x of mu and y of pi.
    template <class F>
    void with_row(std::int64_t row, logits_view<float> const& x, float* y, F const& f) const noexcept {
        auto const i = static_cast<std::size_t>(row);
        simd::on_unit<typename V::arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
            centered_row<typename V::template on<Unit>> const pair{
                mu.temperature, in.mu_logsumexp[i], pi.temperature, in.pi_logsumexp[i], rule.weighted, rule.bound};
            f(pair, x.data, y);
        });
    }
    /// Gathers the rows of mu; with weights also the sums of m over the vocabulary, for which both products are computed.
    template <class Head>
    void prepare(head_tasks& tasks, row_blocks const& blocks, Head const& head_of) const {
        std::int64_t const n = panels(b);
        tasks.run(exec, blocks.count(), [&](std::int64_t i) {
            work const k = of_block(i);
            k.mu.gather(blocks[i]);
            std::fill_n(k.sums, b.rows * n, 0.0);
        });
        if (!rule.weighted) return;
        tasks.run(exec, blocks.count() * n, [&](std::int64_t task) {
            std::int64_t const which = task / n, p = task % n;
            work const k = of_block(which);
            head<H2, W2> const other = head_of(which);
            auto const rows = blocks[which];
            for_panel(p, pi.vocab, b, [&](std::int64_t c, std::int64_t m) {
                k.mu.compute(p, std::ssize(rows), c, m);
                other.compute(p, std::ssize(rows), c, m);
                for (std::int64_t i = 0; i < std::ssize(rows); ++i)
                    with_row(rows[static_cast<std::size_t>(i)], k.mu.row(p, i, m), other.panel(p) + i * b.vocab,
                             [&](auto const& pair, float const* x, float const* y) TRM_INLINE_LAMBDA {
                                 k.sums[p * b.rows + i] += pair.sum(x, optional_mask{}, y, optional_mask{}, m);
                             });
            });
        });
    }
    void operator()(std::int64_t which, logits_panel<H2, W2> const& panel) const {
        work const k = of_block(which);
        k.mu.compute(panel.p, std::ssize(panel.rows), panel.first, panel.columns);
        for (std::int64_t i = 0; i < std::ssize(panel.rows); ++i) {
            std::int64_t const row = panel.rows[static_cast<std::size_t>(i)];
            auto const r = static_cast<std::size_t>(row);
            double total = 1.0;
            if (rule.weighted) {
                total = 0;
                for (std::int64_t p = 0; p < panels(b); ++p) total += k.sums[p * b.rows + i];
            }
            double const up = static_cast<double>(in.d_logp[r]), center = static_cast<double>(in.d_center[r]);
            float* const y = panel.row(i);
            with_row(row, k.mu.row(panel.p, i, panel.columns), y,
                     [&](auto const& pair, float const* x, float* to) TRM_INLINE_LAMBDA {
                         pair.write(x, optional_mask{}, to, optional_mask{}, panel.columns, up + center * total, center,
                                    to, false);
                     });
            std::int64_t const at = std::data(targets)[r] - panel.first;
            if (at >= 0 && at < panel.columns) add_to(y + at, up / pi.temperature);
        }
    }
};

}  // namespace logits_detail

/// `centered_gradient` through the fused heads of both policies, multiplied out to d_hidden and d_weight of pi's:
/// d_logits[r, v] = (d_logp (1[v = target] - p_v) + d_center (m_v - p_v sum_u m_u)) / temperature of pi is never held beyond a block.
/// Four products per kept row, and two more with weights, whose sum over the vocabulary comes first; rows that either row_mask
/// leaves out, with both gradients 0 or without finite logsumexp cost nothing and get zeros. `in`: logsumexps from `linear_log_prob`
/// on each head, or `linear_divergence` on both. `workspace`: `linear_centered_workspace`. Bitwise the same for any executor
/// and any number of workers. Errors: those of `centered_gradient` and `linear_gradient`.
template <class Arch = simd::default_arch, class H1, class W1, class H2, class W2, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
[[nodiscard]] status linear_centered_gradient(linear_view<H1, W1> const& mu, linear_view<H2, W2> const& pi,
                                              Targets const& targets, centered_gradient_in<T> const& in,
                                              score_centering const& rule, linear_gradient_out const& out,
                                              std::span<std::byte> workspace, linear_blocks const& b = {},
                                              Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = rule.validate(); !s.ok()) return s;
    if (status s = d::check_head(mu, b); !s.ok()) return s;
    if (status s = d::check_head(pi, b); !s.ok()) return s;
    if (mu.rows != pi.rows || mu.vocab != pi.vocab) return {errc::size_mismatch, -1, -1, "heads of mu and pi"};
    if (status s = d::check_linear_gradient(pi, out); !s.ok()) return s;
    auto const rows = static_cast<std::size_t>(pi.rows);
    if (in.mu_logsumexp.size() != rows) return {errc::size_mismatch, -1, -1, "mu_logsumexp"};
    if (in.pi_logsumexp.size() != rows) return {errc::size_mismatch, -1, -1, "pi_logsumexp"};
    if (in.d_logp.size() != rows) return {errc::size_mismatch, -1, -1, "d_logp"};
    if (in.d_center.size() != rows) return {errc::size_mismatch, -1, -1, "d_center"};
    if (status s = d::check_targets(pi, targets); !s.ok()) return s;
    if (static_cast<std::int64_t>(workspace.size()) < linear_centered_workspace<H1, W1, H2, W2>(mu.width, pi.width, b))
        return {errc::size_mismatch, -1, -1, "workspace"};
    d::arena const a = d::aligned_arena(workspace);
    std::int64_t const own = linear_gradient_workspace<H2, W2>(pi.width, b) - 64;
    using rows_type = d::centered_rows<simd::registers<float, Arch>, H1, W1, H2, W2, Targets, T, Exec>;
    rows_type const turn{mu, pi, targets, in, rule, b, exec, a.at + own};
    return d::linear_backward(pi, out, a, b, turn, exec);
}

TRM_NAMESPACE_END
