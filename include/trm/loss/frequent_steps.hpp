// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/frequent_policies.hpp>
#include <trm/pipeline/stages.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Frequent policies as the steps that `fused_pass` takes with a register of tokens. The bits are those of `composition`, of which it
/// keeps what makes that fast: values stay in registers, and every question has the same answer for all tokens. So the statistics of
/// criteria are few: sums of x and of k3, over all tokens or those that pass, and one maximum, of |x|, x, -x or the given divergence, or
/// both of x and -x. Squares follow from sizes. Weights and surrogates of sequences have sums of their own, since their stages may
/// clamp x otherwise. Each kind of loss has a loop that asks no questions about the others.
template <frequent_kind Kind>
class frequent_steps : public frequent_policies {
    static constexpr bool sums_sequences = Kind != frequent_kind::plain, only_weight = Kind == frequent_kind::weighing;
    static constexpr int sum_of_x = 0, sum_of_k3 = 1, sum_of_weight = 2, sums_of_surrogate = 3;  // of a run

public:
    static constexpr bool is_static = true;
    static constexpr int sum_capacity = only_weight      ? sums_of_surrogate
                                        : sums_sequences ? sums_of_surrogate + gspo::sums
                                                         : sum_of_weight,
                         max_capacity = 2, criteria_capacity = most_criteria;

    explicit frequent_steps(frequent_policies const& policies) noexcept : frequent_policies(policies) {}

    [[nodiscard]] TRM_INLINE int criteria() const noexcept { return criteria_; }
    [[nodiscard]] static constexpr int sum_width() noexcept { return sum_capacity; }
    [[nodiscard]] static constexpr int max_width() noexcept { return max_capacity; }
    [[nodiscard]] TRM_INLINE bool has_token_criteria() const noexcept { return !only_weight && token_criteria_; }
    [[nodiscard]] TRM_INLINE int only_token_criterion() const noexcept { return has_token_criteria() ? 0 : -1; }
    [[nodiscard]] TRM_INLINE bool has_weight() const noexcept { return weighted_; }
    [[nodiscard]] static constexpr bool has_penalties() noexcept { return false; }
    [[nodiscard]] TRM_INLINE bool shares_gradient() const noexcept { return sums_sequences && shares_gradient_; }
    [[nodiscard]] static constexpr bool two_pass() noexcept { return sums_sequences; }
    [[nodiscard]] static constexpr bool folds_weight() noexcept { return false; }
    [[nodiscard]] TRM_INLINE bool moves_rejected() const noexcept { return sums_sequences && moves_rejected_; }
    [[nodiscard]] TRM_INLINE unsigned needs() const noexcept {
        return need::advantage | need::ratio(corrected::over) | need::ratio(moved::over) |
               (!only_weight && reads_given_ ? need::given : 0u);
    }
    [[nodiscard]] static constexpr ratio_kind diagnose_over() noexcept { return corrected::over; }
    /// Says what is known of `needs` once more, in the loop: then compilers ask no question about it.
    template <bool Applies, class Wanted>
    TRM_INLINE void restrict(Wanted& reads, bool diagnose) const noexcept {
        reads.marks = reads.ref = false;
        reads.advantage = reads.factor = true;
        reads.set_exp(!sums_sequences || (!only_weight && (Applies ? applies_exp_ || diagnose : measures_exp_)));
    }

