// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/partials.hpp>
#include <trm/policy/penalty.hpp>

#include <array>
#include <tuple>
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

/// f(integral_constant 0) ... f(integral_constant N - 1), written out: loops over registers stay out of memory.
template <int N, class F>
TRM_INLINE constexpr void unrolled(F&& f) {
    [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
        (f(std::integral_constant<int, I>{}), ...);
    }(std::make_integer_sequence<int, N>{});
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

// What both compositions do with one policy.

template <class V, bool P>
TRM_INLINE void store_terms(token<V, P>& t, surrogate_terms<V> const& s) noexcept {
    t.value = s.value;
    t.slope = s.slope;
    t.clipped = s.clipped;
}
template <class Penalty, class V, bool P>
TRM_INLINE void add_penalty(Penalty const& p, token<V, P>& t, V limit) noexcept {
    auto const terms = p(t, limit);
    V const value = simd::pin(terms.value), slope = simd::pin(terms.slope);
    if (p.tokens == sees::all_tokens) {
        t.penalty_all = t.penalty_all + value;
        t.penalty_all_slope = t.penalty_all_slope + slope;
    } else {
        t.penalty = t.penalty + value;
        t.penalty_slope = t.penalty_slope + slope;
    }
}
template <class M>
void judge(M const& criterion, int bit, double const* sum, double const* max, double finite, double passing,
           sequence_verdict& verdict) noexcept {
    double const tokens = measures_passing<M> ? passing : finite;
    if (tokens > 0 && !criterion.keep.contains(criterion.value(sum, max, tokens))) {
        verdict.keep = false;
        verdict.reasons = static_cast<std::uint16_t>(verdict.reasons | 1u << bit);
    }
}
template <class W>
[[nodiscard]] double weight_of_sequence(W const& weight, double const* sum, double finite, double passing, double limit,
                                        double factor) noexcept {
    if constexpr (is_normalised<W>) {
        if constexpr (W::is_sequence) return weight.sequence_value(*sum, finite, passing, limit, factor);
    } else if constexpr (W::sums > 0) {
        return weight.sequence_value(*sum, finite, passing, limit);
    }
    return 1.0;
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
template <class S, class W>
[[nodiscard]] constexpr status check_pair(S const&, W const& weight) noexcept {
    if constexpr (shares_gradient<S> && is_normalised<W> && !sums_a_sequence<W>)
        if (weight.when == normalise::before_bound)
            return {errc::unsupported, -1, -1,
                    "gspo and gmpo take token weights that are normalised after their bound"};
    return {};
}
/// What a normalised weight averages over one sequence: adds to the sum and to the units of `n`.
template <class W>
void count_weight(W const& weight, double const* sum, double finite, double kept, bool keep, double share, double limit,
                  counts& n) noexcept {
    if constexpr (is_normalised<W>) {
        bool const all = weight.tokens == sees::all_tokens;
        if (!all && !keep) return;
        if constexpr (W::is_sequence) {
            auto raw = weight.weight;
            if (weight.when == normalise::before_bound) raw.bound = unbounded;
            n.weight_sum += share * raw.sequence_value(*sum, finite, kept, limit);
            n.weight_units += share;
        } else {
            n.weight_sum += share * *sum;
            n.weight_units += share * (all ? finite : kept);
        }
    }
}

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

    template <int I>
    using criterion_type = std::tuple_element_t<static_cast<std::size_t>(I), std::tuple<Ms...>>;

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
    [[nodiscard]] static constexpr bool has_penalties() noexcept { return sizeof...(Ps) > 0; }
    [[nodiscard]] static constexpr bool has_weight() noexcept { return !std::is_same_v<Weight, no_weight>; }
    /// True if a token's term depends on its whole sequence, so that statistics must come first.
    [[nodiscard]] static constexpr bool two_pass() noexcept {
        return Weight::sums > 0 || sequence_sums_of<Surrogate> > 0;
    }
    [[nodiscard]] static constexpr bool normalises() noexcept { return is_normalised<Weight>; }
    [[nodiscard]] static constexpr bool has_selections() noexcept { return (false || ... || selects<Ms>); }
    [[nodiscard]] constexpr bool penalises_all() const noexcept {
        return std::apply([](auto const&... p) { return (false || ... || (p.tokens == sees::all_tokens)); }, penalties);
    }
    [[nodiscard]] static constexpr unsigned needs() noexcept {
        return (needs_of(Surrogate{}) | ... | needs_of_criterion<Ms>()) | (needs_of(Weight{}) | ... | needs_of(Ps{}));
    }
    /// Diagnostics describe the log-ratio that the mask looks at first, else the weight's, else current over rollout.
    [[nodiscard]] static constexpr ratio_kind diagnose_over() noexcept {
        if constexpr (sizeof...(Ms) > 0) {
            return criterion_over<criterion_type<0>>;
        } else if constexpr (weight_reads_ratio<Weight>) {
            return Weight::over;
        } else {
            return ratio_kind::current_over_rollout;
        }
    }
    template <class V, bool P>
    TRM_INLINE log_ratio<V> const& diagnosed(token<V, P> const& t) const noexcept {
        return ratio_of(over_ratio<diagnose_over(), no_weight>{}, t);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        status first = surrogate.validate();
        auto const check = [&](auto const& policy) {
            if (first.ok()) first = policy.validate();
        };
        check(weight);
        if (first.ok()) first = check_pair(surrogate, weight);
        std::apply([&](auto const&... m) { (check(m), ...); }, mask.criteria);
        std::apply([&](auto const&... p) { (check(p), ...); }, penalties);
        return first;
    }

    /// f(selection, criterion index) for every selection of the mask.
    template <class F>
    void each_selection(F&& f) const {
        unrolled<criteria()>([&](auto index) {
            constexpr int i = index;
            if constexpr (selects<criterion_type<i>>) f(std::get<i>(mask.criteria), i);
        });
    }
    /// f(marker) if the surrogate treats some tokens specially.
    template <class F>
    void each_marker(F&& f) const {
        if constexpr (requires { surrogate.marker(); }) f(surrogate.marker());
    }
    [[nodiscard]] static constexpr bool has_marker() noexcept {
        return requires(Surrogate s) { s.marker(); };
    }

    [[nodiscard]] static constexpr bool shares_gradient() noexcept { return trm::shares_gradient<Surrogate>; }

    /// Token criteria decide `keep` and `reasons`; sequence criteria add to their statistics.
    template <class V, bool P>
    TRM_INLINE void criteria_stage(token<V, P>* t, int, V* sums, V* maxima, std::int64_t* rejected) const noexcept {
        t->keep = t->active;
        t->reasons = V(typename V::value_type(0));
        unrolled<criteria()>([&](auto index) __attribute__((always_inline)) {
            constexpr int i = index;
            auto const& criterion = std::get<i>(mask.criteria);
            if constexpr (criterion_type<i>::is_sequence) {
                if constexpr (!measures_passing<criterion_type<i>>)
                    criterion.measure(*t, sums + slots[i].sum, maxima + slots[i].max);
            } else if constexpr (!selects<criterion_type<i>>) {
                auto const pass = criterion.test(*t);
                auto const fail = t->active & !pass;
                t->keep = t->keep & pass;
                t->reasons = select(fail, t->reasons + V(static_cast<typename V::value_type>(1 << i)), t->reasons);
                rejected[i] += count(fail);
            }
        });
    }
    /// What is taken over the sequence once `keep` is final: by criteria of passing tokens, weights and surrogates.
    template <class V, bool P>
    TRM_INLINE void sequence_stage(token<V, P>* t, int, V* sums, V* maxima) const noexcept {
        unrolled<criteria()>([&](auto index) __attribute__((always_inline)) {
            constexpr int i = index;
            if constexpr (measures_passing<criterion_type<i>>)
                std::get<i>(mask.criteria).measure(*t, sums + slots[i].sum, maxima + slots[i].max);
        });
        if constexpr (is_normalised<Weight>) {
            auto const& l = ratio_of(weight, *t);
            if constexpr (Weight::is_sequence) {
                sums[weight_slot] = sums[weight_slot] + weight.weight.measured(*t, l);
            } else {
                auto const& which = weight.tokens == sees::all_tokens ? t->active : t->keep;
                sums[weight_slot] = sums[weight_slot] + zero_unless(which, simd::pin(weight.averaged(l)));
            }
        } else if constexpr (Weight::sums > 0) {
            sums[weight_slot] = sums[weight_slot] + weight.measured(*t, ratio_of(weight, *t));
        }
        if constexpr (trm::shares_gradient<Surrogate>)
            t->weight = simd::pin(token_part(weight, ratio_of(weight, *t)) * t->factor);
        if constexpr (sequence_sums_of<Surrogate> > 0)
            surrogate.measure(*t, ratio_of(surrogate, *t), sums + surrogate_slot);
    }
    template <class V, bool P>
    TRM_INLINE void weight_stage(token<V, P>* t, int, double of_sequence, double factor) const noexcept {
        if constexpr (is_normalised<Weight>) {
            t->weight = weight(ratio_of(weight, *t), of_sequence, factor);
        } else {
            t->weight = weight(ratio_of(weight, *t), of_sequence);
        }
    }
    template <class V, bool P>
    TRM_INLINE void surrogate_stage(token<V, P>* t, int, sequence_constants const& constants) const noexcept {
        if constexpr (sequence_sums_of<Surrogate> > 0) {
            store_terms(*t, surrogate(*t, ratio_of(surrogate, *t), constants));
        } else {
            store_terms(*t, surrogate(*t, ratio_of(surrogate, *t)));
        }
    }
    template <class V, bool P>
    TRM_INLINE void penalty_stage(token<V, P>* t, int, V limit) const noexcept {
        V const zero(typename V::value_type(0));
        t->penalty = t->penalty_slope = t->penalty_all = t->penalty_all_slope = zero;
        unrolled<static_cast<int>(sizeof...(Ps))>(
            [&](auto index) __attribute__((always_inline)) { add_penalty(std::get<index>(penalties), *t, limit); });
    }

    /// Sequence criteria, from merged statistics over finite tokens and over those that pass every token criterion.
    [[nodiscard]] sequence_verdict decide(double const* sums, double const* maxima, double finite,
                                          double passing) const noexcept {
        sequence_verdict verdict;
        unrolled<criteria()>([&](auto index) {
            constexpr int i = index;
            if constexpr (criterion_type<i>::is_sequence) {
                judge(std::get<i>(mask.criteria), i, sums + slots[i].sum, maxima + slots[i].max, finite, passing,
                      verdict);
            }
        });
        return verdict;
    }
    [[nodiscard]] double sequence_weight_of(double const* sums, double finite, double passing, double limit,
                                            double factor) const noexcept {
        return weight_of_sequence(weight, sums + weight_slot, finite, passing, limit, factor);
    }
    void count_weights(double const* sums, double finite, double kept, bool keep, double share, double limit,
                       counts& n) const noexcept {
        count_weight(weight, sums + weight_slot, finite, kept, keep, share, limit, n);
    }
    /// `of_sequence`, `factor`: the weight of the sequence and of normalisation, as the weight stage gets them.
    [[nodiscard]] sequence_constants constants_of(double const* sums, double finite, double limit, double of_sequence,
                                                  double factor) const noexcept {
        if constexpr (sequence_sums_of<Surrogate> > 0) {
            auto k = surrogate.constants(sums + surrogate_slot, finite, limit);
            if constexpr (trm::shares_gradient<Surrogate>) k.c[2] *= shared_part(weight, of_sequence, factor);
            return k;
        } else {
            return {};
        }
    }

private:
    struct slot {
        int sum, max;
    };
    /// Where the statistics of criterion i start.
    static constexpr std::array<slot, sizeof...(Ms) + 1> slots = [] {
        std::array<slot, sizeof...(Ms) + 1> s{};
        int const sums[] = {Ms::sums..., 0}, maxima[] = {Ms::maxima..., 0};
        for (std::size_t i = 0; i < sizeof...(Ms); ++i) s[i + 1] = {s[i].sum + sums[i], s[i].max + maxima[i]};
        return s;
    }();
};

}  // namespace detail
TRM_NAMESPACE_END
