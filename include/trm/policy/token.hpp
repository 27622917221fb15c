// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/clamp.hpp>
#include <trm/policy/fields.hpp>
#include <trm/simd/math.hpp>
#include <trm/simd/memory.hpp>

#include <cstdint>
#include <limits>

TRM_NAMESPACE_BEGIN

/// Which log-ratio a policy looks at; always log target - log behaviour. The last two depend on whether the batch has
/// proximal_logp: a surrogate moves away from the proximal policy, a correction weight accounts for the rollout engine.
enum class ratio_kind : std::uint8_t {
    current_over_rollout,
    proximal_over_rollout,
    current_over_proximal,
    surrogate,  ///< current_over_proximal if the batch has proximal_logp, else current_over_rollout
    correction,  ///< proximal_over_rollout if the batch has proximal_logp, else current_over_rollout
};

template <>
inline constexpr enum_word<ratio_kind> enum_words<ratio_kind>[] = {
    {"current_over_rollout", ratio_kind::current_over_rollout},
    {"proximal_over_rollout", ratio_kind::proximal_over_rollout},
    {"current_over_proximal", ratio_kind::current_over_proximal},
    {"surrogate", ratio_kind::surrogate},
    {"correction", ratio_kind::correction}};

[[nodiscard]] constexpr ratio_kind resolve(ratio_kind kind, bool has_proximal) noexcept {
    if (kind == ratio_kind::surrogate)
        return has_proximal ? ratio_kind::current_over_proximal : ratio_kind::current_over_rollout;
    if (kind == ratio_kind::correction)
        return has_proximal ? ratio_kind::proximal_over_rollout : ratio_kind::current_over_rollout;
    return kind;
}

/// What a policy reads, as bits: log-ratios by kind, then streams.
namespace need {
[[nodiscard]] constexpr unsigned ratio(ratio_kind kind) noexcept { return 1u << static_cast<unsigned>(kind); }
inline constexpr unsigned any_ratio = 0x1f;
inline constexpr unsigned ref_logp = 0x20;
inline constexpr unsigned given = 0x40;
inline constexpr unsigned advantage = 0x80;
inline constexpr unsigned group = 0x100;
inline constexpr unsigned marks = 0x400;
inline constexpr unsigned proximal_logp = 0x200;  ///< insists on the stream instead of falling back
}  // namespace need

/// A log-ratio x of one token and what follows from it. `value`, `exp`, `expm1`, `k3` use x clamped as in the stage that looks at
/// it (`log_ratio_clamps`); `unclamped` tells where that changed nothing.
template <class V>
struct log_ratio {
    V target;  ///< log-probability under the numerator, at most 0
    V behaviour;  ///< log-probability under the denominator
    V value;  ///< x = target - behaviour
    V exp;  ///< e^x
    V expm1;  ///< e^x - 1
    V k3;  ///< e^x - 1 - x
    typename V::mask unclamped;
};

/// Does a policy look at more of its log-ratio than x and the two log-probabilities: at `exp`, `expm1` or `k3`? Where every policy of
/// a loss says that it does not, they are not worked out. `measure` of a surrogate may not look at them.
template <class P>
inline constexpr bool reads_exp = [] {
    if constexpr (requires { P::reads_exp; }) {
        return P::reads_exp;
    } else if constexpr (requires { P::reads_ratio; }) {
        return P::reads_ratio;
    } else {
        return true;
    }
}();

/// Fills in l, member by member: g++ 12 keeps structures that are copied whole in memory. x is clamped to [lower, upper].
template <class V>
TRM_INLINE void set_log_ratio(log_ratio<V>& l, V target, V behaviour, typename V::mask active, V lower,
                              V upper) noexcept {
    l.target = zero_unless(active, target);
    l.behaviour = zero_unless(active, behaviour);
    V const raw = zero_unless(active, target - behaviour);
    l.value = simd::clamp(raw, lower, upper);
    l.unclamped = raw == l.value;
    auto const e = simd::exp_k3(l.value);
    l.exp = e.exp;
    l.expm1 = e.expm1;
    l.k3 = e.k3;
}

