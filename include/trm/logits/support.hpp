// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>

/// \file
/// Log-probabilities over the tokens that sampling kept. A server with top-p, top-k or min-p draws from the distribution
/// renormalised over the tokens it keeps and reports log-probabilities of that; a trainer that normalises over the whole
/// vocabulary then finds ratios that are too small by the kept mass (0.95 at top-p 0.95, 0.17 seen at top-k 50). Both over the
/// same list of ids, the ratio is exact. (`logits_view::vocab_mask` says the same with bytes of the vocabulary's size.)

TRM_NAMESPACE_BEGIN

/// The ids that sampling kept for each row, row r: ids[cu[r]] ... ids[cu[r + 1] - 1], in any order, none twice.
struct kept_ids {
    stream_view<std::int32_t> ids{};
    offsets cu{};  ///< rows + 1 values
    std::uint8_t const* row_mask = nullptr;  ///< [rows] bytes: rows with 0 are not looked at; with that of the logits
};

namespace logits_detail {

/// The kept entries of a row as scaled logits.
template <class S>
class kept_row {
public:
    kept_row(logits_view<S> const& v, kept_ids const& k, std::int64_t r) noexcept
        : view(v),
          row(v.row(r)),
          mask(v.mask_row(r)),
          ids(k.ids.subspan(
              static_cast<std::size_t>(k.cu[static_cast<std::size_t>(r)]),
              static_cast<std::size_t>(k.cu[static_cast<std::size_t>(r) + 1] - k.cu[static_cast<std::size_t>(r)]))) {}
    /// z of one entry; -inf if it is impossible or masked out.
    [[nodiscard]] double at(std::int32_t id) const noexcept {
        double const x = to_double(row[id]);
        bool const nothing_there = x <= static_cast<double>(nothing<float>) || (mask != nullptr && mask[id] == 0);
        return nothing_there ? -std::numeric_limits<double>::infinity() : x / view.temperature;
    }
    /// Sums over the kept entries, `target` among them or -1.
    [[nodiscard]] logits_partial sums(std::int64_t target) const noexcept {
        logits_partial p;
        double top = -std::numeric_limits<double>::infinity();
        for (std::int32_t id : ids) {
            double const z = at(id);
            if (is_nan(z) || z > top) top = z;
            if (is_nan(z)) break;
        }
        if (top == -std::numeric_limits<double>::infinity()) return p;
        p.shift = top;
        for (std::int32_t id : ids) {
            double const z = at(id), e = std::exp(z - top);
            p.sum_exp += e;
            if (e > 0.0) p.weighted_sum += e * (z - top);
            if (id == target) p.target_logit = z;
        }
        if (!is_finite(top)) p.sum_exp = std::numeric_limits<double>::quiet_NaN();
        return p;
    }

    logits_view<S> const& view;
    S const* row;
    std::uint8_t const* mask;
    std::span<std::int32_t const> ids;
};

[[nodiscard]] inline bool keeps_row(kept_ids const& k, std::int64_t r) noexcept {
    return k.row_mask == nullptr || k.row_mask[r] != 0;
}
/// `View`: `logits_view` or `linear_view`, which has been checked.
template <class View>
[[nodiscard]] status check_kept(View const& v, kept_ids const& k) noexcept {
    auto const rows = static_cast<std::size_t>(v.rows);
    if (k.cu.size() != rows + 1) return {errc::size_mismatch, -1, -1, "kept ids: cu"};
    if (k.cu[0] != 0 || k.cu[rows] > static_cast<std::int64_t>(k.ids.size()))
        return {errc::decreasing_offsets, -1, -1, "kept ids: cu"};
    for (std::size_t r = 0; r < rows; ++r) {
        if (k.cu[r + 1] < k.cu[r]) return {errc::decreasing_offsets, static_cast<std::int64_t>(r), -1, "kept ids: cu"};
        if (!v.kept(static_cast<std::int64_t>(r)) || !keeps_row(k, static_cast<std::int64_t>(r))) continue;
        for (std::int64_t i = k.cu[r]; i < k.cu[r + 1]; ++i) {
            std::int32_t const id = k.ids[static_cast<std::size_t>(i)];
            if (id < 0 || id >= v.vocab)
                return {errc::bad_layout, -1, static_cast<std::int64_t>(r), "kept ids: outside the vocabulary"};
        }
    }
    return {};
}
/// temperature d logits of a kept entry with log-probability lp.
[[nodiscard]] inline double kept_gradient(row_upstream const& up, double lp, bool is_target) noexcept {
    double const p = std::exp(lp);
    double g = is_target ? up.d_logp : 0.0;
    if (p > 0.0) g -= p * (up.d_logp + up.d_entropy * (lp + up.entropy));
    return g;
}
/// What one row costs, for blocks.
[[nodiscard]] inline std::int64_t cost_per_row(kept_ids const& k, std::int64_t rows) noexcept {
    return rows > 0 ? 8 * (k.cu[static_cast<std::size_t>(rows)] / rows + 1) : 1;
}

}  // namespace logits_detail

