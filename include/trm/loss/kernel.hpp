// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/composition.hpp>
#include <trm/simd/memory.hpp>

#include <algorithm>

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
};

/// Numbers that hold for a whole run of tokens.
struct run_scalars {
    double scale = 0;          ///< factor of every term: loss_scale / denominator
    double advantage = 0;      ///< used when there is no advantage per token
    double limit = 20;         ///< clamp of the log-ratio
    double weight = 1;         ///< sequence weight
    double weight_factor = 1;  ///< of a normalised weight: 1 / mean
    sequence_constants constants{};
    sequence_verdict verdict{};
    bool diagnose = true;
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
struct token_counts {
    std::int64_t tokens = 0, finite = 0, passing = 0;
    std::int64_t rejected[max_criteria] = {};
};

/// Sums, counts and extrema of a run, set by the pass; what `merge` adds up to is the sequence.
template <class Core>
struct run_tally : token_counts {
    double sums[Core::sum_capacity + 1];
    double maxima[Core::max_capacity + 1];
    double positive, negative, clipped_positive, clipped_negative;
    double objective, regulariser;
    double x, k3, r_squared, logp, passing_x, passing_k3, weight, weight_squared;
    double max_x, max_negative_x, max_weight;

    TRM_INLINE void clear(Core const& core) noexcept {
        constexpr double lowest = -std::numeric_limits<double>::infinity();
        for (int i = 0; i < core.sum_width(); ++i) sums[i] = 0;
        for (int i = 0; i < core.max_width(); ++i) maxima[i] = lowest;
        positive = negative = clipped_positive = clipped_negative = objective = regulariser = 0;
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
    V positive, negative, clipped_positive, clipped_negative;
    V max_x, min_x, max_weight;

    TRM_INLINE void clear_sums(Core const& core) noexcept {
        V const zero(typename V::value_type(0));
        each_slot<Core, Core::sum_capacity>(core.sum_width(),
                                            [&](int i) __attribute__((always_inline)) { sums[i] = zero; });
        objective = regulariser = x = k3 = r_squared = logp = passing_x = passing_k3 = weight = weight_squared = zero;
        positive = negative = clipped_positive = clipped_negative = zero;
    }
    TRM_INLINE void clear(Core const& core) noexcept {
        clear_sums(core);
        V const lowest(-std::numeric_limits<typename V::value_type>::infinity());
        each_slot<Core, Core::max_capacity>(core.max_width(),
                                            [&](int i) __attribute__((always_inline)) { maxima[i] = lowest; });
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

/// What the loss reads of one register of tokens, as it stands in memory.
template <class V>
struct raw_tokens {
    V logp, rollout, proximal, ref, given, advantage;
};

/// Which log-ratios a loss wants, and the streams that it reads.
template <bool Proximal, class Core>
struct wanted {
    bool current_over_rollout, proximal_over_rollout, current_over_proximal, ref, given, advantage, marks, factor;

    explicit TRM_INLINE wanted(Core const& core) noexcept {
        unsigned const needs = core.needs();
        auto const wants = [&](ratio_kind kind) __attribute__((always_inline)) {
            auto const asked = [&](ratio_kind k) {
                return (needs & need::ratio(k)) != 0 && resolve(k, Proximal) == kind;
            };
            return resolve(core.diagnose_over(), Proximal) == kind || asked(kind) || asked(ratio_kind::surrogate) ||
                   asked(ratio_kind::correction);
        };
        current_over_rollout = wants(ratio_kind::current_over_rollout);
        proximal_over_rollout = Proximal && wants(ratio_kind::proximal_over_rollout);
        current_over_proximal = Proximal && wants(ratio_kind::current_over_proximal);
        ref = (needs & need::ref_logp) != 0;
        given = (needs & need::given) != 0;
        advantage = (needs & need::advantage) != 0;
        marks = (needs & need::marks) != 0;
        factor = core.shares_gradient();
    }
};

/// Reads one register of tokens, n of them (all unless !Full); zeros in the other lanes.
template <class V, bool Proximal, bool Full, class Core, class S>
TRM_INLINE void read_stage(wanted<Proximal, Core> const& want, stream_pointers<S, typename V::value_type> const& io,
                           std::int64_t at, std::size_t n, run_registers<V> const& numbers,
                           raw_tokens<V>& raw) noexcept {
    auto const read = [&](auto const* from) __attribute__((always_inline)) {
        if constexpr (Full) {
            return simd::load<V>(from + at);
        } else {
            return simd::load_n<V>(from + at, n);
        }
    };
    V const zero(typename V::value_type(0));
    raw.logp = read(io.logp);
    raw.rollout = read(io.rollout);
    raw.proximal = raw.logp;
    if constexpr (Proximal) raw.proximal = read(io.proximal);
    raw.ref = want.ref ? read(io.ref) : zero;
    raw.given = want.given ? read(io.given) : zero;
    raw.advantage = want.advantage && io.advantage != nullptr ? read(io.advantage) : numbers.advantage;
}

/// At least |x| of every log-ratio wanted, and not a number if anything that the loss reads is not finite.
template <class V, bool Proximal, class Core>
TRM_INLINE V unrest(wanted<Proximal, Core> const& want, raw_tokens<V> const& raw) noexcept {
    V const nil = simd::pin(V(typename V::value_type(0)));  // the compiler may not know what it multiplies with
    V worst = nil;
    if (want.current_over_rollout) worst = abs(raw.logp - raw.rollout);
    if (want.proximal_over_rollout) worst = worst + abs(raw.proximal - raw.rollout);
    if (want.current_over_proximal) worst = worst + abs(raw.logp - raw.proximal);
    if (want.advantage) worst = fma(raw.advantage, nil, worst);
    if (want.ref) worst = fma(raw.ref - raw.logp, nil, worst);
    if (want.given) worst = fma(raw.given, nil, worst);
    return worst;
}

/// A register whose lanes are all selected, finite and within the clamp: nothing to select, nothing to clamp.
template <class V, bool Proximal, class Core>
TRM_INLINE void tame_stage(wanted<Proximal, Core> const& want, raw_tokens<V> const& raw, bool small,
                           token<V, Proximal>& t) noexcept {
    t.active = V::mask::everywhere();
    t.allowed = V::mask::everywhere();
    t.marked = !V::mask::everywhere();
    t.logp = raw.logp;
    t.ref_logp = raw.ref;
    t.given = raw.given;
    t.advantage = raw.advantage;
    if (want.factor) t.factor = V(typename V::value_type(1));  // token_weights are never tame
    if (want.current_over_rollout) set_tame_log_ratio(t.current_over_rollout, raw.logp, raw.rollout, small);
    if (want.proximal_over_rollout) set_tame_log_ratio(t.proximal_over_rollout, raw.proximal, raw.rollout, small);
    if (want.current_over_proximal) set_tame_log_ratio(t.current_over_proximal, raw.logp, raw.proximal, small);
}

/// Any register; lanes beyond n (n < V::size unless Full) are inactive. Returns how many lanes loss_mask selects. A lane
/// is active if it is selected and everything the loss reads there is finite.
template <class V, bool Proximal, bool Full, class Core, class S>
TRM_INLINE int admit_stage(wanted<Proximal, Core> const& want, stream_pointers<S, typename V::value_type> const& io,
                           std::int64_t at, std::size_t n, run_registers<V> const& numbers, raw_tokens<V> const& raw,
                           token<V, Proximal>& t) noexcept {
    auto selected = Full ? V::mask::everywhere() : simd::first_n<V>(n);
    int selected_count = static_cast<int>(n);
    if (io.mask != nullptr) {
        if constexpr (Full) {
            selected = simd::load_mask<V>(io.mask + at);
        } else {
            selected = simd::load_mask_n<V>(io.mask + at, n);
        }
        selected_count = count(selected);
    }
    auto active = selected;
    if (want.current_over_rollout) active = active & finite(raw.logp - raw.rollout);
    if (want.proximal_over_rollout) active = active & finite(raw.proximal - raw.rollout);
    if (want.current_over_proximal) active = active & finite(raw.logp - raw.proximal);
    if (want.ref) active = active & finite(raw.ref - raw.logp);
    if (want.given) active = active & finite(raw.given);
    if (want.advantage) active = active & finite(raw.advantage);
    if (want.factor) t.factor = V(typename V::value_type(1));
    if (io.token_weight != nullptr) {
        V const factor = Full ? simd::load<V>(io.token_weight + at) : simd::load_n<V>(io.token_weight + at, n);
        active = active & finite(factor);
        if (want.factor) t.factor = zero_unless(active, factor);
    }

    t.active = active;
    t.allowed = selected;
    if (io.rejected != nullptr) t.allowed = simd::load_zeros<V>(io.rejected + at, n);
    if (want.marks)
        t.marked = active & (Full ? simd::load_mask<V>(io.marks + at) : simd::load_mask_n<V>(io.marks + at, n));
    t.logp = zero_unless(active, raw.logp);
    t.ref_logp = zero_unless(active, raw.ref);
    t.given = zero_unless(active, raw.given);
    t.advantage = zero_unless(active, raw.advantage);
    V const limit = numbers.limit;
    if (want.current_over_rollout) set_log_ratio(t.current_over_rollout, raw.logp, raw.rollout, active, limit);
    if (want.proximal_over_rollout) set_log_ratio(t.proximal_over_rollout, raw.proximal, raw.rollout, active, limit);
    if (want.current_over_proximal) set_log_ratio(t.current_over_proximal, raw.logp, raw.proximal, active, limit);
    return selected_count;
}

/// Combines the stages' terms, writes the outputs of one register and adds to the sums.
template <class V, bool Proximal, bool Full, class Core, class S>
TRM_INLINE void finish_stage(Core const& core, stream_pointers<S, typename V::value_type> const& io, std::int64_t at,
                             std::size_t n, run_registers<V> const& numbers, token<V, Proximal> const& t,
                             lane_tally<V, Core>& lanes) noexcept {
    using T = typename V::value_type;
    V weight = simd::pin(t.weight);
    if (io.token_weight != nullptr)
        weight = weight * zero_unless(t.active, Full ? simd::load<V>(io.token_weight + at)
                                                     : simd::load_n<V>(io.token_weight + at, n));
    auto const keep = t.keep & numbers.kept;
    V value = simd::pin(t.value), slope = simd::pin(t.slope);
    if (core.has_weight() || io.token_weight != nullptr) {
        value = simd::pin(weight * value);
        if (!core.shares_gradient()) slope = simd::pin(weight * slope);
    }
    V all_slope = detail::zero<V>();
    if (core.has_penalties()) {  // a penalty may have a slope even where its log-ratio is 0
        value = value + t.penalty;
        slope = slope + t.penalty_slope;
        all_slope = zero_unless(t.active, t.penalty_all_slope);
        lanes.regulariser = lanes.regulariser + zero_unless(t.active, t.penalty_all);
    }
    lanes.objective = lanes.objective + zero_unless(keep, value);
    slope = zero_unless(keep, slope);
    if (core.has_penalties()) slope = slope + all_slope;
    auto const write = [&](T* to, V v) __attribute__((always_inline)) {
        if constexpr (Full) {
            simd::store(to + at, v);
        } else {
            simd::store_n(to + at, v, n);
        }
    };
    if (io.grad != nullptr) {
        V g = simd::pin(slope * numbers.scale);
        if (io.accumulate) g = g + (Full ? simd::load<V>(io.grad + at) : simd::load_n<V>(io.grad + at, n));
        write(io.grad, g);
    }
    if (io.weights != nullptr) write(io.weights, zero_unless(keep, weight));
    if (io.reasons != nullptr) {
        alignas(64) T reasons[V::size];
        simd::store(reasons, t.reasons);
        std::uint32_t const active = to_bits(t.active);
        for (std::size_t i = 0; i < n; ++i) {
            auto const j = at + static_cast<std::int64_t>(i);
            bool const selected = io.mask == nullptr || io.mask[j] != 0;
            auto r = static_cast<std::uint16_t>(reasons[i]);
            if (io.rejected != nullptr) r |= io.rejected[j];
            if ((active >> i & 1u) == 0) r = reason_nonfinite;
            io.reasons[j] = selected ? static_cast<std::uint16_t>(r | numbers.reasons) : std::uint16_t{0};
        }
    }
    if (io.keep != nullptr) simd::store_mask(io.keep + at, keep, n);  // last: may be the memory of loss_mask
    if (numbers.diagnose) {
        auto const& l = core.diagnosed(t);
        lanes.k3 = lanes.k3 + l.k3;
        lanes.r_squared = fma(l.exp, zero_unless(t.active, l.exp), lanes.r_squared);
        V const lowest(-std::numeric_limits<T>::infinity());
        lanes.max_x = simd::max(select(t.active, l.value, lowest), lanes.max_x);
        lanes.min_x = simd::min(select(t.active, l.value, -lowest), lanes.min_x);
        if (core.has_token_criteria() || io.rejected != nullptr) {
            lanes.passing_x = lanes.passing_x + zero_unless(t.keep, l.value);
            lanes.passing_k3 = lanes.passing_k3 + zero_unless(t.keep, l.k3);
        }
        if (core.has_weight()) {
            V const w = zero_unless(t.keep, weight);
            lanes.weight = lanes.weight + w;
            lanes.weight_squared = fma(w, w, lanes.weight_squared);
            lanes.max_weight = simd::max(w, lanes.max_weight);
        }
        V const zero(T(0)), one(T(1));
        auto const positive = t.keep & (t.advantage > zero), negative = t.keep & (t.advantage < zero);
        lanes.positive = add_where(positive, lanes.positive, one);
        lanes.negative = add_where(negative, lanes.negative, one);
        lanes.clipped_positive = add_where(positive & t.clipped, lanes.clipped_positive, one);
        lanes.clipped_negative = add_where(negative & t.clipped, lanes.clipped_negative, one);
    }
}

/// What a pass does: `measure` takes statistics only; `apply` also computes loss and outputs, with the verdict, weight and
/// constants of the sequence as given; `plain` is `apply` for the common call, whose absent streams and outputs the
/// compiler then knows.
enum class pass_kind : std::uint8_t { measure, apply, plain };

/// Is this call a plain one? Not for policies chosen at run time, whose kernels are large.
template <class Core, class S, class T>
[[nodiscard]] constexpr bool is_plain(stream_pointers<S, T> const& io, run_scalars const& run) noexcept {
    bool const absent =
        io.weights == nullptr && io.reasons == nullptr && io.rejected == nullptr && io.token_weight == nullptr;
    return Core::block == 1 && absent && run.verdict.keep;
}

/// One pass over a run of tokens. Policies chosen at compile time see two registers at a time; where every token of the
/// two is selected, finite and within the clamp (nearly always), masks are constants and most of the work falls away. The
/// results are the same bits.
template <class V, pass_kind Kind, bool Proximal, class Core, class S>
void run_tokens(Core const& policies, stream_pointers<S, typename V::value_type> const& streams, token_run where,
                run_scalars const& scalars, run_tally<Core>& result) noexcept {
    constexpr auto width = static_cast<std::int64_t>(V::size);
    constexpr int pair = 2;
    constexpr bool in_pairs = Core::block == 1 && Kind != pass_kind::apply;
    constexpr std::int64_t block = in_pairs ? pair * width : Core::block * width;
    Core const core = policies;  // local copies: nothing aliases them, thresholds stay in registers
    constexpr bool Apply = Kind != pass_kind::measure;
    auto io = streams;
    run_registers<V> numbers(scalars);
    double const weight = scalars.weight, weight_factor = scalars.weight_factor;
    sequence_constants constants;
    for (int i = 0; i < 4; ++i) constants.c[i] = scalars.constants.c[i];
    if constexpr (Kind == pass_kind::plain) {
        io.rejected = nullptr;
        io.token_weight = nullptr;
        io.weights = nullptr;
        io.reasons = nullptr;
        numbers.kept = V::mask::everywhere();
    }
    wanted<Proximal, Core> const want(core);
    lane_tally<V, Core> lanes;
    token_counts tally;
    result.clear(core);
    lanes.clear(core);
    bool const splits =
        core.has_token_criteria() || io.rejected != nullptr;  // can a token of a kept sequence be rejected?
    std::int64_t at = where.begin;
    std::int64_t end = where.begin + where.size;

    auto const stages = [&](token<V, Proximal>* t, int n) __attribute__((always_inline)) {
        core.criteria_stage(t, n, lanes.sums, lanes.maxima, tally.rejected);
        each_slot<Core, 1>(n, [&](int j) __attribute__((always_inline)) { t[j].keep = t[j].keep & t[j].allowed; });
        if (splits)
            each_slot<Core, 1>(n, [&](int j) __attribute__((always_inline)) { tally.passing += count(t[j].keep); });
        core.sequence_stage(t, n, lanes.sums, lanes.maxima);
        if (numbers.diagnose)
            each_slot<Core, 1>(n, [&](int j) __attribute__((always_inline)) {
                lanes.x = lanes.x + core.diagnosed(t[j]).value;
                lanes.logp = lanes.logp + t[j].logp;
            });
        if constexpr (Apply) {
            core.weight_stage(t, n, weight, weight_factor);
            core.surrogate_stage(t, n, constants);
            core.penalty_stage(t, n, numbers.limit);
        }
    };
    auto const admit = [&]<bool Full>(std::bool_constant<Full>, std::int64_t first, std::size_t n,
                                      token<V, Proximal>& t) __attribute__((always_inline)) {
        raw_tokens<V> raw;
        read_stage<V, Proximal, Full>(want, io, first, n, numbers, raw);
        tally.tokens += admit_stage<V, Proximal, Full>(want, io, first, n, numbers, raw, t);
        tally.finite += count(t.active);
    };
    auto const finish = [&]<bool Full>(std::bool_constant<Full>, std::int64_t first, std::size_t n,
                                       token<V, Proximal> const& t) __attribute__((always_inline)) {
        if constexpr (Apply) finish_stage<V, Proximal, Full>(core, io, first, n, numbers, t, lanes);
    };
    constexpr std::bool_constant<true> full{};
    constexpr std::bool_constant<false> partial{};
    auto const one = [&]<bool Full>(std::bool_constant<Full> whole, std::int64_t first, std::size_t n)
                         __attribute__((always_inline)) {
                             token<V, Proximal> t;
                             admit(whole, first, n, t);
                             stages(&t, 1);
                             finish(whole, first, n, t);
                         };
    bool const may_be_tame = io.rejected == nullptr && io.token_weight == nullptr && !want.marks;
    V const calm = simd::broadcast<V>(std::min(simd::small_exponent, scalars.limit));
    auto const tame = [&](V worst, std::int64_t first) __attribute__((always_inline)) {
        auto within = worst <= numbers.limit;
        if constexpr (TRM_FAST_MATH) within = within & finite(worst);  // a <= b may have become !(b < a)
        return io.mask == nullptr ? within : within & simd::load_mask<V>(io.mask + first);
    };
    auto const admit_tame = [&](raw_tokens<V> const& raw, bool small, token<V, Proximal>& t)
                                __attribute__((always_inline)) {
                                    tame_stage(want, raw, small, t);
                                    tally.tokens += width;
                                    tally.finite += width;
                                };
    auto const two = [&](std::int64_t first) __attribute__((always_inline)) {
        raw_tokens<V> raw[pair];
        unrolled<pair>([&](auto j) __attribute__((always_inline)) {
            read_stage<V, Proximal, true>(want, io, first + j * width, V::size, numbers, raw[j]);
        });
        V const a = unrest(want, raw[0]), b = unrest(want, raw[1]);
        bool const small = all((a <= calm) & (b <= calm));
        if (may_be_tame && all(tame(a, first) & tame(b, first + width))) [[likely]] {
            unrolled<pair>([&](auto j) __attribute__((always_inline)) {
                token<V, Proximal> t;
                admit_tame(raw[j], small, t);
                stages(&t, 1);
                finish(full, first + j * width, V::size, t);
            });
        } else {
            for (int j = 0; j < pair; ++j) one(full, first + j * width, V::size);
        }
    };
    auto const admit_either = [&](std::int64_t first, token<V, Proximal>& t) __attribute__((always_inline)) {
        raw_tokens<V> raw;
        read_stage<V, Proximal, true>(want, io, first, V::size, numbers, raw);
        V const a = unrest(want, raw);
        if (may_be_tame && all(tame(a, first))) [[likely]] {
            admit_tame(raw, all(a <= calm), t);
        } else {
            admit(full, first, V::size, t);
        }
    };

    while (end - at >= block) {
        constexpr std::int64_t tile = lane_tally<V, Core>::tile * width;
        std::int64_t const tile_end = at + std::min(tile, (end - at) / block * block);
        bool const whole = tile_end - at == tile;  // the cut into tiles may not depend on what follows the run
        if constexpr (in_pairs) {
            for (; at < tile_end; at += block) two(at);
        } else if constexpr (Core::block == 1) {
            for (; at < tile_end; at += block) one(full, at, V::size);
        } else {
            token<V, Proximal> t[Core::block];
            for (; at < tile_end; at += block) {
                for (int j = 0; j < Core::block; ++j) admit_either(at + j * width, t[j]);
                stages(t, Core::block);
                for (int j = 0; j < Core::block; ++j) finish(full, at + j * width, V::size, t[j]);
            }
        }
        if (whole && at < end) {
            if constexpr (Kind == pass_kind::plain) {  // rejected for sure: gradients will be zeros
                if (core.is_lost(lanes.maxima)) {
                    io.grad = nullptr;
                    if (!numbers.diagnose) end = at;
                }
            }
            lanes.template flush_sums<Apply>(core, result, numbers.diagnose, splits);
            lanes.clear_sums(core);
        }
    }
    for (; at < end; at += width) one(partial, at, static_cast<std::size_t>(std::min(width, end - at)));
    lanes.template flush<Apply>(core, result, numbers.diagnose, splits);
    if (!splits) tally.passing = tally.finite;
    static_cast<token_counts&>(result) = tally;
}

/// Writes a selection's scores, the advantages and the active lanes of a run of tokens.
template <class V, class Core, class S, class Criterion>
void score_tokens(Core const& core, stream_pointers<S, typename V::value_type> const& io, token_run where,
                  run_scalars const& run, Criterion const& criterion, double* scores, double* advantages,
                  std::uint8_t* active, std::size_t extent) noexcept {
    run_registers<V> const numbers(run);
    auto const pass = [&]<bool Proximal>(std::bool_constant<Proximal>) {
        wanted<Proximal, Core> const want(core);
        std::int64_t const end = where.begin + where.size;
        for (std::int64_t at = where.begin; at < end; at += static_cast<std::int64_t>(V::size)) {
            auto const n = static_cast<std::size_t>(std::min<std::int64_t>(V::size, end - at));
            token<V, Proximal> t{};
            V out[Criterion::channels];
            raw_tokens<V> raw;
            read_stage<V, Proximal, false>(want, io, at, n, numbers, raw);
            (void)admit_stage<V, Proximal, false>(want, io, at, n, numbers, raw, t);
            criterion.score(t, out);
            alignas(64) typename V::value_type score[Criterion::channels][V::size], advantage[V::size];
            for (int c = 0; c < Criterion::channels; ++c) out[c].write(score[c]);
            t.advantage.write(advantage);
            std::uint32_t const bits = to_bits(t.active);
            for (std::size_t i = 0; i < n; ++i) {
                auto const j = static_cast<std::size_t>(at) + i;
                for (std::size_t c = 0; c < Criterion::channels; ++c)
                    scores[c * extent + j] = static_cast<double>(score[c][i]);
                advantages[j] = static_cast<double>(advantage[i]);
                active[j] = static_cast<std::uint8_t>(bits >> i & 1u);
            }
        }
    };
    if (io.proximal != nullptr) {
        pass(std::bool_constant<true>{});
    } else {
        pass(std::bool_constant<false>{});
    }
}

}  // namespace detail
TRM_NAMESPACE_END
