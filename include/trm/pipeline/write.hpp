// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tally.hpp>

/// \file
/// The last step of the pipeline, register by register: terms of a token to sums, gradient, and the other outputs.

TRM_NAMESPACE_BEGIN
namespace detail {

/// The decision about a run and its advantage in registers.
template <class V>
struct run_registers {
    V scale, advantage;
    typename V::mask kept;
    std::uint16_t reasons;  ///< of the sequence
    bool wide;              ///< see has_wide_squares

    run_registers() noexcept = default;
    TRM_INLINE run_registers(decision const& d, double of_sequence, double limit) noexcept
        : scale(simd::broadcast<V>(d.scale)),
          advantage(simd::broadcast<V>(of_sequence)),
          kept(!V::mask::everywhere()),
          reasons(d.reasons),
          wide(has_wide_squares(limit, d)) {
        if (d.keep) kept = V::mask::everywhere();
    }
    /// Of a sequence that is kept, whose advantage nobody looks at.
    TRM_INLINE explicit run_registers(V const& factor) noexcept
        : scale(factor), advantage(factor), kept(V::mask::everywhere()), reasons(0), wide(false) {}
};

/// The stop-gradient factor of each token's surrogate: its weight times the batch's own.
template <class V, bool P, class S>
TRM_INLINE V token_factor(stream_pointers<S, typename V::value_type> const& io, std::int64_t at, std::size_t n,
                          token<V, P> const& t) noexcept {
    V const weight = simd::pin(t.weight);
    if (io.token_weight == nullptr) return weight;
    return weight * zero_unless(t.active, simd::load_first<V>(io.token_weight + at, n));
}

/// Adds the terms of the tokens to the loss; writes the gradient.
template <class V, bool P, class Core, class S>
TRM_INLINE void write_gradient(Core const& core, stream_pointers<S, typename V::value_type> const& io, std::int64_t at,
                               std::size_t n, run_registers<V> const& run, token<V, P> const& t, V factor, V& objective,
                               V& regulariser) noexcept {
    auto const keep = t.keep & run.kept;
    V value = simd::pin(t.value), slope = simd::pin(t.slope);
    if ((core.has_weight() || io.token_weight != nullptr) && !core.folds_weight()) {
        value = simd::pin(factor * value);
        if (!core.shares_gradient()) slope = simd::pin(factor * slope);
    }
    V all_slope = zero<V>();
    if (core.has_penalties()) {  // a penalty may have a slope even where its log-ratio is 0
        value = value + t.penalty;
        slope = slope + t.penalty_slope;
        all_slope = zero_unless(t.active, t.penalty_all_slope);
        regulariser = regulariser + zero_unless(t.active, t.penalty_all);
    }
    if (core.moves_rejected()) all_slope = all_slope + zero_unless(t.active & run.kept & !t.keep, simd::pin(t.slope));
    objective = add_where(keep, objective, value);
    if (io.grad == nullptr) return;
    bool const adds = core.has_penalties() || core.moves_rejected();
    V gradient =
        simd::pin(adds ? (zero_unless(keep, slope) + all_slope) * run.scale : mul_or_zero(keep, slope, run.scale));
    if (io.accumulate) gradient = gradient + simd::load_first<V>(io.grad + at, n);
    simd::store_first(io.grad + at, gradient, n);
}

/// Writes what is asked for besides the gradient. `keep` comes last: it may be the memory of loss_mask.
template <class V, bool P, class S>
TRM_INLINE void write_outputs(stream_pointers<S, typename V::value_type> const& io, std::int64_t at, std::size_t n,
                              run_registers<V> const& run, token<V, P> const& t, V factor) noexcept {
    auto const keep = t.keep & run.kept;
    if (io.weights != nullptr) simd::store_first(io.weights + at, zero_unless(keep, factor), n);
    if (io.reasons != nullptr) {
        alignas(64) typename V::value_type reasons[V::size];
        simd::store(reasons, t.reasons);
        std::uint32_t const active = to_bits(t.active);
        for (std::size_t i = 0; i < n; ++i) {
            auto const j = at + static_cast<std::int64_t>(i);
            bool const selected = io.mask == nullptr || io.mask[j] != 0;
            auto r = static_cast<std::uint16_t>(reasons[i]);
            if (io.rejected != nullptr) r |= io.rejected[j];
            if ((active >> i & 1u) == 0) r = reason_nonfinite;
            io.reasons[j] = selected ? static_cast<std::uint16_t>(r | run.reasons) : std::uint16_t{0};
        }
    }
    if (io.keep != nullptr) simd::store_mask(io.keep + at, keep, n);
}

/// Adds the tokens to the diagnostics. `splits`: a token of a kept sequence can be rejected. `wide`: see has_wide_squares.
template <class V, bool P, class Core>
TRM_INLINE void describe_tokens(Core const& core, token<V, P> const& t, log_ratio<V> const& l, V factor, bool splits,
                                bool wide, described_lanes<V>& lanes) noexcept {
    using T = typename V::value_type;
    V const zero(T(0));
    lanes.k3 = lanes.k3 + l.k3;
    if (wide) {
        lanes.add_squares(zero_unless(t.active, l.exp), &lanes.r_squared, &lanes.wide_r_squared);
    } else {
        lanes.r_squared = fma(l.exp, zero_unless(t.active, l.exp), lanes.r_squared);
    }
    V const lowest(-std::numeric_limits<T>::infinity());
    lanes.max_x = (simd::max)(select(t.active, l.value, lowest), lanes.max_x);
    lanes.min_x = (simd::min)(select(t.active, l.value, -lowest), lanes.min_x);
    if (splits) {
        lanes.passing_x = lanes.passing_x + zero_unless(t.keep, l.value);
        lanes.passing_k3 = lanes.passing_k3 + zero_unless(t.keep, l.k3);
    }
    if (core.has_weight()) {
        V const w = zero_unless(t.keep, factor);
        lanes.weight = lanes.weight + w;
        if (wide) {
            lanes.add_squares(w, &lanes.weight_squared, &lanes.wide_weight_squared);
        } else {
            lanes.weight_squared = fma(w, w, lanes.weight_squared);
        }
        lanes.max_weight = (simd::max)(w, lanes.max_weight);
    }
    auto const positive = t.keep & (t.advantage > zero), negative = t.keep & (t.advantage < zero);
    lanes.positive += count(positive);
    lanes.negative += count(negative);
    lanes.clipped_positive += count(positive & t.clipped);
    lanes.clipped_negative += count(negative & t.clipped);
}

}  // namespace detail
TRM_NAMESPACE_END
