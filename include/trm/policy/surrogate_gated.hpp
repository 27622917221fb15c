// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate.hpp>

/// \file
/// Surrogates of one token that treat the signs of the advantage differently.

TRM_NAMESPACE_BEGIN

/// A > 0: -A p / sg(p), value -A and slope -A whatever the ratio: never clipped. A <= 0: `ppo_clip` with dual clip,
/// -A min(max(r, 1 - eps_low), dual_clip), slope -r A between its ends (included), else 0, and 0 where the log-ratio clamp acts;
/// (4 + |x|) u. UP-GRPO, arXiv 2607.06987, verl #7022 (open): 0.2 and 3, the defaults. 1 transcendental.
struct up_grpo {
    double eps_low = 0.2;
    double dual_clip = 3.0;

    static constexpr char const* name = "up_grpo";
    static void fields(auto f) {
        f("eps_low", &up_grpo::eps_low);
        f("dual_clip", &up_grpo::dual_clip);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return eps_low >= 0 && dual_clip > 1 ? status{} : status{errc::bad_threshold, -1, -1, "up_grpo"};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const lo = simd::broadcast<V>(1 - eps_low), cap = simd::broadcast<V>(dual_clip);
        auto const positive = t.advantage > detail::zero<V>();
        V const used = (simd::min)((simd::max)(l.exp, lo), cap), value = simd::negated_product(used, t.advantage);
        auto const moves = (used == l.exp) & l.unclamped;
        return {select(positive, -t.advantage, value), select(positive, -t.advantage, zero_unless(moves, value)),
                (l.exp < lo) & !positive};
    }
};

/// -sg(sigma(A s / eta)) A logp, s = -logp the surprise of the sampled token, sigma the logistic function; no ratio. Slope
/// -sigma(A s / eta) A: surprising tokens count when they did well, and hardly when they did badly. Error (6 + 4 |A| s / eta) u
/// relative, and a slope of less than 1e-34 |A| is 0. The delight gate, arXiv 2603.14608 and 2603.20521: eta 1. eta >= 1e-6. 1
/// transcendental.
struct delight {
    double eta = 1.0;

    static constexpr char const* name = "delight";
    static void fields(auto f) { f("eta", &delight::eta); }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_ratio = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return eta >= 1e-6 && is_finite(eta) ? status{} : status{errc::bad_threshold, -1, -1, "delight"};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const&) const noexcept {
        V const one = simd::broadcast<V>(1), largest = simd::broadcast<V>(80);
        V const z = simd::clamp(t.advantage * t.logp * simd::broadcast<V>(1 / eta), -largest, largest);  // -A s / eta
        V const gate = zero_unless(z < largest, one / (one + simd::exp(z)));
        V const slope = simd::negated_product(gate, t.advantage);
        return {slope * t.logp, slope, detail::nowhere<V>()};
    }
};

TRM_NAMESPACE_END
