// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/blocks.hpp>
#include <trm/pipeline/call.hpp>
#include <trm/pipeline/read.hpp>
#include <trm/policy/selection_input.hpp>

#include <algorithm>
#include <new>

/// \file
/// Selections, the step before all others: criteria that compare tokens with each other, and marks of tokens that a surrogate
/// treats specially. Scores are taken in vector registers, over the executor; the criteria themselves are policy/selection.hpp.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Writes a criterion's scores, the advantages and the active lanes of a run of tokens. `extent`: distance of two channels.
template <class V, bool Proximal, class Core, class S, class Criterion>
void score_run(Core const& core, stream_pointers<S, typename V::value_type> const& io, token_run where,
               double advantage, double clamp, Criterion const& criterion, selection_scores const& to) noexcept {
    using T = typename V::value_type;
    wanted<Proximal> const want(core.needs(), core.diagnose_over(), core.shares_gradient());
    V const limit = simd::broadcast<V>(clamp), most_small = simd::broadcast<V>((std::min)(simd::small_exponent, clamp)),
            of_sequence = simd::broadcast<V>(advantage);
    std::int64_t const end = where.begin + where.size;
    for (std::int64_t at = where.begin; at < end; at += static_cast<std::int64_t>(V::size)) {
        auto const n = static_cast<std::size_t>((std::min<std::int64_t>)(V::size, end - at));
        token<V, Proximal> t{};
        V out[Criterion::channels];
        bool const checks_all = io.token_weight != nullptr;
        (void)read_tokens(want, io, at, n, of_sequence, limit, most_small, checks_all, false, t);
        if constexpr (requires { criterion.divergence; }) set_divergence(criterion.divergence, t);
        criterion.score(t, out);
        alignas(64) T score[Criterion::channels][V::size], advantages[V::size];
        for (int c = 0; c < Criterion::channels; ++c) out[c].write(score[c]);
        t.advantage.write(advantages);
        std::uint32_t const bits = to_bits(t.active);
        for (std::size_t i = 0; i < n; ++i) {
            auto const j = static_cast<std::size_t>(at) + i;
            for (std::size_t c = 0; c < Criterion::channels; ++c)
                to.scores[c * to.extent + j] = static_cast<double>(score[c][i]);
            to.advantages[j] = static_cast<double>(advantages[i]);
            to.active[j] = static_cast<std::uint8_t>(bits >> i & 1u);
        }
    }
}

template <class Call, class S>
[[nodiscard]] bool wants_selection(Call const& call, batch_view<S> const& batch) noexcept {
    return (call.core.has_selections() && batch.rejected.empty()) || (call.core.has_marker() && batch.marks.empty());
}

/// False: out of memory. trm's own selections live in the workspace; those of a caller may allocate.
template <class Criterion>
[[nodiscard]] bool select_with(Criterion const& criterion, selection_input const& in, selection_output out) {
#if TRM_EXCEPTIONS
    try {
        criterion.select(in, out);
        return true;
    } catch (std::bad_alloc const&) {
        return false;
    }
#else
    criterion.select(in, out);
    return true;
#endif
}

