// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/pipeline/tiles.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Sets the divergence of each token of a tile, ahead of a policy that looks at one chosen at run time.
template <class V>
void set_divergences(any_divergence const& d, tile<V>& t) noexcept {
    at_type(catalogue::divergences{}, d.index, [&]<class D>(std::type_identity<D>) {
        each_register(t, [&, over = d.over](auto const& k, int j)
                             __attribute__((always_inline)) { t.divergence.set(j, listed_divergence<D>(k, over)); });
    });
}
/// Criteria and divergences that are so simple that they are compiled together. Others meet in memory.
template <class M>
inline constexpr bool is_simple_criterion = false;
template <>
inline constexpr bool is_simple_criterion<token_mask<any_divergence>> = true;
template <class Stat>
inline constexpr bool is_simple_criterion<sequence_mask<any_divergence, Stat>> = true;
template <class D>
inline constexpr bool is_simple_divergence =
    is_estimator<D>::value || std::is_same_v<D, ratio> || std::is_same_v<D, given>;

/// The steps of `composition` for policies chosen at run time, over tiles: one visit per policy and tile. The functors are the
/// same, so are the bits. (A template so that only those who use it pay for compiling it.)
template <class Spec = loss_spec>
struct run_time_composition {
    static constexpr bool is_static = false;
    static constexpr int sum_capacity = max_criteria + 2 + 4;
    static constexpr int max_capacity = max_criteria;
    static constexpr int criteria_capacity = max_criteria;

    explicit run_time_composition(Spec const& s) noexcept : spec(&s) {
        int sum = 0, max = 0, i = 0;
        for (any_criterion const& c : s.mask) {
            if (i == max_criteria) break;
            std::visit(
                [&](auto const& m) {
                    using M = std::remove_cvref_t<decltype(m)>;
                    places[i] = {sum, max};
                    sum += M::sums;
                    max += M::maxima;
                    sequence_criteria_ = sequence_criteria_ || M::is_sequence;
                    late_ = late_ || measures_passing<M>;
                    token_criteria_ = token_criteria_ || !M::is_sequence;
                    selections_ = selections_ || selects<M>;
                    if constexpr (requires { m.divergence; }) {
                        needs_ |= needs_of(m.divergence);
                        if constexpr (requires { m.zero; })
                            needs_ |= need::ratio(m.divergence.over);  // looks at x as well
                        if (i == 0) diagnose_over_ = m.divergence.over;
                    } else {
                        if (i == 0) diagnose_over_ = m.over;
                    }
                    if constexpr (requires { M::needs(); }) needs_ |= M::needs();
                },
                c);
            ++i;
        }
        criteria_ = i;
        weight_slot = sum;
        std::visit(
            [&](auto const& w) {
                using W = std::remove_cvref_t<decltype(w)>;
                has_weight_ = !std::is_same_v<W, no_weight>;
                weight_reads_ratio_ = weight_reads_ratio<W>;
                normalises_ = is_normalised<W>;
                sum += weight_sums<W>;
                two_pass_ = W::sums > 0;
            },
            s.weight.policy);
        if (weight_reads_ratio_) needs_ |= need::ratio(s.weight.over);
        if (weight_reads_ratio_ && criteria_ == 0) diagnose_over_ = s.weight.over;
        surrogate_slot = sum;
        std::visit(
            [&](auto const& p) {
                using P = std::remove_cvref_t<decltype(p)>;
                needs_ |= P::needs();
                if constexpr (!requires { P::reads_ratio; }) needs_ |= need::ratio(s.surrogate.over);
                sum += sequence_sums_of<P>;
                two_pass_ = two_pass_ || sequence_sums_of<P> > 0;
                marker_ = requires { p.marker(); };
                shares_gradient_ = trm::shares_gradient<P>;
            },
            s.surrogate.policy);
        for (any_penalty const& p : s.penalties)
            std::visit(
                [&](auto const& q) {
                    needs_ |= needs_of(q);
                    penalises_all_ = penalises_all_ || q.tokens == sees::all_tokens;
                },
                p);
        late_ = late_ || two_pass_;
        sum_width_ = sum;
        max_width_ = max;
    }