    template <class V, bool P, class Clamps>
    static TRM_INLINE log_ratio<V> const& described(token<V, P>& t, Clamps const& clamps) noexcept {
        clamps.template enter<stage::mask>(corrected{}, t);
        return ratio_of(corrected{}, t);
    }
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P>& t, V* sums, V* maxima, std::int64_t* rejected) const noexcept {
        t.keep = t.active;
        t.reasons = zero<V>();
        log_ratio<V> const& l = ratio_of(corrected{}, t);
        V x = l.value, k3 = l.k3;
        if (has_token_criteria()) [[unlikely]] {
            test(t, l, rejected);
            if (adds_passing_) {
                x = zero_unless(t.keep & t.allowed, x);
                k3 = zero_unless(t.keep & t.allowed, k3);
            }
        }
        if (only_weight) {
            if (sequence_criteria_) sums[sum_of_x] = sums[sum_of_x] + x;
        } else if (!sums_sequences || sequence_criteria_) {  // most losses without sums have some
            sums[sum_of_x] = sums[sum_of_x] + x;
            sums[sum_of_k3] = sums[sum_of_k3] + k3;
            if (direction_ <= direction::size) [[likely]] {
                *maxima = max_where(t.active, *maxima, abs(l.value));
            } else {
                bool const is_down = direction_ == direction::down, is_given = direction_ == direction::given;
                *maxima = max_where(t.active, *maxima, is_down ? -l.value : is_given ? t.given : l.value);
                if (direction_ == direction::both) maxima[1] = max_where(t.active, maxima[1], -l.value);
            }
        }
    }
    template <class V, bool P, class Clamps>
    TRM_INLINE void measure_passing(token<V, P>& t, V* sums, V*, penalty_clamp<V> const&,
                                    Clamps const& clamps) const noexcept {
        if constexpr (sums_sequences) {
            log_ratio<V> const& l = ratio_of(corrected{}, t);
            if (only_weight || weighted_) clamps.template enter<stage::weight>(corrected{}, t);
            if (only_weight || weight_sums_) {
                sums[sum_of_weight] = sums[sum_of_weight] + summed_weight_.measured(t, l);
            } else if (normalises_tokens_) [[unlikely]] {
                sums[sum_of_weight] = sums[sum_of_weight] + measured_weight(normalised_weight(), t, l);
            }
            if (only_weight || !surrogate_sums_) return;
            t.weight = V(typename V::value_type(1));
            if (shares_gradient_) t.weight = t.factor;
            if (shares_gradient_ && weighted_ && !weight_sums_)
                weight_.template visit<common_weights>([&](auto const& w) TRM_ALWAYS_INLINE {
                    t.weight = simd::pin(token_part(w, ratio_of(corrected{}, t)) * t.factor);
                });
            clamps.template enter<stage::surrogate>(moved{}, t);
            summed_.measure(t, ratio_of(moved{}, t), sums + sums_of_surrogate);
        }
    }
    template <class V>
    [[nodiscard]] TRM_INLINE auto prepare() const noexcept {
        return surrogate_.template get<ppo_clip>().template prepare<V>();
    }
    template <class V, bool P, class Decision, class Prepared, class Clamps>
    TRM_INLINE void apply(token<V, P>& t, Decision const& decided, Prepared const& prepared, penalty_clamp<V> const&,
                          Clamps const& clamps) const noexcept {
        t.weight = V(typename V::value_type(1));
        if (weighted_) [[unlikely]] {
            clamps.template enter<stage::weight>(corrected{}, t);
            if (sums_sequences && weight_sums_) {
                t.weight = simd::broadcast<V>(decided.weight);
            } else if (sums_sequences && normalises_tokens_) [[unlikely]] {
                t.weight =
                    weight_of(normalised_weight(), ratio_of(corrected{}, t), decided.weight, decided.weight_factor);
            } else {
                weight_.template visit<common_weights>([&](auto const& w) TRM_ALWAYS_INLINE {
                    t.weight = weight_of(w, ratio_of(corrected{}, t), decided.weight, decided.weight_factor);
                });
            }
        }
        clamps.template enter<stage::surrogate>(moved{}, t);
        V value, slope;  // members of t would stay in memory (g++ 12)
        auto const apply_to = [&](auto const& s) TRM_ALWAYS_INLINE {
            auto const terms = terms_of(s, t, decided, prepared);
            value = terms.value;
            slope = terms.slope;
        };
        if (sums_sequences && surrogate_sums_) {
            visit_summed(apply_to);
        } else {
            surrogate_.template visit<common_surrogates>(apply_to);
        }
        t.value = value;
        t.slope = slope;
    }
    /// `clipped`, which apply leaves out: compilers would work it out even where nobody asks.
    template <class V, bool P, class Decision, class Prepared, class Clamps>
    TRM_INLINE void set_clipped(token<V, P>& t, Decision const& decided, Prepared const& prepared,
                                Clamps const& clamps) const noexcept {
        clamps.template enter<stage::surrogate>(moved{}, t);
        auto const apply_to = [&](auto const& s)
                                  TRM_ALWAYS_INLINE { t.clipped = terms_of(s, t, decided, prepared).clipped; };
        if (sums_sequences && surrogate_sums_) {
            visit_summed(apply_to);
        } else {
            surrogate_.template visit<common_surrogates>(apply_to);
        }
    }
    /// Do the extrema of a part of a sequence already reject it?
    template <class V>
    [[nodiscard]] TRM_INLINE bool certainly_rejected(V const* maxima) const noexcept {
        bool rejected = false;
        for (int i = 0; i < criteria_ && !rejected; ++i)
            if (all_[i].is_extremum()) {
                auto const most = static_cast<double>(simd::reduce_max(all_[i].extremum_of(maxima)));
                all_[i].visit([&](auto const& m) TRM_INLINE_LAMBDA {
                    if constexpr (requires { m.certainly_rejects(most); }) rejected = m.certainly_rejects(most);
                });
            }
        return rejected;
    }
    /// Counts of a run as they are in the mask.
    TRM_INLINE void give_rejected(std::int64_t const* counted, std::int64_t* to) const noexcept {
        for (int k = 0; k < most_criteria; ++k) to[k] = k == of_tokens_bit_ ? counted[0] : 0;
    }
    /// Statistics of a run before its first token: of as many as there may be, which takes less than to count them.
    static TRM_INLINE void clear_statistics(double* sums, double* maxima) noexcept {
        for (int i = 0; i < most_criteria + (sums_sequences ? 1 + gspo::sums : 0); ++i) sums[i] = 0;
        for (int i = 0; i < most_criteria; ++i) maxima[i] = -std::numeric_limits<double>::infinity();
    }
    template <class V>
    TRM_INLINE void flush_sums(V const* lanes, double* sums) const noexcept {
        // Places beyond those that a policy has are nobody's.
        if constexpr (sums_sequences) sums[place_.weight] += simd::sum(lanes[sum_of_weight]);
        double const x = simd::sum(lanes[sum_of_x]), k3 = only_weight ? 0.0 : simd::sum(lanes[sum_of_k3]);
        for (int i = 0; i < criteria_; ++i)
            if (all_[i].adds()) sums[all_[i].place.sum] += all_[i].divergence == divergence_number<trm::k3> ? k3 : -x;
        if constexpr (sums_sequences && !only_weight) {
            sums[place_.surrogate] += simd::sum(lanes[sums_of_surrogate]);
            sums[place_.surrogate + 1] += simd::sum(lanes[sums_of_surrogate + 1]);
            sums[place_.surrogate + 2] += simd::sum(lanes[sums_of_surrogate + 2]);
            sums[place_.surrogate + 3] += simd::sum(lanes[sums_of_surrogate + 3]);
        }
    }
    template <class V>
    TRM_INLINE void flush_maxima(V const* lanes, double* maxima) const noexcept {
        if (only_weight) return;
        for (int i = 0; i < criteria_; ++i) {
            if (!all_[i].is_extremum()) continue;
            double& most = maxima[all_[i].place.max];
            most = (std::max)(most, static_cast<double>(simd::reduce_max(all_[i].extremum_of(lanes))));
        }
    }

