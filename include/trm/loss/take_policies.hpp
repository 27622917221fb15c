// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/run_time_policies.hpp>

/// \file
/// What run_time_policies finds out about a spec once. Not in the class, so that any_loss_extern.hpp can say that it is compiled
/// elsewhere.

TRM_NAMESPACE_BEGIN
namespace detail {

template <class Spec>
run_time_policies<Spec>::run_time_policies(Spec const& s) noexcept : spec(&s) {
    for (any_criterion const& c : s.mask)
        if (criteria_ < max_criteria) take(c);
    take(s.weight);
    for (any_weight_factor const& f : s.weight_factors)
        std::visit([&](auto const& w) { needs_ |= factor_needs(w, f.over); }, f.policy);
    take(s.surrogate);
    penalty_slot = sum_width_;
    for (any_penalty const& p : s.penalties) take(p);
    late_ = late_ || two_pass_;
    if (shares_gradient_ || folds_weight_) measures_exp_ |= weight_exp_;
    applies_exp_ |= weight_exp_;
    is_frequent_ = frequent_.take(s, *this);
}
template <class Spec>
void run_time_policies<Spec>::take(any_criterion const& criterion) noexcept {
    bool const is_first = criteria_ == 0;
    statistics_place& place = places[criteria_++];
    std::visit(
        [&](auto const& m) {
            using M = std::remove_cvref_t<decltype(m)>;
            place = {sum_width_, max_width_};
            sum_width_ += M::sums;
            max_width_ += M::maxima;
            sequence_criteria_ = sequence_criteria_ || M::is_sequence;
            late_ = late_ || measures_passing<M>;
            if (!M::is_sequence) only_token_criterion_ = token_criteria_ || selects<M> ? -1 : criteria_ - 1;
            token_criteria_ = token_criteria_ || !M::is_sequence;
            selections_ = selections_ || selects<M>;
            if constexpr (requires { m.divergence; }) {
                needs_ |= needs_of(m.divergence);
                if constexpr (looks_at_ratio<M>) needs_ |= need::ratio(m.divergence.over);
                if (is_first) diagnose_over_ = m.divergence.over;
                measures_exp_ |= exp_needs_of(m.divergence);
                if (!M::is_sequence) applies_exp_ |= exp_needs_of(m.divergence);
            } else {
                if (is_first) diagnose_over_ = m.over;
            }
            if constexpr (requires { M::needs(); }) needs_ |= M::needs();
        },
        criterion);
}
template <class Spec>
void run_time_policies<Spec>::take(any_weight const& weight) noexcept {
    weight_slot = sum_width_;
    std::visit(
        [&](auto const& w) {
            using W = std::remove_cvref_t<decltype(w)>;
            has_weight_ = !std::is_same_v<W, no_weight>;
            weight_reads_ratio_ = weight_reads_ratio<W>;
            normalises_ = is_normalised<W>;
            sum_width_ += weight_sums<W>;
            two_pass_ = W::sums > 0;
            if (reads_exp<W>) weight_exp_ = need::ratio(weight.over);
            if (weight_sums<W> > 0) measures_exp_ |= weight_exp_;
        },
        weight.policy);
    if (!weight_reads_ratio_) return;
    needs_ |= need::ratio(weight.over);
    if (criteria_ == 0) diagnose_over_ = weight.over;
}
template <class Spec>
void run_time_policies<Spec>::take(any_surrogate const& surrogate) noexcept {
    surrogate_slot = sum_width_;
    std::visit(
        [&](auto const& p) {
            using P = std::remove_cvref_t<decltype(p)>;
            needs_ |= P::needs();
            surrogate_reads_ratio_ = !requires { P::reads_ratio; };
            if (surrogate_reads_ratio_) needs_ |= need::ratio(surrogate.over);
            if (reads_exp<P>) applies_exp_ |= need::ratio(surrogate.over);
            sum_width_ += sequence_sums_of<P>;
            two_pass_ = two_pass_ || sequence_sums_of<P> > 0;
            marker_ = requires { p.marker(); };
            shares_gradient_ = trm::shares_gradient<P>;
            folds_weight_ = trm::folds_weight<P>;
            moves_rejected_ = detail::moves_rejected(p);
        },
        surrogate.policy);
}
template <class Spec>
void run_time_policies<Spec>::take(any_penalty const& penalty) noexcept {
    std::visit(
        [&](auto const& p) {
            needs_ |= needs_of(p);
            (p.tokens == sees::all_tokens ? penalises_all_ : penalises_kept_) = true;
            applies_exp_ |= exp_needs_of(p);
            if constexpr (sequence_sums_of<std::remove_cvref_t<decltype(p)>> > 0) {
                sum_width_ = penalty_slot + p.sums;  // validate() admits one of them
                two_pass_ = sequence_penalty_ = true;
                measures_exp_ |= exp_needs_of(p);
            }
        },
        penalty);
}
template <class All>
bool frequent_policies::take(loss_spec const& spec, All const& all) noexcept {
    if (spec.mask.size() > static_cast<std::size_t>(most_criteria) || !spec.penalties.empty()) return false;
    fits_proximal_ = is_same_pair(corrected::over, all.diagnose_over()) &&
                     is_same_pair(moved::over, spec.surrogate.over) && all.surrogate_reads_ratio();
    if (!weight_.take(spec.weight.policy) || !surrogate_.take(spec.surrogate.policy)) return false;
    sequence_criteria_ = all.has_sequence_criteria();
    reads_given_ = (all.needs() & need::given) != 0;
    weighted_ = all.has_weight();
    if (weighted_) fits_proximal_ = fits_proximal_ && is_same_pair(corrected::over, spec.weight.over);
    for (any_criterion const& c : spec.mask)
        if (!take(c, all.place_of(criteria_))) return false;
    for (int i = 0; i < criteria_; ++i) {
        if (all_[i].adds() && all_[i].adds_passing() != adds_passing_) return false;
        if (direction_ == direction::both && all_[i].type == type_by<stat::max_t>) all_[i].is_second = true;
    }
    if (adds_passing_ && !token_criteria_) return false;
    place_ = all.place_of_sums();
    weight_.visit([&]<class W>(W const& w) {
        normalises_tokens_ = is_normalised<W>;
        weight_sums_ = !is_normalised<W> && weight_sums<W> > 0;
        if constexpr (requires { w.ratios; }) summed_weight_.ratios = w.ratios;
    });
    surrogate_.visit([&]<class S>(S const& s) {
        if constexpr (sequence_sums_of<S> > 0) {
            summed_.ratios = s.ratios;
            surrogate_sums_ = true;
        }
    });
    shares_gradient_ = all.shares_gradient();
    if (normalises_tokens_ && surrogate_sums_) return false;
    if (all.two_pass() || normalises_tokens_) kind_ = frequent_kind::summing;
    measures_exp_ = all.exp_needs(true, false, false) != 0;
    applies_exp_ = all.exp_needs(!all.two_pass(), true, false) != 0;
    moves_rejected_ = all.moves_rejected();
    return true;
}
inline bool frequent_policies::take(any_criterion const& any, statistics_place place) noexcept {
    criterion& c = all_[criteria_++];
    bool taken = false;
    visit_taken(
        [&]<class M>(M const& m) -> void
            requires(type_of<M> < criteria_list::size)
        {
            c.type = type_of<M>;
            c.keep = m.keep;
            c.place = place;
            at_type(catalogue::divergences{}, m.divergence.index,
                    [&]<class D>(std::type_identity<D>) { c.divergence = divergence_number<D>; });
            taken = c.divergence < divergences::size;
            fits_proximal_ = fits_proximal_ && (c.divergence == divergence_number<given> ||
                                                is_same_pair(corrected::over, m.divergence.over));
        },
        any);
    bool const x = c.divergence == divergence_number<k1>;
    if (!taken) return false;
    only_sums_x_ = only_sums_x_ && c.adds() && x;
    if (c.is_token()) {
        if (std::exchange(token_criteria_, true)) return false;
        of_tokens_ = c;
        of_tokens_bit_ = criteria_ - 1;
        return true;
    }
    if (c.adds()) {
        adds_passing_ = c.adds_passing();
        return x || c.divergence == divergence_number<k3>;
    }
    bool const is_largest = c.type == type_by<stat::max_t>;
    bool const is_size = c.divergence == divergence_number<k2> || c.divergence == divergence_number<abs_log_ratio>;
    direction here = direction::none;
    if (x) here = is_largest ? direction::down : direction::up;
    if (is_largest && is_size) here = direction::size;
    if (is_largest && c.divergence == divergence_number<given>) here = direction::given;
    if (direction_ == direction::none) direction_ = here;
    bool const of_x = x && direction_ >= direction::up && direction_ <= direction::down;
    if (of_x && here != direction_) direction_ = direction::both;
    return here != direction::none && (here == direction_ || of_x);
}
template <class Spec>
status run_time_policies<Spec>::validate() const noexcept {
    if (spec->mask.size() > static_cast<std::size_t>(max_criteria))
        return {errc::unsupported, -1, -1, "a mask has at most 15 criteria"};
    status first;
    auto const check = [&](auto const& policy) {
        if (first.ok()) first = policy.validate();
    };
    std::visit(check, spec->surrogate.policy);
    std::visit(check, spec->weight.policy);
    for (any_weight_factor const& f : spec->weight_factors) std::visit(check, f.policy);
    if (first.ok()) first = check_pair(spec->surrogate, spec->weight);
    for (any_criterion const& c : spec->mask) std::visit(check, c);
    int of_sequence = 0;
    for (any_penalty const& p : spec->penalties) {
        std::visit(check, p);
        of_sequence +=
            std::visit([](auto const& q) { return sequence_sums_of<std::remove_cvref_t<decltype(q)>> > 0; }, p);
    }
    if (first.ok() && of_sequence > 1) return one_sequence_penalty;
    return first;
}

}  // namespace detail
TRM_NAMESPACE_END
