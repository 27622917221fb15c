// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tile.hpp>

#include <cstring>

TRM_NAMESPACE_BEGIN
namespace detail {

/// The first step: tokens of a run into a tile. `Proximal`: the batch has proximal_logp.
template <class V, class S, bool Proximal>
class tile_reader {
    using T = typename V::value_type;
    static constexpr bool same_type = std::is_same_v<S, T>;
    static constexpr bool same_reals = std::is_same_v<default_arithmetic_t<S>, T>;

    wanted<Proximal> const want;
    stream_pointers<S, T> const io;
    token_limits<V> const limits;
    bool const checks_all, describe;
    tile<V>& to;

public:
    TRM_INLINE tile_reader(wanted<Proximal> const& wants, stream_pointers<S, T> const& streams,
                           token_limits<V> const& compared, bool all, bool describes, tile<V>& where) noexcept
        : want(wants), io(streams), limits(compared), checks_all(all), describe(describes), to(where) {}

    /// Reads [at, end), at most a tile, and says how many tokens count.
    [[nodiscard]] TRM_INLINE register_counts read(std::int64_t at, std::int64_t end, V advantage) noexcept {
        bool const selects_all =
            io.mask == nullptr || std::memchr(io.mask + at, 0, static_cast<std::size_t>(end - at)) == nullptr;
        bool const plain = !checks_all && selects_all;
        auto const whole = static_cast<int>((end - at) / tile<V>::width);  // registers
        bool direct = plain && same_type && whole * tile<V>::width == end - at;
        int j = plain ? read_clean(at, 0, whole, direct, advantage) : 0;
        if (direct && j < whole) {  // from the beginning, with copies
            direct = false;
            j = read_clean(at, 0, j, direct, advantage);
        }
        bool clean = true;
        register_counts all{j * static_cast<int>(tile<V>::width), j * static_cast<int>(tile<V>::width), 0};
        for (std::int64_t t = at + j * tile<V>::width; t < end; t += tile<V>::width) {
            clean = false;
            register_counts const here =
                read_any(t, j++, static_cast<std::size_t>((std::min)(tile<V>::width, end - t)), advantage);
            all = {all.selected + here.selected, all.active + here.active, all.positive + here.positive};
            if (!plain || j >= whole) continue;
            int const next = read_clean(at, j, whole, direct, advantage);
            all.selected += (next - j) * static_cast<int>(tile<V>::width);
            all.active += (next - j) * static_cast<int>(tile<V>::width);
            t += (next - j) * tile<V>::width;
            j = next;
        }
        to.used = j;
        to.clean = clean;
        to.in_stage(limits.clamp);
        connect(at, direct);
        return all;
    }

private:
    /// Registers j, j + 1, ... of the tile up to `end` or the first one with an exception; returns that. `at`: the first token of
    /// the tile. `direct`: the steps that follow read the streams themselves.
    [[nodiscard]] int read_clean(std::int64_t at, int from, int end, bool direct, V const& advantage) noexcept {
        bool const common = want.advantage && io.advantage != nullptr && !want.ref && !want.given && !want.factor;
        return common ? read_clean_as<true>(at, from, end, direct, advantage)
                      : read_clean_as<false>(at, from, end, direct, advantage);
    }
    template <bool Common>
    [[gnu::noinline]] int read_clean_as(std::int64_t at, int from, int end, bool direct, V const& advantage) noexcept {
        int j = from;
        on_unit_of<V>([&, this]() __attribute__((always_inline)) {
            j = read_clean_in<Common>(at, from, end, direct, advantage);
        });
        return j;
    }
    /// `Common`: of the other streams there is one advantage per token, and nothing else is wanted.
    template <bool Common>
    TRM_INLINE int read_clean_in(std::int64_t at, int j, int end, bool direct, V advantage) noexcept {
        wanted<Proximal> wants = want;  // copies that stores into the tile cannot change
        if (Common) {
            wants.ref = wants.given = wants.factor = false;
            wants.advantage = true;
        }
        stream_pointers<S, T> streams;
        streams.logp = io.logp + at;
        streams.rollout = io.rollout + at;
        if (Proximal) streams.proximal = io.proximal + at;
        if (wants.ref) streams.ref = io.ref + at;
        if (wants.given) streams.given = io.given + at;
        if (Common || io.advantage != nullptr) streams.advantage = io.advantage + at;
        V const most = limits.most, little = limits.most_small, highest = simd::broadcast<V>(positive_tolerance<S>);
        bool const describes = describe;
        bool const keeps_advantage = !direct || !same_reals || io.advantage == nullptr;
        auto& tokens = to;
        for (; j < end; ++j) {
            raw_tokens<V> raw;
            if (Common && streams.advantage == nullptr) __builtin_unreachable();
            read_register(wants, streams, j * tile<V>::width, V::size, advantage, raw);
            V const largest = largest_log_ratio(wants, raw);
            if (!all(is_within(largest, most))) break;
            if (describes && any(highest_logp(wants, raw) > highest)) break;
            bool const is_small = all(is_within(largest, little));
            auto const ratio = [&](ratio_kind kind, V target, V behaviour) __attribute__((always_inline)) {
                log_ratio<V> l;
                set_log_ratio_within(l, target, behaviour, is_small);
                tokens.store_ratio(kind, j, l);
            };
            if (wants.current_over_rollout()) ratio(ratio_kind::current_over_rollout, raw.logp, raw.rollout);
            if (wants.proximal_over_rollout()) ratio(ratio_kind::proximal_over_rollout, raw.over, raw.rollout);
            if (wants.current_over_proximal()) ratio(ratio_kind::current_over_proximal, raw.logp, raw.under);
            tokens.active[j] = tokens.keep[j] = V::mask::everywhere();
            if (keeps_advantage) tokens.own_advantage.set(j, raw.advantage);
            if (wants.given && (!direct || !same_reals)) tokens.own_given.set(j, raw.given);
            if (wants.factor) tokens.factor.set(j, V(T(1)));
            if (direct) continue;
            tokens.own_logp.set(j, raw.logp);
            tokens.own_rollout.set(j, raw.rollout);
            if (Proximal) tokens.own_proximal.set(j, raw.over);
            if (wants.ref) tokens.own_ref.set(j, raw.ref);
        }
        return j;
    }
    /// Any register, n tokens of it.
    [[gnu::noinline]] register_counts read_any(std::int64_t at, int j, std::size_t n, V const& advantage) noexcept {
        register_counts counted;
        on_unit_of<V>([&, this]() __attribute__((always_inline)) { counted = read_one(at, j, n, advantage); });
        return counted;
    }
    TRM_INLINE register_counts read_one(std::int64_t at, int j, std::size_t n, V advantage) noexcept {
        token<V, Proximal> t;
        register_counts const counted = read_tokens(want, io, at, n, advantage, limits, checks_all, describe, t);
        to.active[j] = to.keep[j] = t.active;
        to.own_logp.set(j, t.logp);
        if (want.current_over_rollout()) {
            to.own_rollout.set(j, t.current_over_rollout.behaviour);
            to.store_ratio(ratio_kind::current_over_rollout, j, t.current_over_rollout);
        }
        if (want.proximal_over_rollout()) {
            to.own_proximal.set(j, t.proximal_over_rollout.target);
            to.own_rollout.set(j, t.proximal_over_rollout.behaviour);
            to.store_ratio(ratio_kind::proximal_over_rollout, j, t.proximal_over_rollout);
        }
        if (want.current_over_proximal()) {
            to.own_proximal.set(j, t.current_over_proximal.behaviour);
            to.store_ratio(ratio_kind::current_over_proximal, j, t.current_over_proximal);
        }
        to.own_advantage.set(j, t.advantage);
        if (want.ref) to.own_ref.set(j, t.ref_logp);
        if (want.given) to.own_given.set(j, t.given);
        if (want.factor) to.factor.set(j, t.factor);
        if (io.rejected != nullptr) to.allowed[j] = t.allowed;
        if (want.marks) to.marked[j] = t.marked;
        return counted;
    }
    /// Where the steps that follow find the streams.
    void connect(std::int64_t at, bool direct) noexcept {
        auto const choose = [&](auto const* from, auto const& own) -> typename tile<V>::stream {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*from)>, T>)
                if (direct && from != nullptr) return {from + at};
            return {own.values};
        };
        to.logp = choose(io.logp, to.own_logp);
        to.rollout = choose(io.rollout, to.own_rollout);
        to.proximal = choose(io.proximal, to.own_proximal);
        to.ref = choose(io.ref, to.own_ref);
        to.given = choose(io.given, to.own_given);
        to.advantage = choose(want.advantage ? io.advantage : nullptr, to.own_advantage);
        for (int kind = 0; kind < 3; ++kind) {
            to.ratio_of[kind] = &to.ratios[Proximal ? kind : 0];
            to.target_of[kind] = Proximal && kind == 1 ? to.proximal : to.logp;
            to.behaviour_of[kind] = Proximal && kind == 2 ? to.proximal : to.rollout;
        }
    }
};

}  // namespace detail
TRM_NAMESPACE_END