private:
    [[nodiscard]] TRM_INLINE normalised<token_weight> const& normalised_weight() const noexcept {
        return weight_.template get<normalised<token_weight>>();
    }
    /// f(the surrogate of whole sequences). That or one of the common ones is asked where it is needed: in a function of its own, g++ 12
    /// takes 1.08 times as long for losses without sums.
    template <class F>
    TRM_ALWAYS_INLINE inline void visit_summed(F&& f) const noexcept {
        surrogate_.template holds<gspo_token>() ? f(surrogate_.template get<gspo_token>())
                                                : f(surrogate_.template get<gspo>());
    }
    /// The criterion of tokens: what it rejects is counted first, whatever its place in the mask.
    template <class V, bool P>
    TRM_INLINE void test(token<V, P>& t, log_ratio<V> const& l, std::int64_t* rejected) const noexcept {
        with_type<divergences::size>(divergences{}, of_tokens_.divergence,
                                     [&]<class D>(std::type_identity<D>)
                                         TRM_ALWAYS_INLINE { t.divergence = listed_divergence<D>(t, l); });
        token_mask<any_divergence> policy{};
        policy.keep = of_tokens_.keep;
        rejected[0] += test_tokens(policy, 0, t);
    }
    template <class S, class V, bool P, class Decision, class Prepared>
    static TRM_INLINE surrogate_terms<V> terms_of(S const& s, token<V, P> const& t,
                                                  [[maybe_unused]] Decision const& decided,
                                                  [[maybe_unused]] Prepared const& prepared) noexcept {
        if constexpr (sequence_sums_of<S> > 0) {
            return s(t, ratio_of(moved{}, t), decided.constants);
        } else if constexpr (requires { s(t, ratio_of(moved{}, t), prepared); }) {
            return s(t, ratio_of(moved{}, t), prepared);
        } else {
            return s(t, ratio_of(moved{}, t));
        }
    }
};

/// f(std::type_identity) of the steps of policies. `Measures`: that is all that the pass does.
template <bool Measures, class F>
auto with_steps(frequent_policies const& policies, F&& f) {
    if constexpr (Measures)
        if (policies.only_weighs()) return f(std::type_identity<frequent_steps<frequent_kind::weighing>>{});
    if (policies.kind() == frequent_kind::summing)
        return f(std::type_identity<frequent_steps<frequent_kind::summing>>{});
    return f(std::type_identity<frequent_steps<frequent_kind::plain>>{});
}

}  // namespace detail
TRM_NAMESPACE_END
