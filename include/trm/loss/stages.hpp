// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/tally.hpp>

/// \file
/// The first and the last stage of the kernel: from streams to a register of tokens, and from its terms to outputs and
/// sums. The stages between are those of the policies.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What the loss reads of one register of tokens, as it stands in memory. Without proximal_logp the two log-ratios of the
/// proximal policy are those of the current over the rollout policy, which is what surrogates and corrections fall back to.
template <class V>
struct raw_tokens {
    V logp, rollout, ref, given, advantage;
    V over, under;  ///< the proximal policy above the rollout policy, and below the current
};

/// Which log-ratios a loss wants, and the streams that it reads.
template <bool Proximal, class Core>
struct wanted {
    bool current_over_rollout, proximal_over_rollout, current_over_proximal, ref, given, advantage, marks, factor;

    explicit TRM_INLINE wanted(Core const& core) noexcept {
        unsigned const needs = core.needs();
        auto const wants = [&](ratio_kind kind) __attribute__((always_inline)) {
            auto const asked = [&](ratio_kind k) {
                return (needs & need::ratio(k)) != 0 && resolve(k, Proximal) == kind;
            };
            return resolve(core.diagnose_over(), Proximal) == kind || asked(kind) || asked(ratio_kind::surrogate) ||
                   asked(ratio_kind::correction);
        };
        current_over_rollout = wants(ratio_kind::current_over_rollout);
        proximal_over_rollout = Proximal && wants(ratio_kind::proximal_over_rollout);
        current_over_proximal = Proximal && wants(ratio_kind::current_over_proximal);
        ref = (needs & need::ref_logp) != 0;
        given = (needs & need::given) != 0;
        advantage = (needs & need::advantage) != 0;
        marks = (needs & need::marks) != 0;
        factor = core.shares_gradient();
    }
};

/// Reads one register of tokens, n of them (all unless !Full); zeros in the other lanes.
template <class V, bool Proximal, bool Full, class Core, class S>
TRM_INLINE void read_stage(wanted<Proximal, Core> const& want, stream_pointers<S, typename V::value_type> const& io,
                           std::int64_t at, std::size_t n, run_registers<V> const& numbers,
                           raw_tokens<V>& raw) noexcept {
    auto const read = [&](auto const* from) __attribute__((always_inline)) {
        if constexpr (Full) {
            return simd::load<V>(from + at);
        } else {
            return simd::load_n<V>(from + at, n);
        }
    };
    V const zero(typename V::value_type(0));
    raw.logp = read(io.logp);
    raw.rollout = read(io.rollout);
    raw.over = raw.logp;
    raw.under = raw.rollout;
    if (Proximal && io.proximal != nullptr) raw.over = raw.under = read(io.proximal);
    raw.ref = want.ref ? read(io.ref) : zero;
    raw.given = want.given ? read(io.given) : zero;
    raw.advantage = want.advantage && io.advantage != nullptr ? read(io.advantage) : numbers.advantage;
}

/// Asks for the streams `ahead` bytes after token `at`, n tokens of them: the hardware's own prefetching stops at every
/// page. 384 bytes ahead were the best of 128 to 4096 from memory; in L2 there is nothing to gain.
inline constexpr std::size_t prefetch_ahead = 384;
template <std::size_t n, bool Proximal, class Core, class S, class T>
TRM_INLINE void prefetch_stage(wanted<Proximal, Core> const& want, stream_pointers<S, T> const& io, std::int64_t at,
                               std::size_t ahead) noexcept {
    auto const ask = [&](auto const* from) __attribute__((always_inline)) {
        for (std::size_t i = 0; i < n * sizeof *from; i += 64) simd::prefetch(from + at, ahead + i);
    };
    ask(io.logp);
    ask(io.rollout);
    if (Proximal && io.proximal != nullptr) ask(io.proximal);
    if (want.ref) ask(io.ref);
    if (want.given) ask(io.given);
    if (want.advantage && io.advantage != nullptr) ask(io.advantage);
}

/// At least |x| of every log-ratio wanted, and not a number if anything that the loss reads is not finite.
template <class V, bool Proximal, class Core>
TRM_INLINE V unrest(wanted<Proximal, Core> const& want, raw_tokens<V> const& raw) noexcept {
    V const nil = simd::pin(V(typename V::value_type(0)));  // the compiler may not know what it multiplies with
    V worst = nil;
    if (want.current_over_rollout) worst = abs(raw.logp - raw.rollout);
    if (want.proximal_over_rollout) worst = worst + abs(raw.over - raw.rollout);
    if (want.current_over_proximal) worst = worst + abs(raw.logp - raw.under);
    if (want.advantage) worst = fma(raw.advantage, nil, worst);
    if (want.ref) worst = fma(raw.ref - raw.logp, nil, worst);
    if (want.given) worst = fma(raw.given, nil, worst);
    return worst;
}

