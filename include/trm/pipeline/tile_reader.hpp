// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/tile_registers.hpp>

#include <cstring>

TRM_NAMESPACE_BEGIN
namespace detail {

/// The first step: tokens of runs into a tile.
template <class V, class S>
class tile_reader {
    using T = typename V::value_type;
    using piece = typename tile<V>::piece;
    static constexpr int width = static_cast<int>(V::size);

    wanted<false> const want_two;  ///< of current and rollout policy
    wanted<true> const want_three;  ///< if there is a proximal one
    bool const has_proximal, has_rare;
    std::uint8_t const* const loss_mask;
    clamp_range const clamp;
    bool selects_all = true;  ///< loss_mask is 1 in all that has been added
    tile<V>& to;
    register_reader<V, S> registers;

public:
    /// `exp_of`: see wanted.
    template <class Core>
    TRM_INLINE tile_reader(Core const& core, stream_pointers<S, T> const& io, call_numbers const& call, unsigned exp_of,
                           tile<V>& where) noexcept
        : want_two(core, exp_of),
          want_three(core, exp_of),
          has_proximal(io.proximal != nullptr),
          has_rare(has_rare_inputs(want_two, io)),
          loss_mask(io.mask),
          clamp(call.clamps.mask),
          to(where),
          registers(io, call, has_rare, where) {
        has_proximal ? registers.connect(want_three) : registers.connect(want_two);
    }

    [[nodiscard]] TRM_INLINE bool reads_rare() const noexcept { return has_rare; }
    /// Reads [at, end) of a run, at most a tile, and says how many tokens count. `advantage`: where there is none per token.
    [[nodiscard]] TRM_INLINE register_counts read(std::int64_t at, std::int64_t end, V const& advantage) noexcept {
        begin();
        add(0, at, end, advantage);
        return read();
    }
    /// Several runs: begin(), add() for each, read(). If one has an exception other than by loss_mask, the tile is worth nothing,
    /// and says so: `in_range`.
    TRM_INLINE void begin() noexcept {
        to.clear();
        selects_all = true;
    }
    TRM_INLINE void add(int run, std::int64_t at, std::int64_t end, V const& advantage) noexcept {
        to.add_pieces(run, at, end - at);
        to.advantage_of[run] = advantage;
        if (loss_mask != nullptr)
            selects_all = selects_all && std::memchr(loss_mask + at, 0, static_cast<std::size_t>(end - at)) == nullptr;
    }
    TRM_INLINE register_counts read() noexcept { return has_proximal ? read_as(want_three) : read_as(want_two); }
    /// Tokens of a piece that count, once it has been read in range.
    [[nodiscard]] TRM_INLINE int count_of(piece const& p) const noexcept {
        return selects_all && p.part > 0 ? p.part : counts_of(p.first, p.end).selected;
    }

private:
    template <bool Proximal>
    TRM_INLINE register_counts read_as(wanted<Proximal> const& want) noexcept {
        bool const direct = selects_all && std::is_same_v<S, T>;
        int j = registers.read_in_range(want, 0, selects_all, direct);
        register_counts all{0, 0, 0};
        to.in_range = true;
        for (int i = 0; i < to.pieces && to.in_range; ++i) {
            piece const& p = to.piece_of[i];
            if (p.part > 0) {
                all += registers.read_any(want, p.token, p.first, p.part, to.advantage_of[p.run]);
                to.in_range = all.in_range;
            } else if (p.end > j) {
                to.in_range = false;
            } else {
                all += counts_of(p.first, p.end);
            }
        }
        if (has_rare && to.in_range) to.in_range = registers.read_rare_rows(want_two, selects_all);
        if (!to.in_range && to.piece_of[to.pieces - 1].run == to.piece_of[0].run) {
            if (has_rare) j = 0;
            else if (direct) j = registers.read_in_range(want, 0, selects_all, false);  // again, with copies
            all = read_exceptions(want, j);
        }
        for (int i = 0; i < to.pieces; ++i) {
            piece& p = to.piece_of[i];
            p.clean = to.in_range && selects_all && p.part == 0;
            p.direct = p.clean && direct;
        }
        to.in_stage(clamp);
        return all;
    }
    /// The rest of a tile of one run, after j registers in range.
    template <bool Proximal>
    [[nodiscard]] register_counts read_exceptions(wanted<Proximal> const& want, int j) noexcept {
        piece const &first = to.piece_of[0], &last = to.piece_of[to.pieces - 1];
        register_counts all = counts_of(0, j);
        to.begin_exceptions(!selects_all);
        while (j < to.used) {
            bool const is_part = last.part > 0 && j == last.first;
            all += registers.read_any(want, first.token + j * width, j, is_part ? last.part : width,
                                      to.advantage_of[first.run]);
            ++j;
            if (has_rare) continue;
            int const next = registers.read_in_range(want, j, selects_all, false);
            all += counts_of(j, next);
            j = next;
        }
        return all;
    }
    /// Of registers in range.
    [[nodiscard]] register_counts counts_of(int from, int stop) const noexcept {
        if (selects_all) return {(stop - from) * width, (stop - from) * width, 0};
        int n = 0;
        for (int j = from; j < stop; ++j) n += count(to.active[j]);
        return {n, n, 0};
    }
};

}  // namespace detail
TRM_NAMESPACE_END