    [[nodiscard]] int criteria() const noexcept { return criteria_; }
    [[nodiscard]] int sum_width() const noexcept { return sum_width_; }
    [[nodiscard]] int max_width() const noexcept { return max_width_; }
    [[nodiscard]] bool has_token_criteria() const noexcept { return token_criteria_; }
    [[nodiscard]] bool has_sequence_criteria() const noexcept { return sequence_criteria_; }
    [[nodiscard]] bool has_selections() const noexcept { return selections_; }
    [[nodiscard]] bool has_marker() const noexcept { return marker_; }
    [[nodiscard]] bool has_weight() const noexcept { return has_weight_; }
    [[nodiscard]] bool has_penalties() const noexcept { return !spec->penalties.empty(); }
    [[nodiscard]] bool normalises() const noexcept { return normalises_; }
    [[nodiscard]] bool two_pass() const noexcept { return two_pass_; }
    [[nodiscard]] bool shares_gradient() const noexcept { return shares_gradient_; }
    [[nodiscard]] bool penalises_all() const noexcept { return penalises_all_; }
    [[nodiscard]] unsigned needs() const noexcept { return needs_; }
    [[nodiscard]] ratio_kind diagnose_over() const noexcept { return diagnose_over_; }
    [[nodiscard]] status validate() const noexcept {
        if (spec->mask.size() > static_cast<std::size_t>(max_criteria))
            return {errc::unsupported, -1, -1, "a mask has at most 15 criteria"};
        status first;
        auto const check = [&](auto const& policy) {
            if (first.ok()) first = policy.validate();
        };
        std::visit(check, spec->surrogate.policy);
        std::visit(check, spec->weight.policy);
        if (first.ok())
            std::visit([&](auto const& s, auto const& w) { first = check_pair(s, w); }, spec->surrogate.policy,
                       spec->weight.policy);
        for (any_criterion const& c : spec->mask) std::visit(check, c);
        for (any_penalty const& p : spec->penalties) std::visit(check, p);
        return first;
    }

    template <class F>
    void each_selection(F&& f) const {
        for (int i = 0; i < criteria_; ++i)
            std::visit(
                [&](auto const& m) {
                    if constexpr (selects<std::remove_cvref_t<decltype(m)>>) f(m, i);
                },
                spec->mask[static_cast<std::size_t>(i)]);
    }
    template <class F>
    void each_marker(F&& f) const {
        std::visit(
            [&](auto const& p) {
                if constexpr (requires { p.marker(); }) f(p.marker());
            },
            spec->surrogate.policy);
    }

