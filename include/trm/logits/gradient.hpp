// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_gradient.hpp>

/// \file
/// Backward pass of `log_prob`: from d loss / d logp and d loss / d entropy to d loss / d logits.

TRM_NAMESPACE_BEGIN

/// d loss / d log p of further tokens, such as those of the rollout's stored top-k: the backward pass of `gather_log_prob` and
/// `linear_gather`, and score centering (logits/centering.hpp).
template <arithmetic_type T>
struct gathered_gradient {
    stream_view<std::int32_t> ids{};  ///< [rows, per_row]; ids < 0 are unused slots; an id that is listed again adds up
    std::int64_t per_row = 0;
    stream_view<T> d_logp{};  ///< [rows, per_row]
};

/// Inputs of the backward pass, one element per row. `logsumexp` and `entropy` come from `log_prob` on the same view.
template <arithmetic_type T>
struct logits_gradient_in {
    stream_view<double> logsumexp{};
    stream_view<T> d_logp{};
    stream_view<T> d_entropy{};  ///< optional
    stream_view<T> entropy{};  ///< needed with d_entropy
    gathered_gradient<T> gathered{};  ///< optional
};

/// What happens to the output.
enum class logits_write : std::uint8_t {
    overwrite,  ///< rows without upstream gradient are filled with zero
    accumulate,  ///< added to what is there; rows without upstream gradient are not touched
    nonzero_rows  ///< rows without upstream gradient are not touched: the caller keeps zeros there
};

/// d_logits [rows, vocab]. May be the logits themselves (exact alias: same address, same stride, same element size).
template <class O>
struct logits_gradient_out {
    O* data = nullptr;
    std::int64_t row_stride = 0;  ///< elements; 0 means vocab
    logits_write mode = logits_write::overwrite;
    bool stream = false;  ///< non-temporal stores (f32, not accumulating): pays when the output is larger than the L3
};

