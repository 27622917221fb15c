// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/weight.hpp>

#include <limits>

/// \file
/// Surrogates: the per-token term of the loss to minimise, and its derivative with respect to logp. The two are stated
/// apart, because published losses share gradients and differ in value. r = e^x of the surrogate's ratio, A the
/// advantage. Where the log-ratio clamp acts, a ratio's derivative is 0. Inactive lanes carry A = 0, x = 0.
/// Accuracy of slopes, for inputs as they are stored, over the whole domain (log-probabilities down to the smallest number, any
/// clamp): in units of u = 2^-24 (float) or 2^-53 (double), relative unless said otherwise; |x| u is what rounding x costs
/// e^x. Products beyond the range of the arithmetic are infinite.

TRM_NAMESPACE_BEGIN

/// Value, slope and whether a clip acts, for one register of tokens.
template <class V>
struct surrogate_terms {
    V value;
    V slope;
    typename V::mask clipped;
};

/// Does every token of a sequence have the same slope? Then `measure` sums over t.weight times the terms, and c[2] of the
/// constants is that slope; nothing multiplies it by the token's own weight afterwards.
template <class S>
inline constexpr bool shares_gradient = requires { requires S::shares_gradient; };

/// Does the surrogate have a gradient where A = 0? If not, sequences without advantages need not be computed.
template <class S>
inline constexpr bool acts_without_advantage = requires { requires S::acts_without_advantage; };
/// Does the surrogate's `measure` look at t.weight, and are its terms not multiplied by it afterwards?
template <class S>
inline constexpr bool folds_weight = requires { requires S::folds_weight; };

namespace detail {
template <class V>
TRM_INLINE V zero() noexcept {
    return V(typename V::value_type(0));
}
template <class V>
TRM_INLINE typename V::mask nowhere() noexcept {
    return zero<V>() < zero<V>();
}
}  // namespace detail

/// -r A, slope -r A, (4 + |x|) u. The importance-weighted policy gradient, and the masked surrogate of arXiv 2512.23075.
/// prime-rl's loss and SkyRL's `importance_sampling` and `dppo`, with their masks; no parameters.
struct importance_ratio {
    static constexpr char const* name = "importance_ratio";
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept { return {}; }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const value = simd::negated_product(l.exp, t.advantage);
        return {value, zero_unless(l.unclamped, value), !l.unclamped};
    }
};

/// max(-r A, -clip(r, 1 - eps_low, 1 + eps_high) A), and for A < 0 at most -dual_clip A. Slope -r A where the unclipped
/// term is the value, ends of the band included, else 0; (4 + |x|) u. dual_clip 0 means none. eps_high may be
/// negative, above -1. PPO (arXiv 1707.06347);
/// asymmetric: DAPO (arXiv 2503.14476); dual clip: arXiv 1912.09729. All of the ten trainers but prime-rl, with 0.2 and 0.2
/// (Liger's Triton wrapper 0.2 and 0.4); dual clip 3 always in verl, 3 as an option in SkyRL, off elsewhere (TRL and Liger
/// call it `delta`).
struct ppo_clip {
    double eps_low = 0.2;
    double eps_high = 0.2;
    double dual_clip = 0.0;

    static constexpr char const* name = "ppo_clip";
    static void fields(auto f) {
        f("eps_low", &ppo_clip::eps_low);
        f("eps_high", &ppo_clip::eps_high);
        f("dual_clip", &ppo_clip::dual_clip);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = eps_low >= 0 && eps_high > -1 && (dual_clip == 0 || dual_clip > 1);
        return ok && !is_nan(eps_low + eps_high + dual_clip) ? status{}
                                                             : status{errc::bad_threshold, -1, -1, "ppo_clip"};
    }
    /// What does not change from token to token.
    template <class V>
    struct registers {
        V lo, hi, cap;
    };
    template <class V>
    [[nodiscard]] TRM_INLINE registers<V> prepare() const noexcept {
        double const cap = dual_clip > 0 ? dual_clip : std::numeric_limits<double>::infinity();
        return {simd::broadcast<V>(1 - eps_low), simd::broadcast<V>(1 + eps_high), simd::broadcast<V>(cap)};
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        return (*this)(t, l, prepare<V>());
    }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l,
                                             registers<V> const& r) const noexcept {
        // A > 0 is clipped from above only, A < 0 from below, and from above by the cap of dual clip.
        auto const positive = t.advantage > detail::zero<V>();
        V const floor = zero_unless(!positive, r.lo), ceiling = select(positive, r.hi, r.cap);
        V const used = (simd::min)((simd::max)(l.exp, floor), ceiling),
                value = simd::negated_product(used, t.advantage);
        auto const same = used == l.exp;
        return {value, zero_unless(same & l.unclamped, value), (positive & !same) | (l.exp < floor)};
    }
};

/// TRL's and Liger's `delta` of any size: min(r, delta) in the unclipped term. Above 1 + eps_high that is dual_clip; below,
/// it is the upper end for A > 0, while A < 0 is clipped at 1 + eps_high from above (as PPO's min with the clipped term makes
/// it). `Clip`: ppo_clip, gspo or gspo_token.
template <class Clip = ppo_clip>
[[nodiscard]] constexpr Clip clip_with_delta(double eps_low, double eps_high, double delta) noexcept {
    Clip c;
    c.eps_low = eps_low;
    c.eps_high = delta < 1 + eps_high ? delta - 1 : eps_high;
    c.dual_clip = delta < 1 + eps_high ? 1 + eps_high : delta;
    return c;
}

/// -A logp, slope -A, exact: REINFORCE (Williams 1992). Combine with a weight for off-policy correction. verl `gpg` (arXiv
/// 2504.02546) and bypass `reinforce`, NeMo-RL `disable_ppo_ratio`, SkyRL `rollout_is`; no parameters.
struct policy_gradient {
    static constexpr char const* name = "policy_gradient";
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_ratio = false;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept { return {}; }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const&) const noexcept {
        return {simd::negated_product(t.advantage, t.logp), -t.advantage, detail::nowhere<V>()};
    }
};

/// Penalties, which say which tokens they see, and masks are none.
template <class S>
concept surrogate_policy = !mask_policy<S> && !requires(S s) { s.tokens; } && requires(S s) {
    { s.over } -> std::convertible_to<ratio_kind>;
    { s.needs() } -> std::convertible_to<unsigned>;
    { s.validate() } -> std::same_as<status>;
};

TRM_NAMESPACE_END
