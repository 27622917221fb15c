// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/call.hpp>
#include <trm/pipeline/decide.hpp>
#include <trm/pipeline/streams.hpp>

#include <limits>

/// \file
/// What a pass adds up: in registers within a stretch of 64 of them, in double beyond.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Counts of a run of tokens. `Core` says how many criteria its mask has.
template <class Core>
struct token_counts {
    std::int64_t tokens, finite, passing, positive_logp;
    std::int64_t rejected[Core::criteria_capacity + 1];

    /// Takes over the counts of a pass, one by one: a wide copy would wait for the narrow stores before it.
    template <class Other>
    TRM_INLINE void take(Other const& core, token_counts<Other> const& o) noexcept {
        tokens = o.tokens;
        finite = o.finite;
        passing = o.passing;
        positive_logp = o.positive_logp;
        if constexpr (requires { core.give_rejected(o.rejected, rejected); })
            return core.give_rejected(o.rejected, rejected);
        int const criteria = Other::is_static ? Other::criteria_capacity : core.criteria();
        for (int k = 0; k < criteria; ++k) rejected[k] = o.rejected[k];
    }
};

/// Can a token of a kept sequence be rejected?
template <class Core, class S, class T>
[[nodiscard]] TRM_INLINE bool can_split(Core const& core, stream_pointers<S, T> const& io) noexcept {
    return core.has_token_criteria() || io.rejected != nullptr;
}
/// Must a pass count the tokens that pass? If not, `passing_of` says how many do. `splits`: see can_split.
template <class Core, class S, class T>
[[nodiscard]] TRM_INLINE bool must_count_passing(Core const& core, stream_pointers<S, T> const& io,
                                                 bool splits) noexcept {
    return io.rejected != nullptr || (splits && core.only_token_criterion() < 0);
}
/// The tokens that pass, where at most one criterion has tested them and nothing else could reject them.
template <class Core>
[[nodiscard]] TRM_INLINE std::int64_t passing_of(Core const& core, token_counts<Core> const& n) noexcept {
    int const only = core.only_token_criterion();
    return only < 0 ? n.finite : n.finite - n.rejected[only];
}

/// Sums, counts and extrema of a run of tokens.
template <class Core>
struct run_tally : token_counts<Core> {
    double sums[Core::sum_capacity + 1];
    double maxima[Core::max_capacity + 1];
    double objective, regulariser;
    // of diagnostics, set only if they are asked for
    double x, logp, k3, r_squared, passing_x, passing_k3, weight, weight_squared;
    double positive, negative, clipped_positive, clipped_negative;
    double max_x, max_negative_x, max_weight;

    template <class Other>
    TRM_INLINE void clear(Other const& core, bool diagnose) noexcept {
        constexpr double lowest = -std::numeric_limits<double>::infinity();
        if constexpr (requires { core.clear_statistics(sums, maxima); }) {
            core.clear_statistics(sums, maxima);
        } else {
            for (int i = 0; i < core.sum_width(); ++i) sums[i] = 0;
            for (int i = 0; i < core.max_width(); ++i) maxima[i] = lowest;
        }
        objective = regulariser = 0;
        if (!diagnose) return;
        x = logp = k3 = r_squared = passing_x = passing_k3 = weight = weight_squared = 0;
        positive = negative = clipped_positive = clipped_negative = 0;
        max_x = max_negative_x = lowest;
        max_weight = 0;
    }
};

/// A run of tokens on its way through a pass: where it is, what is decided about its sequence, and what is added up.
template <class Core>
struct run_work {
    token_run where;
    double advantage;  ///< of the sequence, where there is none per token
    decision decided;
    run_tally<Core> tally;
};

/// f(0) ... f(n - 1), written out when the policies are static and n is their constant.
template <class Core, int Capacity, class F>
TRM_INLINE void each_slot([[maybe_unused]] int n, F&& f) noexcept {
    if constexpr (Core::is_static) {
        unrolled<Capacity>([&](auto i) TRM_INLINE_LAMBDA { f(i); });
    } else {
        for (int i = 0; i < n; ++i) f(i);
    }
}

/// Up to this |x|, squares of ratios and sums of them over 64 registers are in the range of float.
inline constexpr double squares_fit = 40;
/// May squares of ratios or weights leave that range? `limit`: of the size of a log-ratio.
[[nodiscard]] inline bool has_wide_squares(double limit, decision const& d) noexcept {
    return limit > squares_fit || (std::max)(d.weight, d.weight_factor) > 1e17;
}

/// Sums and extrema for the diagnostics, in registers.
template <class V>
struct described_lanes {
    /// The sums of the squares that add_squares takes in double.
    double wide_r_squared, wide_weight_squared;
    V x, logp, k3, r_squared, passing_x, passing_k3, weight, weight_squared;
    std::int64_t positive, negative, clipped_positive, clipped_negative;
    V max_x, min_x, max_weight;

