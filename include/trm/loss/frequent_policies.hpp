// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/one_of.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/pipeline/decide.hpp>
#include <trm/pipeline/stages.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// The policies that most losses are made of, chosen at run time, as the steps that `fused_pass` takes with a register of tokens. The
/// bits are those of `composition`, of which it keeps what makes that fast: values stay in registers, and every question has the same
/// answer for all tokens. So the statistics of criteria are few: sums of x and of k3, and one maximum, of |x|, x, -x or the given
/// divergence. Squares follow from sizes. The weight of a sequence has a sum of its own, since its stage may clamp x otherwise.
/// Criteria and weights look at the ratio `correction`, the surrogate at `surrogate`; without proximal_logp both are the same. Losses
/// with other policies go through tiles.
class frequent_policies {
    using criteria_list =
        type_list<token_mask<any_divergence>, sequence_mask<any_divergence, stat::sum_t>,
                  sequence_mask<any_divergence, stat::mean_t>, sequence_mask<any_divergence, stat::max_t>,
                  sequence_mask<any_divergence, stat::min_t>>;
    template <class M>
    static constexpr std::size_t type_of = index_in<M>(criteria_list{});
    template <class Stat>
    static constexpr std::size_t type_by = type_of<sequence_mask<any_divergence, Stat>>;
    using divergences = type_list<k1, k2, k3, abs_log_ratio, ratio, given>;
    template <class D>
    static constexpr std::size_t number = index_in<D>(divergences{});
    static constexpr int most_criteria = 3;
    static constexpr int sum_of_x = 0, sum_of_k3 = 1, sum_of_weight = 2;  // in the lanes of a run
    enum class direction : std::uint8_t { none, size, up, down, given };
    using corrected = over_ratio<ratio_kind::correction, no_weight>;
    using moved = over_ratio<ratio_kind::surrogate, no_weight>;

    struct criterion {
        std::size_t type = 0;  ///< in `criteria_list`
        std::size_t divergence = 0;  ///< in `divergences`
        band keep;
        statistics_place place;

        /// f(the criterion as it is in the mask).
        template <class F>
        TRM_INLINE void visit(F&& f) const noexcept {
            at_type(criteria_list{}, type, [&]<class M>(std::type_identity<M>) TRM_INLINE_LAMBDA {
                M policy{};
                policy.keep = keep;
                f(policy);
            });
        }
        [[nodiscard]] bool is_token() const noexcept { return type == type_of<token_mask<any_divergence>>; }
        [[nodiscard]] bool adds() const noexcept {
            return type == type_by<stat::sum_t> || type == type_by<stat::mean_t>;
        }
        [[nodiscard]] bool is_extremum() const noexcept { return type >= type_by<stat::max_t>; }
        /// The divergence of the largest |x|, if not that itself. Lanes without a token have -infinity.
        template <class V>
        [[nodiscard]] TRM_INLINE V extremum(V const& most) const noexcept {
            if (divergence != number<k2>) return most;
            log_ratio<V> largest;
            largest.value = most;
            return select(most < zero<V>(), most, k2{}(largest));
        }
    };

public:
    static constexpr bool is_static = true;
    static constexpr int sum_capacity = 3, max_capacity = 1, criteria_capacity = most_criteria;

    /// Takes over the policies of a spec; `all` are the same with what they need. False if there are others among them.
    template <class All>
    [[nodiscard]] bool take(loss_spec const& spec, All const& all) noexcept;

