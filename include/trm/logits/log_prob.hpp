// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/detail/row_sum.hpp>

/// \file
/// From logits [N, V] to the log-probability of each row's token, the row's logsumexp and its entropy, in one read.

TRM_NAMESPACE_BEGIN

/// Where `log_prob` writes; every span is empty or has one element per row. T is float or double. The logsumexp is double
/// because the backward pass rebuilds probabilities from it: at logits of 1e4 a float would cost 0.1% of every one.
template <arithmetic_type T>
struct log_prob_out {
    std::span<T> logp{};
    std::span<double> logsumexp{};
    std::span<T> entropy{};
};

namespace logits_detail {

template <class V, class S>
[[nodiscard]] logits_partial row_partial(logits_view<S> const& v, std::int64_t r, std::int64_t target,
                                         bool entropy) noexcept {
    S const* const x = v.row(r);
    std::uint8_t const* const mask = v.mask_row(r);
    logits_partial p;
    if (mask != nullptr) {
        p = entropy ? sum_row<V, true>(x, v.vocab, v.temperature, masked_row{mask})
                    : sum_row<V, false>(x, v.vocab, v.temperature, masked_row{mask});
    } else {
        p = entropy ? sum_row<V, true>(x, v.vocab, v.temperature, whole_row{})
                    : sum_row<V, false>(x, v.vocab, v.temperature, whole_row{});
    }
    if (target >= 0 && target < v.vocab && (mask == nullptr || mask[target] != 0)) {
        double const z = to_double(x[target]);
        if (!(z <= static_cast<double>(nothing<float>))) p.target_logit = z / v.temperature;
    }
    return p;
}

template <arithmetic_type T>
[[nodiscard]] status check_outputs(log_prob_out<T> const& out, std::int64_t rows) noexcept {
    if (status s = check_span(out.logp, rows, "logp"); !s.ok()) return s;
    if (status s = check_span(out.logsumexp, rows, "logsumexp"); !s.ok()) return s;
    return check_span(out.entropy, rows, "entropy");
}
/// The results of row i; zeros if it was left out.
template <arithmetic_type T, class... Vocab>
void write_result(log_prob_out<T> const& out, std::size_t i, bool kept, logits_partial const& p,
                  Vocab... vocab) noexcept {
    if (!out.logp.empty()) out.logp[i] = kept ? static_cast<T>(p.logp()) : T(0);
    if (!out.logsumexp.empty()) out.logsumexp[i] = kept ? p.logsumexp() : 0.0;
    if (!out.entropy.empty()) out.entropy[i] = kept ? static_cast<T>(p.entropy(vocab...)) : T(0);
}

}  // namespace logits_detail

/// logp[r] = z[target] - logsumexp(z), entropy[r] = -sum p log p, z = logits[r, :] / temperature, in nats.
///
/// Accuracy for float arithmetic (f32, bf16, f16 storage), absolute, before the rounding of the result, for any vocabulary and
/// any magnitude of the logits: logsumexp within 2e-6, entropy within 1e-5; within 5e-7 and 1e-6 for rows spread like those of
/// models. (The worst rows have half of the probability in one token and spread the other half over a million; log2(e) /
/// temperature is rounded to a float, which costs 6e-8 per nat between the two.) logp <= 0 and entropy in [0, log vocab] hold
/// exactly. A target with logit -inf or outside the vocabulary mask has
/// logp -inf; a row without a finite logit, or with NaN or +inf, has logp NaN. The token pipeline masks and counts both.
/// Rows with row_mask 0 are not read; their results are 0 and their targets may be anything.
/// Errors: size_mismatch, bad_layout (token names the row of a target outside [0, vocab)), bad_threshold (temperature).
/// One exponential per element; no allocation. Source of the one-pass form: Milakov and Gimelshein, arXiv 1805.02867.
template <class Arch = simd::default_arch, class S, token_ids Targets, arithmetic_type T, class Exec = serial_executor>
[[nodiscard]] status log_prob(logits_view<S> const& v, Targets const& targets, log_prob_out<T> const& out,
                              Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_view(v); !s.ok()) return s;
    if (status s = d::check_targets(v, targets); !s.ok()) return s;
    if (status s = d::check_outputs(out, v.rows); !s.ok()) return s;
    using V = simd::registers<default_arithmetic_t<S>, Arch>;
    d::for_rows(v.rows, v.vocab, exec, [&](std::int64_t r) {
        logits_partial p;
        bool const kept = v.kept(r);
        if (kept) p = d::row_partial<V>(v, r, std::int64_t{std::data(targets)[r]}, !out.entropy.empty());
        d::write_result(out, static_cast<std::size_t>(r), kept, p, v.vocab);
    });
    return {};
}

/// One shard of the vocabulary, `v` holding the columns [first, first + v.vocab): partials to merge with those of the other
/// shards. Targets are ids of the whole vocabulary. Tensor parallelism: either all-gather the partials and `merge`, or
/// all-reduce the maximum of `shift`, `rebase` to it, and all-reduce the sums.
/// weighted_sum is filled only if `entropy`. Rows with row_mask 0 give a neutral partial. Errors: those of `log_prob`, except
/// that a target may lie outside the shard.
template <class Arch = simd::default_arch, class S, token_ids Targets, class Exec = serial_executor>
[[nodiscard]] status log_prob_partials(logits_view<S> const& v, std::int64_t first, Targets const& targets,
                                       std::span<logits_partial> out, bool entropy = true, Exec const& exec = {}) {
    namespace d = logits_detail;
    if (status s = simd::check_unit<Arch>(); !s.ok()) return s;
    if (status s = d::check_view(v); !s.ok()) return s;
    if (status s = d::check_shard(v, first, targets); !s.ok()) return s;
    if (static_cast<std::int64_t>(out.size()) != v.rows) return {errc::size_mismatch, -1, -1, "partials"};
    using V = simd::registers<default_arithmetic_t<S>, Arch>;
    d::for_rows(v.rows, v.vocab, exec, [&](std::int64_t r) {
        auto const i = static_cast<std::size_t>(r);
        out[i] = v.kept(r) ? d::row_partial<V>(v, r, std::int64_t{std::data(targets)[r]} - first, entropy)
                           : logits_partial{};
    });
    return {};
}

/// logp, logsumexp and entropy of merged partials. What `log_prob` promises of ranges holds here too, but for the upper end of
/// the entropy: partials do not know the size of the vocabulary.
template <arithmetic_type T>
[[nodiscard]] status finish(std::span<logits_partial const> partials, log_prob_out<T> const& out) noexcept {
    namespace d = logits_detail;
    if (status s = d::check_outputs(out, static_cast<std::int64_t>(partials.size())); !s.ok()) return s;
    for (std::size_t i = 0; i < partials.size(); ++i) d::write_result(out, i, true, partials[i]);
    return {};
}

TRM_NAMESPACE_END
