// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>

/// \file
/// Stop-gradient importance weights. They multiply the surrogate's value and slope, never a penalty.

TRM_NAMESPACE_BEGIN

/// Which tokens a policy looks at: every loss_mask token, or only those the mask keeps.
enum class sees : std::uint8_t { all_tokens, kept_tokens };
template <>
inline constexpr enum_word<sees> enum_words<sees>[] = {{"all", sees::all_tokens}, {"kept", sees::kept_tokens}};

/// What happens to a weight w outside [lower, upper]: it is replaced by `below` or `above`. The bounds belong to the band.
struct weight_bound {
    double lower = -1.0;
    double upper = std::numeric_limits<double>::infinity();
    double below = 0.0;
    double above = 0.0;

    constexpr weight_bound() noexcept = default;
    constexpr weight_bound(double low, double high, double if_below = 0, double if_above = 0) noexcept
        : lower(low), upper(high), below(if_below), above(if_above) {}
    /// One number is refused: it could be either end.
    template <detail::number T>
    constexpr weight_bound(T) noexcept {
        static_assert(sizeof(T) == 0,
                      "trm: one number is not a bound of a weight: say truncate_above(c), clamp_to(lower, upper) or "
                      "zero_outside(lower, upper)");
    }

    [[nodiscard]] constexpr bool ok() const noexcept {
        return !is_nan(lower) && !is_nan(upper) && !is_nan(below) && !is_nan(above) && lower <= upper;
    }
    [[nodiscard]] constexpr double operator()(double w) const noexcept {
        return w < lower ? below : w > upper ? above : w;
    }
};
/// min(w, c): truncated importance sampling (TIS; Ionides 2008, for LLM-RL Yao et al. 2025,
/// fengyao.notion.site/off-policy-rl). c is 2 in verl, slime and SkyRL (5 for products), 3 in TRL.
[[nodiscard]] constexpr weight_bound truncate_above(double c) noexcept { return {-1.0, c, 0.0, c}; }
/// min(max(w, lower), upper). OpenRLHF's tis: 0.5 and 5; NeMo-RL: 0 and the user's; AReaL's action = clamp: 0 and 5.
[[nodiscard]] constexpr weight_bound clamp_to(double lower, double upper) noexcept TRM_REFUSES_REVERSED_BOUNDS {
    detail::check_order(lower, upper);
    return {lower, upper, lower, upper};
}
/// w inside the band, 0 outside. IcePop (arXiv 2510.18855): 0.5 and 5 in verl's preset, OpenRLHF and NeMo-RL; TRL's *_mask
/// modes (its default, for products): no lower bound and 3; slime: 0 and 2.
[[nodiscard]] constexpr weight_bound zero_outside(double lower, double upper) noexcept TRM_REFUSES_REVERSED_BOUNDS {
    detail::check_order(lower, upper);
    return {lower, upper, 0.0, 0.0};
}
inline constexpr weight_bound unbounded{};

/// Weight 1.
struct no_weight {
    static constexpr char const* name = "none";
    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr bool reads_ratio = false;
    static constexpr int sums = 0;
    [[nodiscard]] constexpr status validate() const noexcept { return {}; }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const&, double) const noexcept {
        return V(typename V::value_type(1));
    }
};

/// The same for every token: a coefficient of the policy term, 0 for none. prime-rl's `adv_tau` (default 1).
struct constant_weight {
    double factor = 1.0;

    static constexpr char const* name = "constant";
    static void fields(auto f) { f("factor", &constant_weight::factor, true); }
    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr bool reads_ratio = false;
    static constexpr int sums = 0;
    [[nodiscard]] constexpr status validate() const noexcept {
        return is_finite(factor) ? status{} : status{errc::bad_threshold, -1, -1, "constant_weight"};
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const&, double) const noexcept {
        return simd::broadcast<V>(factor);
    }
};