    [[nodiscard]] TRM_INLINE int criteria() const noexcept { return criteria_; }
    [[nodiscard]] static constexpr int sum_width() noexcept { return sum_capacity; }
    [[nodiscard]] static constexpr int max_width() noexcept { return max_capacity; }
    [[nodiscard]] TRM_INLINE bool has_token_criteria() const noexcept { return token_criteria_; }
    [[nodiscard]] TRM_INLINE bool has_weight() const noexcept { return weighted_; }
    [[nodiscard]] static constexpr bool has_penalties() noexcept { return false; }
    [[nodiscard]] static constexpr bool shares_gradient() noexcept { return false; }
    [[nodiscard]] static constexpr bool folds_weight() noexcept { return false; }
    [[nodiscard]] static constexpr bool moves_rejected() noexcept { return false; }
    /// Does the loss look at the two ratios named above where there is a proximal policy, and at no other?
    [[nodiscard]] bool fits_proximal() const noexcept { return fits_proximal_; }
    [[nodiscard]] TRM_INLINE unsigned needs() const noexcept {
        return need::advantage | need::ratio(corrected::over) | need::ratio(moved::over) |
               (reads_given_ ? need::given : 0u);
    }
    [[nodiscard]] static constexpr ratio_kind diagnose_over() noexcept { return corrected::over; }
    /// Says what is known of `needs` once more, in the loop: then compilers ask no question about it.
    template <class Wanted>
    static TRM_INLINE void restrict(Wanted& reads) noexcept {
        reads.ref = reads.marks = reads.factor = false;
        reads.advantage = true;
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
        sums[sum_of_x] = sums[sum_of_x] + l.value;
        sums[sum_of_k3] = sums[sum_of_k3] + l.k3;
        if (direction_ <= direction::size) [[likely]] {
            *maxima = max_where(t.active, *maxima, abs(l.value));
        } else {
            V const here = direction_ == direction::up ? l.value : direction_ == direction::down ? -l.value : t.given;
            *maxima = max_where(t.active, *maxima, here);
        }
        if (token_criteria_) [[unlikely]]
            test(t, l, rejected);
    }
    template <class V, bool P, class Clamps>
    TRM_INLINE void measure_passing(token<V, P>& t, V* sums, V*, penalty_clamp<V> const&,
                                    Clamps const& clamps) const noexcept {
        if (weight_place_ < 0) [[likely]]
            return;
        clamps.template enter<stage::weight>(corrected{}, t);
        weight_.visit([&]<class W>(W const& w) TRM_ALWAYS_INLINE {
            if constexpr (weight_sums<W> > 0)
                sums[sum_of_weight] = sums[sum_of_weight] + measured_weight(w, t, ratio_of(corrected{}, t));
        });
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
            weight_.visit([&](auto const& w) TRM_ALWAYS_INLINE {
                t.weight = weight_of(w, ratio_of(corrected{}, t), decided.weight, decided.weight_factor);
            });
        }
        clamps.template enter<stage::surrogate>(moved{}, t);
        surrogate_.visit([&](auto const& s) TRM_ALWAYS_INLINE {
            auto const terms = terms_of(s, t, prepared);
            t.value = terms.value;
            t.slope = terms.slope;
        });
    }
    /// `clipped`, which apply leaves out: compilers would work it out even where nobody asks.
    template <class V, bool P, class Prepared, class Clamps>
    TRM_INLINE void set_clipped(token<V, P>& t, Prepared const& prepared, Clamps const& clamps) const noexcept {
        clamps.template enter<stage::surrogate>(moved{}, t);
        surrogate_.visit([&](auto const& s) TRM_ALWAYS_INLINE { t.clipped = terms_of(s, t, prepared).clipped; });
    }
    /// Do the extrema of a part of a sequence already reject it?
    template <class V>
    [[nodiscard]] TRM_INLINE bool certainly_rejected(V const* maxima) const noexcept {
        bool rejected = false;
        for (int i = 0; i < criteria_ && !rejected; ++i)
            if (all_[i].is_extremum()) {
                auto const most = static_cast<double>(simd::reduce_max(all_[i].extremum(*maxima)));
                all_[i].visit([&](auto const& m) TRM_INLINE_LAMBDA {
                    if constexpr (requires { m.certainly_rejects(most); }) rejected = m.certainly_rejects(most);
                });
            }
        return rejected;
    }
    /// Statistics of a run before its first token: of as many as there may be, which takes less than to count them.
    static TRM_INLINE void clear_statistics(double* sums, double* maxima) noexcept {
        for (int i = 0; i < most_criteria + 1; ++i) sums[i] = 0;
        for (int i = 0; i < most_criteria; ++i) maxima[i] = -std::numeric_limits<double>::infinity();
    }
    template <class V>
    TRM_INLINE void flush_sums(V const* lanes, double* sums) const noexcept {
        double const x = simd::sum(lanes[sum_of_x]), k3 = simd::sum(lanes[sum_of_k3]);
        for (int i = 0; i < criteria_; ++i)
            if (all_[i].adds()) sums[all_[i].place.sum] += all_[i].divergence == number<trm::k3> ? k3 : -x;
        if (weight_place_ >= 0) sums[weight_place_] += simd::sum(lanes[sum_of_weight]);
    }
    template <class V>
    TRM_INLINE void flush_maxima(V const* lanes, double* maxima) const noexcept {
        for (int i = 0; i < criteria_; ++i) {
            if (!all_[i].is_extremum()) continue;
            double& most = maxima[all_[i].place.max];
            most = (std::max)(most, static_cast<double>(simd::reduce_max(all_[i].extremum(*lanes))));
        }
    }
    [[nodiscard]] sequence_verdict judge(double const* sums, double const* maxima, double finite, double passing,
                                         double epsilon) const noexcept {
        sequence_verdict verdict;
        for (int i = 0; i < criteria_; ++i)
            all_[i].visit([&]<class M>(M const& m) {
                if constexpr (M::is_sequence)
                    judge_sequence(m, i, sums + all_[i].place.sum, maxima + all_[i].place.max, finite, passing, epsilon,
                                   verdict);
            });
        return verdict;
    }

