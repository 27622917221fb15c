// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/evidence.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

/// \file
/// Evidence as a flat list of 64-bit words, for an all-gather between ranks: pack, gather, unpack each into one.
///
/// The words are bit patterns; both ends need the same trm version and byte order. Sizes differ between ranks, so gather
/// the sizes first, or pad: unpack reads no further than its own content.

TRM_NAMESPACE_BEGIN
namespace bounds {
namespace detail {

inline constexpr std::uint64_t wire_mark = 0x74726d2d65763032ULL;  // names the layout below
inline constexpr std::size_t wire_header = 10;
inline constexpr std::size_t wire_record = 14;
inline constexpr std::size_t wire_position = 5;
inline constexpr std::size_t wire_block = 6;

struct wire_writer {
    std::vector<std::uint64_t>& out;
    void put(std::int64_t v) { out.push_back(static_cast<std::uint64_t>(v)); }
    void put(double v) { out.push_back(std::bit_cast<std::uint64_t>(v)); }
};

struct wire_reader {
    std::span<const std::uint64_t> in;
    std::size_t at = 0;
    [[nodiscard]] bool has(std::size_t words) const noexcept { return words <= in.size() - at; }
    std::int64_t integer() noexcept { return static_cast<std::int64_t>(in[at++]); }
    double real() noexcept { return std::bit_cast<double>(in[at++]); }
};

/// False if the words end too early.
[[nodiscard]] inline bool read_levels(wire_reader& r, std::vector<block_level>& levels) {
    if (!r.has(1)) return false;
    const auto count = static_cast<std::uint64_t>(r.integer());
    for (std::uint64_t j = 0; j < count; ++j) {
        if (!r.has(2)) return false;
        block_level level;
        level.within = r.real();
        const auto blocks = static_cast<std::uint64_t>(r.integer());
        if (blocks > (r.in.size() - r.at) / wire_block) return false;
        level.at.resize(static_cast<std::size_t>(blocks));
        for (block_sums& b : level.at) {
            for (double* v : {&b.excess, &b.magnitude, &b.square, &b.product_tv, &b.product_block, &b.largest}) {
                *v = r.real();
            }
        }
        levels.push_back(std::move(level));
    }
    return true;
}

}  // namespace detail

/// Appends `e` to `out`.
inline void pack(const evidence& e, std::vector<std::uint64_t>& out) {
    detail::wire_writer w{out};
    out.push_back(detail::wire_mark);
    w.put(static_cast<std::int64_t>(e.sequences.size()));
    w.put(static_cast<std::int64_t>(e.groups.size()));
    for (const std::int64_t v : {e.tokens, e.exact_kl_tokens, e.exact_tv_tokens, e.excluded, e.rewarded}) w.put(v);
    w.put(std::int64_t{e.grids_differ ? 1 : 0});
    w.put(static_cast<std::int64_t>(e.grid.lengths.size()));
    for (const std::int64_t v : e.grid.lengths) w.put(v);
    for (const sequence_record& r : e.sequences) {
        for (const std::int64_t v : {r.group, r.horizon, r.tokens, r.length}) w.put(v);
        for (const double v :
             {r.weight, r.reward, r.log_ratio, r.first_order, r.excess, r.kl, r.max_kl, r.max_tv, r.max_k2}) {
            w.put(v);
        }
        w.put(std::int64_t{r.saturated ? 1 : 0});
    }
    for (const group_sums& g : e.groups) {
        w.put(g.group);
        w.put(g.sequences);
        w.put(static_cast<std::int64_t>(g.at.size()));
        for (const position_sums& p : g.at) {
            for (const double v : {p.magnitude, p.square, p.future_kl, p.product_tv, p.tv}) w.put(v);
        }
        w.put(static_cast<std::int64_t>(g.levels.size()));
        for (const block_level& level : g.levels) {
            w.put(level.within);
            w.put(static_cast<std::int64_t>(level.at.size()));
            for (const block_sums& b : level.at) {
                for (const double v : {b.excess, b.magnitude, b.square, b.product_tv, b.product_block, b.largest}) {
                    w.put(v);
                }
            }
        }
    }
}

[[nodiscard]] inline std::vector<std::uint64_t> pack(const evidence& e) {
    std::vector<std::uint64_t> out;
    bounds::pack(e, out);
    return out;
}

/// Merges what `pack` wrote into `into`. bad_layout, with nothing merged, if the words are not what pack writes.
[[nodiscard]] inline status unpack(std::span<const std::uint64_t> words, evidence& into) {
    const status bad{errc::bad_layout, -1, -1, "packed evidence"};
    detail::wire_reader r{words};
    if (!r.has(detail::wire_header) || words[0] != detail::wire_mark) return bad;
    r.at = 1;
    const auto sequences = static_cast<std::uint64_t>(r.integer());
    const auto groups = static_cast<std::uint64_t>(r.integer());
    evidence e;
    for (std::int64_t* v : {&e.tokens, &e.exact_kl_tokens, &e.exact_tv_tokens, &e.excluded, &e.rewarded}) {
        *v = r.integer();
    }
    e.grids_differ = r.integer() != 0;
    const auto lengths = static_cast<std::uint64_t>(r.integer());
    if (!r.has(lengths)) return bad;
    for (std::uint64_t i = 0; i < lengths; ++i) e.grid.lengths.push_back(r.integer());
    for (std::uint64_t i = 0; i < sequences; ++i) {
        if (!r.has(detail::wire_record)) return bad;
        sequence_record s;
        for (std::int64_t* v : {&s.group, &s.horizon, &s.tokens, &s.length}) *v = r.integer();
        for (double* v :
             {&s.weight, &s.reward, &s.log_ratio, &s.first_order, &s.excess, &s.kl, &s.max_kl, &s.max_tv, &s.max_k2}) {
            *v = r.real();
        }
        s.saturated = r.integer() != 0;
        e.sequences.push_back(s);
    }
    for (std::uint64_t i = 0; i < groups; ++i) {
        if (!r.has(3)) return bad;
        group_sums g;
        g.group = r.integer();
        g.sequences = r.real();
        const auto positions = static_cast<std::uint64_t>(r.integer());
        if (positions > (words.size() - r.at) / detail::wire_position) return bad;
        g.at.resize(static_cast<std::size_t>(positions));
        for (position_sums& p : g.at) {
            for (double* v : {&p.magnitude, &p.square, &p.future_kl, &p.product_tv, &p.tv}) *v = r.real();
        }
        if (!detail::read_levels(r, g.levels)) return bad;
        e.groups.push_back(std::move(g));
    }
    into.merge(e);
    return {};
}

}  // namespace bounds
TRM_NAMESPACE_END