/// r_t of each token, bounded: verl, slime, TRL, OpenRLHF, SkyRL, AReaL, NeMo-RL, each with its bound above; over rollout
/// in the decoupled form from the proximal policy, in the bypass form from the current one. `over_ratio<Kind,
/// token_weight>` changes the pair of policies.
struct token_weight {
    weight_bound bound = unbounded;

    static constexpr char const* name = "token";
    static void fields(auto f) { f("bound", &token_weight::bound); }
    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr int sums = 0;
    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() ? status{} : status{errc::bad_threshold, -1, -1, "token_weight"};
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l, double) const noexcept {
        V const w = l.exp;
        return select(w < simd::broadcast<V>(bound.lower), simd::broadcast<V>(bound.below),
                      select(w > simd::broadcast<V>(bound.upper), simd::broadcast<V>(bound.above), w));
    }
};

/// One weight for the whole sequence: the product of its ratios (stat::sum) or their geometric mean (stat::mean), bounded:
/// w = bound(exp(clamp(statistic of x))). Tokens are clamped before they are summed, each by its own clamp. `ratios`: of
/// every loss_mask token, or of those that pass every token criterion. Product: verl and SkyRL (truncated at 2 and 5), slime,
/// TRL (its default, 0 above 3), NeMo-RL under GSPO. Geometric mean: slime, AReaL (`ratio` at level sequence).
template <class Stat>
struct sequence_weight {
    Stat statistic;
    weight_bound bound = unbounded;
    sees ratios = sees::all_tokens;

    static constexpr char const* name = std::is_same_v<Stat, stat::sum_t> ? "product" : "geometric";
    static void fields(auto f) {
        f("bound", &sequence_weight::bound);
        f("ratios", &sequence_weight::ratios);
    }
    static_assert(std::is_same_v<Stat, stat::sum_t> || std::is_same_v<Stat, stat::mean_t>,
                  "trm: a sequence weight is a product (stat::sum) or a geometric mean (stat::mean)");
    static constexpr ratio_kind over = ratio_kind::correction;
    static constexpr bool reads_exp = false;
    static constexpr int sums = 1;
    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() ? status{} : status{errc::bad_threshold, -1, -1, "sequence_weight"};
    }
    /// The log-ratio of a token that counts.
    template <class V, bool P>
    TRM_INLINE V measured(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        return ratios == sees::all_tokens ? l.value : zero_unless(t.keep, l.value);
    }
    [[nodiscard]] double sequence_value(double sum, double finite, double passing, clamp_range clamp) const noexcept {
        double const n = ratios == sees::all_tokens ? finite : passing;
        double x = sum;
        if constexpr (std::is_same_v<Stat, stat::mean_t>) x = n > 0 ? sum / n : 0.0;
        return bound(std::exp(clamp(x)));
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const&, double of_sequence) const noexcept {
        return simd::broadcast<V>(of_sequence);
    }
};
template <class S>
sequence_weight(S) -> sequence_weight<S>;
template <class S>
sequence_weight(S, weight_bound) -> sequence_weight<S>;
template <class S>
sequence_weight(S, weight_bound, sees) -> sequence_weight<S>;

enum class normalise : std::uint8_t { after_bound, before_bound };
template <>
inline constexpr enum_word<normalise> enum_words<normalise>[] = {{"after_bound", normalise::after_bound},
                                                                 {"before_bound", normalise::before_bound}};
/// What the mean of sequence weights is divided by: the sequences that have a weight (kept ones, if it sees those), or all
/// rows of the batch, empty ones included, as in slime. Over ranks, the rows of each.
enum class averaged_rows : std::uint8_t { measured, all };
template <>
inline constexpr enum_word<averaged_rows> enum_words<averaged_rows>[] = {{"measured", averaged_rows::measured},
                                                                         {"all", averaged_rows::all}};