    /// Sums of 64 squares of floats in [1 / square_limit, square_limit] neither overflow nor vanish in float.
    static constexpr float square_limit = 0x1p58f;
    /// *sum += v^2, lane by lane. If a lane is outside that range, the squares of all lanes are added to *wide in its place.
    static TRM_INLINE void add_squares(V v, V* sum, double* wide) noexcept {
        if constexpr (sizeof(typename V::value_type) == 4) {
            V const size = abs(v), zero(0.0f), most(square_limit), least(1 / square_limit);
            if (any((size > most) | ((size < least) & (size > zero)))) [[unlikely]] {
                alignas(64) float lane[V::size];
                simd::store(lane, v);
                for (float const l : lane) *wide += static_cast<double>(l) * static_cast<double>(l);
                return;
            }
        }
        *sum = fma(v, v, *sum);
    }

    TRM_INLINE void clear_sums() noexcept {
        V const zero(typename V::value_type(0));
        wide_r_squared = wide_weight_squared = 0;
        x = logp = k3 = r_squared = passing_x = passing_k3 = weight = weight_squared = zero;
        positive = negative = clipped_positive = clipped_negative = 0;
    }
    TRM_INLINE void clear_extrema() noexcept {
        V const lowest(-std::numeric_limits<typename V::value_type>::infinity());
        max_x = lowest;
        min_x = -lowest;
        max_weight = V(typename V::value_type(0));
    }
};

/// The sums of run_tally in registers. What nobody asks for stays as it is.
template <class V, class Core>
struct lane_tally : described_lanes<V> {
    static constexpr std::int64_t stretch = 64 * static_cast<std::int64_t>(V::size);  ///< tokens between two flushes
    V sums[Core::sum_capacity + 1];
    V maxima[Core::max_capacity + 1];
    V objective, regulariser;

    TRM_INLINE void clear_sums(Core const& core, bool diagnose) noexcept {
        V const zero(typename V::value_type(0));
        each_slot<Core, Core::sum_capacity>(core.sum_width(), [&](int i) TRM_INLINE_LAMBDA { sums[i] = zero; });
        objective = regulariser = zero;
        if (diagnose) described_lanes<V>::clear_sums();
    }
    TRM_INLINE void clear(Core const& core, bool diagnose) noexcept {
        clear_sums(core, diagnose);
        V const lowest(-std::numeric_limits<typename V::value_type>::infinity());
        each_slot<Core, Core::max_capacity>(core.max_width(), [&](int i) TRM_INLINE_LAMBDA { maxima[i] = lowest; });
        if (diagnose) this->clear_extrema();
    }
    /// `Measure`: with the statistics of sequences. `splits`: a token of a kept sequence can be rejected.
    template <bool Measure, bool Apply, class Tally>
    TRM_INLINE void flush_sums(Core const& core, Tally& to, bool diagnose, bool splits) const noexcept {
        if constexpr (Measure) add_sums(core, to.sums);
        if constexpr (Apply) {
            to.objective += simd::sum(objective);
            if (core.has_penalties()) to.regulariser += simd::sum(regulariser);
        }
        if (!diagnose) return;
        to.x += simd::sum(this->x);
        to.logp += simd::sum(this->logp);
        if constexpr (Apply) {
            to.k3 += simd::sum(this->k3);
            to.r_squared += simd::sum(this->r_squared) + this->wide_r_squared;
            to.positive += static_cast<double>(this->positive);
            to.negative += static_cast<double>(this->negative);
            to.clipped_positive += static_cast<double>(this->clipped_positive);
            to.clipped_negative += static_cast<double>(this->clipped_negative);
            if (splits) {
                to.passing_x += simd::sum(this->passing_x);
                to.passing_k3 += simd::sum(this->passing_k3);
            }
            if (core.has_weight()) {
                to.weight += simd::sum(this->weight);
                to.weight_squared += simd::sum(this->weight_squared) + this->wide_weight_squared;
            }
        }
    }
    template <bool Measure, bool Apply, class Tally>
    TRM_INLINE void flush(Core const& core, Tally& to, bool diagnose, bool splits) const noexcept {
        flush_sums<Measure, Apply>(core, to, diagnose, splits);
        if constexpr (Measure) add_maxima(core, to.maxima);
        if (!Apply || !diagnose) return;
        to.max_x = (std::max)(to.max_x, static_cast<double>(simd::reduce_max(this->max_x)));
        to.max_negative_x = (std::max)(to.max_negative_x, static_cast<double>(simd::reduce_max(-this->min_x)));
        if (core.has_weight()) to.max_weight = static_cast<double>(simd::reduce_max(this->max_weight));
    }

private:
    TRM_INLINE void add_sums(Core const& core, double* to) const noexcept {
        if constexpr (requires { core.flush_sums(sums, to); }) {
            core.flush_sums(sums, to);
        } else {
            each_slot<Core, Core::sum_capacity>(core.sum_width(),
                                                [&](int i) TRM_INLINE_LAMBDA { to[i] += simd::sum(sums[i]); });
        }
    }
    TRM_INLINE void add_maxima(Core const& core, double* to) const noexcept {
        if constexpr (requires { core.flush_maxima(maxima, to); }) {
            core.flush_maxima(maxima, to);
        } else {
            each_slot<Core, Core::max_capacity>(core.max_width(), [&](int i) TRM_INLINE_LAMBDA {
                to[i] = (std::max)(to[i], static_cast<double>(simd::reduce_max(maxima[i])));
            });
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
