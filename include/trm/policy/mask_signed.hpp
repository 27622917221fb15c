// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/mask.hpp>

/// \file
/// Token masks that look at the direction of the move: only a token whose probability the policy gradient would push
/// further away from the behaviour policy can be rejected. Stop-gradients, as every mask. For whole sequences by the sign of A
/// (OPSM) see signed_sequence_mask in selection.hpp.

TRM_NAMESPACE_BEGIN

/// What a token with A = 0 counts as. Its policy gradient is 0; the choice shows in penalties on kept tokens, in kept counts
/// and in metrics. verl, Stable-RL and prime-rl take the negative branch; SkyRL keeps the token.
enum class zero_advantage : std::uint8_t { as_negative, keep };
template <>
inline constexpr enum_word<zero_advantage> enum_words<zero_advantage>[] = {{"as_negative", zero_advantage::as_negative},
                                                                           {"keep", zero_advantage::keep}};

/// Rejects a token iff its move is away from the behaviour policy (A > 0 and r > 1, or A < 0 and r < 1) and D is outside
/// the band of that sign. Kept otherwise, however large D: gradients towards the behaviour policy always pass. Reads the log-ratio
/// that D looks at. DPPO, arXiv 2602.04879: verl, prime-rl, SkyRL, Stable-RL, TRL until July 2026; defaults at `dppo_tv`.
template <class D>
struct advantage_signed {
    static_assert(divergence_policy<D>,
                  "trm: advantage_signed takes a divergence, then the bands for A > 0 and A < 0, for example "
                  "advantage_signed{k3{}, at_most(0.1), at_most(0.1)}");
    D divergence;
    band positive;  ///< for A > 0
    band negative;  ///< for A < 0
    zero_advantage zero = zero_advantage::as_negative;

    static constexpr char const* name = "away";
    static constexpr auto form = criterion_form::around;
    static void fields(auto f) {
        f("negative", &advantage_signed::negative);
        f("zero", &advantage_signed::zero);
    }
    static constexpr bool is_sequence = false, looks_at_ratio = true;
    static constexpr int sums = 0, maxima = 0;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return detail::needs_of_direction<D>; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return positive.ok() && negative.ok() ? status{} : status{errc::bad_threshold, -1, -1, "advantage_signed"};
    }
    template <class V, bool P>
    TRM_INLINE typename V::mask test(token<V, P> const& t) const noexcept {
        V const nought(typename V::value_type(0));
        V const d = divergence_of(divergence, t), x = ratio_of(divergence, t).value;
        auto const inside = [&](band const& b) TRM_INLINE_LAMBDA {
            return (simd::broadcast<V>(b.lower) <= d) & (d <= simd::broadcast<V>(b.upper));
        };
        auto const up = (t.advantage > nought) & (x > nought);
        auto const sinks = zero == zero_advantage::keep ? t.advantage < nought : t.advantage <= nought;
        return !((up & !inside(positive)) | (sinks & (x < nought) & !inside(negative)));
    }
};
template <class D>
advantage_signed(D, band, band) -> advantage_signed<D>;
template <class D>
advantage_signed(D, band, band, zero_advantage) -> advantage_signed<D>;

/// `advantage_signed` that rejects only tokens which were likely: of probability mu >= least under the behaviour policy of D's
/// log-ratio, least by the sign of A; 0 puts no condition. Ablations of Stable-RL (`ppo_ablation_positive`, `_negative`,
/// `_both`), where D is the ratio.
template <class D>
struct likely_signed {
    static_assert(
        divergence_policy<D>,
        "trm: likely_signed takes a divergence, then the bands for A > 0 and A < 0 and the two least probabilities, "
        "for example likely_signed{ratio{}, at_most(1.2), at_least(0.8), 0.5, 0.5}");
    D divergence;
    band positive;  ///< for A > 0
    band negative;  ///< for A < 0
    double least_positive = 0.0;  ///< mu from which on A > 0 can be rejected
    double least_negative = 0.0;
    zero_advantage zero = zero_advantage::as_negative;

    static constexpr char const* name = "away_likely";
    static constexpr auto form = criterion_form::around;
    static void fields(auto f) {
        f("negative", &likely_signed::negative);
        f("least_positive", &likely_signed::least_positive);
        f("least_negative", &likely_signed::least_negative);
        f("zero", &likely_signed::zero);
    }
    static constexpr bool is_sequence = false, looks_at_ratio = true;
    static constexpr int sums = 0, maxima = 0;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return detail::needs_of_direction<D>; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = positive.ok() && negative.ok() && least_positive >= 0 && least_negative >= 0;
        return ok ? status{} : status{errc::bad_threshold, -1, -1, "likely_signed"};
    }
    template <class V, bool P>
    TRM_INLINE typename V::mask test(token<V, P> const& t) const noexcept {
        auto const& l = ratio_of(divergence, t);
        V const mu = detail::probability(l.behaviour).p, nought(typename V::value_type(0));
        V const least =
            select(t.advantage > nought, simd::broadcast<V>(least_positive), simd::broadcast<V>(least_negative));
        return advantage_signed<D>{divergence, positive, negative, zero}.test(t) | (mu < least);
    }
};
template <class D>
likely_signed(D, band, band, double, double) -> likely_signed<D>;
template <class D>
likely_signed(D, band, band, double, double, zero_advantage) -> likely_signed<D>;

/// Any token mask, conditioned on the direction of the move.
template <class D>
[[nodiscard]] constexpr advantage_signed<D> only_away(token_mask<D> m,
                                                      zero_advantage z = zero_advantage::as_negative) noexcept {
    return {m.divergence, m.keep, m.keep, z};
}

/// DPPO's binary TV: A > 0 keeps p - mu <= high, else p - mu >= -low. Thresholds: 0.2 and 0.2 in verl, prime-rl and SkyRL, 0.15
/// in the authors' script.
[[nodiscard]] constexpr advantage_signed<binary_tv> dppo_tv(double low = 0.2, double high = 0.2,
                                                            zero_advantage z = zero_advantage::as_negative) noexcept {
    return {{}, at_most(high), at_most(low), z};
}
/// DPPO's binary KL: keeps Bernoulli KL(mu || p) <= high (A > 0) or low, and every move towards mu. 0.05 in the authors'
/// script. verl adds 1e-8 to both complements, which is 15% at 1 - mu = 1e-6; here 1 - p is exact.
[[nodiscard]] constexpr advantage_signed<binary_kl> dppo_kl(double low = 0.2, double high = 0.2,
                                                            zero_advantage z = zero_advantage::as_negative) noexcept {
    return {{}, at_most(high), at_most(low), z};
}

TRM_NAMESPACE_END