/// Rejections that compare tokens with each other, one mask of reasons per token, and marks. Either span may be empty.
template <class T, class Call, class S, class Executor>
[[nodiscard]] status select(Call const& call, batch_view<S> const& batch, std::span<std::uint16_t> rejected,
                            std::span<std::uint8_t> marks, Executor&& execute, workspace& scratch) {
    auto const& core = call.core;
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    selection_input in;
    in.layout = batch.layout;
    in.group_of = batch.group_of;
    std::size_t const sequences = in.sequences(), groups = in.groups();
    std::size_t channels = 1, own = 0;
    auto const ask = [&](auto const& c, int) {
        channels = (std::max)(channels, static_cast<std::size_t>(c.channels));
        if constexpr (requires { c.scratch; }) own = (std::max)(own, c.scratch.total(extent, sequences, groups));
    };
    core.each_selection(ask);
    core.each_marker([&](auto const& m) { ask(m, 0); });
    std::size_t const numbers_bytes = (channels + 1) * extent * sizeof(double);
    std::size_t const marked_bytes = marks.empty() ? 0 : extent * sizeof(std::uint16_t);
    std::byte* const memory =
        scratch.reserve(workspace::purpose::selection, numbers_bytes + marked_bytes + extent + own + sizeof(double));
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "selection"};
    auto* const numbers = reinterpret_cast<double*>(memory);
    selection_scores const scores{numbers, numbers + channels * extent,
                                  reinterpret_cast<std::uint8_t*>(memory + numbers_bytes + marked_bytes), extent};
    std::span<std::uint16_t> const marked{reinterpret_cast<std::uint16_t*>(memory + numbers_bytes),
                                          marks.empty() ? 0 : extent};
    in = {batch.layout,
          batch.group_of,
          {scores.scores, channels * extent},
          {scores.active, extent},
          {scores.advantages, extent},
          extent,
          batch.loss_mask,
          selection_memory(memory + numbers_bytes + marked_bytes + extent)};
    std::fill_n(scores.active, extent, std::uint8_t{0});  // padding between rows stays inactive
    auto const io = pointers_of(batch, outputs<T>{});
    bool memory_holds = true;
    auto const work = [&](auto const& criterion, std::span<std::uint16_t> reasons, std::uint16_t bit) {
        auto const& scored = scores_of(criterion);
        for_blocks(batch.layout.runs(), execute, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
            using V = simd::vec<T, typename Call::arch>;
            for (std::int64_t i = begin; i < end; ++i) {
                token_run const run = batch.layout.run(i);
                double const advantage = advantage_of(batch, run), limit = call.options.log_ratio_clamp;
                if (io.proximal != nullptr) {
                    score_run<V, true>(core, io, run, advantage, limit, scored, scores);
                } else {
                    score_run<V, false>(core, io, run, advantage, limit, scored, scores);
                }
            }
        });
        memory_holds = memory_holds && select_with(criterion, in, {reasons, bit});
    };
    if (!rejected.empty()) {
        std::fill(rejected.begin(), rejected.end(), std::uint16_t{0});
        core.each_selection([&](auto const& c, int bit) { work(c, rejected, static_cast<std::uint16_t>(1u << bit)); });
    }
    if (!marks.empty()) {
        core.each_marker([&](auto const& m) {
            std::fill(marked.begin(), marked.end(), std::uint16_t{0});
            work(m, marked, 1);
            for (std::size_t t = 0; t < extent; ++t) marks[t] = static_cast<std::uint8_t>(marked[t]);
        });
    }
    return memory_holds ? status{} : status{errc::out_of_memory, -1, -1, "selection"};
}

/// Works out what the loss's selections and marks are, unless the batch has them, in the memory of `scratch`.
template <class T, class Call, class S, class Executor>
[[nodiscard]] status bring_selection(Call const& call, batch_view<S>& batch, Executor&& execute, workspace& scratch) {
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    if (!wants_selection(call, batch) || extent == 0) return {};
    std::byte* const memory = scratch.reserve(workspace::purpose::streams, extent * 3);  // both kinds of streams
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "selection"};
    std::span<std::uint16_t> rejected;
    std::span<std::uint8_t> marks;
    auto* const reasons = reinterpret_cast<std::uint16_t*>(memory);
    if (call.core.has_selections() && batch.rejected.empty()) rejected = {reasons, extent};
    if (call.core.has_marker() && batch.marks.empty())
        marks = {reinterpret_cast<std::uint8_t*>(reasons + extent), extent};
    if (status const s = select<T>(call, batch, rejected, marks, execute, scratch); !s.ok()) return s;
    if (!rejected.empty()) batch.rejected = rejected;
    if (!marks.empty()) batch.marks = marks;
    return {};
}

/// Replaces prompt ids, whatever they are, by places in a table of at most as many entries as there are sequences, in the memory
/// of `scratch`, if the loss looks at them.
template <class Call, class S>
[[nodiscard]] status number_groups(Call const& call, batch_view<S>& batch, workspace& scratch) noexcept {
    auto const n = static_cast<std::size_t>(batch.layout.sequences());
    if (!call.wants_groups() || n == 0) return {};
    std::byte* const memory =
        scratch.reserve(workspace::purpose::groups, n * (sizeof(std::int64_t) + sizeof(std::int32_t)));
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "group_of"};
    std::span const keys(reinterpret_cast<std::int64_t*>(memory), n);
    std::span const places(reinterpret_cast<std::int32_t*>(memory + n * sizeof(std::int64_t)), n);
    for (std::size_t i = 0; i < n; ++i)
        keys[i] = static_cast<std::int64_t>(batch.group_of[i]) << 32 | static_cast<std::int64_t>(i);
    std::sort(keys.begin(), keys.end());
    std::int32_t place = -1;
    for (std::size_t k = 0; k < n; ++k) {
        place += k == 0 || keys[k] >> 32 != keys[k - 1] >> 32;
        places[static_cast<std::size_t>(keys[k] & 0xffffffff)] = place;
    }
    batch.group_of = places;
    return {};
}

}  // namespace detail
TRM_NAMESPACE_END
