// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/frequent_steps.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/pipeline/decide.hpp>
#include <trm/pipeline/weigh.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// What the policies of a spec need, and what they say about a whole sequence: what `composition` knows from its types. (A
/// template so that only those who use it pay for compiling it.)
template <class Spec = loss_spec>
struct run_time_policies {
    static constexpr bool is_static = false;
    static constexpr int sum_capacity = max_criteria + 2 + 4 + 3;
    static constexpr int max_capacity = max_criteria;
    static constexpr int criteria_capacity = max_criteria;

    explicit run_time_policies(Spec const& s) noexcept;

    [[nodiscard]] int criteria() const noexcept { return criteria_; }
    [[nodiscard]] int sum_width() const noexcept { return sum_width_; }
    [[nodiscard]] int max_width() const noexcept { return max_width_; }
    [[nodiscard]] bool surrogate_reads_ratio() const noexcept { return surrogate_reads_ratio_; }
    [[nodiscard]] statistics_place place_of(int criterion) const noexcept { return places[criterion]; }
    [[nodiscard]] sums_place place_of_sums() const noexcept { return {weight_slot, surrogate_slot}; }
    /// Null if another policy is among them.
    [[nodiscard]] frequent_policies const* frequent() const noexcept { return is_frequent_ ? &frequent_ : nullptr; }
    [[nodiscard]] bool has_token_criteria() const noexcept { return token_criteria_; }
    [[nodiscard]] int only_token_criterion() const noexcept { return only_token_criterion_; }
    [[nodiscard]] bool has_sequence_criteria() const noexcept { return sequence_criteria_; }
    [[nodiscard]] bool has_selections() const noexcept { return selections_; }
    [[nodiscard]] bool has_marker() const noexcept { return marker_; }
    [[nodiscard]] bool has_weight() const noexcept { return has_weight_; }
    [[nodiscard]] bool has_penalties() const noexcept { return !spec->penalties.empty(); }
    [[nodiscard]] bool normalises() const noexcept { return normalises_; }
    [[nodiscard]] bool acts_without_advantage() const noexcept {
        return std::visit([](auto const& s) { return trm::acts_without_advantage<std::remove_cvref_t<decltype(s)>>; },
                          spec->surrogate.policy);
    }
    [[nodiscard]] bool averages_all_rows() const noexcept {
        return std::visit([](auto const& w) { return detail::averages_all_rows(w); }, spec->weight.policy);
    }
    [[nodiscard]] bool two_pass() const noexcept { return two_pass_; }
    [[nodiscard]] bool shares_gradient() const noexcept { return shares_gradient_; }
    [[nodiscard]] bool folds_weight() const noexcept { return folds_weight_; }
    [[nodiscard]] bool moves_rejected() const noexcept { return moves_rejected_; }
    /// Is there a penalty of all tokens, or of kept ones?
    [[nodiscard]] bool penalises_all() const noexcept { return penalises_all_; }
    [[nodiscard]] bool penalises_kept() const noexcept { return penalises_kept_; }
    [[nodiscard]] unsigned needs() const noexcept { return needs_; }
    /// The log-ratios whose e^x a pass looks at, as bits.
    [[nodiscard]] unsigned exp_needs(bool measures, bool applies, bool diagnose) const noexcept {
        return (measures ? measures_exp_ : 0u) | (applies ? applies_exp_ : 0u) |
               (applies && diagnose ? need::ratio(diagnose_over_) : 0u);
    }
    [[nodiscard]] ratio_kind diagnose_over() const noexcept { return diagnose_over_; }
    [[nodiscard]] status validate() const noexcept;

    template <class F>
    void each_selection(F&& f) const {
        for (int i = 0; i < criteria_; ++i)
            visit_taken([&]<class M>(M const& m) -> void
                            requires selects<M>
                        { f(m, i); },
                        spec->mask[static_cast<std::size_t>(i)]);
    }
    [[nodiscard]] bool has_factors() const noexcept { return !spec->weight_factors.empty(); }
    /// f(factor of token weights, pair of policies) for each.
    template <class F>
    void each_factor(F&& f) const {
        for (any_weight_factor const& any : spec->weight_factors)
            std::visit([&](auto const& w) { f(w, any.over); }, any.policy);
    }
    template <class F>
    void each_marker(F&& f) const {
        visit_taken([&]<class P>(P const& p) -> void
                        requires requires { p.marker(); }
                    { f(p.marker()); },
                    spec->surrogate.policy);
    }