/// `log_prob` over the kept ids alone: logp[r] = z[target] - log sum_{kept} exp z, the entropy that of the kept tokens. Reads
/// nothing but the kept entries; in double whatever the storage. A target that is not among its row's ids has logp -inf: the
/// sampler cannot have drawn it (a list of other lengths of context, or cut off). A row that keeps nothing has logp NaN.
/// Errors: those of `log_prob`; size_mismatch, decreasing_offsets, bad_layout (token: the row) of the lists.
template <class S, token_ids Targets, arithmetic_type T, class Exec = serial_executor>
[[nodiscard]] status log_prob_of_kept(logits_view<S> const& v, kept_ids const& kept, Targets const& targets,
                                      log_prob_out<T> const& out, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = d::check_view(v); !s.ok()) return s;
    if (status s = d::check_kept(v, kept); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_outputs(out, v.rows); !s.ok()) return s;
    d::for_rows(v.rows, d::cost_per_row(kept, v.rows), exec, [&](std::int64_t r) {
        bool const keeps = v.kept(r) && d::keeps_row(kept, r);
        logits_partial p;
        if (keeps) p = d::kept_row<S>(v, kept, r).sums(std::int64_t{std::data(targets)[r]});
        d::write_result(out, static_cast<std::size_t>(r), keeps, p, v.vocab);
    });
    return {};
}

/// Backward pass of `log_prob_of_kept`: d_logits[r, v] = (d_logp (1[v = target] - p_v) - d_entropy p_v (log p_v + H)) / temperature
/// for kept v, 0 elsewhere. In mode `nonzero_rows` only kept entries are written, and the caller keeps zeros elsewhere: then
/// nothing has the size of the vocabulary. `out` must not be the logits. `in.gathered` is not looked at. Rows without upstream gradient, left out, or without finite
/// logsumexp are as in `logits_gradient`. Errors: those of `log_prob_of_kept` and `logits_gradient`.
template <class S, token_ids Targets, arithmetic_type T, class O, class Exec = serial_executor>
[[nodiscard]] status gradient_of_kept(logits_view<S> const& v, kept_ids const& kept, Targets const& targets,
                                      logits_gradient_in<T> const& in, logits_gradient_out<O> const& out,
                                      Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = d::check_gradient(v, std::size(targets), in, out); !s.ok()) return s;
    if (status s = d::check_kept(v, kept); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    std::int64_t const stride = out.row_stride != 0 ? out.row_stride : v.vocab;
    bool const add = out.mode == logits_write::accumulate, clears = out.mode == logits_write::overwrite;
    d::for_rows(v.rows, clears ? v.vocab : d::cost_per_row(kept, v.rows), exec, [&](std::int64_t r) {
        double const lse = in.logsumexp[static_cast<std::size_t>(r)];
        O* const y = out.data + r * stride;
        d::row_upstream const up = d::upstream_of(in, r);
        if (clears) std::memset(static_cast<void*>(y), 0, static_cast<std::size_t>(v.vocab) * sizeof(O));
        if (!v.kept(r) || !d::keeps_row(kept, r) || !up.any() || !is_finite(lse)) return;
        d::kept_row<S> const row(v, kept, r);
        for (std::int32_t id : row.ids) {
            double const g = d::kept_gradient(up, row.at(id) - lse, id == std::data(targets)[r]) / v.temperature;
            d::store_number(y + id, (add ? d::to_double(y[id]) : 0.0) + g);
        }
    });
    return {};
}

TRM_NAMESPACE_END
