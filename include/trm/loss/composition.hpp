// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/policy_steps.hpp>
#include <trm/pipeline/decide.hpp>
#include <trm/pipeline/stages.hpp>

#include <array>
#include <tuple>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Policies chosen at compile time, as the steps that `fused_pass` takes with one register of tokens: everything inlines into one
/// loop. `run_time_composition` takes the same steps tile by tile. (One struct, however long: it is the list of what a pass asks of
/// its policies.)
template <class Mask, class Surrogate, class Weight, class... Penalties>
struct composition;

template <class... Ms, class Surrogate, class Weight, class... Ps>
struct composition<all_of<Ms...>, Surrogate, Weight, Ps...> {
    all_of<Ms...> mask;
    Surrogate surrogate;
    Weight weight;
    std::tuple<Ps...> penalties;

    template <int i>
    using criterion_type = std::tuple_element_t<static_cast<std::size_t>(i), std::tuple<Ms...>>;

    static constexpr bool is_static = true;
    static constexpr int weight_slot = (0 + ... + Ms::sums);
    static constexpr int surrogate_slot = weight_slot + weight_sums<Weight>;
    static constexpr int penalty_slot = surrogate_slot + sequence_sums_of<Surrogate>;
    static constexpr int sum_capacity = penalty_slot + (0 + ... + sequence_sums_of<Ps>);
    static constexpr int max_capacity = (0 + ... + Ms::maxima);
    static constexpr int criteria_capacity = static_cast<int>(sizeof...(Ms));