/// A register whose lanes are all selected, finite and within the clamp: nothing to select, nothing to clamp.
template <class V, bool Proximal, class Core>
TRM_INLINE void tame_stage(wanted<Proximal, Core> const& want, raw_tokens<V> const& raw, bool small,
                           token<V, Proximal>& t) noexcept {
    t.active = V::mask::everywhere();
    t.allowed = V::mask::everywhere();
    t.marked = !V::mask::everywhere();
    t.logp = raw.logp;
    t.ref_logp = raw.ref;
    t.given = raw.given;
    t.advantage = raw.advantage;
    if (want.factor) t.factor = V(typename V::value_type(1));  // token_weights are never tame
    if (want.current_over_rollout) set_tame_log_ratio(t.current_over_rollout, raw.logp, raw.rollout, small);
    if (want.proximal_over_rollout) set_tame_log_ratio(t.proximal_over_rollout, raw.over, raw.rollout, small);
    if (want.current_over_proximal) set_tame_log_ratio(t.current_over_proximal, raw.logp, raw.under, small);
}

/// Any register; lanes beyond n (n < V::size unless Full) are inactive. Returns how many lanes loss_mask selects. A lane
/// is active if it is selected and everything the loss reads there is finite.
template <class V, bool Proximal, bool Full, class Core, class S>
TRM_INLINE int admit_stage(wanted<Proximal, Core> const& want, stream_pointers<S, typename V::value_type> const& io,
                           std::int64_t at, std::size_t n, run_registers<V> const& numbers, raw_tokens<V> const& raw,
                           token<V, Proximal>& t) noexcept {
    auto selected = Full ? V::mask::everywhere() : simd::first_n<V>(n);
    int selected_count = static_cast<int>(n);
    if (io.mask != nullptr) {
        if constexpr (Full) {
            selected = simd::load_mask<V>(io.mask + at);
        } else {
            selected = simd::load_mask_n<V>(io.mask + at, n);
        }
        selected_count = count(selected);
    }
    auto active = selected;
    if (want.current_over_rollout) active = active & finite(raw.logp - raw.rollout);
    if (want.proximal_over_rollout) active = active & finite(raw.over - raw.rollout);
    if (want.current_over_proximal) active = active & finite(raw.logp - raw.under);
    if (want.ref) active = active & finite(raw.ref - raw.logp);
    if (want.given) active = active & finite(raw.given);
    if (want.advantage) active = active & finite(raw.advantage);
    if (want.factor) t.factor = V(typename V::value_type(1));
    if (io.token_weight != nullptr) {
        V const factor = Full ? simd::load<V>(io.token_weight + at) : simd::load_n<V>(io.token_weight + at, n);
        active = active & finite(factor);
        if (want.factor) t.factor = zero_unless(active, factor);
    }

    t.active = active;
    t.allowed = selected;
    if (io.rejected != nullptr) t.allowed = simd::load_zeros<V>(io.rejected + at, n);
    t.marked = !V::mask::everywhere();
    if (want.marks && io.marks != nullptr)  // absent while they are being worked out
        t.marked = active & (Full ? simd::load_mask<V>(io.marks + at) : simd::load_mask_n<V>(io.marks + at, n));
    t.logp = zero_unless(active, raw.logp);
    t.ref_logp = zero_unless(active, raw.ref);
    t.given = zero_unless(active, raw.given);
    t.advantage = zero_unless(active, raw.advantage);
    V const limit = numbers.limit;
    if (want.current_over_rollout) set_log_ratio(t.current_over_rollout, raw.logp, raw.rollout, active, limit);
    if (want.proximal_over_rollout) set_log_ratio(t.proximal_over_rollout, raw.over, raw.rollout, active, limit);
    if (want.current_over_proximal) set_log_ratio(t.current_over_proximal, raw.logp, raw.under, active, limit);
    return selected_count;
}