    [[nodiscard]] sequence_verdict judge(double const* sums, double const* maxima, double finite, double passing,
                                         double epsilon) const noexcept {
        if (is_frequent_) return frequent_.judge(sums, maxima, finite, passing, epsilon);
        sequence_verdict verdict;
        for (int i = 0; i < criteria_; ++i)
            visit_taken(
                [&]<class M>(M const& m) -> void
                    requires M::is_sequence
                {
                    judge_sequence(m, i, sums + places[i].sum, maxima + places[i].max, finite, passing, epsilon,
                                   verdict);
                },
                spec->mask[static_cast<std::size_t>(i)]);
        return verdict;
    }
    [[nodiscard]] double statistic(int i, sequence_total const& s, double epsilon) const noexcept {
        double value = 0;
        visit_taken(
            [&]<class M>(M const& m) -> void
                requires M::is_sequence
            {
                value = statistic_of(m, s.sums + places[i].sum, s.maxima + places[i].max, s.finite, s.passing, epsilon);
            },
            spec->mask[static_cast<std::size_t>(i)]);
        return value;
    }
    [[nodiscard]] double sequence_weight_of(double const* sums, double finite, double passing, clamp_range clamp,
                                            double factor) const noexcept {
        return std::visit(
            [&](auto const& w) { return weight_of_sequence(w, sums + weight_slot, finite, passing, clamp, factor); },
            spec->weight.policy);
    }
    void count_weights(double const* sums, double finite, double kept, bool keep, double share, clamp_range clamp,
                       counts& n) const noexcept {
        std::visit([&](auto const& w) { count_weight(w, sums + weight_slot, finite, kept, keep, share, clamp, n); },
                   spec->weight.policy);
    }
    [[nodiscard]] sequence_constants constants_of(double const* sums, double epsilon, clamp_range clamp,
                                                  double of_sequence, double factor) const noexcept {
        sequence_constants k{};
        visit_taken([&]<class P>(P const& p) -> void
                        requires(sequence_sums_of<P> > 0)
                    { k = p.constants(sums + surrogate_slot, epsilon, clamp); },
                    spec->surrogate.policy);
        if (shares_gradient_)
            k.c[2] *=
                std::visit([&](auto const& w) { return shared_part(w, of_sequence, factor); }, spec->weight.policy);
        return k;
    }
    [[nodiscard]] sequence_constants penalty_constants_of(double const* sums, double epsilon,
                                                          clamp_range clamp) const noexcept {
        sequence_constants k{};
        each_sequence_penalty([&](auto const& p) { k = p.constants(sums + penalty_slot, epsilon, clamp); });
        return k;
    }

protected:
    /// f(penalty) for the one that takes sums over a sequence.
    template <class F>
    void each_sequence_penalty(F&& f) const {
        if (!sequence_penalty_) return;
        for (any_penalty const& any : spec->penalties)
            visit_taken([&]<class P>(P const& p) -> void
                            requires(sequence_sums_of<P> > 0)
                        { f(p); },
                        any);
    }
    Spec const* spec;
    statistics_place places[max_criteria] = {};
    int criteria_ = 0, sum_width_ = 0, max_width_ = 0, weight_slot = 0, surrogate_slot = 0, penalty_slot = 0,
        only_token_criterion_ = -1;
    unsigned needs_ = 0, measures_exp_ = 0, applies_exp_ = 0, weight_exp_ = 0;
    ratio_kind diagnose_over_ = ratio_kind::current_over_rollout;
    bool token_criteria_ = false, sequence_criteria_ = false, selections_ = false, marker_ = false, has_weight_ = false,
         weight_reads_ratio_ = false, surrogate_reads_ratio_ = false, normalises_ = false, two_pass_ = false,
         late_ = false, shares_gradient_ = false, folds_weight_ = false, moves_rejected_ = false,
         penalises_all_ = false, penalises_kept_ = false, sequence_penalty_ = false, is_frequent_ = false;
    frequent_policies frequent_;

private:
    void take(any_criterion const& criterion) noexcept;
    void take(any_weight const& weight) noexcept;
    void take(any_surrogate const& surrogate) noexcept;
    void take(any_penalty const& penalty) noexcept;
};

}  // namespace detail
TRM_NAMESPACE_END
