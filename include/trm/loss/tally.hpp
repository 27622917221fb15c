// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/composition.hpp>
#include <trm/simd/memory.hpp>

#include <algorithm>

/// \file
/// What a pass over a run of tokens works with: where it reads and writes, the numbers of the run, and what it adds up, in
/// registers within a tile and in double beyond.

TRM_NAMESPACE_BEGIN
namespace detail {

/// The streams of a batch as pointers (null = absent), and where results go.
template <class S, class T>
struct stream_pointers {
    using real = default_arithmetic_t<S>;
    S const *logp = nullptr, *rollout = nullptr, *proximal = nullptr, *ref = nullptr;
    real const *advantage = nullptr, *given = nullptr, *token_weight = nullptr;
    std::uint8_t const* mask = nullptr;
    std::uint16_t const* rejected = nullptr;
    std::uint8_t const* marks = nullptr;
    T* grad = nullptr;
    T* weights = nullptr;
    std::uint8_t* keep = nullptr;
    std::uint16_t* reasons = nullptr;
    bool accumulate = false;
    bool prefetch = false;  ///< the streams are longer than the caches next to the core
};

/// Numbers that hold for a whole run of tokens.
struct run_scalars {
    double scale = 0;  ///< factor of every term: loss_scale / denominator
    double advantage = 0;  ///< used when there is no advantage per token
    double limit = 20;  ///< clamp of the log-ratio
    double weight = 1;  ///< sequence weight
    double weight_factor = 1;  ///< of a normalised weight: 1 / mean
    sequence_constants constants{};
    sequence_verdict verdict{};
    bool diagnose = true;
    bool apply = true;  ///< false: statistics are wanted and nothing else
};

/// The numbers of a run that every register of tokens meets, in registers.
template <class V>
struct run_registers {
    V scale, limit, advantage;
    typename V::mask kept;
    bool diagnose;
    std::uint16_t reasons;  ///< of the sequence

    explicit TRM_INLINE run_registers(run_scalars const& run) noexcept
        : scale(simd::broadcast<V>(run.scale)),
          limit(simd::broadcast<V>(run.limit)),
          advantage(simd::broadcast<V>(run.advantage)),
          kept(!V::mask::everywhere()),
          diagnose(run.diagnose),
          reasons(run.verdict.reasons) {
        if (run.verdict.keep) kept = V::mask::everywhere();
    }
};

/// Counts of a run.
template <class Core>
struct token_counts {
    std::int64_t tokens, finite, passing;
    std::int64_t rejected[Core::criteria_capacity];

    /// Takes over the counts of a pass, one by one: a wide copy would wait for the narrow stores before it.
    TRM_INLINE void book(Core const& core, token_counts const& pass) noexcept {
        tokens = pass.tokens;
        finite = pass.finite;
        passing = pass.passing;
        for (int k = 0; k < core.criteria(); ++k) rejected[k] = pass.rejected[k];
    }
};

/// Sums, counts and extrema of a run, set by the pass; what `merge` adds up to is the sequence.
template <class Core>
struct run_tally : token_counts<Core> {
    double sums[Core::sum_capacity + 1];
    double maxima[Core::max_capacity + 1];
    double positive, negative, clipped_positive, clipped_negative, positive_logp;
    double objective, regulariser;
    double x, k3, r_squared, logp, passing_x, passing_k3, weight, weight_squared;
    double max_x, max_negative_x, max_weight;