/// The same where no lane is an exception: x = target - behaviour is finite and within the clamp. `small`: |x| <=
/// simd::small_exponent in every lane. `with_exp`: with what is made of e^x.
template <class V>
TRM_INLINE void set_log_ratio_within(log_ratio<V>& l, V target, V behaviour, bool is_small,
                                     bool with_exp = true) noexcept {
    l.target = target;
    l.behaviour = behaviour;
    l.value = target - behaviour;
    l.unclamped = V::mask::everywhere();
    if (!with_exp) {
        l.exp = l.expm1 = l.k3 = V(typename V::value_type(0));
    } else if (is_small) {
        auto const e = simd::exp_k3_small(l.value);
        l.exp = e.exp;
        l.expm1 = e.expm1;
        l.k3 = e.k3;
    } else {
        auto const e = simd::exp_k3(l.value);
        l.exp = e.exp;
        l.expm1 = e.expm1;
        l.k3 = e.k3;
    }
}

namespace detail {

/// *sum += v where the mask holds, rounded alike in every pipeline.
template <class V>
TRM_INLINE void add_where(typename V::mask m, V v, V* sum) noexcept {
    *sum = add_where(m, *sum, simd::pin(v));
}

/// p = e^l and 1 - p = -expm1(l), the latter kept at or above the smallest normal number. l is clamped to [-87, 0]
/// (float) or [-700, 0] (double), so a log-probability above 0 counts as 0.
template <class V>
struct probability_pair {
    V p;
    V complement;
};
template <class V>
TRM_INLINE probability_pair<V> probability(V log_p) noexcept {
    using T = typename V::value_type;
    constexpr T lowest = sizeof(T) == 4 ? T(-87) : T(-700);
    auto const e = simd::exp_k3(simd::clamp(log_p, V(lowest), V(T(0))));
    return {e.exp, (simd::max)(-e.expm1, V((std::numeric_limits<T>::min)()))};
}

}  // namespace detail

/// Up to four numbers that a policy derives from the statistics of a whole sequence, the same for all its tokens.
struct sequence_constants {
    double c[4];
};

/// A register of tokens on its way through the stages: inputs, log-ratios, decisions, loss. Inactive lanes (masked out
/// or not finite) hold zeros, log-ratio 0 and advantage 0. `Proximal`: the batch has proximal_logp.
template <class V, bool Proximal>
struct token {
    using vec = V;
    using mask = typename V::mask;
    static constexpr bool has_proximal = Proximal;
    // inputs
    V logp, ref_logp, advantage, given;
    V divergence;  ///< that of the criterion at hand, if its divergence is chosen at run time
    V factor;  ///< the batch's token_weights; only set for surrogates that share a gradient
    mask active;
    mask allowed;  ///< not rejected beforehand, see `selection_view`
    mask marked;  ///< in the marks of a `selection_view`
    log_ratio<V> current_over_rollout, proximal_over_rollout, current_over_proximal;
    // decisions and loss
    mask keep;  ///< passes every token criterion
    V reasons;  ///< sum of 2^i over the criteria i that reject the token
    V weight;  ///< stop-gradient factor of the surrogate
    V value;  ///< surrogate term of the loss
    V slope;  ///< d value / d logp
    mask clipped;  ///< the surrogate's clip acts
    V penalty;  ///< penalties that see kept tokens only
    V penalty_slope;
    V penalty_all;  ///< penalties that see every loss_mask token
    V penalty_all_slope;

    TRM_INLINE log_ratio<V> const& operator[](ratio_kind kind) const noexcept {
        switch (resolve(kind, Proximal)) {
            case ratio_kind::proximal_over_rollout:
                return proximal_over_rollout;
            case ratio_kind::current_over_proximal:
                return current_over_proximal;
            default:
                return current_over_rollout;
        }
    }
};

/// Is the pair of policies that P looks at a constant of its type, or data?
template <class P>
inline constexpr bool has_static_ratio = !std::is_member_pointer_v<decltype(&P::over)>;

/// The log-ratio that a policy looks at: known at compile time if the policy's `over` is a static constant. Ratios with the
/// proximal policy are refused before the kernel runs if the batch has no proximal_logp. `Token`: a token, const or not.
template <class P, class Token>
TRM_INLINE auto& ratio_of(P const& p, Token& t) noexcept {
    constexpr bool Proximal = Token::has_proximal;
    if constexpr (has_static_ratio<P>) {
        constexpr ratio_kind kind = resolve(P::over, Proximal);
        if constexpr (Proximal && kind == ratio_kind::proximal_over_rollout) {
            return t.proximal_over_rollout;
        } else if constexpr (Proximal && kind == ratio_kind::current_over_proximal) {
            return t.current_over_proximal;
        } else {
            return t.current_over_rollout;
        }
    } else {
        return t[p.over];
    }
}

TRM_NAMESPACE_END