/// Divides a weight by its batch mean (verl `rollout_is_batch_normalize`, off; slime `tis_batch_normalize`, on in
/// mis.yaml), so that the mean becomes 1: over every finite loss_mask token, or over the kept ones only (self-normalised
/// importance sampling). `after_bound` divides the bounded weight, which may then exceed its bound, as in verl and slime;
/// `before_bound` divides the raw ratio and bounds the quotient. The mean of sequence weights is over sequences. Means of
/// at most 1e-8 leave the weight alone. Needs all statistics before the loss.
template <class W>
struct normalised {
    W weight;
    normalise when = normalise::after_bound;
    sees tokens = sees::all_tokens;
    averaged_rows rows = averaged_rows::measured;  ///< of sequence weights

    static constexpr bool is_sequence = W::sums > 0;
    static constexpr bool reads_exp = trm::reads_exp<W>;
    static constexpr char const* name = !is_sequence                                         ? "normalised_token"
                                        : std::derived_from<W, sequence_weight<stat::sum_t>> ? "normalised_product"
                                                                                             : "normalised_geometric";
    static void fields(auto f) {
        f("bound", [](auto& w) -> auto& { return w.weight.bound; });
        f("when", &normalised::when);
        f("sees", &normalised::tokens);
        if constexpr (is_sequence) f("ratios", [](auto& w) -> auto& { return w.weight.ratios; });
        if constexpr (is_sequence) f("rows", &normalised::rows);
    }
    static constexpr ratio_kind over = W::over;
    static constexpr int sums = W::sums + 1;
    [[nodiscard]] constexpr status validate() const noexcept { return weight.validate(); }
    /// What is averaged: the weight before or after its bound.
    template <class V>
    TRM_INLINE V averaged(log_ratio<V> const& l) const noexcept {
        return when == normalise::before_bound ? l.exp : weight(l, 1.0);
    }
    [[nodiscard]] double sequence_value(double sum, double finite, double passing, clamp_range clamp,
                                        double factor) const noexcept {
        if (when == normalise::after_bound) return weight.sequence_value(sum, finite, passing, clamp) * factor;
        W raw = weight;
        raw.bound = unbounded;
        return weight.bound(raw.sequence_value(sum, finite, passing, clamp) * factor);
    }
    template <class V>
    TRM_INLINE V operator()(log_ratio<V> const& l, double of_sequence, double factor) const noexcept {
        V const f = simd::broadcast<V>(factor);
        if constexpr (is_sequence) return simd::broadcast<V>(of_sequence);
        if (when == normalise::after_bound) return weight(l, of_sequence) * f;
        log_ratio<V> scaled;
        scaled.exp = l.exp * f;
        return weight(scaled, of_sequence);
    }
};
template <class W>
normalised(W) -> normalised<W>;
template <class W>
normalised(W, normalise) -> normalised<W>;
template <class W>
normalised(W, normalise, sees) -> normalised<W>;
template <class W>
normalised(W, normalise, sees, averaged_rows) -> normalised<W>;
template <ratio_kind Kind, class W>
[[nodiscard]] constexpr normalised<over_ratio<Kind, W>> over(normalised<W> w) noexcept {
    return {{w.weight}, w.when, w.tokens, w.rows};
}
template <class W>
inline constexpr bool is_normalised = false;
template <class W>
inline constexpr bool is_normalised<normalised<W>> = true;

/// Does the weight look at a log-ratio?
template <class W>
inline constexpr bool weight_reads_ratio = !requires { requires !W::reads_ratio; };

/// Weights are functions of a log-ratio and of their sequence's weight (normalised ones: and of the normalising factor).
template <class W>
concept weight_policy =
    requires(W w) {
        { w.over } -> std::convertible_to<ratio_kind>;
        { W::sums } -> std::convertible_to<int>;
        { w.validate() } -> std::same_as<status>;
    } && (requires(W w, log_ratio<simd::vec<float, simd::scalar>> l) { w(l, 1.0); } ||
          requires(W w, log_ratio<simd::vec<float, simd::scalar>> l) { w(l, 1.0, 1.0); });

TRM_NAMESPACE_END
