// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/linear_gradient.hpp>
#include <trm/logits/support.hpp>

/// \file
/// The fused head over the ids that sampling kept: a row costs as many products of its hidden state as it has ids, where the
/// whole head costs one per word of the vocabulary.

TRM_NAMESPACE_BEGIN
namespace logits_detail {

/// Rows of hidden states and weights, read in registers. `V`: those of the unit that runs.
template <class V, class H, class W>
struct kept_head {
    linear_view<H, W> const& v;

    [[nodiscard]] H const* hidden(std::int64_t r) const noexcept {
        return v.hidden + r * (v.hidden_stride != 0 ? v.hidden_stride : v.width);
    }
    [[nodiscard]] W const* weight(std::int32_t id) const noexcept {
        return v.weight + std::int64_t{id} * (v.weight_stride != 0 ? v.weight_stride : v.width);
    }
    /// f(first, how many) over [begin, end), a register at a time.
    template <class F>
    static TRM_INLINE void each(std::int64_t begin, std::int64_t end, F&& f) noexcept {
        constexpr auto width = static_cast<std::int64_t>(V::size);
        for (std::int64_t i = begin; i < end; i += width)
            f(i, static_cast<std::size_t>(end - i < width ? end - i : width));
    }
    /// hidden_r weight_id / temperature: sums of 64 registers in float, then in double.
    [[nodiscard]] TRM_INLINE double logit(std::int64_t r, std::int32_t id) const noexcept {
        H const* const h = hidden(r);
        W const* const w = weight(id);
        double total = 0;
        for (std::int64_t at = 0; at < v.width; at += 64 * static_cast<std::int64_t>(V::size)) {
            V sum(0.0f);
            each(at, at_most(v.width - at, 64 * static_cast<std::int64_t>(V::size)) + at,
                 [&](std::int64_t i, std::size_t n)
                     TRM_INLINE_LAMBDA { sum = fma(simd::load_n<V>(h + i, n), simd::load_n<V>(w + i, n), sum); });
            total += simd::sum(sum);
        }
        return total / v.temperature;
    }
    /// to += g from, columns [begin, end).
    template <class S>
    static TRM_INLINE void add(float* to, double g, S const* from, std::int64_t begin, std::int64_t end) noexcept {
        V const factor = simd::broadcast<V>(g);
        each(begin, end, [&](std::int64_t i, std::size_t n) TRM_INLINE_LAMBDA {
            simd::store_n(to + i, fma(factor, simd::load_n<V>(from + i, n), simd::load_n<V>(to + i, n)), n);
        });
    }
};

template <class H, class W>
[[nodiscard]] status check_kept_head(linear_view<H, W> const& v, kept_ids const& k) noexcept {
    if (status s = check_head(v, linear_blocks{}); !s.ok()) return s;
    return check_kept(v, k);
}
/// f(id, its place in the list) for every kept id of a row.
template <class F>
TRM_INLINE void for_kept(kept_ids const& k, std::int64_t r, F&& f) {
    auto const i = static_cast<std::size_t>(r);
    for (std::int64_t at = k.cu[i]; at < k.cu[i + 1]; ++at)
        f(k.ids[static_cast<std::size_t>(at)], static_cast<std::size_t>(at));
}

/// f(id, its place in the list, its logit) for every kept id of a row.
template <class Arch, class H, class W, class F>
void each_logit(linear_view<H, W> const& v, kept_ids const& k, std::int64_t r, F&& f) {
    for_kept(k, r, [&](std::int32_t id, std::size_t at) {
        double z = 0;
        simd::on_unit<Arch>([&]<class Unit>(Unit)
                                TRM_INLINE_LAMBDA { z = kept_head<simd::vec<float, Unit>, H, W>{v}.logit(r, id); });
        f(id, at, z);
    });
}
/// d_hidden += g_v weight_v and d_weight_v += g_v hidden for every kept v of row r, in the columns [begin, end). Either pointer may
/// be null.
template <class Arch, class H, class W>
void add_products(linear_view<H, W> const& v, kept_ids const& k, std::int64_t r, double const* g, float* d_hidden,
                  float* d_weight, std::int64_t stride, std::int64_t begin, std::int64_t end) {
    simd::on_unit<Arch>([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
        kept_head<simd::vec<float, Unit>, H, W> const head{v};
        for_kept(k, r, [&](std::int32_t id, std::size_t at) TRM_INLINE_LAMBDA {
            if (d_hidden != nullptr) head.add(d_hidden, g[at], head.weight(id), begin, end);
            if (d_weight != nullptr) head.add(d_weight + std::int64_t{id} * stride, g[at], head.hidden(r), begin, end);
        });
    });
}

}  // namespace logits_detail

