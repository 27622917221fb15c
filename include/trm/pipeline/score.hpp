// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/function_ref.hpp>
#include <trm/pipeline/blocks.hpp>
#include <trm/pipeline/call.hpp>
#include <trm/pipeline/tile_reader.hpp>
#include <trm/policy/selection_sequence.hpp>

#include <algorithm>

/// \file
/// Scores of tokens for selections, in vector registers.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Where the scores of a run of tokens are written: channel c of its token k at scores[c * channel + k].
struct score_memory {
    double* scores;
    std::size_t channel;
    double* advantages;  ///< null: nobody looks at them
    std::uint8_t* active;

    [[nodiscard]] score_memory from(std::size_t token) const noexcept {
        return {scores + token, channel, advantages == nullptr ? nullptr : advantages + token, active + token};
    }
};

/// Writes the first n of a register as doubles.
template <class V>
TRM_INLINE void write_doubles(V const& v, double* to, std::size_t n) noexcept {
    alignas(64) typename V::value_type lanes[V::size];
    v.write(lanes);
    if (n == V::size) {
        for (std::size_t i = 0; i < V::size; ++i) to[i] = static_cast<double>(lanes[i]);
    } else {
        for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<double>(lanes[i]);
    }
}

/// What a criterion says about the first n of a register of tokens, the first of them at k.
template <int Channels, class V, bool P>
TRM_INLINE void write_scores(token<V, P> const& t, V const* out, std::int64_t k, std::size_t n,
                             score_memory const& to) noexcept {
    for (int c = 0; c < Channels; ++c)
        write_doubles(out[c], to.scores + static_cast<std::size_t>(c) * to.channel + k, n);
    if (to.advantages != nullptr) write_doubles(t.advantage, to.advantages + k, n);
    simd::store_mask(to.active + k, t.active, n);
}
/// Scores a run of tokens, `step` at a time: score(k, n) does n of them from the run's k-th on, and says how many count. Returns
/// the first token that loss_mask selects but that is not finite, or the run's size.
template <class S, class T, class F>
TRM_INLINE std::int64_t score_steps(stream_pointers<S, T> const& io, token_run where, std::int64_t step,
                                    score_memory const& to, F const& score) noexcept {
    std::int64_t nonfinite = where.size;
    for (std::int64_t k = 0; k < where.size; k += step) {
        register_counts const counted = score(k, (std::min)(step, where.size - k));
        if (counted.active == counted.selected || nonfinite < where.size) continue;
        for (nonfinite = k; to.active[nonfinite] != 0 || (io.mask != nullptr && io.mask[where.begin + nonfinite] == 0);)
            ++nonfinite;
    }
    return nonfinite;
}
/// `score_steps` of a criterion chosen by types: register by register.
template <class V, bool Proximal, class Core, class S, class Criterion>
TRM_INLINE std::int64_t score_registers(Core const& core, stream_pointers<S, typename V::value_type> const& io,
                                        token_run where, double advantage, call_numbers const& numbers,
                                        Criterion const& criterion, score_memory const& to) noexcept {
    V const of_sequence = simd::broadcast<V>(advantage);
    wanted<Proximal> const want(core);
    token_limits<V> const limits(numbers);
    bool const has_rare = has_rare_inputs(want, io);
    auto const score = [&](std::int64_t k, std::int64_t tokens) TRM_INLINE_LAMBDA {
        auto const n = static_cast<std::size_t>(tokens);
        token<V, Proximal> t{};
        V out[Criterion::channels];
        register_counts const counted =
            read_tokens(want, io, where.begin + k, n, of_sequence, limits, has_rare, false, t);
        if constexpr (requires { criterion.divergence; }) set_divergence(criterion.divergence, t);
        criterion.score(t, out);
        write_scores<Criterion::channels>(t, out, k, n, to);
        return counted;
    };
    return score_steps(io, where, static_cast<std::int64_t>(V::size), to, score);
}
/// `score_steps` of criteria chosen at run time, tile by tile: what depends on the storage type reads, `score(tile, n, to)` is what
/// depends on the criterion, and nothing is compiled for each pair of them.
template <class V, class Core, class S>
[[gnu::noinline]] TRM_FLATTEN std::int64_t score_tiles(
    Core const& core, stream_pointers<S, typename V::value_type> const& io, token_run where, double advantage,
    call_numbers const& numbers, function_ref<void(tile<V>&, std::int64_t, score_memory const&)> score,
    score_memory const& to) noexcept {
    std::int64_t nonfinite = 0;
    on_unit_of<V>([&]() TRM_INLINE_LAMBDA {
        V const of_sequence = simd::broadcast<V>(advantage);
        tile<V> tokens;
        tile_reader<V, S> reader(core, io, numbers, need::any_ratio, tokens);
        nonfinite = score_steps(io, where, tile<V>::tokens, to, [&](std::int64_t k, std::int64_t n) TRM_INLINE_LAMBDA {
            register_counts const counted = reader.read(where.begin + k, where.begin + k + n, of_sequence);
            score(tokens, n, to.from(static_cast<std::size_t>(k)));
            return counted;
        });
    });
    return nonfinite;
}
template <class Call, class S, class T, class Criterion>
std::int64_t score_run(Call const& call, batch_view<S> const& batch, stream_pointers<storage_t<S>, T> const& io,
                       token_run where, Criterion const& criterion, score_memory const& to) noexcept {
    double const advantage = advantage_of(batch, where);
    call_numbers numbers = call.numbers;
    numbers.diagnose = false;  // that is for the passes that follow
    std::int64_t nonfinite = 0;
    auto const on_unit = [&](auto const& f) { simd::on_unit<typename Call::arch>(f); };
    if constexpr (!Call::core_type::is_static) {
        on_unit([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
            using V = simd::vec<T, Unit>;
            auto const score = [&](tile<V>& t, std::int64_t n, score_memory const& at) {
                call.core.score(criterion, t, n, at);
            };
            nonfinite = score_tiles<V, typename Call::core_type, storage_t<S>>(call.core, io, where, advantage, numbers,
                                                                               score, to);
        });
    } else {
        auto const score = [&]<bool Proximal>(std::bool_constant<Proximal>) {
            on_unit([&]<class Unit>(Unit) TRM_INLINE_LAMBDA {
                using V = simd::vec<T, Unit>;
                nonfinite = score_registers<V, Proximal>(call.core, io, where, advantage, numbers, criterion, to);
            });
        };
        io.proximal != nullptr ? score(std::true_type{}) : score(std::false_type{});
    }
    return nonfinite;
}

/// Zeros at the tokens of runs [begin, end), and in the padding after them.
template <class T>
void clear_runs(layout_view const& layout, std::int64_t begin, std::int64_t end, T* to) noexcept {
    if (begin == end) return;
    std::fill(to + layout.run(begin).begin, to + (end < layout.runs() ? layout.run(end).begin : layout.extent()), T(0));
}

}  // namespace detail
TRM_NAMESPACE_END