/// Combines the stages' terms, writes the outputs of one register and adds to the sums.
template <class V, bool Proximal, bool Full, class Core, class S>
TRM_INLINE void finish_stage(Core const& core, stream_pointers<S, typename V::value_type> const& io, std::int64_t at,
                             std::size_t n, run_registers<V> const& numbers, token<V, Proximal> const& t,
                             lane_tally<V, Core>& lanes) noexcept {
    using T = typename V::value_type;
    V weight = simd::pin(t.weight);
    if (io.token_weight != nullptr)
        weight = weight * zero_unless(t.active, Full ? simd::load<V>(io.token_weight + at)
                                                     : simd::load_n<V>(io.token_weight + at, n));
    auto const keep = t.keep & numbers.kept;
    V value = simd::pin(t.value), slope = simd::pin(t.slope);
    if (core.has_weight() || io.token_weight != nullptr) {
        value = simd::pin(weight * value);
        if (!core.shares_gradient()) slope = simd::pin(weight * slope);
    }
    V all_slope = detail::zero<V>();
    if (core.has_penalties()) {  // a penalty may have a slope even where its log-ratio is 0
        value = value + t.penalty;
        slope = slope + t.penalty_slope;
        all_slope = zero_unless(t.active, t.penalty_all_slope);
        lanes.regulariser = lanes.regulariser + zero_unless(t.active, t.penalty_all);
    }
    lanes.objective = lanes.objective + zero_unless(keep, value);
    slope = zero_unless(keep, slope);
    if (core.has_penalties()) slope = slope + all_slope;
    auto const write = [&](T* to, V v) __attribute__((always_inline)) {
        if constexpr (Full) {
            simd::store(to + at, v);
        } else {
            simd::store_n(to + at, v, n);
        }
    };
    if (io.grad != nullptr) {
        V g = simd::pin(slope * numbers.scale);
        if (io.accumulate) g = g + (Full ? simd::load<V>(io.grad + at) : simd::load_n<V>(io.grad + at, n));
        write(io.grad, g);
    }
    if (io.weights != nullptr) write(io.weights, zero_unless(keep, weight));
    if (io.reasons != nullptr) {
        alignas(64) T reasons[V::size];
        simd::store(reasons, t.reasons);
        std::uint32_t const active = to_bits(t.active);
        for (std::size_t i = 0; i < n; ++i) {
            auto const j = at + static_cast<std::int64_t>(i);
            bool const selected = io.mask == nullptr || io.mask[j] != 0;
            auto r = static_cast<std::uint16_t>(reasons[i]);
            if (io.rejected != nullptr) r |= io.rejected[j];
            if ((active >> i & 1u) == 0) r = reason_nonfinite;
            io.reasons[j] = selected ? static_cast<std::uint16_t>(r | numbers.reasons) : std::uint16_t{0};
        }
    }
    if (io.keep != nullptr) simd::store_mask(io.keep + at, keep, n);  // last: may be the memory of loss_mask
    if (numbers.diagnose) {
        auto const& l = core.diagnosed(t);
        lanes.k3 = lanes.k3 + l.k3;
        lanes.r_squared = fma(l.exp, zero_unless(t.active, l.exp), lanes.r_squared);
        V const lowest(-std::numeric_limits<T>::infinity());
        lanes.max_x = simd::max(select(t.active, l.value, lowest), lanes.max_x);
        lanes.min_x = simd::min(select(t.active, l.value, -lowest), lanes.min_x);
        if (core.has_token_criteria() || io.rejected != nullptr) {
            lanes.passing_x = lanes.passing_x + zero_unless(t.keep, l.value);
            lanes.passing_k3 = lanes.passing_k3 + zero_unless(t.keep, l.k3);
        }
        if (core.has_weight()) {
            V const w = zero_unless(t.keep, weight);
            lanes.weight = lanes.weight + w;
            lanes.weight_squared = fma(w, w, lanes.weight_squared);
            lanes.max_weight = simd::max(w, lanes.max_weight);
        }
        V const zero(T(0)), one(T(1)), tolerance = simd::broadcast<V>(positive_tolerance<S>);
        auto const above = (l.target > tolerance) | (l.behaviour > tolerance);
        lanes.positive_logp = add_where(t.active & above, lanes.positive_logp, one);
        auto const positive = t.keep & (t.advantage > zero), negative = t.keep & (t.advantage < zero);
        lanes.positive = add_where(positive, lanes.positive, one);
        lanes.negative = add_where(negative, lanes.negative, one);
        lanes.clipped_positive = add_where(positive & t.clipped, lanes.clipped_positive, one);
        lanes.clipped_negative = add_where(negative & t.clipped, lanes.clipped_negative, one);
    }
}

}  // namespace detail
TRM_NAMESPACE_END
