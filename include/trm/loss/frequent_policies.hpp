// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/one_of.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/pipeline/decide.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Losses without terms that depend on sums of tokens, and with them. `weighing`: those whose only statistics are the sum of a weight
/// and sums of x, while they are measured.
enum class frequent_kind : std::uint8_t { plain, summing, weighing };

/// The policies that most losses are made of, chosen at run time: what `frequent_steps` looks at in the loop over tokens, taken over
/// from a spec once. Criteria and weights look at the ratio `correction`, the surrogate at `surrogate`; without proximal_logp both are
/// the same. Losses with other policies, and with penalties, go through tiles.
class frequent_policies {
protected:
    using criteria_list =
        type_list<token_mask<any_divergence>, sequence_mask<any_divergence, stat::sum_t>,
                  sequence_mask<any_divergence, stat::mean_t>, passing_sequence_mask<any_divergence, stat::sum_t>,
                  passing_sequence_mask<any_divergence, stat::mean_t>, sequence_mask<any_divergence, stat::max_t>,
                  sequence_mask<any_divergence, stat::min_t>>;
    template <class M>
    static constexpr std::size_t type_of = index_in<M>(criteria_list{});
    template <class Stat>
    static constexpr std::size_t type_by = type_of<sequence_mask<any_divergence, Stat>>;
    using divergences = type_list<k1, k2, k3, abs_log_ratio, ratio, given>;
    template <class D>
    static constexpr std::size_t divergence_number = index_in<D>(divergences{});
    static constexpr int most_criteria = 4;
    using weight_choice = one_of<no_weight, token_weight, constant_weight, sequence_weight<stat::sum_t>,
                                 sequence_weight<stat::mean_t>, normalised<token_weight>>;
    using surrogate_choice = one_of<ppo_clip, importance_ratio, policy_gradient, cispo, gspo, gspo_token>;
    // So many of each list are for losses of every kind, further ones for those with sums.
    static constexpr std::size_t common_weights = index_in<sequence_weight<stat::sum_t>>(weight_choice::list{});
    static constexpr std::size_t common_surrogates = index_in<gspo>(surrogate_choice::list{});
    /// Which extremum criteria want: of |x|, of x from `up` to `down`, or of the given divergence.
    enum class direction : std::uint8_t { none, size, up, both, down, given };
    using corrected = over_ratio<ratio_kind::correction, no_weight>;
    using moved = over_ratio<ratio_kind::surrogate, no_weight>;

    struct criterion {
        std::size_t type = 0;  ///< in `criteria_list`
        std::size_t divergence = 0;  ///< in `divergences`
        band keep;
        statistics_place place;
        bool is_second = false;  ///< if there are two extrema, its own is that of -x

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
        [[nodiscard]] bool adds() const noexcept { return type >= type_by<stat::sum_t> && !is_extremum(); }
        [[nodiscard]] bool adds_passing() const noexcept { return adds() && type > type_by<stat::mean_t>; }
        [[nodiscard]] bool is_extremum() const noexcept { return type >= type_by<stat::max_t>; }
        /// Its own of two extrema: the divergence of the largest |x|, if not that itself. Lanes without a token have -infinity.
        template <class V>
        [[nodiscard]] TRM_INLINE V extremum_of(V const* extrema) const noexcept {
            V const first = extrema[0], second = extrema[1];  // an index that is no constant would keep both in memory
            V const most = is_second ? second : first;
            if (divergence != divergence_number<k2>) return most;
            log_ratio<V> largest;
            largest.value = most;
            return select(most < zero<V>(), most, k2{}(largest));
        }
    };

public:
    /// Takes over the policies of a spec; `all` are the same with what they need. False if there are others among them.
    template <class All>
    [[nodiscard]] bool take(loss_spec const& spec, All const& all) noexcept;

    [[nodiscard]] frequent_kind kind() const noexcept { return kind_; }
    [[nodiscard]] bool only_weighs() const noexcept { return only_sums_x_ && weight_sums_ && !surrogate_sums_; }
    /// Does the loss look at the two ratios named above where there is a proximal policy, and at no other?
    [[nodiscard]] bool fits_proximal() const noexcept { return fits_proximal_; }

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

protected:
    criterion all_[most_criteria];
    criterion of_tokens_;  ///< the one of tokens, if any
    weight_choice weight_;
    surrogate_choice surrogate_;
    sequence_weight<stat::sum_t> summed_weight_{};  ///< takes the sum of one with the mean too
    gspo summed_;  ///< takes the sums of gspo_token too
    sums_place place_;
    int criteria_ = 0, of_tokens_bit_ = 0;
    frequent_kind kind_ = frequent_kind::plain;
    direction direction_ = direction::none;
    bool token_criteria_ = false, weighted_ = false, weight_sums_ = false, normalises_tokens_ = false,
         surrogate_sums_ = false, measures_exp_ = false, applies_exp_ = false, sequence_criteria_ = false,
         shares_gradient_ = false, moves_rejected_ = false, reads_given_ = false, fits_proximal_ = false;
    bool adds_passing_ = false;  ///< criteria that add see only the tokens that pass the one of tokens
    bool only_sums_x_ = true;  ///< all criteria add x up

private:
    [[nodiscard]] bool take(any_criterion const& any, statistics_place place) noexcept;
    [[nodiscard]] static constexpr bool is_same_pair(ratio_kind a, ratio_kind b) noexcept {
        return resolve(a, true) == resolve(b, true);
    }
};

}  // namespace detail
TRM_NAMESPACE_END
