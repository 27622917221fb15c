// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/stages.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// What a pass can assume. `general`: nothing. `plain`: the common call, whose absent streams and outputs the compiler then
/// knows. `measure`: only statistics are wanted.
enum class pass_kind : std::uint8_t { general, plain, measure };

/// One pass over a run of tokens: statistics, and loss and outputs with the verdict, weight and constants of the sequence as
/// given. Policies chosen at compile time see two registers at a time, unless the pass is general; where every token of the
/// two is selected, finite and within the clamp (nearly always), masks are constants and most of the work falls away. The
/// results are the same bits. Proximal: there may be a proximal_logp; if the pass is plain, there is.
template <class V, pass_kind Kind, bool Proximal, class Core, class S>
void run_tokens(Core const& policies, stream_pointers<S, typename V::value_type> const& streams, token_run where,
                run_scalars const& scalars, run_tally<Core>& result) noexcept {
    constexpr auto width = static_cast<std::int64_t>(V::size);
    constexpr int pair = 2;
    constexpr bool in_pairs = Kind != pass_kind::general;
    constexpr std::int64_t block = in_pairs ? pair * width : Core::block * width;
    Core const core = policies;  // local copies: nothing aliases them, thresholds stay in registers
    constexpr bool Apply = Kind != pass_kind::measure;
    bool const apply = Kind == pass_kind::plain || (Apply && scalars.apply);  // a plain pass has no time to ask
    auto io = streams;
    run_registers<V> numbers(scalars);
    double const weight = scalars.weight, weight_factor = scalars.weight_factor;
    sequence_constants constants;
    for (int i = 0; i < 4; ++i) constants.c[i] = scalars.constants.c[i];
    if constexpr (Kind == pass_kind::plain) {
        if (Proximal && io.proximal == nullptr) __builtin_unreachable();
        io.rejected = nullptr;
        io.token_weight = nullptr;
        io.weights = nullptr;
        io.reasons = nullptr;
        numbers.kept = V::mask::everywhere();
    }
    auto const prepared = core.template prepare<V>();
    wanted<Proximal, Core> const want(core);
    lane_tally<V, Core> lanes;
    token_counts<Core> tally{};
    result.clear(core);
    lanes.clear(core, numbers.diagnose);
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
        if (apply) {
            core.weight_stage(t, n, weight, weight_factor);
            core.surrogate_stage(t, n, constants, prepared);
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
        if (apply) finish_stage<V, Proximal, Full>(core, io, first, n, numbers, t, lanes);
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
    auto const within = [&](V worst, V limit) __attribute__((always_inline)) {
        if constexpr (TRM_FAST_MATH) return (worst <= limit) & finite(worst);  // a <= b may have become !(b < a)
        return worst <= limit;
    };
    auto const selected = [&](std::int64_t first) __attribute__((always_inline)) {
        return io.mask == nullptr ? V::mask::everywhere() : simd::load_mask<V>(io.mask + first);
    };
    auto const admit_tame = [&](raw_tokens<V> const& raw, bool small, token<V, Proximal>& t)
                                __attribute__((always_inline)) {
                                    tame_stage(want, raw, small, t);
                                    tally.tokens += width;
                                    tally.finite += width;
                                };
    auto const two = [&](std::int64_t first) __attribute__((always_inline)) {
        if (io.prefetch) prefetch_stage<pair * V::size>(want, io, first, prefetch_ahead);
        raw_tokens<V> raw[pair];
        unrolled<pair>([&](auto j) __attribute__((always_inline)) {
            read_stage<V, Proximal, true>(want, io, first + j * width, V::size, numbers, raw[j]);
        });
        V const a = unrest(want, raw[0]), b = unrest(want, raw[1]);
        bool const small = all(within(a, calm) & within(b, calm));
        bool const tame = small || all(within(a, numbers.limit) & within(b, numbers.limit));
        if (may_be_tame && tame && all(selected(first) & selected(first + width))) [[likely]] {
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
        if (may_be_tame && all(within(a, numbers.limit) & selected(first))) [[likely]] {
            admit_tame(raw, all(within(a, calm)), t);
        } else {
            admit(full, first, V::size, t);
        }
    };

    // What is left at the end of a run: at most one register, n of its lanes.
    auto const last = [&](std::int64_t first, std::size_t n) __attribute__((always_inline)) {
        raw_tokens<V> raw;
        read_stage<V, Proximal, false>(want, io, first, n, numbers, raw);
        bool const zeros_beyond = !want.advantage || io.advantage != nullptr;
        if (in_pairs && may_be_tame && io.mask == nullptr && zeros_beyond && all(within(unrest(want, raw), calm)))
            [[likely]] {
            token<V, Proximal> t;
            tame_stage(want, raw, true, t);
            t.active = t.allowed = simd::first_n<V>(n);
            tally.tokens += static_cast<std::int64_t>(n);
            tally.finite += static_cast<std::int64_t>(n);
            stages(&t, 1);
            finish(partial, first, n, t);
        } else {
            one(partial, first, n);
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
                    if (!numbers.diagnose) {
                        if (io.prefetch) prefetch_stage<prefetch_ahead / sizeof(S)>(want, io, end, 0);
                        end = at;
                    }
                }
            }
            lanes.template flush_sums<Apply>(core, result, numbers.diagnose, splits);
            lanes.clear_sums(core, numbers.diagnose);
        }
    }
    auto const rest = [&](std::int64_t first) { return static_cast<std::size_t>(std::min(width, end - first)); };
    if constexpr (Core::block == 1) {
        for (; at < end; at += width) last(at, rest(at));
    } else if (at < end) {
        token<V, Proximal> t[Core::block];
        int n = 0;
        for (std::int64_t first = at; first < end; first += width) admit(partial, first, rest(first), t[n++]);
        stages(t, n);
        for (int j = 0; at < end; at += width) finish(partial, at, rest(at), t[j++]);
    }
    lanes.template flush<Apply>(core, result, numbers.diagnose, splits);
    if (!splits) tally.passing = tally.finite;
    result.book(core, tally);
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