    /// Token criteria decide `keep` and, if asked for, `reasons`; sequence criteria add to their statistics.
    template <class V>
    void measure(tile<V>& t, bool reasons, V* sums, V* maxima, std::int64_t* rejected) const noexcept {
        if (reasons)
            for (int j = 0; j < t.used; ++j) t.reasons.set(j, zero<V>());
        for (int i = 0; i < criteria_; ++i)
            std::visit(
                [&](auto const& m) {
                    using M = std::remove_cvref_t<decltype(m)>;
                    if constexpr (!M::is_sequence && !selects<M>) {
                        rejected[i] += test_tile(m, i, reasons, t);
                    } else if constexpr (!measures_passing<M> && !selects<M>) {
                        measure_tile(m, t, sums + places[i].sum, maxima + places[i].max);
                    }
                },
                spec->mask[static_cast<std::size_t>(i)]);
    }
    /// What is taken over the sequence once `keep` is final.
    template <class V>
    void measure_passing(tile<V>& t, V* sums, V* maxima) const noexcept {
        if (!late_) return;
        for (int i = 0; i < criteria_; ++i)
            std::visit(
                [&](auto const& m) {
                    if constexpr (measures_passing<std::remove_cvref_t<decltype(m)>>)
                        measure_tile(m, t, sums + places[i].sum, maxima + places[i].max);
                },
                spec->mask[static_cast<std::size_t>(i)]);
        std::visit([&](auto const& w) { measure_weight(w, t, sums + weight_slot); }, spec->weight.policy);
        std::visit(
            [&](auto const& s) {
                constexpr int width = sequence_sums_of<std::remove_cvref_t<decltype(s)>>;
                if constexpr (width > 0) {
                    V local[width];
                    for (int k = 0; k < width; ++k) local[k] = sums[surrogate_slot + k];
                    each_register(t, [&](auto const& k, int) __attribute__((always_inline)) {
                        s.measure(k, k[spec->surrogate.over], local);
                    });
                    for (int k = 0; k < width; ++k) sums[surrogate_slot + k] = local[k];
                }
            },
            spec->surrogate.policy);
    }
    /// Weight, surrogate and penalties, as decided for the sequence.
    template <class V>
    void apply(tile<V>& t, decision const& decided, V limit, bool wants_weight) const noexcept {
        if (has_weight_ || wants_weight || has_penalties())
            std::visit(
                [&, over = spec->weight.over](auto policy) {
                    each_register(t, [&, w = policy](auto const& k, int j) __attribute__((always_inline)) {
                        t.weight.set(j, weight_of(w, k[over], decided.weight, decided.weight_factor));
                    });
                },
                spec->weight.policy);
        std::visit([&](auto const& s) { apply_surrogate(s, spec->surrogate.over, t, decided.constants); },
                   spec->surrogate.policy);
        if (spec->penalties.empty()) return;
        for (int j = 0; j < t.used; ++j)
            for (auto* row : {&t.penalty, &t.penalty_slope, &t.penalty_all, &t.penalty_all_slope})
                row->set(j, zero<V>());
        for (any_penalty const& any : spec->penalties)
            std::visit(
                [&](auto const& p) {
                    each_register(t, [&](auto& k, int j) __attribute__((always_inline)) {
                        add_penalty(p, k, limit);
                        t.penalty.set(j, k.penalty);
                        t.penalty_slope.set(j, k.penalty_slope);
                        t.penalty_all.set(j, k.penalty_all);
                        t.penalty_all_slope.set(j, k.penalty_all_slope);
                    });
                },
                any);
    }
    /// The surrogate alone: write(tokens, j, objective) has its terms.
    template <class V, class Write>
    void apply_plain(tile<V> const& t, decision const& decided, Write const& write, V& objective) const noexcept {
        std::visit(
            [&](auto const& s) {
                ratio_kind const over = spec->surrogate.over;
                if (t.clean) {
                    apply_surrogate_plain<true>(s, over, t, decided.constants, write, objective);
                } else {
                    apply_surrogate_plain<false>(s, over, t, decided.constants, write, objective);
                }
            },
            spec->surrogate.policy);
    }
    /// All steps over runs of tokens.
    template <class V, class S>
    void run_tiles(stream_pointers<S, typename V::value_type> const& io, call_numbers const& call, bool apply,
                   run_work<run_time_composition>* work, int runs) const noexcept {
        tile_pass<V, run_time_composition, S> pass(*this, io, call, apply);
        for (int i = 0; i < runs; ++i) pass.run(work[i]);
    }

    /// Do the extrema of a part of a sequence already reject it?
    template <class V>
    [[nodiscard]] bool certainly_rejected(V const* maxima) const noexcept {
        bool rejected = false;
        for (int i = 0; i < criteria_ && !rejected; ++i)
            std::visit(
                [&](auto const& m) {
                    if constexpr (std::remove_cvref_t<decltype(m)>::maxima > 0 &&
                                  requires { m.certainly_rejects(0.0); })
                        rejected = m.certainly_rejects(static_cast<double>(simd::reduce_max(maxima[places[i].max])));
                },
                spec->mask[static_cast<std::size_t>(i)]);
        return rejected;
    }

