// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/penalty.hpp>

#include <utility>

TRM_NAMESPACE_BEGIN
namespace detail {

/// What the sequence criteria say about one sequence. Bit i of `reasons`: criterion i rejects it.
struct sequence_verdict {
    bool keep = true;
    std::uint16_t reasons = 0;
};

template <class S>
inline constexpr int sequence_sums_of = [] {
    if constexpr (requires { S::sums; }) {
        return S::sums;
    } else {
        return 0;
    }
}();

/// Policies chosen at compile time, as the stages that the kernel runs over blocks of tokens. With blocks of one
/// register everything inlines into one loop. `any_loss` has the same stages over longer blocks.
template <class Mask, class Surrogate, class Weight, class... Penalties>
struct composition;

template <class... Ms, class Surrogate, class Weight, class... Ps>
struct composition<all_of<Ms...>, Surrogate, Weight, Ps...> {
    all_of<Ms...> mask;
    Surrogate surrogate;
    Weight weight;
    std::tuple<Ps...> penalties;

    static constexpr int block = 1;
    static constexpr int weight_slot = (0 + ... + Ms::sums);
    static constexpr int surrogate_slot = weight_slot + Weight::sums;
    static constexpr int sum_capacity = surrogate_slot + sequence_sums_of<Surrogate>;
    static constexpr int max_capacity = (0 + ... + Ms::maxima);

    [[nodiscard]] static constexpr int criteria() noexcept { return static_cast<int>(sizeof...(Ms)); }
    [[nodiscard]] static constexpr int sum_width() noexcept { return sum_capacity; }
    [[nodiscard]] static constexpr int max_width() noexcept { return max_capacity; }
    [[nodiscard]] static constexpr bool has_token_criteria() noexcept { return (false || ... || !Ms::is_sequence); }
    [[nodiscard]] static constexpr bool has_sequence_criteria() noexcept { return (false || ... || Ms::is_sequence); }
    [[nodiscard]] static constexpr bool has_weight() noexcept { return !std::is_same_v<Weight, no_weight>; }
    /// True if a token's term depends on its whole sequence, so that statistics must come first.
    [[nodiscard]] static constexpr bool two_pass() noexcept {
        return Weight::sums > 0 || sequence_sums_of<Surrogate> > 0;
    }
    [[nodiscard]] constexpr bool penalises_all() const noexcept {
        return std::apply([](auto const&... p) { return (false || ... || (p.tokens == sees::all_tokens)); }, penalties);
    }
    [[nodiscard]] constexpr unsigned needs() const noexcept {
        unsigned bits = needs_of(surrogate) | needs_of(weight);
        std::apply([&](auto const&... m) { ((bits |= needs_of(m.divergence)), ...); }, mask.criteria);
        std::apply([&](auto const&... p) { ((bits |= needs_of(p)), ...); }, penalties);
        return bits;
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        status first = surrogate.validate();
        auto const check = [&](auto const& policy) {
            if (first.ok()) first = policy.validate();
        };
        check(weight);
        std::apply([&](auto const&... m) { (check(m), ...); }, mask.criteria);
        std::apply([&](auto const&... p) { (check(p), ...); }, penalties);
        return first;
    }

