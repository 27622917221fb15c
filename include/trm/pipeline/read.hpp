// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/call.hpp>
#include <trm/pipeline/wanted.hpp>
#include <trm/policy/divergence.hpp>
#include <trm/simd/dispatch.hpp>

/// \file
/// The first step of the pipeline: one register of tokens from the streams, checked for exceptions. An exception is a token
/// that loss_mask leaves out, something that is not finite, or a log-ratio beyond the clamp. Registers without one, nearly
/// all, need no selection and no clamp; the results are the same bits either way.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What the loss reads of one register of tokens, as it stands in memory. Without proximal_logp the two log-ratios of the
/// proximal policy are those of the current over the rollout policy, which is what surrogates and corrections fall back to.
template <class V>
struct raw_tokens {
    V logp, rollout, ref, given, advantage;
    V over, under;  ///< the proximal policy above the rollout policy, and below the current
};

/// Reads n tokens from `at` on (n <= V::size); zeros in the other lanes. `advantage`: of the sequence, where there is none
/// per token.
template <class V, bool Proximal, class S>
TRM_INLINE void read_register(wanted<Proximal> const& want, stream_pointers<S, typename V::value_type> const& io,
                              std::int64_t at, std::size_t n, V advantage, raw_tokens<V>& raw) noexcept {
    auto const read = [&](auto const* from) TRM_INLINE_LAMBDA { return simd::load_first<V>(from + at, n); };
    V const zero(typename V::value_type(0));
    raw.logp = read(io.logp);
    raw.rollout = read(io.rollout);
    raw.over = raw.logp;
    raw.under = raw.rollout;
    if (Proximal && io.proximal != nullptr) raw.over = raw.under = read(io.proximal);
    raw.ref = want.ref ? read(io.ref) : zero;
    raw.given = want.given ? read(io.given) : zero;
    raw.advantage = want.advantage && io.advantage != nullptr ? read(io.advantage) : advantage;
}

/// At least |x| of every log-ratio wanted, and not a number if anything that the loss reads is not finite.
template <class V, bool Proximal>
TRM_INLINE V largest_log_ratio(wanted<Proximal> const& want, raw_tokens<V> const& raw) noexcept {
    V const nil = simd::pin(V(typename V::value_type(0)));  // the compiler may not know what it multiplies with
    V largest = nil;
    if (want.current_over_rollout()) largest = abs(raw.logp - raw.rollout);
    if (want.proximal_over_rollout()) largest = largest + abs(raw.over - raw.rollout);
    if (want.current_over_proximal()) largest = largest + abs(raw.logp - raw.under);
    if (want.advantage) largest = fma(raw.advantage, nil, largest);
    if (want.ref) largest = fma(raw.ref - raw.logp, nil, largest);
    if (want.given) largest = fma(raw.given, nil, largest);
    return largest;
}
/// |x| <= limit, false for NaN, also where the compiler takes a <= b for !(b < a).
template <class V>
TRM_INLINE typename V::mask is_within(V largest, V limit) noexcept {
    if constexpr (TRM_FAST_MATH) return (largest <= limit) & finite(largest);
    return largest <= limit;
}

/// Lanes with a log-probability above 0 by more than rounding, among the n tokens from `at` on.
template <class V, bool Proximal, class S>
TRM_INLINE typename V::mask is_positive(wanted<Proximal> const&, stream_pointers<S, typename V::value_type> const& io,
                                        std::int64_t at, std::size_t n, raw_tokens<V> const& raw) noexcept {
    V const limit = simd::broadcast<V>(positive_tolerance<S>), highest = (simd::max)(raw.logp, raw.rollout);
    auto const above = (Proximal ? (simd::max)(highest, raw.over) : highest) > limit;
    if (io.only_counted == nullptr) return above;
    return above | (simd::load_first<V>(io.only_counted + at, n) > limit);
}

