// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection_batch.hpp>
#include <trm/policy/surrogate.hpp>

TRM_NAMESPACE_BEGIN

/// -r A, plus coefficient |x| on marked tokens. Slope -r A + coefficient sign x; 0 where the log-ratio clamp acts; error
/// ((4 + |x|) r |A| + 2 coefficient) u. KL-Cov,
/// arXiv 2505.22617: marked is the given fraction of the batch whose (A - mean A)(logp - mean logp) is largest;
/// `top_covariance` of selection_batch.hpp works it out unless the caller brings marks of its own. verl: fraction 2e-4,
/// coefficient 0.1; SkyRL: 0.2 and 1, with an |x| term that it does not divide by the token count. A weight multiplies both
/// parts. 1 transcendental.
struct kl_cov {
    double coefficient = 0.1;
    double fraction = 2e-4;

    static constexpr char const* name = "kl_cov";
    static constexpr bool acts_without_advantage = true;
    static void fields(auto f) {
        f("coefficient", &kl_cov::coefficient);
        f("fraction", &kl_cov::fraction);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage | need::marks; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = is_finite(coefficient) && fraction >= 0 && fraction <= 1;
        return ok ? status{} : status{errc::bad_threshold, -1, -1, "kl_cov"};
    }
    [[nodiscard]] constexpr top_covariance marker() const noexcept { return {fraction}; }
    template <class V, bool P>
    TRM_INLINE surrogate_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& l) const noexcept {
        V const zero = detail::zero<V>(), c = zero_unless(t.marked, simd::broadcast<V>(coefficient));
        V const sign = select(l.value < zero, -c, zero_unless(l.value > zero, c));
        V const slope = fma(-l.exp, t.advantage, sign);
        return {fma(-l.exp, t.advantage, c * abs(l.value)), zero_unless(l.unclamped, slope), detail::nowhere<V>()};
    }
};

TRM_NAMESPACE_END