    [[nodiscard]] static constexpr int criteria() noexcept { return static_cast<int>(sizeof...(Ms)); }
    [[nodiscard]] static constexpr int sum_width() noexcept { return sum_capacity; }
    [[nodiscard]] static constexpr int max_width() noexcept { return max_capacity; }
    [[nodiscard]] static constexpr bool has_token_criteria() noexcept { return (false || ... || !Ms::is_sequence); }
    /// Its number if there is one criterion of tokens, else -1. The tokens that pass are those that it does not reject.
    [[nodiscard]] static constexpr int only_token_criterion() noexcept {
        int number = 0, found = -1, n = 0;
        ((n += !Ms::is_sequence, found = !Ms::is_sequence && !selects<Ms> ? number : found, ++number), ...);
        return n == 1 ? found : -1;
    }
    [[nodiscard]] static constexpr bool has_sequence_criteria() noexcept { return (false || ... || Ms::is_sequence); }
    [[nodiscard]] static constexpr bool has_penalties() noexcept { return sizeof...(Ps) > 0; }
    [[nodiscard]] static constexpr bool has_weight() noexcept { return !std::is_same_v<Weight, no_weight>; }
    [[nodiscard]] static constexpr bool has_factors() noexcept { return false; }  // see weigh_tokens
    static constexpr void each_factor(auto const&) noexcept {}
    /// True if a token's term depends on its whole sequence, so that statistics must come first.
    [[nodiscard]] static constexpr bool two_pass() noexcept {
        return Weight::sums > 0 || penalty_slot > surrogate_slot || sum_capacity > penalty_slot;
    }
    [[nodiscard]] static constexpr bool acts_without_advantage() noexcept {
        return trm::acts_without_advantage<Surrogate>;
    }
    [[nodiscard]] static constexpr bool normalises() noexcept { return is_normalised<Weight>; }
    [[nodiscard]] constexpr bool averages_all_rows() const noexcept { return detail::averages_all_rows(weight); }
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
    /// With the clamp of the mask.
    template <class V, bool P, class Clamps>
    TRM_INLINE log_ratio<V> const& described(token<V, P>& t, Clamps const& clamps) const noexcept {
        constexpr over_ratio<diagnose_over(), no_weight> which{};
        clamps.template enter<stage::mask>(which, t);
        return ratio_of(which, t);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        status first = surrogate.validate();
        auto const check = [&](auto const& policy) {
            if (first.ok()) first = policy.validate();
        };
        check(weight);
        if (first.ok()) first = check_pair(shares_gradient(), folds_weight(), weight);
        std::apply([&](auto const&... m) { (check(m), ...); }, mask.criteria);
        std::apply([&](auto const&... p) { (check(p), ...); }, penalties);
        if (first.ok() && (0 + ... + (sequence_sums_of<Ps> > 0)) > 1) first = one_sequence_penalty;
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
    [[nodiscard]] static constexpr bool folds_weight() noexcept { return trm::folds_weight<Surrogate>; }
    /// Do tokens that token criteria reject have the surrogate's slope?
    [[nodiscard]] constexpr bool moves_rejected() const noexcept { return detail::moves_rejected(surrogate); }

    /// Token criteria decide `keep` and `reasons`; sequence criteria add to their statistics.
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P>& t, V* sums, V* maxima, std::int64_t* rejected) const noexcept {
        t.keep = t.active;
        t.reasons = zero<V>();
        unrolled<criteria()>([&](auto index) TRM_INLINE_LAMBDA {
            constexpr int i = index;
            auto const& criterion = std::get<i>(mask.criteria);
            if constexpr (criterion_type<i>::is_sequence) {
                if constexpr (!measures_passing<criterion_type<i>>)
                    criterion.measure(t, sums + places[i].sum, maxima + places[i].max);
            } else if constexpr (!selects<criterion_type<i>>) {
                rejected[i] += test_tokens(criterion, i, t);
            }
        });
    }
    /// What is taken over the sequence once `keep` is final: by criteria of passing tokens, weights and surrogates.
    template <class V, bool P, class Clamps>
    TRM_INLINE void measure_passing(token<V, P>& t, V* sums, V* maxima, penalty_clamp<V> const& of_penalties,
                                    Clamps const& clamps) const noexcept {
        unrolled<criteria()>([&](auto index) TRM_INLINE_LAMBDA {
            constexpr int i = index;
            if constexpr (measures_passing<criterion_type<i>>)
                std::get<i>(mask.criteria).measure(t, sums + places[i].sum, maxima + places[i].max);
        });
        if constexpr (weight_reads_ratio<Weight> && (weight_sums<Weight> > 0 || measures_weight<Surrogate>))
            clamps.template enter<stage::weight>(weight, t);
        if constexpr (weight_sums<Weight> > 0)
            sums[weight_slot] = sums[weight_slot] + measured_weight(weight, t, ratio_of(weight, t));
        if constexpr (measures_weight<Surrogate>)
            t.weight = simd::pin(token_part(weight, ratio_of(weight, t)) * t.factor);
        if constexpr (sequence_sums_of<Surrogate> > 0) {
            clamps.template enter<stage::surrogate>(surrogate, t);
            surrogate.measure(t, ratio_of(surrogate, t), sums + surrogate_slot);
        }
        each_sequence_penalty([&](auto const& penalty) TRM_INLINE_LAMBDA {
            clamps.template enter<stage::penalty>(penalty, t);
            penalty.measure(t, ratio_of(penalty, t), of_penalties, sums + penalty_slot);
        });
    }
    template <class V>
    static constexpr bool prepares = requires(Surrogate const& s) { s.template prepare<V>(); };
    /// What a surrogate computes once per pass: compilers do not move floating-point arithmetic out of a branch.
    template <class V>
    [[nodiscard]] TRM_INLINE auto prepare() const noexcept {
        if constexpr (prepares<V>) {
            return surrogate.template prepare<V>();
        } else {
            return std::false_type{};
        }
    }
    /// Weight, surrogate and penalties of a token, as decided for its sequence.
    template <class V, bool P, class Decision, class Prepared, class Clamps>
    TRM_INLINE void apply(token<V, P>& t, Decision const& decided, Prepared const& prepared,
                          penalty_clamp<V> const& of_penalties, Clamps const& clamps) const noexcept {
        if constexpr (weight_reads_ratio<Weight>) clamps.template enter<stage::weight>(weight, t);
        t.weight = weight_of(weight, ratio_of(weight, t), decided.weight, decided.weight_factor);
        if constexpr (!requires { Surrogate::reads_ratio; }) clamps.template enter<stage::surrogate>(surrogate, t);
        auto const& l = ratio_of(surrogate, t);
        if constexpr (sequence_sums_of<Surrogate> > 0) {
            store_terms(t, surrogate(t, l, decided.constants));
        } else if constexpr (prepares<V>) {
            store_terms(t, surrogate(t, l, prepared));
        } else {
            store_terms(t, surrogate(t, l));
        }
        t.penalty = t.penalty_slope = t.penalty_all = t.penalty_all_slope = zero<V>();
        unrolled<static_cast<int>(sizeof...(Ps))>([&](auto index) TRM_INLINE_LAMBDA {
            auto const& penalty = std::get<index>(penalties);
            if constexpr ((needs_of(std::tuple_element_t<index, std::tuple<Ps...>>{}) & need::any_ratio) != 0)
                clamps.template enter<stage::penalty>(penalty, t);
            add_penalty(penalty, t, of_penalties, decided.penalty);
        });
    }

