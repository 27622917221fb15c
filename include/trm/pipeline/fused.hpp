// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/read.hpp>
#include <trm/pipeline/stages.hpp>
#include <trm/pipeline/write.hpp>

/// \file
/// The pass over runs of tokens for policies chosen at compile time, and for frequent ones chosen at run time: all steps of the
/// pipeline in one loop, so that a token is read once and stays in registers.

TRM_NAMESPACE_BEGIN
namespace detail {

/// What a pass can assume. `general`: nothing. `plain`: the common call, which writes gradient, weights and `keep` of sequences that
/// are kept so far and nothing else. `measure`: only statistics are wanted.
enum class pass_kind : std::uint8_t { general, plain, measure };

// What of a token is written and read depends on the loss, in the same way, which g++ 12 does not see.
TRM_SIMD_QUIET_BEGIN
/// `Proximal`: there may be a proximal_logp; if the pass is plain, there is.
template <class V, pass_kind Kind, bool Proximal, class Core, class S>
class fused_pass {
protected:
    using T = typename V::value_type;
    static constexpr auto width = static_cast<std::int64_t>(V::size);
    static constexpr bool applies = Kind != pass_kind::measure;
    static constexpr bool measures = !applies || !Core::two_pass();  // else a pass before this one has
    /// Two registers without exceptions at a time.
    static constexpr bool in_pairs = Kind != pass_kind::general && !simd::is_last_resort<typename V::arch>;

    Core const core;  // a copy: nothing aliases it, thresholds stay in registers
    stream_pointers<S, T> io;
    wanted<Proximal> const want;
    decltype(std::declval<Core const&>().template prepare<V>()) const prepared;
    token_limits<V> const limits;
    penalty_clamp<V> const of_penalties;
    stage_clamps const clamps;
    double const widest;
    bool const diagnose, splits, counts_passing, has_rare;
    // Each is one question in the place of several in every round of the loop.
    bool has_mask_or_prefetch = false;
    bool only_gradient = false;  ///< the gradient is the only output, and overwritten

public:
    template <class Policies>
    TRM_INLINE fused_pass(Policies const& policies, stream_pointers<S, T> const& streams,
                          call_numbers const& call) noexcept
        : core(policies),
          io(streams),
          want(core),
          prepared(core.template prepare<V>()),
          limits(call),
          of_penalties(call.clamps.penalty),
          clamps(call),
          widest(call.widest),
          diagnose(call.diagnose),
          splits(can_split(core, streams)),
          counts_passing(must_count_passing(core, streams, splits)),
          has_rare(has_rare_inputs(want, streams)) {}

