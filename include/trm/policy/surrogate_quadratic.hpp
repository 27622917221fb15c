// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/surrogate.hpp>

/// \file
/// Surrogates of one token whose trust region is a parabola instead of a clip: beyond its end the gradient leads back.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Infinities at the ends of the range of the arithmetic. v is not NaN.
template <class V>
TRM_INLINE V saturated(V v) noexcept {
    V const most((std::numeric_limits<typename V::value_type>::max)());
    return simd::clamp(v, -most, most);
}
/// -r A + |A| s (r - 1) / (2 width) and its derivative -r (A - |A| s / width), for an s that is proportional to r - 1.
template <class V>
TRM_INLINE surrogate_terms<V> parabola(V const& advantage, log_ratio<V> const& l, V const& s, double width) noexcept {
    V const by = simd::broadcast<V>(1 / width), size = abs(advantage), zero = detail::zero<V>();
    V const gain = simd::negated_product(l.exp, advantage), pull = saturated(s * by), back = saturated(size * pull);
    V const value = fma(saturated(back * l.expm1), simd::broadcast<V>(0.5), gain);
    V const slope = saturated(back * l.exp) + gain;
    auto const outside = select(advantage < zero, -pull, pull) > simd::broadcast<V>(1);
    return {saturated(value), zero_unless(l.unclamped, saturated(slope)), outside & (size > zero)};
}
[[nodiscard]] constexpr status check_width(double width, char const* what) noexcept {
    return width >= 1e-6 && is_finite(width) ? status{} : status{errc::bad_threshold, -1, -1, what};
}

}  // namespace detail

/// -r A + |A| (r - 1)^2 / (2 eps). Slope -r (A - |A| (r - 1) / eps): that of r A at r = 1, 0 where r leaves [1 - eps, 1 + eps]
/// in the direction of A, leading back beyond; 0 where the log-ratio clamp acts. `clipped`: beyond. Simple Policy Optimization,
/// arXiv 2401.16025; CFPO; verl #5252 and TRL #5027 (open), where eps is PPO's clip ratio, 0.2. Error (8 + 3 |x|) r |A| (1 +
/// |r - 1| / eps) u; saturates at the largest number. eps >= 1e-6. 1 transcendental.
struct spo {
    double eps = 0.2;

    static constexpr char const* name = "spo";
    static void fields(auto f) { f("eps", &spo::eps); }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept { return detail::check_width(eps, "spo"); }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        return detail::parabola(t.advantage, l, l.expm1, eps);
    }
};

/// -r A + |A| (p - mu)^2 / (2 delta mu), p and mu the probabilities of the token under the two policies of the ratio. Slope
/// -r (A - |A| (p - mu) / delta): DPPO's trust region |p - mu| <= delta with a weight that falls to 0 at its end and leads back
/// beyond, instead of a mask; 0 where the log-ratio clamp acts. `clipped`: beyond. DRPO, arXiv 2606.09821 (not the DRPO that
/// weighs within a prompt group). Its constant was not seen; 0.2 is DPPO's. delta >= 1e-6. Error (8 + 3 |x|) r |A| (1 + (p + mu) / delta) u. 3
/// transcendentals.
struct drpo {
    double delta = 0.2;

    static constexpr char const* name = "drpo";
    static void fields(auto f) { f("delta", &drpo::delta); }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept { return detail::check_width(delta, "drpo"); }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const shift = detail::probability(l.target).p - detail::probability(l.behaviour).p;
        return detail::parabola(t.advantage, l, shift, delta);
    }
};

TRM_NAMESPACE_END