namespace logits_detail {

/// Sum of the upstream gradients of a row's further tokens, and whether there is any.
struct gathered_sum {
    double sum = 0.0;
    bool any = false;
};
template <arithmetic_type T>
[[nodiscard]] gathered_sum sum_of(gathered_gradient<T> const& g, std::int64_t row) noexcept {
    gathered_sum all;
    for (std::int64_t k = row * g.per_row; k < (row + 1) * g.per_row; ++k) {
        auto const i = static_cast<std::size_t>(k);
        if (g.ids[i] < 0 || g.d_logp[i] == T(0)) continue;
        all.sum += static_cast<double>(g.d_logp[i]);
        all.any = true;
    }
    return all;
}
/// *to = v, rounded to the storage type.
template <class O>
void store_number(O* to, double v) noexcept {
    using A = default_arithmetic_t<O>;
    simd::store_as_n(to, simd::vec<A, simd::scalar>(static_cast<A>(v)), 1);
}
template <class O>
void add_to(O* to, double v) noexcept {
    store_number(to, to_double(*to) + v);
}
/// Adds what a row's further tokens have beyond their share of p, to the columns [first, first + n) at d.
template <arithmetic_type T, class O>
void add_gathered(gathered_gradient<T> const& g, std::int64_t row, double temperature, std::int64_t first,
                  std::int64_t n, O* d) noexcept {
    for (std::int64_t k = row * g.per_row; k < (row + 1) * g.per_row; ++k) {
        auto const i = static_cast<std::size_t>(k);
        std::int64_t const at = g.ids[i] - first;
        if (g.ids[i] < 0 || at < 0 || at >= n) continue;
        add_to(d + at, static_cast<double>(g.d_logp[i]) / temperature);
    }
}
template <arithmetic_type T>
[[nodiscard]] status check_gathered(gathered_gradient<T> const& g, std::int64_t rows) noexcept {
    if (g.per_row < 0 || !fits(rows, g.per_row)) return {errc::bad_layout, -1, -1, "gathered: per_row"};
    auto const n = static_cast<std::size_t>(rows * g.per_row);
    if (g.ids.size() != n || g.d_logp.size() != n) return {errc::size_mismatch, -1, -1, "gathered"};
    return {};
}
/// Also that the ids of the kept rows lie in the vocabulary.
template <class View, arithmetic_type T>
[[nodiscard]] status check_gathered_ids(View const& v, gathered_gradient<T> const& g) noexcept {
    if (status s = check_gathered(g, v.rows); !s.ok()) return s;
    for (std::int64_t k = 0; k < v.rows * g.per_row; ++k)
        if (g.ids[static_cast<std::size_t>(k)] >= v.vocab && v.kept(k / g.per_row))
            return {errc::bad_layout, -1, k / g.per_row, "gathered: id outside the vocabulary"};
    return {};
}

template <arithmetic_type T>
[[nodiscard]] row_upstream upstream_of(logits_gradient_in<T> const& in, std::int64_t row) noexcept {
    auto const i = static_cast<std::size_t>(row);
    double const h = in.d_entropy.empty() ? 0.0 : static_cast<double>(in.d_entropy[i]);
    return {static_cast<double>(in.d_logp[i]), h, h == 0.0 ? 0.0 : static_cast<double>(in.entropy[i])};
}
template <arithmetic_type T>
[[nodiscard]] status check_upstream(logits_gradient_in<T> const& in, std::int64_t rows) noexcept {
    auto const n = static_cast<std::size_t>(rows);
    if (in.logsumexp.size() != n) return {errc::size_mismatch, -1, -1, "logsumexp"};
    if (in.d_logp.size() != n) return {errc::size_mismatch, -1, -1, "d_logp"};
    if (status s = check_span(in.d_entropy, rows, "d_entropy"); !s.ok()) return s;
    if (!in.d_entropy.empty() && in.entropy.size() != n) return {errc::missing_stream, -1, -1, "entropy"};
    return {};
}

/// `V`: simd::registers.
template <bool Entropy, class V, class S, class O, class M>
void gradient_body(row_gradient const& g, S const* x, O* d, std::int64_t n, bool accumulate, bool stream,
                   M mask) noexcept {
    if (accumulate) {
        write_row<Entropy, true, false, V>(g, x, d, n, mask);
    } else if (stream && std::is_same_v<O, typename V::value_type>) {
        write_row<Entropy, false, std::is_same_v<O, typename V::value_type>, V>(g, x, d, n, mask);
    } else {
        write_row<Entropy, false, false, V>(g, x, d, n, mask);
    }
}

template <class V, class S, class O, class M>
void gradient_row(row_gradient const& g, S const* x, O* d, std::int64_t n, std::int64_t target, bool accumulate,
                  bool stream, M mask, bool target_alive) noexcept {
    using T = typename V::value_type;
    double y = 0.0;
    if (target >= 0) {  // before an in-place write destroys it
        double const z = to_double(x[target]);
        y = target_alive && z > static_cast<double>(nothing<float>) ? g.target(z) : g.at_target;
        if (accumulate) y += to_double(d[target]);
    }
    g.has_entropy() ? gradient_body<true, V>(g, x, d, n, accumulate, stream, mask)
                    : gradient_body<false, V>(g, x, d, n, accumulate, stream, mask);
    if (target >= 0) simd::store_as_n(d + target, simd::vec<T, simd::scalar>(static_cast<T>(y)), 1);
}

template <class S, arithmetic_type T, class O>
[[nodiscard]] status check_gradient(logits_view<S> const& v, std::size_t targets, logits_gradient_in<T> const& in,
                                    logits_gradient_out<O> const& out) noexcept {
    if (status s = check_view(v); !s.ok()) return s;
    if (targets != static_cast<std::size_t>(v.rows)) return {errc::size_mismatch, -1, -1, "targets"};
    if (status s = check_upstream(in, v.rows); !s.ok()) return s;
    if (out.row_stride != 0 && out.row_stride < v.vocab)
        return {errc::bad_layout, -1, -1, "d_logits: row_stride < vocab"};
    if (!fits(v.rows, out.row_stride)) return {errc::bad_layout, -1, -1, "d_logits: rows x row_stride is too large"};
    if (v.rows > 0 && out.data == nullptr) return {errc::missing_stream, -1, -1, "d_logits"};
    return {};
}

/// All rows of the columns [first, first + v.vocab); targets are ids of the whole vocabulary.
template <class V, class S, token_ids Targets, arithmetic_type T, class O, class Exec>
void gradient_rows(logits_view<S> const& v, std::int64_t first, Targets const& targets, logits_gradient_in<T> const& in,
                   logits_gradient_out<O> const& out, Exec const& exec) {
    std::int64_t const stride = out.row_stride != 0 ? out.row_stride : v.vocab;
    bool const accumulate = out.mode == logits_write::accumulate;
    for_rows(v.rows, v.vocab, exec, [&](std::int64_t r) {
        double const lse = in.logsumexp[static_cast<std::size_t>(r)];
        O* const y = out.data + r * stride;
        row_upstream const up = upstream_of(in, r);
        gathered_sum const further = sum_of(in.gathered, r);
        if (!v.kept(r) || !(up.any() || further.any) || !is_finite(lse)) {
            if (out.mode == logits_write::overwrite)
                std::memset(static_cast<void*>(y), 0, static_cast<std::size_t>(v.vocab) * sizeof(O));
            return;
        }
        row_gradient const g(v.temperature, lse, up, further.sum);
        std::int64_t const at = std::int64_t{std::data(targets)[r]} - first;
        std::int64_t const target = at >= 0 && at < v.vocab ? at : -1;
        if (std::uint8_t const* mask = v.mask_row(r); mask != nullptr) {
            gradient_row<V>(g, v.row(r), y, v.vocab, target, accumulate, out.stream, masked_row{mask},
                            target >= 0 && mask[target] != 0);
        } else {
            gradient_row<V>(g, v.row(r), y, v.vocab, target, accumulate, out.stream, whole_row{}, true);
        }
        if (further.any) add_gathered(in.gathered, r, v.temperature, first, v.vocab, y);
        if (out.stream) simd::stream_fence();
    });
}

}  // namespace logits_detail