    /// Sums and outputs of one run.
    template <class Work>
    TRM_INLINE void run(Work& work) noexcept {
        lane_tally<V, Core> lanes;  // locals, so that the compiler may keep them in registers
        lanes.wide_r_squared = lanes.wide_weight_squared = 0;  // or g++ 12 warns of reading them unset
        token_counts<Core> counted{};
        run_registers<V> now(work.decided, work.advantage, widest);
        if constexpr (Kind == pass_kind::plain) now.kept = V::mask::everywhere();
        T* const grad = io.grad;
        std::uint8_t const* const mask = io.mask;
        only_gradient = writes_only_gradient(io);
        auto& tally = work.tally;
        tally.clear(core, diagnose);
        lanes.clear(core, diagnose);
        std::int64_t at = work.where.begin, end = work.where.begin + work.where.size;
        std::int64_t const selected =
            mask == nullptr ? end - at : simd::detail::count_nonzero_in<typename V::arch>(mask + at, end - at);
        if (selected == end - at) io.mask = nullptr;
        has_mask_or_prefetch = io.mask != nullptr || io.prefetch;
        while (at < end) {
            std::int64_t const stretch_end = (std::min)(end, at + lane_tally<V, Core>::stretch);
            at = stretch(at, stretch_end, now, work.decided, lanes, counted);
            if (at >= end) break;
            if constexpr (Kind == pass_kind::plain && measures) {
                if (core.certainly_rejected(lanes.maxima)) {  // the gradient will be zeros
                    io.grad = nullptr;
                    only_gradient = false;
                    if (!diagnose) {
                        if (io.prefetch) prefetch_tokens<prefetch_ahead / sizeof(S)>(want, io, end, 0);
                        end = at;
                    }
                }
            }
            lanes.template flush_sums<measures, applies>(core, tally, diagnose, splits);
            lanes.clear_sums(core, diagnose);
        }
        finish(work, lanes, counted, selected);
        io.grad = grad;
        io.mask = mask;
    }

protected:
    /// The end of a run, of which loss_mask selects so many tokens.
    template <class Work>
    TRM_INLINE void finish(Work& work, lane_tally<V, Core> const& lanes, token_counts<Core>& counted,
                           std::int64_t selected) noexcept {
        lanes.template flush<measures, applies>(core, work.tally, diagnose, splits);
        counted.tokens = selected;
        counted.finite += selected;  // all of them, but for those found not to be
        if (!counts_passing) counted.passing = passing_of(core, counted);
        work.tally.take(core, counted);
    }
    /// Tokens [at, end): as many registers as are summed in single precision. Returns end.
    TRM_INLINE std::int64_t stretch(std::int64_t at, std::int64_t end, run_registers<V> const& now,
                                    decision const& decided, lane_tally<V, Core>& lanes,
                                    token_counts<Core>& counted) noexcept {
        while (at < end) {
            if constexpr (in_pairs)
                while (end - at >= 2 * width && pair<false>(at, now, decided, lanes, counted) == taken::whole)
                    at += 2 * width;
            // Where loss_mask has one hole there are more, so that pairs are taken as masked until two in a row have none. Only for
            // the most common pass: with proximal_logp too, all plain passes take twice as long to compile.
            if constexpr (Kind == pass_kind::plain && !Proximal)
                if (io.mask != nullptr)
                    for (int whole = 0; whole < 2 && end - at >= 2 * width; at += 2 * width) {
                        taken const lanes_of_pair = pair<true>(at, now, decided, lanes, counted);
                        if (lanes_of_pair == taken::none) break;
                        whole = lanes_of_pair == taken::whole ? whole + 1 : 0;
                    }
            for (std::int64_t const stop = (std::min)(end, at + 2 * width); at < stop; at += width) {
                auto const n = static_cast<std::size_t>((std::min)(width, stop - at));
                token<V, Proximal> t;
                register_counts const here = read_tokens(want, io, at, n, now.advantage, limits, has_rare, diagnose, t);
                counted.finite += here.active - here.selected;
                counted.positive_logp += here.positive;
                if (Kind == pass_kind::general && (here.in_range || !clamps.differ)) {  // nearly always
                    steps(t, at, n, now, decided, same_clamps{}, lanes, counted);
                } else {
                    steps(t, at, n, now, decided, clamps, lanes, counted);
                }
            }
        }
        return at;
    }
    /// Which lanes of two registers were taken through the steps; `some`: not those that loss_mask leaves out.
    enum class taken : std::uint8_t { none, some, whole };
    /// Two registers, if none of their tokens is an exception. `Masked`: but for those that loss_mask leaves out.
    template <bool Masked>
    TRM_INLINE taken pair(std::int64_t at, run_registers<V> const& now, decision const& decided,
                          lane_tally<V, Core>& lanes, token_counts<Core>& counted) noexcept {
        wanted<Proximal> reads = want;
        if constexpr (requires { core.template restrict<applies>(reads, diagnose); })
            core.template restrict<applies>(reads, diagnose);
        if (!Masked && has_mask_or_prefetch && io.prefetch) prefetch_tokens<2 * V::size>(reads, io, at, prefetch_ahead);
        if (has_rare) return taken::none;
        bool is_whole = true;
        typename V::mask selected[2] = {V::mask::everywhere(), V::mask::everywhere()};
        if (Masked || (has_mask_or_prefetch && io.mask != nullptr)) {
            auto const first = simd::load_mask<V>(io.mask + at), second = simd::load_mask<V>(io.mask + at + width);
            is_whole = all(first & second);
            if (!Masked && !is_whole) return taken::none;
            if constexpr (Masked) selected[0] = first, selected[1] = second;
        }
        raw_tokens<V> raw[2];
        unrolled<2>([&](auto j) TRM_INLINE_LAMBDA {
            read_register(reads, io, at + j * width, V::size, now.advantage, raw[j]);
            if constexpr (Masked) blank_unselected(reads, selected[j], raw[j]);
        });
        V const a = largest_log_ratio(reads, raw[0]), b = largest_log_ratio(reads, raw[1]);
        bool const are_small = all(is_within(a + b, limits.most_small));  // then both are
        if (!are_small && !all(is_within(a, limits.most) & is_within(b, limits.most))) return taken::none;
        if (diagnose && any((is_positive(reads, io, at, V::size, raw[0]) & selected[0]) |
                            (is_positive(reads, io, at + width, V::size, raw[1]) & selected[1])))
            return taken::none;
        unrolled<2>([&](auto j) TRM_INLINE_LAMBDA {
            token<V, Proximal> t;
            set_tokens(reads, raw[j], selected[j], are_small, t);
            steps(t, at + j * width, V::size, now, decided, same_clamps{}, lanes, counted);
        });
        return is_whole ? taken::whole : taken::some;
    }
    /// Measure, decide per token, apply, write: one register.
    template <class Clamps>
    TRM_INLINE void steps(token<V, Proximal>& t, std::int64_t at, std::size_t n, run_registers<V> const& now,
                          decision const& decided, Clamps const& stages, lane_tally<V, Core>& lanes,
                          token_counts<Core>& counted) noexcept {
        core.measure(t, lanes.sums, lanes.maxima, counted.rejected);
        t.keep = t.keep & t.allowed;
        if (counts_passing) [[unlikely]]
            counted.passing += count(t.keep);
        if constexpr (measures) core.measure_passing(t, lanes.sums, lanes.maxima, of_penalties, stages);
        if (diagnose) {
            lanes.x = lanes.x + core.described(t, stages).value;
            lanes.logp = lanes.logp + t.logp;
        }
        if constexpr (applies) {
            core.apply(t, decided, prepared, of_penalties, stages);
            V const factor = token_factor(io, at, n, t);
            if (Kind == pass_kind::plain && only_gradient) {
                if (io.grad == nullptr || io.accumulate) __builtin_unreachable();
                write_gradient(core, io, at, n, now, t, factor, lanes.objective, lanes.regulariser);
            } else {
                write_gradient(core, io, at, n, now, t, factor, lanes.objective, lanes.regulariser);
                if constexpr (Kind == pass_kind::general) write_outputs(io, at, n, now, t, factor);
                if (Kind == pass_kind::plain && io.weights != nullptr)
                    simd::store_first(io.weights + at, zero_unless(t.keep, factor), n);
                if (Kind == pass_kind::plain && io.keep != nullptr) simd::store_mask(io.keep + at, t.keep, n);
            }
            if (diagnose) {
                if constexpr (requires { core.set_clipped(t, decided, prepared, stages); })
                    core.set_clipped(t, decided, prepared, stages);
                describe_tokens(core, t, core.described(t, stages), factor, splits, now.wide, lanes);
            }
        }
    }
};
TRM_SIMD_QUIET_END

}  // namespace detail
TRM_NAMESPACE_END