    /// Do the extrema of a part of a sequence already reject it?
    template <class V>
    [[nodiscard]] TRM_INLINE bool certainly_rejected(V const* maxima) const noexcept {
        bool rejected = false;
        unrolled<criteria()>([&](auto index) TRM_INLINE_LAMBDA {
            constexpr int i = index;
            auto const& criterion = std::get<i>(mask.criteria);
            if constexpr (criterion_type<i>::maxima > 0 && requires { criterion.certainly_rejects(0.0); })
                rejected = rejected ||
                           criterion.certainly_rejects(static_cast<double>(simd::reduce_max(maxima[places[i].max])));
        });
        return rejected;
    }

    /// Sequence criteria, from merged statistics over finite tokens and over those that pass every token criterion.
    [[nodiscard]] sequence_verdict judge(double const* sums, double const* maxima, double finite, double passing,
                                         double epsilon) const noexcept {
        sequence_verdict verdict;
        unrolled<criteria()>([&](auto index) {
            constexpr int i = index;
            if constexpr (criterion_type<i>::is_sequence)
                judge_sequence(std::get<i>(mask.criteria), i, sums + places[i].sum, maxima + places[i].max, finite,
                               passing, epsilon, verdict);
        });
        return verdict;
    }
    [[nodiscard]] double statistic(int which, sequence_total const& s, double epsilon) const noexcept {
        double value = 0;
        unrolled<criteria()>([&](auto index) {
            constexpr int i = index;
            if constexpr (criterion_type<i>::is_sequence)
                if (i == which)
                    value = statistic_of(std::get<i>(mask.criteria), s.sums + places[i].sum, s.maxima + places[i].max,
                                         s.finite, s.passing, epsilon);
        });
        return value;
    }
    [[nodiscard]] double sequence_weight_of(double const* sums, double finite, double passing, clamp_range clamp,
                                            double factor) const noexcept {
        return weight_of_sequence(weight, sums + weight_slot, finite, passing, clamp, factor);
    }
    void count_weights(double const* sums, double finite, double kept, bool keep, double share, clamp_range clamp,
                       counts& n) const noexcept {
        count_weight(weight, sums + weight_slot, finite, kept, keep, share, clamp, n);
    }
    /// `of_sequence`, `factor`: the weight of the sequence and of normalisation, as the weight stage gets them.
    [[nodiscard]] sequence_constants constants_of(double const* sums, double epsilon, clamp_range clamp,
                                                  double of_sequence, double factor) const noexcept {
        sequence_constants k{};
        if constexpr (sequence_sums_of<Surrogate> > 0) k = surrogate.constants(sums + surrogate_slot, epsilon, clamp);
        if constexpr (trm::shares_gradient<Surrogate>) k.c[2] *= shared_part(weight, of_sequence, factor);
        return k;
    }
    [[nodiscard]] sequence_constants penalty_constants_of(double const* sums, double epsilon,
                                                          clamp_range clamp) const noexcept {
        sequence_constants k{};
        each_sequence_penalty([&](auto const& penalty) { k = penalty.constants(sums + penalty_slot, epsilon, clamp); });
        return k;
    }

private:
    /// f(penalty) for those that take sums over a sequence, of which a loss has one.
    template <class F>
    TRM_INLINE void each_sequence_penalty(F&& f) const noexcept {
        unrolled<static_cast<int>(sizeof...(Ps))>([&](auto index) TRM_INLINE_LAMBDA {
            if constexpr (sequence_sums_of<std::tuple_element_t<index, std::tuple<Ps...>>> > 0)
                f(std::get<index>(penalties));
        });
    }
    /// Where the statistics of criterion i start.
    static constexpr std::array<statistics_place, sizeof...(Ms) + 1> places = [] {
        std::array<statistics_place, sizeof...(Ms) + 1> s{};
        int const sums[] = {Ms::sums..., 0}, maxima[] = {Ms::maxima..., 0};
        for (std::size_t i = 0; i < sizeof...(Ms); ++i) s[i + 1] = {s[i].sum + sums[i], s[i].max + maxima[i]};
        return s;
    }();
};

}  // namespace detail
TRM_NAMESPACE_END
