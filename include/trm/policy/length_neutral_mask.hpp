// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/length_neutral.hpp>
#include <trm/policy/selection.hpp>

TRM_NAMESPACE_BEGIN

/// Keep a sequence iff W <= threshold Z(T), W = sum_t |r_t - 1| w_t, with the weights and the guarantee of
/// bounds/length_neutral.hpp (arXiv 2512.23075, appendix). A token counts by its position: slots of the sequence are
/// counted from its first, masked ones included; with segments the count continues from run to run in the batch's order, so a
/// batch that holds only a later piece of a sequence needs gathered scores. eps and delta of infinity are unknown. A
/// sequence with a token that is not finite is rejected. log-ratios are clamped as in the loss.
struct length_neutral_mask {
    double threshold;  ///< largest mean of |r - 1| under the weights, in units of TV
    std::int64_t horizon;  ///< T, fixed before sampling: most tokens that a response may have
    double eps = std::numeric_limits<double>::infinity();  ///< largest TV of a token
    double delta = std::numeric_limits<double>::infinity();  ///< largest KL of a token, nats

    static constexpr char const* name = "length_neutral";
    static constexpr auto form = criterion_form::plain;
    static void fields(auto f) {
        f("threshold", &length_neutral_mask::threshold, true);
        f("horizon", &length_neutral_mask::horizon, true);
        f("eps", &length_neutral_mask::eps);
        f("delta", &length_neutral_mask::delta);
    }
    static constexpr bool is_sequence = false, is_selection = true;
    static constexpr int sums = 0, maxima = 0, channels = 1;
    static constexpr ratio_kind over = ratio_kind::current_over_rollout;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::ratio(over); }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = threshold >= 0 && is_finite(threshold) && horizon >= 1 && eps >= 0 && delta >= 0;
        return ok && !is_nan(eps) && !is_nan(delta) ? status{} : detail::bad("length_neutral_mask");
    }
    [[nodiscard]] bounds::length_neutral rule() const noexcept {
        bounds::length_neutral r{horizon, {}, {}};
        if (is_finite(eps)) r.eps = eps;
        if (is_finite(delta)) r.delta = delta;
        return r;
    }
    template <class V, bool P>
    TRM_INLINE void score(token<V, P> const& t, V* out) const noexcept {
        out[0] = abs(ratio_of(*this, t).expm1);
    }
    static constexpr bool reads_advantages = false;
    [[nodiscard]] bool violates(selection_sequence const& s) const noexcept {
        auto const weights = rule();
        bounds::length_neutral_sum w;
        s.for_each_active(
            [&](std::size_t i) { w.value += s.scores[i] * weights.weight(static_cast<std::int64_t>(i)); });
        w.finite = !s.has_nonfinite();
        return !bounds::keep(weights, w, threshold);
    }
};

TRM_NAMESPACE_END
