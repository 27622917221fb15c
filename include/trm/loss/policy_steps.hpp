// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/result.hpp>
#include <trm/policy/penalty.hpp>

#include <utility>

/// \file
/// What one policy does in a pass, the same for policies chosen at compile time (`composition`) and at run time
/// (`run_time_composition`).

TRM_NAMESPACE_BEGIN
namespace detail {

/// What the sequence criteria say about one sequence. Bit i of `reasons`: criterion i rejects it.
struct sequence_verdict {
    bool keep = true;
    std::uint16_t reasons = 0;
};

/// Which of the sums and maxima of a loss are a criterion's: the first of each.
struct statistics_place {
    int sum = 0, max = 0;
};
/// Which of the sums of a loss are its weight's, and which its surrogate's: the first of each.
struct sums_place {
    int weight = 0, surrogate = 0;
};

template <class S>
inline constexpr int sequence_sums_of = [] {
    if constexpr (requires { S::sums; }) {
        return S::sums;
    } else {
        return 0;
    }
}();

/// Penalties of sequences share one place for what they derive from their sums.
inline constexpr status one_sequence_penalty{errc::unsupported, -1, -1,
                                             "a loss takes one penalty with importance_of_sequence"};

/// Are weights of tokens in what the surrogate measures?
template <class S>
inline constexpr bool measures_weight = shares_gradient<S> || folds_weight<S>;
template <class S>
[[nodiscard]] constexpr bool moves_rejected(S const& surrogate) noexcept {
    if constexpr (requires { surrogate.moves_rejected(); }) {
        return surrogate.moves_rejected();
    } else {
        return false;
    }
}

/// f(integral_constant 0) ... f(integral_constant N - 1), written out: loops over registers stay out of memory.
template <int N, class F>
TRM_INLINE constexpr void unrolled(F&& f) {
    [&]<int... Is>(std::integer_sequence<int, Is...>)
        TRM_INLINE_LAMBDA { (f(std::integral_constant<int, Is>{}), ...); }(std::make_integer_sequence<int, N>{});
}

/// Is a weight of sequences averaged over all rows, empty ones included?
template <class W>
[[nodiscard]] constexpr bool averages_all_rows(W const& weight) noexcept {
    if constexpr (is_normalised<W>) {
        return W::is_sequence && weight.rows == averaged_rows::all;
    } else {
        return false;
    }
}
/// A normalised weight of whole sequences (true) or of tokens.
template <class W>
inline constexpr bool sums_a_sequence = [] {
    if constexpr (is_normalised<W>) {
        return W::is_sequence;
    } else {
        return W::sums > 0;
    }
}();

template <class V, bool P>
TRM_INLINE void store_terms(token<V, P>& t, surrogate_terms<V> const& s) noexcept {
    t.value = s.value;
    t.slope = s.slope;
    t.clipped = s.clipped;
}
template <class Penalty, class V, bool P>
TRM_INLINE penalty_terms<V> penalty_of(Penalty const& p, token<V, P> const& t, penalty_clamp<V> const& clamp,
                                       sequence_constants const& of_sequence) noexcept {
    if constexpr (sequence_sums_of<Penalty> > 0) {
        return p(t, t[p.over], clamp, of_sequence);
    } else {
        return p(t, clamp);
    }
}
template <class Penalty, class V, bool P>
TRM_INLINE void add_penalty(Penalty const& p, token<V, P>& t, penalty_clamp<V> const& clamp,
                            sequence_constants const& of_sequence) noexcept {
    auto const terms = penalty_of(p, t, clamp, of_sequence);
    V const value = simd::pin(terms.value), slope = simd::pin(terms.slope);
    if (p.tokens == sees::all_tokens) {
        t.penalty_all = t.penalty_all + value;
        t.penalty_all_slope = t.penalty_all_slope + slope;
    } else {
        t.penalty = t.penalty + value;
        t.penalty_slope = t.penalty_slope + slope;
    }
}
/// Writes `keep` and `reasons` of the tokens that a token criterion rejects; returns how many.
template <class M, class V, bool P>
TRM_INLINE int test_tokens(M const& criterion, int bit, token<V, P>& t) noexcept {
    auto const pass = criterion.test(t);
    auto const fail = t.active & !pass;
    t.keep = t.keep & pass;
    t.reasons = select(fail, t.reasons + V(static_cast<typename V::value_type>(1 << bit)), t.reasons);
    return count(fail);
}
/// The statistic of a sequence criterion.
template <class M>
[[nodiscard]] double statistic_of(M const& criterion, double const* sum, double const* max, double finite,
                                  double passing, double epsilon) noexcept {
    double const tokens = measures_passing<M> ? passing : finite;
    return criterion.value(sum, max, tokens > 0 ? tokens + epsilon : 0.0);
}
template <class M>
void judge_sequence(M const& criterion, int bit, double const* sum, double const* max, double finite, double passing,
                    double epsilon, sequence_verdict& verdict) noexcept {
    double const tokens = measures_passing<M> ? passing : finite;
    if (tokens > 0 && !criterion.keep.contains(statistic_of(criterion, sum, max, finite, passing, epsilon))) {
        verdict.keep = false;
        verdict.reasons = static_cast<std::uint16_t>(verdict.reasons | 1u << bit);
    }
}
template <class W>
[[nodiscard]] double weight_of_sequence(W const& weight, double const* sum, double finite, double passing,
                                        clamp_range clamp, double factor) noexcept {
    if constexpr (is_normalised<W>) {
        if constexpr (W::is_sequence) return weight.sequence_value(*sum, finite, passing, clamp, factor);
    } else if constexpr (W::sums > 0) {
        return weight.sequence_value(*sum, finite, passing, clamp);
    }
    return 1.0;
}
/// What a weight needs of its sequence, or of the batch to be normalised: one sum, or none.
template <class W>
inline constexpr int weight_sums = is_normalised<W> ? 1 : W::sums;
template <class W, class V, bool P>
TRM_INLINE V measured_weight(W const& weight, token<V, P> const& t, log_ratio<V> const& l) noexcept {
    if constexpr (!is_normalised<W>) {
        return weight.measured(t, l);
    } else if constexpr (W::is_sequence) {
        return weight.weight.measured(t, l);
    } else {
        auto const& which = weight.tokens == sees::all_tokens ? t.active : t.keep;
        return zero_unless(which, simd::pin(weight.averaged(l)));
    }
}
template <class W, class V>
TRM_INLINE V weight_of(W const& weight, log_ratio<V> const& l, double of_sequence, double factor) noexcept {
    if constexpr (is_normalised<W>) {
        return weight(l, of_sequence, factor);
    } else {
        return weight(l, of_sequence);
    }
}
/// A weight as a product: what differs between the tokens of a sequence, known while the sequence is measured, and the rest.
template <class W, class V>
TRM_INLINE V token_part(W const& weight, log_ratio<V> const& l) noexcept {
    if constexpr (sums_a_sequence<W>) {
        return simd::broadcast<V>(1);
    } else if constexpr (is_normalised<W>) {
        return weight.weight(l, 1.0);
    } else {
        return weight(l, 1.0);
    }
}
template <class W>
[[nodiscard]] constexpr double shared_part(W const&, double of_sequence, double factor) noexcept {
    return sums_a_sequence<W> ? of_sequence : is_normalised<W> ? factor : 1.0;
}
/// Bounds after a division by the mean are not such a product.
template <class W>
[[nodiscard]] constexpr status check_pair(bool surrogate_shares_gradient, bool surrogate_folds_weight,
                                          W const& weight) noexcept {
    if constexpr (is_normalised<W> && !sums_a_sequence<W>)
        if (surrogate_shares_gradient && weight.when == normalise::before_bound)
            return {errc::unsupported, -1, -1,
                    "gspo, gmpo and sapo_sequence take token weights that are normalised after their bound"};
    if (surrogate_folds_weight && (is_normalised<W> || sums_a_sequence<W>))
        return {errc::unsupported, -1, -1, "vespo_folded takes weights of tokens that are not normalised"};
    return {};
}
/// What a normalised weight averages over one sequence: adds to the sum and to the units of `n`.
template <class W>
void count_weight(W const& weight, double const* sum, double finite, double kept, bool keep, double share,
                  clamp_range clamp, counts& n) noexcept {
    if constexpr (is_normalised<W>) {
        bool const all = weight.tokens == sees::all_tokens;
        if (!all && !keep) return;
        if constexpr (W::is_sequence) {
            if (!(finite > 0)) return;  // no ratio, no weight
            auto raw = weight.weight;
            if (weight.when == normalise::before_bound) raw.bound = unbounded;
            n.weight_sum += share * raw.sequence_value(*sum, finite, kept, clamp);
            if (weight.rows == averaged_rows::measured) n.weight_units += share;
        } else {
            n.weight_sum += share * *sum;
            n.weight_units += share * (all ? finite : kept);
        }
    }
}

}  // namespace detail
TRM_NAMESPACE_END
