// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection_batch.hpp>

/// \file
/// Selections that look at the direction of a move: only a token that its policy gradient would push further away from the
/// behaviour policy (A > 0 and r > 1, or A < 0 and r < 1, r of the pair that D looks at) can be rejected.

TRM_NAMESPACE_BEGIN

/// Reject the tokens that move away, of sequences whose statistic(D) is outside the band. VACO, arXiv 2603.01365 and
/// allenai/open-instruct (`rho_mask_tv_divergence`, bounds off by default): the mean of |r - 1|, `ratio_change`.
template <class D, class Stat>
struct away_sequence_mask : detail::scored_with_ratio<D> {
    Stat statistic;
    band keep;
    constexpr away_sequence_mask(D d = {}, Stat s = {}, band b = {}) noexcept
        : detail::scored_with_ratio<D>{{d}}, statistic(s), keep(b) {}
    static constexpr char const* name = "away_in";
    static constexpr auto form = criterion_form::around;
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() ? status{} : detail::bad("away_sequence_mask");
    }
    void select(selection_sequence const& s, sequence_output out) const noexcept {
        if (!detail::violates_band<Stat>(s, keep)) return;
        out.reject_if([&](std::size_t i) { return detail::moves_away(s.advantages[i], s.scores[s.size() + i]); });
    }
};

/// `budget_mask` that drops only tokens that move away, the largest D first, until the mean of D over all the rest, tokens
/// that move back included, is below `limit` (strictly), or none is left that may go. Equal values are dropped in token order. M2PO as
/// its paper has it (arXiv 2510.01161): `away_budget_mask{k2{}, 0.04 / 2}`; AReaL drops the largest whatever the direction.
template <class D>
struct away_budget_mask : detail::scored_with_ratio<D> {
    double limit;
    constexpr away_budget_mask(D d = {}, double mean_limit = 0) noexcept
        : detail::scored_with_ratio<D>{{d}}, limit(mean_limit) {}
    static constexpr char const* name = "away_budget";
    static constexpr auto form = criterion_form::plain;
    static void fields(auto f) {
        f("divergence", &away_budget_mask::divergence, true);
        f("limit", &away_budget_mask::limit, true);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        return !is_nan(limit) ? status{} : detail::bad("away_budget_mask");
    }
    static constexpr selection_bytes scratch = detail::drop_scratch;
    void select(selection_input const& in, selection_output out) const noexcept {
        detail::drop_largest(in, out, limit, 0, [&](std::size_t t) {
            return detail::moves_away(in.advantages[t], in.scores[in.extent + t]);
        });
    }
};

/// A running budget (CPPO, arXiv 2606.10968; verl #6731, open). Slot t of a sequence weighs w_t, which falls evenly from 1 at
/// t = 0 to w_min at t = horizon - 1 and stays there; with horizon 0 at the sequence's own last slot. Z_t = w_t D_t, S and W sums
/// of Z and w over the active slots before t. A token that moves away is rejected iff
/// Z_t > min(delta, delta + drift W - S), drift = clamp(k Q, drift_min, 5 drift_min), Q the q-quantile of the sequence's D
/// (linearly interpolated). After a token that is not finite S is unknown: tokens that move away are rejected. D is |p - mu|,
/// `binary_tv`, delta 0.15 for dense models and 0.2 for Qwen3-30B-A3B, the horizon the padded length.
template <class D>
struct running_budget_mask : detail::scored_with_ratio<D> {
    double delta = 0.15, w_min = 0.8, drift_min = 0.02, q = 0.9, k = 1;
    std::int64_t horizon = 0;
    constexpr running_budget_mask(D d = {}, double most = 0.15, std::int64_t places = 0) noexcept
        : detail::scored_with_ratio<D>{{d}}, delta(most), horizon(places) {}
    static constexpr char const* name = "running_budget";
    static constexpr auto form = criterion_form::plain;
    static void fields(auto f) {
        f("divergence", &running_budget_mask::divergence, true);
        f("delta", &running_budget_mask::delta);
        f("w_min", &running_budget_mask::w_min);
        f("drift_min", &running_budget_mask::drift_min);
        f("q", &running_budget_mask::q);
        f("k", &running_budget_mask::k);
        f("horizon", &running_budget_mask::horizon);
    }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = delta >= 0 && w_min >= 0 && w_min <= 1 && drift_min >= 0 && is_finite(drift_min) && q >= 0 &&
                        q <= 1 && k >= 0 && is_finite(k) && horizon >= 0;
        return ok && !is_nan(delta) ? status{} : detail::bad("running_budget_mask");
    }
    static constexpr selection_bytes scratch{sizeof(double), 0, 0};
    void select(selection_sequence const& s, sequence_output out) const noexcept {
        double const drift = drift_of(s);
        auto const places = horizon > 0 ? static_cast<double>(horizon) : static_cast<double>(s.size());
        double spent = 0, granted = 0;
        out.reject_if([&](std::size_t i) {
            if (s.active[i] == 0) return false;
            double const t = static_cast<double>(i), last = places - 1;
            double const w = t < last ? 1 - (1 - w_min) * t / last : last > 0 ? w_min : 1;
            double const z = w * s.scores[i], left = (std::min)(delta, delta + drift * granted - spent);
            spent += z;
            granted += w;
            return detail::moves_away(s.advantages[i], s.scores[s.size() + i]) && (i > s.first_nonfinite || z > left);
        });
    }

private:
    [[nodiscard]] double drift_of(selection_sequence const& s) const noexcept {
        auto const d = detail::active_scores(s);
        if (d.empty()) return drift_min;
        double const drift = k * detail::upper_quantile(d, 1 - q);
        return drift < drift_min ? drift_min : drift > 5 * drift_min ? 5 * drift_min : drift;
    }
};

TRM_NAMESPACE_END