/// d_logits[r, v] = (d_logp[r] (1[v = target] - p_v) - d_entropy[r] p_v (log p_v + H)) / temperature, p = softmax(z), plus
/// (sum_k g_k (1[v = id_k] - p_v)) / temperature for the further tokens of `in.gathered`, g_k their d_logp.
///
/// A row costs one read and one write; a row whose d_logp, d_entropy and further d_logp are all 0 (rejected by a mask), whose row_mask is
/// 0 or whose logsumexp is not finite costs a memset, or nothing, see `logits_write`: its logits are not read. Probabilities
/// below 2^-126 may be 0. Rows sum to zero up to rounding (entries outside vocab_mask get exactly 0, the target and further tokens excepted).
/// Relative error of p: 4e-7 + 1.2e-7 |log p| for f32, whatever the magnitude of the logits and the size of the vocabulary,
/// and that of exp(logsumexp); then the rounding of the output type.
/// Entries of further tokens are rounded to the output type twice. A non-finite d_logp is not filtered: the token pipeline
/// never produces one.
/// Errors: those of `log_prob`, missing_stream (d_entropy without entropy). No allocation.
template <class Arch = simd::default_arch, class S, token_ids Targets, arithmetic_type T, class O,
          class Exec = serial_executor>
[[nodiscard]] status logits_gradient(logits_view<S> const& v, Targets const& targets, logits_gradient_in<T> const& in,
                                     logits_gradient_out<O> const& out, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_gradient(v, std::size(targets), in, out); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_gathered_ids(v, in.gathered); !s.ok()) return s;
    d::gradient_rows<simd::registers<default_arithmetic_t<S>, Arch>>(v, 0, targets, in, out, exec);
    return {};
}

/// The same for one shard of the vocabulary, `v` and `out` holding the columns [first, first + v.vocab). Targets are ids of
/// the whole vocabulary; logsumexp and entropy are those of the merged partials (`log_prob_partials`). Nothing has to be
/// exchanged. Errors: those of `logits_gradient`, except that a target may lie outside the shard.
template <class Arch = simd::default_arch, class S, token_ids Targets, arithmetic_type T, class O,
          class Exec = serial_executor>
[[nodiscard]] status logits_gradient_shard(logits_view<S> const& v, std::int64_t first, Targets const& targets,
                                           logits_gradient_in<T> const& in, logits_gradient_out<O> const& out,
                                           Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_gradient(v, std::size(targets), in, out); !s.ok()) return s;
    if (status s = d::check_shard(v, first, targets); !s.ok()) return s;
    if (status s = d::check_gathered(in.gathered, v.rows); !s.ok()) return s;
    d::gradient_rows<simd::registers<default_arithmetic_t<S>, Arch>>(v, first, targets, in, out, exec);
    return {};
}

TRM_NAMESPACE_END