    TRM_INLINE void clear(Core const& core) noexcept {
        constexpr double lowest = -std::numeric_limits<double>::infinity();
        for (int i = 0; i < core.sum_width(); ++i) sums[i] = 0;
        for (int i = 0; i < core.max_width(); ++i) maxima[i] = lowest;
        positive = negative = clipped_positive = clipped_negative = positive_logp = objective = regulariser = 0;
        x = k3 = r_squared = logp = passing_x = passing_k3 = weight = weight_squared = max_weight = 0;
        max_x = max_negative_x = lowest;
    }
};

/// f(0) ... f(n - 1), written out when the policies are static and n is their constant.
template <class Core, int Capacity, class F>
TRM_INLINE void each_slot(int n, F&& f) noexcept {
    if constexpr (Core::block == 1) {
        unrolled<Capacity>([&](auto i) __attribute__((always_inline)) { f(i); });
    } else {
        for (int i = 0; i < n; ++i) f(i);
    }
}

/// Registers of a tile, flushed to double every `tile` registers.
template <class V, class Core>
struct lane_tally {
    static constexpr int tile = 64;
    V sums[Core::sum_capacity + 1];
    V maxima[Core::max_capacity + 1];
    V objective, regulariser, x, k3, r_squared, logp, passing_x, passing_k3, weight, weight_squared;
    V positive, negative, clipped_positive, clipped_negative, positive_logp;
    V max_x, min_x, max_weight;

    /// What nobody asks for stays as it is, here and in `clear`.
    TRM_INLINE void clear_sums(Core const& core, bool diagnose) noexcept {
        V const zero(typename V::value_type(0));
        each_slot<Core, Core::sum_capacity>(core.sum_width(),
                                            [&](int i) __attribute__((always_inline)) { sums[i] = zero; });
        objective = regulariser = zero;
        if (!diagnose) return;
        x = k3 = r_squared = logp = passing_x = passing_k3 = weight = weight_squared = zero;
        positive = negative = clipped_positive = clipped_negative = positive_logp = zero;
    }
    TRM_INLINE void clear(Core const& core, bool diagnose) noexcept {
        clear_sums(core, diagnose);
        V const lowest(-std::numeric_limits<typename V::value_type>::infinity());
        each_slot<Core, Core::max_capacity>(core.max_width(),
                                            [&](int i) __attribute__((always_inline)) { maxima[i] = lowest; });
        if (!diagnose) return;
        max_x = lowest;
        min_x = -lowest;
        max_weight = V(typename V::value_type(0));
    }
    template <bool Apply>
    TRM_INLINE void flush_sums(Core const& core, run_tally<Core>& to, bool diagnose, bool splits) noexcept {
        each_slot<Core, Core::sum_capacity>(
            core.sum_width(), [&](int i) __attribute__((always_inline)) { to.sums[i] += simd::sum(sums[i]); });
        if (diagnose) {
            to.x += simd::sum(x);
            to.logp += simd::sum(logp);
        }
        if constexpr (Apply) {
            to.objective += simd::sum(objective);
            if (core.has_penalties()) to.regulariser += simd::sum(regulariser);
            if (diagnose) {
                to.k3 += simd::sum(k3);
                to.r_squared += simd::sum(r_squared);
                to.positive += simd::sum(positive);
                to.negative += simd::sum(negative);
                to.clipped_positive += simd::sum(clipped_positive);
                to.clipped_negative += simd::sum(clipped_negative);
                to.positive_logp += simd::sum(positive_logp);
                if (splits) {
                    to.passing_x += simd::sum(passing_x);
                    to.passing_k3 += simd::sum(passing_k3);
                }
                if (core.has_weight()) {
                    to.weight += simd::sum(weight);
                    to.weight_squared += simd::sum(weight_squared);
                }
            }
        }
    }
    template <bool Apply>
    TRM_INLINE void flush(Core const& core, run_tally<Core>& to, bool diagnose, bool splits) noexcept {
        flush_sums<Apply>(core, to, diagnose, splits);
        each_slot<Core, Core::max_capacity>(core.max_width(), [&](int i) __attribute__((always_inline)) {
            to.maxima[i] = std::max(to.maxima[i], static_cast<double>(simd::reduce_max(maxima[i])));
        });
        if (Apply && diagnose) {
            to.max_x = std::max(to.max_x, static_cast<double>(simd::reduce_max(max_x)));
            to.max_negative_x = std::max(to.max_negative_x, static_cast<double>(simd::reduce_max(-min_x)));
            if (core.has_weight()) to.max_weight = static_cast<double>(simd::reduce_max(max_weight));
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