    /// Token criteria decide `keep` and `reasons`; sequence criteria add to their statistics.
    template <class V>
    TRM_INLINE void criteria_stage(token<V>* t, int, V* sums, V* maxima, std::int64_t* rejected) const noexcept {
        t->keep = t->active;
        t->reasons = V(typename V::value_type(0));
        int sum = 0, max = 0, bit = 0;
        auto const one = [&](auto const& criterion) __attribute__((always_inline)) {
            using M = std::remove_cvref_t<decltype(criterion)>;
            if constexpr (M::is_sequence) {
                criterion.measure(*t, sums + sum, maxima + max);
            } else {
                auto const pass = criterion.test(*t);
                t->keep = t->keep & pass;
                auto const fail = t->active & !pass;
                t->reasons = t->reasons + select(fail, V(static_cast<typename V::value_type>(1 << bit)),
                                                 V(typename V::value_type(0)));
                rejected[bit] += simd::count(fail);
            }
            sum += M::sums;
            max += M::maxima;
            ++bit;
        };
        std::apply([&](auto const&... m) __attribute__((always_inline)) { (one(m), ...); }, mask.criteria);
    }
    /// Sums that weights and surrogates take over the sequence.
    template <class V>
    TRM_INLINE void sequence_stage(token<V> const* t, int, V* sums) const noexcept {
        if constexpr (Weight::sums > 0) sums[weight_slot] = sums[weight_slot] + (*t)[weight.over].value;
        if constexpr (sequence_sums_of<Surrogate> > 0)
            surrogate.measure(*t, (*t)[surrogate.over], sums + surrogate_slot);
    }
    template <class V>
    TRM_INLINE void weight_stage(token<V>* t, int, double of_sequence) const noexcept {
        t->weight = weight((*t)[weight.over], of_sequence);
    }
    template <class V>
    TRM_INLINE void surrogate_stage(token<V>* t, int, sequence_constants const& constants) const noexcept {
        auto const s = [&]() __attribute__((always_inline)) {
            if constexpr (sequence_sums_of<Surrogate> > 0) {
                return surrogate(*t, (*t)[surrogate.over], constants);
            } else {
                return surrogate(*t, (*t)[surrogate.over]);
            }
        }();
        t->value = s.value;
        t->slope = s.slope;
        t->clipped = s.clipped;
    }
    template <class V>
    TRM_INLINE void penalty_stage(token<V>* t, int, V limit) const noexcept {
        V const zero(typename V::value_type(0));
        t->penalty = t->penalty_slope = t->penalty_all = t->penalty_all_slope = zero;
        auto const one = [&](auto const& p) __attribute__((always_inline)) {
            auto const terms = p(*t, limit);
            V const value = simd::pin(terms.value), slope = simd::pin(terms.slope);
            if (p.tokens == sees::all_tokens) {
                t->penalty_all = t->penalty_all + value;
                t->penalty_all_slope = t->penalty_all_slope + slope;
            } else {
                t->penalty = t->penalty + value;
                t->penalty_slope = t->penalty_slope + slope;
            }
        };
        std::apply([&](auto const&... p) __attribute__((always_inline)) { (one(p), ...); }, penalties);
    }

    /// Sequence criteria, from merged statistics over `tokens` finite tokens.
    [[nodiscard]] sequence_verdict decide(double const* sums, double const* maxima, double tokens) const noexcept {
        sequence_verdict verdict;
        int sum = 0, max = 0, bit = 0;
        auto const one = [&](auto const& criterion) {
            using M = std::remove_cvref_t<decltype(criterion)>;
            if constexpr (M::is_sequence) {
                if (tokens > 0 && !criterion.keep.contains(criterion.value(sums + sum, maxima + max, tokens))) {
                    verdict.keep = false;
                    verdict.reasons = static_cast<std::uint16_t>(verdict.reasons | 1u << bit);
                }
            }
            sum += M::sums;
            max += M::maxima;
            ++bit;
        };
        std::apply([&](auto const&... m) { (one(m), ...); }, mask.criteria);
        return verdict;
    }
    [[nodiscard]] double sequence_weight_of(double const* sums, double tokens, double limit) const noexcept {
        if constexpr (Weight::sums > 0) {
            return weight.sequence_value(sums[weight_slot], tokens, limit);
        } else {
            return 1.0;
        }
    }
    [[nodiscard]] sequence_constants constants_of(double const* sums, double tokens, double limit) const noexcept {
        if constexpr (sequence_sums_of<Surrogate> > 0) {
            return surrogate.constants(sums + surrogate_slot, tokens, limit);
        } else {
            return {};
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