/// `log_prob_of_kept` of logits = hidden weight^T / temperature, of which only the kept ones are computed. f32 products; logits
/// within 1e-6 (sum of the absolute products). Errors: those of `log_prob_of_kept` and `linear_log_prob`. No allocation.
template <class Arch = simd::default_arch, class H, class W, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
[[nodiscard]] status linear_log_prob_of_kept(linear_view<H, W> const& v, kept_ids const& kept, Targets const& targets,
                                             log_prob_out<T> const& out, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_kept_head(v, kept); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_outputs(out, v.rows); !s.ok()) return s;
    d::for_rows(v.rows, d::cost_per_row(kept, v.rows) * v.width / 64 + 1, exec, [&](std::int64_t r) {
        bool const keeps = v.kept(r) && d::keeps_row(kept, r);
        logits_partial p;
        if (keeps)
            d::each_logit<Arch>(v, kept, r, [&](std::int32_t id, std::size_t, double z) {
                logits_partial one;
                one.shift = z;
                one.sum_exp = 1;
                if (id == std::data(targets)[r]) one.target_logit = z;
                p.merge(one);
            });
        d::write_result(out, static_cast<std::size_t>(r), keeps, p, v.vocab);
    });
    return {};
}

/// Backward pass of `linear_log_prob_of_kept`: d_hidden_r = sum_v g_v weight_v and d_weight_v = sum_r g_v hidden_r over kept v, g as in
/// `gradient_of_kept`. Rows of d_weight that no list names are not touched with `out.accumulate_weight`, else they are zeros.
/// `workspace`: one double per kept id, `kept.ids.size()`. Bitwise the same for any executor. `in.gathered` is not looked at.
/// Errors: those of `gradient_of_kept` and `linear_gradient`.
template <class Arch = simd::default_arch, class H, class W, token_ids Targets, arithmetic_type T,
          class Exec = serial_executor>
[[nodiscard]] status linear_gradient_of_kept(linear_view<H, W> const& v, kept_ids const& kept, Targets const& targets,
                                             logits_gradient_in<T> const& in, linear_gradient_out const& out,
                                             std::span<double> workspace, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_kept_head(v, kept); !s.ok()) return s;
    if (status s = d::check_linear_gradient(v, out); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_upstream(in, v.rows); !s.ok()) return s;
    if (workspace.size() < kept.ids.size()) return {errc::size_mismatch, -1, -1, "workspace"};
    auto const has_gradient = [&](std::int64_t r) {
        return v.kept(r) && d::keeps_row(kept, r) && is_finite(in.logsumexp[static_cast<std::size_t>(r)]) &&
               d::upstream_of(in, r).any();
    };
    // d logits of every kept entry, then both products column by column: no two tasks write to the same place
    d::for_rows(v.rows, d::cost_per_row(kept, v.rows) * v.width / 64 + 1, exec, [&](std::int64_t r) {
        if (!has_gradient(r)) return;
        double const lse = in.logsumexp[static_cast<std::size_t>(r)];
        d::row_upstream const up = d::upstream_of(in, r);
        d::each_logit<Arch>(v, kept, r, [&](std::int32_t id, std::size_t at, double z) {
            workspace[at] = d::kept_gradient(up, z - lse, id == std::data(targets)[r]) / v.temperature;
        });
    });
    std::int64_t const h_stride = out.d_hidden_stride != 0 ? out.d_hidden_stride : v.width;
    std::int64_t const w_stride = out.d_weight_stride != 0 ? out.d_weight_stride : v.width;
    std::int64_t const parts = (v.width + d::hidden_width - 1) / d::hidden_width;
    exec(parts, [&](std::int64_t part) {
        std::int64_t const begin = part * d::hidden_width, end = begin + d::at_most(v.width - begin, d::hidden_width);
        auto const bytes = static_cast<std::size_t>(end - begin) * sizeof(float);
        if (out.d_weight != nullptr && !out.accumulate_weight)
            for (std::int64_t w = 0; w < v.vocab; ++w) std::memset(out.d_weight + w * w_stride + begin, 0, bytes);
        for (std::int64_t r = 0; r < v.rows; ++r) {
            float* const to = out.d_hidden == nullptr ? nullptr : out.d_hidden + r * h_stride;
            bool const live = has_gradient(r);
            bool const clears =
                out.hidden_mode == logits_write::overwrite || (live && out.hidden_mode == logits_write::nonzero_rows);
            if (to != nullptr && clears) std::memset(to + begin, 0, bytes);
            if (live) d::add_products<Arch>(v, kept, r, workspace.data(), to, out.d_weight, w_stride, begin, end);
        }
    });
    return {};
}

TRM_NAMESPACE_END