    [[nodiscard]] sequence_verdict judge(double const* sums, double const* maxima, double finite,
                                         double passing) const noexcept {
        sequence_verdict verdict;
        for (int i = 0; i < criteria_; ++i)
            std::visit(
                [&](auto const& m) {
                    if constexpr (std::remove_cvref_t<decltype(m)>::is_sequence)
                        judge_sequence(m, i, sums + places[i].sum, maxima + places[i].max, finite, passing, verdict);
                },
                spec->mask[static_cast<std::size_t>(i)]);
        return verdict;
    }
    [[nodiscard]] double statistic(int i, sequence_total const& s) const noexcept {
        return std::visit(
            [&](auto const& m) {
                if constexpr (std::remove_cvref_t<decltype(m)>::is_sequence)
                    return statistic_of(m, s.sums + places[i].sum, s.maxima + places[i].max, s.finite, s.passing);
                return 0.0;
            },
            spec->mask[static_cast<std::size_t>(i)]);
    }
    [[nodiscard]] double sequence_weight_of(double const* sums, double finite, double passing, double limit,
                                            double factor) const noexcept {
        return std::visit(
            [&](auto const& w) { return weight_of_sequence(w, sums + weight_slot, finite, passing, limit, factor); },
            spec->weight.policy);
    }
    void count_weights(double const* sums, double finite, double kept, bool keep, double share, double limit,
                       counts& n) const noexcept {
        std::visit([&](auto const& w) { count_weight(w, sums + weight_slot, finite, kept, keep, share, limit, n); },
                   spec->weight.policy);
    }
    [[nodiscard]] sequence_constants constants_of(double const* sums, double finite, double limit, double of_sequence,
                                                  double factor) const noexcept {
        sequence_constants k = std::visit(
            [&](auto const& s) -> sequence_constants {
                if constexpr (sequence_sums_of<std::remove_cvref_t<decltype(s)>> > 0) {
                    return s.constants(sums + surrogate_slot, finite, limit);
                } else {
                    return {};
                }
            },
            spec->surrogate.policy);
        if (shares_gradient_)
            k.c[2] *=
                std::visit([&](auto const& w) { return shared_part(w, of_sequence, factor); }, spec->weight.policy);
        return k;
    }

private:
    /// f(type of the divergence, or void, is the tile clean?) for a criterion: the divergences of others are rows by then.
    template <class M, class V, class F>
    static void with_divergence(M const& criterion, tile<V>& t, F&& f) noexcept {
        bool done = false;
        if constexpr (is_simple_criterion<M>)
            at_type(catalogue::divergences{}, criterion.divergence.index, [&]<class D>(std::type_identity<D> type) {
                if constexpr (is_simple_divergence<D>) {
                    done = true;
                    t.clean ? f(type, std::true_type{}) : f(type, std::false_type{});
                }
            });
        if (done) return;
        if constexpr (requires { criterion.divergence; }) set_divergences(criterion.divergence, t);
        f(std::type_identity<void>{}, std::false_type{});
    }
    template <class D, class M, class V>
    static TRM_INLINE void take_divergence(M const& criterion, tile<V> const& t, int j, token<V, true>& k) noexcept {
        if constexpr (!std::is_void_v<D>) {
            k.divergence = listed_divergence<D>(k, criterion.divergence.over);
        } else if constexpr (requires { criterion.divergence; }) {
            k.divergence = t.divergence[j];
        }
    }
    template <class M, class V>
    static int test_tile(M const& criterion, int bit, bool reasons, tile<V>& t) noexcept {
        int rejected = 0;
        with_divergence(criterion, t, [&]<class D, bool Clean>(std::type_identity<D>, std::bool_constant<Clean>) {
            each_register<Clean>(t, [&, policy = criterion](auto& k, int j) __attribute__((always_inline)) {
                take_divergence<D>(policy, t, j, k);
                rejected += test_tokens(policy, bit, k);
                t.keep[j] = k.keep;
                if (reasons) t.reasons.set(j, k.reasons);
            });
        });
        return rejected;
    }
    template <class M, class V>
    static void measure_tile(M const& criterion, tile<V>& t, V* sums, V* maxima) noexcept {
        V sum = *sums, max = *maxima;
        with_divergence(criterion, t, [&]<class D, bool Clean>(std::type_identity<D>, std::bool_constant<Clean>) {
            V s = sum, even = max, odd = max;  // two maxima: neither waits for the other
            each_register<Clean>(t, [&, policy = criterion](auto& k, int j) __attribute__((always_inline)) {
                take_divergence<D>(policy, t, j, k);
                policy.measure(k, &s, (j & 1) == 0 ? &even : &odd);
            });
            sum = s;
            max = (simd::max)(even, odd);
        });
        if constexpr (M::sums > 0) *sums = sum;
        if constexpr (M::maxima > 0) *maxima = max;
    }
    template <class W, class V>
    void measure_weight(W const& w, tile<V>& t, V* total) const noexcept {
        if constexpr (weight_sums<W> > 0) {
            V sum = *total;
            each_register(t, [&](auto const& k, int) __attribute__((always_inline)) {
                sum = sum + measured_weight(w, k, k[spec->weight.over]);
            });
            *total = sum;
        }
        if (shares_gradient_)
            each_register(t, [&](auto const& k, int j) __attribute__((always_inline)) {
                t.weight.set(j, simd::pin(token_part(w, k[spec->weight.over]) * k.factor));
            });
    }
    template <class P, class V>
    static TRM_INLINE void set_terms(P const& s, token<V, true>& t, ratio_kind over,
                                     sequence_constants const& constants) noexcept {
        auto const& l = t[over];
        if constexpr (sequence_sums_of<P> > 0) {
            store_terms(t, s(t, l, constants));
        } else {
            store_terms(t, s(t, l));
        }
    }
    template <class P, class V>
    [[gnu::noinline]] static void apply_surrogate(P const policy, ratio_kind over, tile<V>& t,
                                                  sequence_constants const constants) noexcept {
        each_register(t, [&, s = policy, over](auto& k, int j) __attribute__((always_inline)) {
            set_terms(s, k, over, constants);
            t.value.set(j, k.value);
            t.slope.set(j, k.slope);
            t.clipped[j] = k.clipped;
        });
    }
    template <bool Clean, class P, class V, class Write>
    [[gnu::noinline]] static void apply_surrogate_plain(P const policy, ratio_kind over, tile<V> const& t,
                                                        sequence_constants const constants, Write const write,
                                                        V& objective) noexcept {
        V sum = objective;
        each_register<Clean>(t, [&, s = policy, over, write](auto& k, int j) __attribute__((always_inline)) {
            set_terms(s, k, over, constants);
            write(k, j, sum);
        });
        objective = sum;
    }

    Spec const* spec;
    struct slot {
        int sum = 0, max = 0;
    };
    slot places[max_criteria] = {};
    int criteria_ = 0, sum_width_ = 0, max_width_ = 0, weight_slot = 0, surrogate_slot = 0;
    unsigned needs_ = 0;
    ratio_kind diagnose_over_ = ratio_kind::current_over_rollout;
    bool token_criteria_ = false, sequence_criteria_ = false, selections_ = false, marker_ = false, has_weight_ = false,
         weight_reads_ratio_ = false, normalises_ = false, two_pass_ = false, late_ = false, shares_gradient_ = false,
         penalises_all_ = false;
};

}  // namespace detail
TRM_NAMESPACE_END