/// Zeros in the lanes that are not selected, so that whatever stands there is no exception.
template <class V, bool Proximal>
TRM_INLINE void blank_unselected(wanted<Proximal> const& want, typename V::mask selected, raw_tokens<V>& raw) noexcept {
    raw.logp = zero_unless(selected, raw.logp);
    raw.rollout = zero_unless(selected, raw.rollout);
    raw.over = Proximal ? zero_unless(selected, raw.over) : raw.logp;
    raw.under = Proximal ? zero_unless(selected, raw.under) : raw.rollout;
    if (want.ref) raw.ref = zero_unless(selected, raw.ref);
    if (want.given) raw.given = zero_unless(selected, raw.given);
    if (want.advantage) raw.advantage = zero_unless(selected, raw.advantage);
}

/// Tokens whose selected lanes are finite and within the clamp, and whose other lanes hold zeros. `small`: |x| <=
/// simd::small_exponent in every lane.
template <class V, bool Proximal>
TRM_INLINE void set_tokens(wanted<Proximal> const& want, raw_tokens<V> const& raw, typename V::mask selected,
                           bool is_small, token<V, Proximal>& t) noexcept {
    t.active = selected;
    t.allowed = selected;
    t.marked = !V::mask::everywhere();
    t.logp = raw.logp;
    t.ref_logp = raw.ref;
    t.given = raw.given;
    t.advantage = raw.advantage;
    if (want.factor) t.factor = V(typename V::value_type(1));  // token_weights are checked, see below
    if (want.current_over_rollout())
        set_log_ratio_within(t.current_over_rollout, raw.logp, raw.rollout, is_small, want.exp[0]);
    if (want.proximal_over_rollout())
        set_log_ratio_within(t.proximal_over_rollout, raw.over, raw.rollout, is_small, want.exp[1]);
    if (want.current_over_proximal())
        set_log_ratio_within(t.current_over_proximal, raw.logp, raw.under, is_small, want.exp[2]);
}

/// Any tokens: a lane is active if it is selected and everything that the loss reads there is finite.
template <class V, bool Proximal>
TRM_INLINE void set_tokens_checked(wanted<Proximal> const& want, clamp_range clamp, raw_tokens<V> const& raw,
                                   typename V::mask selected, token<V, Proximal>& t) noexcept {
    auto active = selected;
    if (want.current_over_rollout()) active = active & finite(raw.logp - raw.rollout);
    if (want.proximal_over_rollout()) active = active & finite(raw.over - raw.rollout);
    if (want.current_over_proximal()) active = active & finite(raw.logp - raw.under);
    if (want.ref) active = active & finite(raw.ref - raw.logp);
    if (want.given) active = active & finite(raw.given);
    if (want.advantage) active = active & finite(raw.advantage);
    if (want.factor) t.factor = V(typename V::value_type(1));
    t.active = active;
    t.allowed = active;
    t.marked = !V::mask::everywhere();
    t.logp = zero_unless(active, raw.logp);
    t.ref_logp = zero_unless(active, raw.ref);
    t.given = zero_unless(active, raw.given);
    t.advantage = zero_unless(active, raw.advantage);
    V const lower = simd::broadcast<V>(clamp.lower), upper = simd::broadcast<V>(clamp.upper);
    auto const set = [&](log_ratio<V>& l, V target, V behaviour)
                         TRM_INLINE_LAMBDA { set_log_ratio(l, target, behaviour, active, lower, upper); };
    if (want.current_over_rollout()) set(t.current_over_rollout, raw.logp, raw.rollout);
    if (want.proximal_over_rollout()) set(t.proximal_over_rollout, raw.over, raw.rollout);
    if (want.current_over_proximal()) set(t.current_over_proximal, raw.logp, raw.under);
}

