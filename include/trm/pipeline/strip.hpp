// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/blocks.hpp>
#include <trm/pipeline/read.hpp>
#include <trm/pipeline/stages.hpp>
#include <trm/pipeline/write.hpp>
#include <trm/simd/reduce_rows.hpp>

/// \file
/// Short runs that follow each other in memory, together: what is worked out per token goes over full registers, whatever run
/// a token belongs to; then each run adds up its part of rows in the first-level cache. No branch depends on a length, which the
/// processor could not predict, and no sum waits for the one before. Same additions in the same order as run by run, so the
/// same bits.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Tokens of a short run.
template <class V>
inline constexpr std::int64_t longest_run = 4 * static_cast<std::int64_t>(V::size);
inline constexpr std::int64_t longest_of_all_runs = 64;  ///< of any unit

/// Without proximal_logp: a second copy for batches that have it would cost as much to compile as all the rest of a pass.
template <class V, class Core, class S>
class strip_pass {
    using T = typename V::value_type;
    static constexpr auto width = static_cast<std::int64_t>(V::size);
    static constexpr int together = static_cast<int>(simd::rows_together<V>);
    static constexpr std::int64_t capacity = group_runs * longest_run<V>;

    /// What each token adds to its run. A run may be read to the end of its last register.
    struct row {
        alignas(64) T values[capacity + longest_run<V>];
        [[nodiscard]] TRM_INLINE V at(std::int64_t token) const noexcept { return simd::load<V>(values + token); }
        TRM_INLINE void set(std::int64_t token, V v) noexcept { simd::store(values + token, v); }
    };
    /// One register per run, to be reduced together.
    struct run_rows {
        alignas(64) T values[together * V::size] = {};
        TRM_INLINE void set(int run, V v) noexcept { simd::store(values + run * width, v); }
        template <class F>
        TRM_INLINE void each_sum(int n, F&& f) const noexcept {
            alignas(64) double sums[simd::rows_together<V>];
            simd::sums<V>(values, sums);
            for (int i = 0; i < n; ++i) f(i, sums[i]);
        }
        template <class F>
        TRM_INLINE void each_max(int n, F&& f) const noexcept {
            alignas(64) T largest[simd::rows_together<V>];
            simd::maxima<V>(values, largest);
            for (int i = 0; i < n; ++i) f(i, static_cast<double>(largest[i]));
        }
    };
    row sums[Core::sum_capacity + 1], maxima[Core::max_capacity + 1];
    row objective, regulariser, reasons, scale, advantage;
    run_rows totals[Core::sum_capacity + 1], extrema[Core::max_capacity + 1], total_objective, total_regulariser;
    Core const core;
    stream_pointers<S, T> const io;
    wanted<false> const want;
    decltype(std::declval<Core const&>().template prepare<V>()) const prepared;
    token_limits<V> const limits;
    penalty_clamp<V> const of_penalties;
    double const widest;
    std::int64_t begin, end;
    std::int64_t registers;  ///< of the longest run

public:
    TRM_INLINE strip_pass(Core const& policies, stream_pointers<S, T> const& streams, call_numbers const& call) noexcept
        : core(policies),
          io(streams),
          want(core.needs(), core.diagnose_over(), core.shares_gradient()),
          prepared(core.template prepare<V>()),
          limits(call.clamps),
          of_penalties(call.clamps.penalty),
          widest(call.clamps.widest()) {}

