// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/surrogate_sequence.hpp>

TRM_NAMESPACE_BEGIN

namespace kl_gradient {
/// s D with s = e^z, z the mean over the sequence of y, current over proximal (or rollout), differentiated: TRL's
/// `use_bias_correction_kl` where importance_sampling_level is `sequence`.
struct importance_of_sequence {
    static constexpr char const* name = "importance_of_sequence";
    static constexpr ratio_kind over = ratio_kind::surrogate;
};
}  // namespace kl_gradient

/// beta s D_t: D_t as in the general form, its output clamp included; s over the n tokens that the penalty sees, of a sequence.
/// Each of them moves all terms of the sequence: slope_u = beta (-s D'_u + (s / n) sum_t D_t), without the first term where a clamp of
/// D acts, without the second where the penalty clamp acts on y_u or the surrogate's sequence clamp on z. Surrogates' mean epsilon is
/// added to n. A loss has one such penalty at most. Accuracy: s and the sum as in surrogate_sequence.hpp, D' as in general.
template <class D>
struct reference_kl<D, kl_gradient::importance_of_sequence> {
    D estimator;
    double beta;
    kl_gradient::importance_of_sequence gradient{};
    static_assert(estimator_policy<D>);
    sees tokens = sees::all_tokens;
    double input_clamp = 20.0;
    double output_clamp = std::numeric_limits<double>::infinity();

    static constexpr char const* name = "reference_kl";
    static constexpr type_choice choice{"gradient", kl_gradient::importance_of_sequence::name};
    static void fields(auto f) { detail::reference_kl_fields<reference_kl>(f); }
    static constexpr bool reads_ratio = true, reads_exp = false;
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr int sums = 3;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::ref_logp; }
    [[nodiscard]] constexpr status validate() const noexcept { return detail::check_reference_kl(*this); }
    /// sum += y, 1 and D of the tokens that the penalty sees.
    template <class V, bool P>
    TRM_INLINE void measure(token<V, P> const& t, log_ratio<V> const& y, penalty_clamp<V> const& clamp,
                            V* sum) const noexcept {
        detail::measure_mean(tokens, t, y, sum);
        detail::add_where(tokens == sees::all_tokens ? t.active : t.keep, estimate(t, clamp).value, sum + 2);
    }
    /// {s, (s / n) sum D}.
    [[nodiscard]] sequence_constants constants(double const* sum, double epsilon, clamp_range clamp) const noexcept {
        if (!(sum[1] > 0)) return {};
        detail::sequence_mean const z(sum, epsilon, clamp);
        return {{z.s, z.moves ? z.s / z.n * sum[2] : 0, 0, 0}};
    }
    template <class V, bool P>
    TRM_INLINE penalty_terms<V> operator()(token<V, P> const& t, log_ratio<V> const& y, penalty_clamp<V> const& clamp,
                                           sequence_constants const& k) const noexcept {
        V const b = simd::broadcast<V>(beta), s = simd::broadcast<V>(k.c[0]);
        auto const d = estimate(t, clamp);
        V const own = simd::pin(b * finite_product(s, d.slope));
        V const shared = simd::pin(b * finite_product(simd::broadcast<V>(k.c[1]), simd::broadcast<V>(1)));
        return {b * finite_product(s, d.value), own + zero_unless(t.active & y.unclamped, shared)};
    }

private:
    /// D within its clamps, and -D' where none acts.
    template <class V, bool P>
    TRM_INLINE penalty_terms<V> estimate(token<V, P> const& t, penalty_clamp<V> const& clamp) const noexcept {
        log_ratio<V> l;
        V const most = simd::broadcast<V>(input_clamp), c = simd::broadcast<V>(output_clamp);
        set_log_ratio(l, t.ref_logp, t.logp, t.active, (simd::max)(clamp.lower, -most), (simd::min)(clamp.upper, most));
        V const value = simd::pin(estimator(l)), slope = simd::pin(-estimator.slope(l));
        return {simd::clamp(value, -c, c), zero_unless(l.unclamped & (abs(value) <= c), slope)};
    }
    /// Beyond the range of the arithmetic products stop at its end: beta may be 0.
    template <class V>
    TRM_INLINE static V finite_product(V a, V b) noexcept {
        V const largest((std::numeric_limits<typename V::value_type>::max)());
        return simd::clamp(a * b, -largest, largest);
    }
};

TRM_NAMESPACE_END
