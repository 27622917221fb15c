// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/any_policies.hpp>
#include <trm/loss/policy_steps.hpp>
#include <trm/pipeline/score.hpp>
#include <trm/pipeline/tile_writers.hpp>

/// \file
/// What one policy does with a tile of tokens: the loops of losses chosen at run time. Sums are those of the run that a piece
/// belongs to: `lanes` and `counted` have one of each for every run of the tile.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Sets the divergence of each token of a tile, ahead of a policy that looks at one chosen at run time.
template <class V>
[[gnu::noinline]] void set_divergences(any_divergence const& d, tile<V>& t) noexcept {
    typename tile<V>::divergence_key const wanted{d.index, t.ratio_of[static_cast<int>(resolve(d.over, true))]};
    if (std::exchange(t.divergence_held, wanted) == wanted) return;
    at_type(catalogue::divergences{}, d.index, [&]<class D>(std::type_identity<D>) TRM_FLATTEN {
        on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
            each_register(t, d.over, [&](auto const& k, auto const& l, int j) TRM_INLINE_LAMBDA {
                t.divergence.set(j, listed_divergence<D>(k, l));
            });
        });
    });
}
/// The log-ratio that a criterion chosen at run time looks at.
template <class M>
[[nodiscard]] ratio_kind kind_looked_at(M const& criterion) noexcept {
    if constexpr (requires { criterion.divergence.over; }) {
        return criterion.divergence.over;
    } else if constexpr (requires { criterion.over; }) {
        return criterion.over;
    } else {
        return ratio_kind::current_over_rollout;
    }
}
/// A criterion for a loop over tokens, in which it asks no register which of the log-ratios it looks at: `take_divergence` makes
/// that the first.
template <class M>
[[nodiscard]] TRM_INLINE M looking_at_first(M criterion) noexcept {
    if constexpr (requires { criterion.divergence; }) criterion.divergence.over = ratio_kind::current_over_rollout;
    return criterion;
}
/// What such a criterion finds in a token: its divergence, which is a row by then, and its log-ratio l.
template <class M, class V>
TRM_INLINE void take_divergence(M const& criterion, tile<V> const& t, int j, log_ratio<V> const& l,
                                token<V, true>& k) noexcept {
    if constexpr (requires { criterion.divergence; }) {
        k.divergence = t.divergence[j];
        k.current_over_rollout = l;
    }
}
template <class M, class V, class Counts>
TRM_FLATTEN void test_tile(M const& criterion, int bit, bool reasons, tile<V>& t, Counts* counted) noexcept {
    if constexpr (requires { criterion.divergence; }) set_divergences(criterion.divergence, t);
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
            int failed = 0;
            each_register(t, p, kind_looked_at(criterion),
                          [&, policy = looking_at_first(criterion), number = bit, writes = reasons](
                              auto& k, auto const& l, int j) TRM_INLINE_LAMBDA {
                              take_divergence(policy, t, j, l, k);
                              failed += test_tokens(policy, number, k);
                              t.keep[j] = k.keep;
                              if (writes) t.reasons.set(j, k.reasons);
                          });
            counted[p.run].rejected[bit] += failed;
        });
        t.tested = true;
    });
}
/// `place`: of the criterion's first sum and first maximum.
template <class M, class V, class Lanes>
TRM_FLATTEN void measure_tile(M const& criterion, tile<V>& t, Lanes* lanes, statistics_place place) noexcept {
    if constexpr (requires { criterion.divergence; }) set_divergences(criterion.divergence, t);
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
            V &sum = lanes[p.run].sums[place.sum], &max = lanes[p.run].maxima[place.max];
            V s = sum, most = max;
            each_register(t, p, kind_looked_at(criterion),
                          [&, policy = looking_at_first(criterion)](auto& k, auto const& l, int j) TRM_INLINE_LAMBDA {
                              take_divergence(policy, t, j, l, k);
                              policy.measure(k, &s, &most);
                          });
            if constexpr (M::sums > 0) sum = s;
            if constexpr (M::maxima > 0) max = most;
        });
    });
}
/// Scores of the n tokens of a tile, for a selection.
template <class M, class V>
[[gnu::noinline]] TRM_FLATTEN void score_tile(M const& criterion, tile<V>& t, std::int64_t tokens,
                                              score_memory const& where) noexcept {
    if constexpr (requires { criterion.divergence; }) set_divergences(criterion.divergence, t);
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        each_register(t, kind_looked_at(criterion),
                      [&, policy = looking_at_first(criterion), to = where, n = tokens](auto& k, auto const& l, int j)
                          TRM_INLINE_LAMBDA {
                              std::int64_t const at = j * tile<V>::width;
                              take_divergence(policy, t, j, l, k);
                              V out[M::channels];
                              policy.score(k, out);
                              write_scores<M::channels>(
                                  k, out, at, static_cast<std::size_t>((std::min)(tile<V>::width, n - at)), to);
                          });
    });
}
/// measure(tokens, log-ratio, sums) adds the registers of a tile to `Width` sums of their run, from `slot` on.
template <int Width, class V, class Lanes, class F>
TRM_INLINE void add_sums(tile<V> const& t, ratio_kind over, Lanes* lanes, int slot, F const& measure) noexcept {
    each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
        V local[static_cast<std::size_t>(Width)];
        for (int k = 0; k < Width; ++k) local[k] = lanes[p.run].sums[slot + k];
        each_register(t, p, over, [&](auto const& k, auto const& l, int) TRM_INLINE_LAMBDA { measure(k, l, local); });
        for (int k = 0; k < Width; ++k) lanes[p.run].sums[slot + k] = local[k];
    });
}
/// `over`: the pair of policies that the weight looks at. `shared`: the surrogate's sums need the weight of each token. `slot`: of
/// the sum in every run's lanes.
template <class W, class V, class Lanes>
TRM_FLATTEN void measure_weight(W const& w, ratio_kind over, bool shared, tile<V>& t, Lanes* lanes, int slot) noexcept {
    if (weight_sums<W> == 0 && !shared) return;
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        if constexpr (weight_sums<W> > 0)
            add_sums<1>(t, over, lanes, slot, [&](auto const& k, auto const& l, V* sums) TRM_INLINE_LAMBDA {
                sums[0] = sums[0] + measured_weight(w, k, l);
            });
        if (shared)
            each_register(t, over, [&](auto const& k, auto const& l, int j) TRM_INLINE_LAMBDA {
                t.weight.set(j, simd::pin(token_part(w, l) * k.factor));
            });
    });
}
template <class S, class V, class Lanes>
TRM_FLATTEN void measure_surrogate(S const& s, ratio_kind over, tile<V> const& t, Lanes* lanes, int slot) noexcept {
    if constexpr (sequence_sums_of<S> > 0)
        on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
            add_sums<sequence_sums_of<S>>(t, over, lanes, slot,
                                          [&](auto const& k, auto const& l, V* sums)
                                              TRM_INLINE_LAMBDA { s.measure(k, l, sums); });
        });
}
template <class Penalty, class V, class Lanes>
[[gnu::noinline]] TRM_FLATTEN void measure_penalty(Penalty const& policy, tile<V>& t, clamp_range const& c,
                                                   Lanes* lanes, int slot) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        penalty_clamp<V> const clamp(c);
        add_sums<3>(t, ratio_kind::current_over_rollout, lanes, slot,
                    [&, p = policy](auto const& k, auto const&, V* sums)
                        TRM_INLINE_LAMBDA { p.measure(k, k[p.over], clamp, sums); });
    });
}
/// `decided`: for each run of the tile.
template <class W, class V>
[[gnu::noinline]] TRM_FLATTEN void apply_weight(W const& policy, ratio_kind over, tile<V>& t,
                                                decision const* const* decided) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
            each_register(t, p, over,
                          [&, w = policy, s = decided[p.run]->weight, f = decided[p.run]->weight_factor](
                              auto const&, auto const& l, int j)
                              TRM_INLINE_LAMBDA { t.weight.set(j, weight_of(w, l, s, f)); });
        });
    });
}
/// `is_first`: of those that see the same tokens, whose rows hold no penalty yet.
template <class Penalty, class V>
[[gnu::noinline]] TRM_FLATTEN void apply_penalty(Penalty const& policy, bool is_first, tile<V>& t, clamp_range const& c,
                                                 decision const* const* decided) noexcept {
    bool const of_all = policy.tokens == sees::all_tokens;
    auto& values = of_all ? t.penalty_all : t.penalty;
    auto& slopes = of_all ? t.penalty_all_slope : t.penalty_slope;
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        penalty_clamp<V> const clamp(c);
        each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
            each_register(t, p, ratio_kind::current_over_rollout,
                          [&, policy = policy, of_sequence = decided[p.run]->penalty](auto& k, auto const&, int j)
                              TRM_INLINE_LAMBDA {
                                  auto const terms = penalty_of(policy, k, clamp, of_sequence);
                                  V const value = is_first ? zero<V>() : values[j];
                                  V const slope = is_first ? zero<V>() : slopes[j];
                                  values.set(j, value + simd::pin(terms.value));
                                  slopes.set(j, slope + simd::pin(terms.slope));
                              });
        });
    });
}
template <class P, class V>
TRM_INLINE void set_terms(P const& s, token<V, true>& t, log_ratio<V> const& l,
                          sequence_constants const& constants) noexcept {
    if constexpr (sequence_sums_of<P> > 0) {
        store_terms(t, s(t, l, constants));
    } else {
        store_terms(t, s(t, l));
    }
}
template <class P, class V>
[[gnu::noinline]] TRM_FLATTEN void apply_surrogate(P const& policy, ratio_kind over, tile<V>& t,
                                                   decision const* const* decided, bool clips) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        each_piece<false>(t, [&](auto const& p, auto) TRM_INLINE_LAMBDA {
            each_register(t, p, over,
                          [&, s = policy, c = decided[p.run]->constants, says = clips](auto& k, auto const& l, int j)
                              TRM_INLINE_LAMBDA {
                                  set_terms(s, k, l, c);
                                  t.value.set(j, k.value);
                                  t.slope.set(j, k.slope);
                                  if (says) t.clipped[j] = k.clipped;
                              });
        });
    });
}
/// The same, and what write_terms does with them, in one loop: for the most common terms, whose rows are then not needed.
template <class P, class V, class Write>
[[gnu::noinline]] TRM_FLATTEN void apply_surrogate_and_write(P const& policy, ratio_kind over, tile<V> const& t,
                                                             decision const* const* decided,
                                                             Write const& write) noexcept {
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        write_each(t, over, write, [&](auto const& p) TRM_INLINE_LAMBDA {
            return [s = policy, c = decided[p.run]->constants](auto& k, auto& l) TRM_INLINE_LAMBDA {
                say_unclamped(k, l);
                set_terms(s, k, l, c);
            };
        });
    });
}

}  // namespace detail
TRM_NAMESPACE_END