    /// The first runs of `work`, as many as are short and follow each other. Returns how many are done: none if there are fewer
    /// than two or a token of them is an exception; then nothing is written.
    [[nodiscard]] TRM_INLINE int run(run_work<Core>* work, int runs) noexcept {
        int n = 0;
        std::int64_t most = 0;
        begin = end = work[0].where.begin;
        for (; n < runs && work[n].where.begin == end && work[n].where.size <= longest_run<V>; ++n) {
            end += work[n].where.size;
            most = (std::max)(most, work[n].where.size);
        }
        registers = (most + width - 1) / width;
        bool are_small = true;
        if (n < 2) return 0;
        spread(work, n);
        if (!is_clean(are_small)) return 0;
        compute(work, are_small);
        for (int i = 0; i < n; i += together) collect(work + i, (std::min)(together, n - i));
        return n;
    }

private:
    /// f(first token, how many) for every register of the strip.
    template <class F>
    TRM_INLINE void each(F&& f) const noexcept {
        for (std::int64_t at = begin; at < end; at += width)
            f(at, static_cast<std::size_t>((std::min)(width, end - at)));
    }
    /// Is no token an exception? `are_small`: the log-ratios are in the range of exp_k3_small.
    [[nodiscard]] TRM_INLINE bool is_clean(bool& are_small) const noexcept {
        bool const own_advantages = want.advantage && io.advantage == nullptr;
        auto clean = V::mask::everywhere(), little = clean;
        std::uint8_t const* const mask = io.mask;
        if (mask != nullptr && simd::count_nonzero(mask + begin, end - begin) != end - begin) return false;
        each([&](std::int64_t at, std::size_t n) __attribute__((always_inline)) {
            raw_tokens<V> raw;
            read_register(want, io, at, n, own_advantages ? advantage.at(at - begin) : zero<V>(), raw);
            V const largest = largest_log_ratio(want, raw);
            clean = clean & is_within(largest, limits.most);
            little = little & is_within(largest, limits.most_small);
        });
        are_small = all(little);
        return all(clean);
    }
    /// Numbers of a whole run into rows of its tokens: a register beyond its end is overwritten by the next run.
    TRM_INLINE void spread(run_work<Core> const* work, int n) noexcept {
        bool const own_advantages = want.advantage && io.advantage == nullptr;
        auto const fill = [&](row& to, auto const& value) __attribute__((always_inline)) {
            for (int i = 0; i < n; ++i) {
                V const v = simd::broadcast<V>(value(work[i]));
                for (std::int64_t r = 0; r < registers; ++r) to.set(work[i].where.begin - begin + r * width, v);
            }
        };
        fill(scale, [](run_work<Core> const& w) __attribute__((always_inline)) { return w.decided.scale; });
        if (own_advantages)
            fill(advantage, [](run_work<Core> const& w) __attribute__((always_inline)) { return w.advantage; });
    }
    /// All steps of the pipeline for every token; its run's sums are left out.
    TRM_INLINE void compute(run_work<Core> const* work, bool are_small) noexcept {
        bool const own_advantages = want.advantage && io.advantage == nullptr;
        run_registers<V> now(work[0].decided, 0, widest);
        V const lowest(-std::numeric_limits<T>::infinity());
        each([&](std::int64_t at, std::size_t n) __attribute__((always_inline)) {
            std::int64_t const j = at - begin;
            if (own_advantages) now.advantage = advantage.at(j);
            now.scale = scale.at(j);
            raw_tokens<V> raw;
            read_register(want, io, at, n, now.advantage, raw);
            token<V, false> t;
            set_tokens(want, raw, V::mask::everywhere(), are_small, t);
            V add[Core::sum_capacity + 1], max[Core::max_capacity + 1];
            unrolled<Core::sum_capacity>([&](auto k) __attribute__((always_inline)) { add[k] = zero<V>(); });
            unrolled<Core::max_capacity>([&](auto k) __attribute__((always_inline)) { max[k] = lowest; });
            std::int64_t uncounted[Core::criteria_capacity + 1] = {};
            core.measure(t, add, max, uncounted);
            core.measure_passing(t, add, max, same_clamps{});
            core.apply(t, work[0].decided, prepared, of_penalties, same_clamps{});
            V term = zero<V>(), penalty = zero<V>();
            write_gradient(core, io, at, n, now, t, simd::pin(t.weight), term, penalty);
            unrolled<Core::sum_capacity>([&](auto k) __attribute__((always_inline)) { sums[k].set(j, add[k]); });
            unrolled<Core::max_capacity>([&](auto k) __attribute__((always_inline)) { maxima[k].set(j, max[k]); });
            objective.set(j, term);
            if constexpr (Core::has_penalties()) regulariser.set(j, penalty);
            if constexpr (Core::has_token_criteria()) reasons.set(j, t.reasons);
        });
    }
    /// f(lanes that belong to the run, first token in the strip) for every register that a run may have.
    template <class F>
    TRM_INLINE void each_of(token_run const& run, F&& f) const noexcept {
        std::int64_t j = run.begin - begin, left = run.size;
        for (std::int64_t r = 0; r < registers; ++r, j += width, left -= width)
            f(simd::first_n<V>(static_cast<std::size_t>((std::clamp)(left, std::int64_t{0}, width))), j);
    }
    /// Sums, maxima and counts of runs that are reduced together.
    TRM_INLINE void collect(run_work<Core>* work, int n) noexcept {
        V const lowest(-std::numeric_limits<T>::infinity());
        for (int i = 0; i < n; ++i) {
            V add[Core::sum_capacity + 1], max[Core::max_capacity + 1], terms = zero<V>(), penalties = zero<V>();
            unrolled<Core::sum_capacity>([&](auto k) __attribute__((always_inline)) { add[k] = zero<V>(); });
            unrolled<Core::max_capacity>([&](auto k) __attribute__((always_inline)) { max[k] = lowest; });
            each_of(work[i].where, [&](auto mine, std::int64_t j) __attribute__((always_inline)) {
                unrolled<Core::sum_capacity>(
                    [&](auto k) __attribute__((always_inline)) { add[k] = add[k] + zero_unless(mine, sums[k].at(j)); });
                unrolled<Core::max_capacity>([&](auto k) __attribute__((always_inline)) {
                    max[k] = (simd::max)(select(mine, maxima[k].at(j), max[k]), max[k]);
                });
                terms = terms + zero_unless(mine, objective.at(j));
                if constexpr (Core::has_penalties()) penalties = penalties + zero_unless(mine, regulariser.at(j));
            });
            unrolled<Core::sum_capacity>([&](auto k) __attribute__((always_inline)) { totals[k].set(i, add[k]); });
            unrolled<Core::max_capacity>([&](auto k) __attribute__((always_inline)) { extrema[k].set(i, max[k]); });
            total_objective.set(i, terms);
            if constexpr (Core::has_penalties()) total_regulariser.set(i, penalties);
        }
        unrolled<Core::sum_capacity>([&](auto k) __attribute__((always_inline)) {
            totals[k].each_sum(n, [&](int i, double v) __attribute__((always_inline)) { work[i].tally.sums[k] = v; });
        });
        unrolled<Core::max_capacity>([&](auto k) __attribute__((always_inline)) {
            extrema[k].each_max(n,
                                [&](int i, double v) __attribute__((always_inline)) { work[i].tally.maxima[k] = v; });
        });
        total_objective.each_sum(n, [&](int i, double v) __attribute__((always_inline)) {
            run_tally<Core>& tally = work[i].tally;
            tally.tokens = tally.finite = tally.passing = work[i].where.size;
            tally.positive_logp = 0;
            tally.objective = v;
            tally.regulariser = 0;
            if constexpr (Core::has_token_criteria()) count_rejected(work[i]);
        });
        if constexpr (Core::has_penalties())
            total_regulariser.each_sum(
                n, [&](int i, double v) __attribute__((always_inline)) { work[i].tally.regulariser = v; });
    }
    /// Tokens that each criterion rejects, from their reasons.
    TRM_INLINE void count_rejected(run_work<Core>& work) const noexcept {
        run_tally<Core>& tally = work.tally;
        std::fill_n(tally.rejected, Core::criteria(), 0);
        each_of(work.where, [&](auto mine, std::int64_t j) __attribute__((always_inline)) {
            int const fail = count(mine & (reasons.at(j) > zero<V>()));
            if (fail == 0) return;
            tally.passing -= fail;
            std::int64_t const last = (std::min)(j + width, work.where.begin + work.where.size - begin);
            for (std::int64_t t = j; t < last; ++t)
                for (int k = 0; k < Core::criteria(); ++k)
                    tally.rejected[k] += static_cast<int>(reasons.values[t]) >> k & 1;
        });
    }
};

/// Runs from the first on, while `strip_pass` takes them; how many. None where there is nothing to gain or more to do than in
/// the common case.
template <class A, class Core, class S, class T>
int run_strips(Core const& core, stream_pointers<S, T> const& io, call_numbers const& call, run_work<Core>* work,
               int runs) noexcept {
    int done = 0;
    if constexpr (!Core::two_pass()) {
        if (call.diagnose || io.keep != nullptr || io.marks != nullptr || io.proximal != nullptr || runs < 2) return 0;
        if (work[0].where.size > longest_of_all_runs || work[1].where.size > longest_of_all_runs) return 0;
        simd::on_unit<A>([&]<class Unit>(Unit) __attribute__((always_inline)) {
            using V = simd::vec<T, Unit>;
            if constexpr (V::size >= 4) {
                strip_pass<V, Core, S> strip(core, io, call);
                for (int now = 1; done < runs && now > 0; done += now) now = strip.run(work + done, runs - done);
            }
        });
    }
    return done;
}

}  // namespace detail
TRM_NAMESPACE_END
