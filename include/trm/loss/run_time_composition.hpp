// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/take_policies.hpp>
#include <trm/loss/tile_steps.hpp>
#include <trm/pipeline/tiles.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// The steps of `composition` for policies chosen at run time, over tiles: one visit per policy and tile. The functors are the
/// same, so are the bits.
template <class Spec = loss_spec>
class run_time_composition : public run_time_policies<Spec> {
    using base = run_time_policies<Spec>;
    using base::criteria_;
    using base::has_weight_;
    using base::late_;
    using base::shares_gradient_;
    using base::spec;
    using base::surrogate_slot;
    using base::weight_slot;

public:
    using run_time_policies<Spec>::run_time_policies;
    using base::has_penalties;

    /// Token criteria decide `keep` and, if asked for, `reasons`; sequence criteria add, if asked, to their statistics.
    template <class V, class Lanes, class Counts>
    void measure(tile<V>& t, bool reasons, bool statistics, Lanes* lanes, Counts* counted) const noexcept {
        if (reasons) clear_rows(t, t.reasons);
        for (int i = 0; i < criteria_; ++i)
            visit_taken(
                [&]<class M>(M const& m) -> void
                    requires(!selects<M> && !measures_passing<M>)
                {
                    if constexpr (M::is_sequence) {
                        if (statistics) measure_tile(m, t, lanes, this->places[i]);
                    } else {
                        test_tile(m, i, reasons, t, counted);
                    }
                },
                spec->mask[static_cast<std::size_t>(i)]);
    }
    /// What is taken over the sequence once `keep` is final. `enter(stage, over)` is told which log-ratio a stage looks at.
    template <class V, class Lanes, class Enter>
    void measure_passing(tile<V>& t, Lanes* lanes, clamp_range of_penalties, Enter const& enter) const noexcept {
        if (!late_) return;
        for (int i = 0; i < criteria_; ++i)
            visit_taken([&]<class M>(M const& m) -> void
                            requires measures_passing<M>
                        { measure_tile(m, t, lanes, this->places[i]); },
                        spec->mask[static_cast<std::size_t>(i)]);
        if (this->weight_reads_ratio_) enter(stage::weight, spec->weight.over);
        std::visit(
            [&](auto const& w) {
                measure_weight(w, spec->weight.over, shares_gradient_ || this->folds_weight_, t, lanes, weight_slot);
            },
            spec->weight.policy);
        enter_surrogate(enter);
        visit_taken([&]<class P>(P const& p) -> void
                        requires(sequence_sums_of<P> > 0)
                    { measure_surrogate(p, spec->surrogate.over, t, lanes, surrogate_slot); },
                    spec->surrogate.policy);
        this->each_sequence_penalty([&](auto const& p) {
            enter(stage::penalty, p.over);
            measure_penalty(p, t, of_penalties, lanes, this->penalty_slot);
        });
    }
    template <class Enter>
    void enter_surrogate(Enter const& enter) const noexcept {
        if (this->surrogate_reads_ratio_) enter(stage::surrogate, spec->surrogate.over);
    }
    /// Weight and penalties, as decided for each run of the tile.
    template <class V, class Enter>
    void apply_weight_and_penalties(tile<V>& t, decision const* const* decided, clamp_range of_penalties,
                                    bool wants_weight, Enter const& enter) const noexcept {
        if (has_weight_ || wants_weight) {
            if (this->weight_reads_ratio_) enter(stage::weight, spec->weight.over);
            std::visit([&](auto const& w) { apply_weight(w, spec->weight.over, t, decided); }, spec->weight.policy);
        }
        bool is_first[2] = {true, true};  // by the tokens that they see
        for (any_penalty const& any : spec->penalties)
            std::visit(
                [&](auto const& p) {
                    if ((needs_of(p) & need::any_ratio) != 0) enter(stage::penalty, p.over);
                    bool& first = is_first[p.tokens == sees::all_tokens];
                    apply_penalty(p, std::exchange(first, false), t, of_penalties, decided);
                },
                any);
    }
    /// The surrogate's terms as rows. `clips`: with those that it clips.
    template <class V, class Enter>
    void apply_surrogate(tile<V>& t, decision const* const* decided, bool clips, Enter const& enter) const noexcept {
        enter_surrogate(enter);
        std::visit([&](auto const& s) { detail::apply_surrogate(s, spec->surrogate.over, t, decided, clips); },
                   spec->surrogate.policy);
    }
    /// The same of a tile without exceptions but by loss_mask, and what is written with them, in one loop.
    template <class V, class Write>
    void apply_surrogate_and_write(tile<V> const& t, decision const* const* decided,
                                   Write const& write) const noexcept {
        std::visit(
            [&](auto const& s) { detail::apply_surrogate_and_write(s, spec->surrogate.over, t, decided, write); },
            spec->surrogate.policy);
    }
    /// What a selection looks at, for the n tokens of a tile.
    template <class Criterion, class V>
    void score(Criterion const& criterion, tile<V>& t, std::int64_t n, score_memory const& to) const noexcept {
        score_tile(criterion, t, n, to);
    }

    /// Do the extrema of a part of a sequence already reject it?
    template <class V>
    [[nodiscard]] bool certainly_rejected(V const* maxima) const noexcept {
        bool rejected = false;
        for (int i = 0; i < criteria_ && !rejected; ++i)
            visit_taken(
                [&]<class M>(M const& m) -> void
                    requires(M::maxima > 0 && requires { m.certainly_rejects(0.0); })
                { rejected = m.certainly_rejects(static_cast<double>(simd::reduce_max(maxima[this->places[i].max]))); },
                spec->mask[static_cast<std::size_t>(i)]);
        return rejected;
    }
};

}  // namespace detail
TRM_NAMESPACE_END