private:
    criterion all_[most_criteria];
    one_of<no_weight, token_weight, constant_weight, sequence_weight<stat::sum_t>, sequence_weight<stat::mean_t>>
        weight_;
    one_of<ppo_clip, importance_ratio, policy_gradient, cispo> surrogate_;
    int criteria_ = 0, weight_place_ = -1;
    direction direction_ = direction::none;
    bool token_criteria_ = false, weighted_ = false, reads_given_ = false, fits_proximal_ = false;

    [[nodiscard]] bool take(any_criterion const& any, statistics_place place) noexcept;
    [[nodiscard]] static constexpr bool is_same_pair(ratio_kind a, ratio_kind b) noexcept {
        return resolve(a, true) == resolve(b, true);
    }

    /// Criteria of tokens.
    template <class V, bool P>
    TRM_INLINE void test(token<V, P>& t, log_ratio<V> const& l, std::int64_t* rejected) const noexcept {
        int failed[most_criteria] = {};
        for (int i = 0; i < criteria_; ++i) {
            if (!all_[i].is_token()) continue;
            with_type(divergences{}, all_[i].divergence, [&]<class D>(std::type_identity<D>) TRM_ALWAYS_INLINE {
                t.divergence = listed_divergence<D>(t, l);
            });
            token_mask<any_divergence> policy{};
            policy.keep = all_[i].keep;
            failed[i] = test_tokens(policy, i, t);
        }
        static_assert(most_criteria == 3);
        // Written out: a count at an index that is no constant would keep all counts of the pass in memory.
        rejected[0] += failed[0];
        rejected[1] += failed[1];
        rejected[2] += failed[2];
    }
    template <class S, class V, bool P, class Prepared>
    static TRM_INLINE surrogate_terms<V> terms_of(S const& s, token<V, P> const& t,
                                                  [[maybe_unused]] Prepared const& prepared) noexcept {
        if constexpr (requires { s(t, ratio_of(moved{}, t), prepared); }) {
            return s(t, ratio_of(moved{}, t), prepared);
        } else {
            return s(t, ratio_of(moved{}, t));
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