/// Streams that few calls have: the batch's token_weights, what selections reject, and what they mark. `factor`: 0 where `selected`
/// does not hold.
template <class V>
struct rare_inputs {
    V factor = V(typename V::value_type(1));
    typename V::mask allowed = V::mask::everywhere(), marked = !V::mask::everywhere();
};
/// Does a call have any of them? One question in the place of three.
template <bool Proximal, class S, class T>
[[nodiscard]] TRM_INLINE bool has_rare_inputs(wanted<Proximal> const& want, stream_pointers<S, T> const& io) noexcept {
    return io.rejected != nullptr || io.token_weight != nullptr || want.marks;
}
template <class V, bool Proximal, class S>
TRM_INLINE void read_rare(wanted<Proximal> const& want, stream_pointers<S, typename V::value_type> const& io,
                          std::int64_t at, std::size_t n, typename V::mask selected, rare_inputs<V>& to) noexcept {
    if (io.token_weight != nullptr) to.factor = zero_unless(selected, simd::load_first<V>(io.token_weight + at, n));
    if (io.rejected != nullptr) to.allowed = simd::load_zeros<V>(io.rejected + at, n);
    if (want.marks && io.marks != nullptr)  // absent while they are being worked out
        to.marked = simd::load_mask_n<V>(io.marks + at, n);
}

/// Below `most` a log-ratio is clamped in no stage, below `most_small` it is small too; `clamp` is that of the first stage.
template <class V>
struct token_limits {
    V most, most_small;
    clamp_range clamp;
    TRM_INLINE explicit token_limits(call_numbers const& of) noexcept
        : most(simd::broadcast<V>(of.tightest)),
          most_small(simd::broadcast<V>((std::min)(simd::small_exponent, of.tightest))),
          clamp(of.clamps.mask) {}
};

/// How many tokens of a register are in loss_mask; of these finite; of these with a log-probability above 0.
struct register_counts {
    int selected, active, positive;
    bool in_range = true;  ///< no exception but by loss_mask
    TRM_INLINE register_counts& operator+=(register_counts const& o) noexcept {
        selected += o.selected;
        active += o.active;
        positive += o.positive;
        in_range = in_range && o.in_range;
        return *this;
    }
};
/// One register of n tokens, whatever stands there. `has_rare`: there are streams of `rare_inputs`.
/// `describe`: log-probabilities above 0 are counted.
template <class V, bool Proximal, class S>
TRM_INLINE register_counts read_tokens(wanted<Proximal> const& want,
                                       stream_pointers<S, typename V::value_type> const& io, std::int64_t at,
                                       std::size_t n, V advantage, token_limits<V> const& limits, bool has_rare,
                                       bool describe, token<V, Proximal>& t) noexcept {
    raw_tokens<V> raw;
    read_register(want, io, at, n, advantage, raw);
    auto selected = n == V::size ? V::mask::everywhere() : simd::first_n<V>(n);
    int count_selected = static_cast<int>(n);
    if (io.mask != nullptr) {
        selected = n == V::size ? simd::load_mask<V>(io.mask + at) : simd::load_mask_n<V>(io.mask + at, n);
        count_selected = count(selected);
    }
    blank_unselected(want, selected, raw);
    V largest = largest_log_ratio(want, raw);
    rare_inputs<V> rare;
    if (has_rare) {
        read_rare(want, io, at, n, selected, rare);
        largest = fma(rare.factor, simd::pin(V(typename V::value_type(0))), largest);
    }
    register_counts counted{count_selected, count_selected, 0};
    if (all(is_within(largest, limits.most))) [[likely]] {
        set_tokens(want, raw, selected, all(is_within(largest, limits.most_small)), t);
    } else {
        set_tokens_checked(want, limits.clamp, raw, has_rare ? selected & finite(rare.factor) : selected, t);
        counted.active = count(t.active);
        counted.in_range = false;
    }
    if (has_rare) {
        t.allowed = rare.allowed;
        t.marked = t.active & rare.marked;
        if (want.factor) t.factor = zero_unless(t.active, rare.factor);
    }
    if (describe) {
        counted.positive = count(t.active & is_positive(want, io, at, n, raw));
        counted.in_range = counted.in_range && counted.positive == 0;
    }
    return counted;
}

}  // namespace detail
TRM_NAMESPACE_END
