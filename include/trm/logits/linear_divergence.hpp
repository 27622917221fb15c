// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/divergence.hpp>
#include <trm/logits/linear.hpp>

/// \file
/// The exact divergences between two heads without N x V logits. Needs Eigen, as linear.hpp.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

/// What `linear_divergence` sums.
[[nodiscard]] constexpr std::int64_t pair_bytes(linear_blocks const& b) noexcept {
    return sums_bytes<divergence_partial>(b) + sums_bytes<logits_partial>(b) + sums_bytes<double>(b);
}

}  // namespace logits_detail

/// Bytes of workspace for `linear_divergence`: what `linear_workspace` says, of both heads' blocks.
template <class H1, class W1, class H2, class W2>
[[nodiscard]] constexpr std::int64_t linear_divergence_workspace(std::int64_t mu_width, std::int64_t pi_width,
                                                                 linear_blocks const& b = {}) noexcept {
    namespace d = logits_detail;
    return 64 + d::padded(b.rows * b.workers * 8) +
           b.workers * (d::head<H1, W1>::bytes(mu_width, b) + d::head<H2, W2>::bytes(pi_width, b) + d::pair_bytes(b));
}

/// `linear_log_prob` of pi and the exact divergences between the rollout head mu and pi, over the same chunks. TV needs the
/// normalisers before it starts: with `divergence.tv` both products are computed twice, unless one chunk holds the
/// vocabulary. A row is skipped if either row_mask says so. Errors: those of `linear_log_prob` and `exact_divergence`.
template <class Arch = simd::default_arch, class H1, class W1, class H2, class W2, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
[[nodiscard]] status linear_divergence(linear_view<H1, W1> const& mu, linear_view<H2, W2> const& pi,
                                       Targets const& targets, log_prob_out<T> const& out,
                                       divergence_out<T> const& divergence, std::span<std::byte> workspace,
                                       linear_blocks const& b = {}, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    using V = simd::registers<float, Arch>;
    if (status s = d::check_head(mu, b); !s.ok()) return s;
    if (status s = d::check_head(pi, b); !s.ok()) return s;
    if (mu.rows != pi.rows || mu.vocab != pi.vocab) return {errc::size_mismatch, -1, -1, "heads of mu and pi"};
    if (status s = d::check_targets(pi, targets); !s.ok()) return s;
    if (status s = d::check_outputs(out, pi.rows); !s.ok()) return s;
    if (status s = d::check_outputs(divergence, pi.rows); !s.ok()) return s;
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
    std::int64_t const panels = d::panels(b);
    struct work {
        d::head<H1, W1> mu;
        d::head<H2, W2> pi;
        divergence_partial* pair;  // these three: [panels, rows]
        logits_partial* sums;
        double* tv;
    };
    auto const of_block = [&](std::int64_t i) {
        d::arena mine{a.at + i * each};
        d::head<H1, W1> const hm(mu, b, mine);
        d::head<H2, W2> const hp(pi, b, mine);
        auto* const pair = mine.take<divergence_partial>(b.rows * panels);
        auto* const sums = mine.take<logits_partial>(b.rows * panels);
        return work{hm, hp, pair, sums, mine.take<double>(b.rows * panels)};
    };
    auto const keep = [&](std::int64_t r) { return mu.kept(r) && pi.kept(r); };
    bool const recompute = pi.vocab > b.vocab;
    d::head_tasks tasks;
    for (std::int64_t next = 0; next < pi.rows && !tasks.failed();) {
        d::row_blocks const blocks = d::next_kept(next, pi.rows, b, list, keep);
        tasks.run(exec, blocks.count(), [&](std::int64_t i) {
            work const k = of_block(i);
            k.mu.gather(blocks[i]);
            k.pi.gather(blocks[i]);
            for (std::int64_t at = 0; at < b.rows * panels; ++at) k.pair[at] = {}, k.sums[at] = {}, k.tv[at] = 0.0;
        });
        // f(work, row, index of the row's sums, x, y, first column) for every row and panel
        auto const visit = [&](bool compute, auto const& f) {
            tasks.run(exec, blocks.count() * panels, [&](std::int64_t task) {
                work const k = of_block(task / panels);
                auto const rows = blocks[task / panels];
                std::int64_t const p = task % panels, n = std::ssize(rows);
                d::for_panel(p, pi.vocab, b, [&](std::int64_t c, std::int64_t m) {
                    if (compute) {
                        k.mu.compute(p, n, c, m);
                        k.pi.compute(p, n, c, m);
                    }
                    for (std::int64_t i = 0; i < n; ++i)
                        f(k, rows[static_cast<std::size_t>(i)], p * b.rows + i, k.mu.row(p, i, m), k.pi.row(p, i, m),
                          c);
                });
            });
        };
        visit(true, [&](work const& k, std::int64_t r, std::int64_t at, logits_view<float> const& x,
                        logits_view<float> const& y, std::int64_t c) {
            k.pair[at].merge(
                d::sum_pair<V>(x.data, x.temperature, d::whole_row{}, y.data, y.temperature, d::whole_row{}, y.vocab));
            k.sums[at].merge(d::row_partial<V>(y, 0, std::data(targets)[r] - c, !out.entropy.empty()));
        });
        tasks.run(exec, blocks.count(), [&](std::int64_t block) {
            work const k = of_block(block);
            auto const rows = blocks[block];
            for (std::size_t i = 0; i < rows.size(); ++i) {
                auto const r = static_cast<std::size_t>(rows[i]);
                divergence_partial const pair = k.pair[i] = d::merged(k.pair + i, panels, b.rows);
                d::write_row_result(r, d::merged(k.sums + i, panels, b.rows), pi.vocab, out, linear_gather<T>{});
                write(r, pair.kl_mu_pi(), pair.kl_pi_mu(), pair.mu_logsumexp(), pair.pi_logsumexp());
            }
        });
        if (divergence.tv.empty()) continue;
        visit(recompute, [&](work const& k, std::int64_t, std::int64_t at, logits_view<float> const& x,
                             logits_view<float> const& y, std::int64_t) {
            divergence_partial const& pair = k.pair[at % b.rows];
            k.tv[at] += d::sum_normalised<false, V>(x.data, x.temperature, pair.mu_logsumexp(), d::whole_row{}, y.data,
                                                    y.temperature, pair.pi_logsumexp(), d::whole_row{}, y.vocab)
                            .tv;
        });
        tasks.run(exec, blocks.count(), [&](std::int64_t block) {
            work const k = of_block(block);
            auto const rows = blocks[block];
            for (std::size_t i = 0; i < rows.size(); ++i) {
                double tv = 0.0;
                for (std::int64_t p = 0; p < panels; ++p) tv += k.tv[p * b.rows + static_cast<std::int64_t>(i)];
                double const kl = k.pair[i].kl_mu_pi();  // NaN for a row without numbers
                divergence.tv[static_cast<std::size_t>(rows[i])] = static_cast<T>(is_nan(kl) ? kl
                                                                                  : tv > 1.0 ? 1.0
                                                                                             : tv);
            }
        });
    }
    return tasks.status();
}

TRM_NAMESPACE_END
