// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection_batch.hpp>
#include <trm/policy/selection_segment.hpp>
#include <trm/policy/weight.hpp>

/// \file
/// Factors of token weights that follow from other tokens of their sequence or batch. Like every weight they are stop-gradients; like
/// selections they are worked out before the other phases (pipeline/weigh.hpp), from what one process has of the batch.
///
/// A factor has `weigh(sequence, weights)`, called from several threads, or `weigh(batch, weights)`. Scores are log-ratios of
/// `over`, or -logp if `reads_ratio` is false, in the arithmetic of the batch; log-ratios are clamped as in the weight's stage.
/// Weights are one per slot, read where the slot is active: where loss_mask is not 0 and all that the factor reads is finite.

TRM_NAMESPACE_BEGIN

/// FIPO's influence of the future (arXiv 2603.19835; ms-swift; TRL #5434, slime #1801, open):
/// w_t = clamp(exp(sum_{k >= t} g^(k - t) x_k), lower, upper), g = 2^(-1 / half_life), k and t slots of the sequence, x_k = 0 where
/// loss_mask is 0 or r_k > most_ratio. Where A_t < 0 and r_t > safe_ratio the weight is clamped to [safe_lower, 1] as well. Use it
/// with `ppo_clip`. Defaults: half-life 32, [1, 1.2] (0.8 to 1.2 if both ways), 4 and 0.8; most_ratio is the dual clip, 10 in the
/// authors' script, none if there is none.
struct suffix_weight {
    double half_life = 32, lower = 1.0, upper = 1.2, most_ratio = std::numeric_limits<double>::infinity();
    double safe_ratio = 4.0, safe_lower = 0.8;

    static constexpr char const* name = "suffix";
    static void fields(auto f) {
        f("half_life", &suffix_weight::half_life);
        f("lower", &suffix_weight::lower);
        f("upper", &suffix_weight::upper);
        f("most_ratio", &suffix_weight::most_ratio);
        f("safe_ratio", &suffix_weight::safe_ratio);
        f("safe_lower", &suffix_weight::safe_lower);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = half_life > 0 && lower <= upper && lower >= 0 && most_ratio > 0 && safe_ratio > 0 &&
                        safe_lower >= 0 && safe_lower <= 1;
        return ok ? status{} : detail::bad("suffix_weight");
    }
    void weigh(selection_sequence const& s, std::span<double> w) const noexcept {
        double const g = std::exp2(-1 / half_life), most = std::log(most_ratio), safe = std::log(safe_ratio);
        double sum = 0;
        for (std::size_t i = s.size(); i-- > 0;) {
            double const x = s.active[i] != 0 ? s.scores[i] : 0.0;
            sum = (x > most ? 0 : x) + g * sum;
            double const f = std::exp(sum), bounded = f < lower ? lower : f > upper ? upper : f;
            bool const unsafe = s.active[i] != 0 && s.advantages[i] < 0 && x > safe;
            w[i] = !unsafe ? bounded : bounded < safe_lower ? safe_lower : bounded > 1 ? 1 : bounded;
        }
    }
};

/// One weight for each segment of a sequence (a turn, or a piece of `length` tokens, see `segment_mask`): the geometric mean of its
/// ratios, bounded. ROLL's `segment` importance weight: truncated at 1.2.
struct segment_weight {
    weight_bound bound = unbounded;
    std::int64_t length = 0;

    static constexpr char const* name = "segment";
    static void fields(auto f) {
        f("length", &segment_weight::length);
        f("bound", &segment_weight::bound);
    }
    static constexpr ratio_kind over = ratio_kind::correction;
    [[nodiscard]] static constexpr unsigned needs() noexcept { return 0; }
    [[nodiscard]] constexpr status validate() const noexcept {
        return bound.ok() && length >= 0 ? status{} : detail::bad("segment_weight");
    }
    void weigh(selection_sequence const& s, std::span<double> w) const noexcept {
        std::fill(w.begin(), w.end(), 1.0);
        detail::for_each_segment(s, length, [&](std::size_t begin, std::size_t end) {
            double sum = 0, n = 0;
            for (std::size_t i = begin; i < end; ++i) {
                sum += s.active[i] != 0 ? s.scores[i] : 0;
                n += s.active[i];
            }
            double const of_segment = bound(n > 0 ? std::exp(sum / n) : 1.0);
            for (std::size_t i = begin; i < end; ++i) w[i] = of_segment;
        });
    }
};

/// Emphasis on surprising tokens: `positive` for the tokens with A > 0 whose surprise -logp is at least the (1 - share)-quantile
/// (linearly interpolated) among tokens with A > 0, `negative` likewise for A < 0, else 1. STARE (arXiv 2606.19236; TRL #6167,
/// open): share 0.1, 1.1 and 1; variant C2: 0.9 for A < 0. Its gate is the caller's: only while the mean entropy is below 0.3.
struct surprise_weight {
    double share = 0.1, positive = 1.1, negative = 1.0;

    static constexpr char const* name = "surprise";
    static void fields(auto f) {
        f("share", &surprise_weight::share);
        f("positive", &surprise_weight::positive);
        f("negative", &surprise_weight::negative);
    }
    static constexpr ratio_kind over = ratio_kind::surrogate;
    static constexpr bool reads_ratio = false;
    static constexpr selection_bytes scratch{sizeof(double), 0, 0};
    [[nodiscard]] static constexpr unsigned needs() noexcept { return need::advantage; }
    [[nodiscard]] constexpr status validate() const noexcept {
        bool const ok = share >= 0 && share <= 1 && is_finite(positive) && is_finite(negative);
        return ok ? status{} : detail::bad("surprise_weight");
    }
    void weigh(selection_input const& in, std::span<double> w) const noexcept {
        for (double const sign : {1.0, -1.0}) {
            auto memory = in.memory;
            auto const d = memory.take<double>(in.extent);
            std::size_t n = 0;
            in.for_each([&](std::size_t t) {
                if (sign * in.advantages[t] > 0) d[n++] = in.scores[t];
            });
            if (n == 0) continue;
            double const least = detail::upper_quantile(d.first(n), share);
            in.for_each([&](std::size_t t) {
                if (sign * in.advantages[t] > 0 && in.scores[t] >= least) w[t] = sign > 0 ? positive : negative;
            });
        }
    }
};

TRM_NAMESPACE_END
