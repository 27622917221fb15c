// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tally.hpp>
#include <trm/pipeline/tile.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// Registers of tokens into a tile: as many as have no exception by one of several loops, or any one.
template <class V, class S>
class register_reader {
    using T = typename V::value_type;
    using piece = typename tile<V>::piece;
    static constexpr bool same_reals = std::is_same_v<default_arithmetic_t<S>, T>;
    static constexpr int width = static_cast<int>(V::size);
    /// Bytes ahead that streams are asked for: a tile. While the steps that follow compute, the memory would be idle. Asked for in L2:
    /// in L1 there is room for fewer requests than a tile has, and the rest would wait (Zen 4: 1.4 times the time from memory).
    static constexpr std::size_t tile_ahead = sizeof(S) * tile<V>::tokens;

    stream_pointers<S, T> const& io;
    token_limits<V> const limits;
    bool const has_rare, describe;
    tile<V>& to;

public:
    TRM_INLINE register_reader(stream_pointers<S, T> const& streams, call_numbers const& call, bool rare,
                               tile<V>& where) noexcept
        : io(streams), limits(call), has_rare(rare), describe(call.diagnose), to(where) {}

    /// Where the steps that follow find the streams.
    template <bool Proximal>
    TRM_INLINE void connect(wanted<Proximal> const& want) noexcept {
        using source = typename tile<V>::source;
        auto const source_of = [](auto const& own, [[maybe_unused]] auto const* from) TRM_INLINE_LAMBDA -> source {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*from)>, T>) return {own.values, from};
            else return {own.values, nullptr};
        };
        source const logp = source_of(to.own_logp, io.logp), rollout = source_of(to.own_rollout, io.rollout),
                     proximal = source_of(to.own_proximal, io.proximal);
        to.logp = logp;
        to.ref = source_of(to.own_ref, io.ref);
        to.given = source_of(to.own_given, io.given);
        to.advantage = source_of(to.own_advantage, want.advantage ? io.advantage : nullptr);
        for (int kind = 0; kind < 3; ++kind) {
            to.ratio_of[kind] = &to.ratios[Proximal ? kind : 0];
            to.target_of[kind] = Proximal && kind == 1 ? proximal : logp;
            to.behaviour_of[kind] = Proximal && kind == 2 ? proximal : rollout;
        }
        if (want.factor)  // all that there are, if a register may have no exception
            for (int j = 0; j < static_cast<int>(tile<V>::registers); ++j) to.factor.set(j, V(T(1)));
    }
    /// Registers j, j + 1, ... of the tile's whole ones up to the first with an exception other than by loss_mask; returns that.
    /// `selects_all`: loss_mask is 1 in all of them. `direct`: the steps that follow read the streams themselves.
    template <bool Proximal>
    [[nodiscard]] int read_in_range(wanted<Proximal> const& want, int j, bool selects_all, bool direct) noexcept {
        bool const common = same_reals && want.advantage && io.advantage != nullptr && !want.ref && !want.given;
        if (!selects_all)
            return common ? read_registers<read_kind::common_masked>(want, j, direct)
                          : read_registers<read_kind::masked>(want, j, direct);
        if (direct && same_reals && want.ref && !want.given)
            return read_registers<read_kind::with_ref>(want, j, direct);
        if (!common || !direct) return read_registers<read_kind::any>(want, j, direct);
        return describe ? read_registers<read_kind::common_described>(want, j, direct)
                        : read_registers<read_kind::common>(want, j, direct);
    }
    /// Any register: n tokens of it, which becomes the j-th of the tile.
    template <bool Proximal>
    [[gnu::noinline]] TRM_FLATTEN register_counts read_any(wanted<Proximal> const& want, std::int64_t at, int j, int n,
                                                           V const& advantage) noexcept {
        register_counts counted;
        on_unit_of<V>(
            [&, this]() TRM_INLINE_LAMBDA { counted = read_one(want, at, j, static_cast<std::size_t>(n), advantage); });
        return counted;
    }

    /// Rare inputs of whole registers that are in range. False if a weight of a token is not finite: then they are not.
    [[nodiscard]] [[gnu::noinline]] TRM_FLATTEN bool read_rare_rows(wanted<false> const& want,
                                                                    bool selects_all) noexcept {
        bool is_finite = true;
        on_unit_of<V>([&, this]() TRM_INLINE_LAMBDA {
            auto finite_weight = V::mask::everywhere();
            for (int i = 0; i < to.pieces; ++i) {
                piece const& p = to.piece_of[i];
                if (p.part > 0) continue;
                for (int j = p.first; j < p.end; ++j) {
                    auto const active = selects_all ? V::mask::everywhere() : to.active[j];
                    rare_inputs<V> rare;
                    read_rare(want, io, p.token + (j - p.first) * width, V::size, active, rare);
                    finite_weight = finite_weight & finite(rare.factor);
                    if (want.factor) to.factor.set(j, rare.factor);
                    if (io.rejected != nullptr) to.allowed[j] = rare.allowed;
                    if (want.marks) to.marked[j] = rare.marked & active;
                }
            }
            is_finite = all(finite_weight);
        });
        return is_finite;
    }

private:
    /// `common`: of the other streams there is one advantage per token, nothing else is wanted, and nothing copied, unless it is
    /// masked. `with_ref`: ref_logp, perhaps an advantage per token, nothing else, and nothing copied. `masked`: there is a loss_mask, and
    /// nothing is direct.
    enum class read_kind : std::uint8_t { common, common_described, common_masked, with_ref, any, masked };
    template <read_kind Kind, bool Proximal>
    [[gnu::noinline]] TRM_FLATTEN int read_registers(wanted<Proximal> const& want, int from, bool direct) noexcept {
        int j = from;
        on_unit_of<V>([&, this]() TRM_INLINE_LAMBDA {
            for (int i = 0; i < to.pieces; ++i) {
                piece const& p = to.piece_of[i];
                if (p.part > 0 || p.end <= j) continue;
                int const end = p.end;
                j = read_each<Kind>(want, p.token - p.first * width, (std::max)(j, p.first), end, direct,
                                    to.advantage_of[p.run]);
                if (j < end) break;
            }
        });
        return j;
    }
    /// Registers j, j + 1, ... up to `end` of a piece whose register j starts at token before + j * width; returns the first that has
    /// not been read.
    template <read_kind Kind, bool Proximal>
    TRM_INLINE int read_each(wanted<Proximal> const& want, std::int64_t before, int j, int end, bool direct,
                             V advantage) noexcept {
        constexpr bool is_masked = Kind == read_kind::masked || Kind == read_kind::common_masked;
        constexpr bool has_ref = Kind == read_kind::with_ref;
        constexpr bool is_common = !has_ref && Kind != read_kind::any && Kind != read_kind::masked;
        stream_pointers<S, T> const streams = io;  // copies that stores into the tile cannot change
        wanted<Proximal> wants = want;
        if (is_common || has_ref) {
            wants.ref = has_ref;
            wants.given = false;
        }
        if (is_common) wants.advantage = true;
        direct = !is_masked && (is_common || has_ref || direct);
        bool const ahead = io.prefetch || !is_masked;
        V const most = limits.most, little = limits.most_small;
        bool const describes = Kind != read_kind::common && describe;
        bool const keeps_advantage =
            is_masked || !(is_common || (direct && same_reals && wants.advantage && io.advantage != nullptr));
        auto& tokens = to;
        /// Registers k, k + 1, ..., as many as `count` says, if there is no exception in them.
        auto const registers = [&](int k, auto count) TRM_INLINE_LAMBDA {
            constexpr std::size_t n = decltype(count)::value;
            raw_tokens<V> raw[n];
            auto in_small = V::mask::everywhere(), in_range = in_small;
            typename V::mask selected[n];
            if (ahead) prefetch_tokens<n * V::size, 2>(wants, streams, before + k * width, tile_ahead);
            unrolled<n>([&](auto i) TRM_INLINE_LAMBDA {
                if (is_common && streams.advantage == nullptr) __builtin_unreachable();
                read_register(wants, streams, before + (k + i) * width, V::size, advantage, raw[i]);
                if constexpr (is_masked) {
                    selected[i] = simd::load_mask<V>(streams.mask + before + (k + i) * width);
                    blank_unselected(wants, selected[i], raw[i]);
                }
                V const largest = largest_log_ratio(wants, raw[i]);
                in_small = in_small & is_within(largest, little);
                in_range = in_range & is_within(largest, most);
                if (describes) {
                    auto const positive = is_positive(wants, streams, before + (k + i) * width, V::size, raw[i]);
                    if constexpr (is_masked) in_range = in_range & !(positive & selected[i]);
                    else in_range = in_range & !positive;
                }
            });
            bool const is_small = all(in_small);
            if ((describes || !is_small) && !all(in_range)) return false;
            unrolled<n>([&](auto i) TRM_INLINE_LAMBDA {
                if constexpr (is_masked) tokens.active[k + i] = tokens.keep[k + i] = selected[i];
                if (keeps_advantage) tokens.own_advantage.set(k + i, raw[i].advantage);
                store_register(wants, raw[i], is_small, direct, k + i, tokens);
            });
            return true;
        };
        while (j + 1 < end && registers(j, std::integral_constant<int, 2>{})) j += 2;
        while (j < end && registers(j, std::integral_constant<int, 1>{})) ++j;
        return j;
    }
    /// Log-ratios of register k, and what the steps that follow do not read from the streams themselves.
    template <bool Proximal>
    static TRM_INLINE void store_register(wanted<Proximal> const& wants, raw_tokens<V> const& raw, bool is_small,
                                          bool direct, int k, tile<V>& tokens) noexcept {
        auto const ratio = [&](ratio_kind kind, V target, V behaviour) TRM_INLINE_LAMBDA {
            bool const exp = wants.exp[static_cast<int>(kind)];
            log_ratio<V> l;
            set_log_ratio_within(l, target, behaviour, is_small, exp);
            tokens.store_ratio(kind, k, l, exp);
        };
        if (wants.current_over_rollout()) ratio(ratio_kind::current_over_rollout, raw.logp, raw.rollout);
        if (wants.proximal_over_rollout()) ratio(ratio_kind::proximal_over_rollout, raw.over, raw.rollout);
        if (wants.current_over_proximal()) ratio(ratio_kind::current_over_proximal, raw.logp, raw.under);
        if (wants.given && (!direct || !same_reals)) tokens.own_given.set(k, raw.given);
        if (direct) return;
        tokens.own_logp.set(k, raw.logp);
        tokens.own_rollout.set(k, raw.rollout);
        if (Proximal) tokens.own_proximal.set(k, raw.over);
        if (wants.ref) tokens.own_ref.set(k, raw.ref);
    }
    template <bool Proximal>
    TRM_INLINE register_counts read_one(wanted<Proximal> const& want, std::int64_t at, int j, std::size_t n,
                                        V advantage) noexcept {
        token<V, Proximal> t;
        register_counts const counted = read_tokens(want, io, at, n, advantage, limits, has_rare, describe, t);
        to.active[j] = to.keep[j] = t.active;
        to.own_logp.set(j, t.logp);
        if (want.current_over_rollout()) {
            to.own_rollout.set(j, t.current_over_rollout.behaviour);
            to.store_any_ratio(ratio_kind::current_over_rollout, j, t.current_over_rollout);
        }
        if (want.proximal_over_rollout()) {
            to.own_proximal.set(j, t.proximal_over_rollout.target);
            to.own_rollout.set(j, t.proximal_over_rollout.behaviour);
            to.store_any_ratio(ratio_kind::proximal_over_rollout, j, t.proximal_over_rollout);
        }
        if (want.current_over_proximal()) {
            to.own_proximal.set(j, t.current_over_proximal.behaviour);
            to.store_any_ratio(ratio_kind::current_over_proximal, j, t.current_over_proximal);
        }
        to.own_advantage.set(j, t.advantage);
        if (want.ref) to.own_ref.set(j, t.ref_logp);
        if (want.given) to.own_given.set(j, t.given);
        if (want.factor) to.factor.set(j, t.factor);
        if (io.rejected != nullptr) to.allowed[j] = t.allowed;
        if (want.marks) to.marked[j] = t.marked;
        return counted;
    }
};

}  // namespace detail
TRM_NAMESPACE_END
