// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/selection.hpp>

TRM_NAMESPACE_BEGIN
namespace detail {

/// f(first slot, end slot) for the segments of a sequence, in order: maximal runs of slots that loss_mask selects (the turns of
/// an agent, where tool output is masked), each cut into pieces of `length` slots if that is not 0.
template <class F>
void for_each_segment(selection_sequence const& s, std::int64_t length, F&& f) {
    std::size_t begin = 0, end = 0;  // of the segment so far
    auto const most = length > 0 ? static_cast<std::size_t>(length) : s.size() + 1;
    s.for_each_slot([&](std::size_t slot, bool selected) {
        if (selected && end == slot && end - begin < most && end > begin) {
            ++end;
            return;
        }
        if (end > begin) f(begin, end);
        begin = slot;
        end = selected ? slot + 1 : slot;
    });
    if (end > begin) f(begin, end);
}
/// The part of a sequence.
[[nodiscard]] inline selection_sequence part_of(selection_sequence const& s, std::size_t begin,
                                                std::size_t end) noexcept {
    selection_sequence part = s;
    part.scores = s.scores.subspan(begin, end - begin);
    part.active = s.active.subspan(begin, end - begin);
    part.first_nonfinite = 0;
    while (part.first_nonfinite < part.size() && part.active[part.first_nonfinite] != 0) ++part.first_nonfinite;
    return part;
}

}  // namespace detail

/// Keep segments of a sequence: lower <= statistic(D) <= upper over the segment's tokens. A segment is a turn, a maximal run of
/// loss_mask, or with `length` > 0 a piece of so many tokens of one. A segment with a token that is not finite is rejected. ROLL
/// (agentic `segment` filters of mean log-ratios, 0.8 to 1.2 on the ratio, and of mean p - mu, -0.2 to 0.2, off by default);
/// pieces of 128 tokens: slime #1505 (open).
template <class D, class Stat>
struct segment_mask : detail::scored_by<D> {
    Stat statistic;
    band keep;
    std::int64_t length;
    constexpr segment_mask(D d = {}, Stat s = {}, band b = {}, std::int64_t tokens = 0) noexcept
        : detail::scored_by<D>{d}, statistic(s), keep(b), length(tokens) {}
    static constexpr char const* name = "segment";
    static constexpr auto form = criterion_form::around;
    static void fields(auto f) { f("length", &segment_mask::length); }
    [[nodiscard]] constexpr status validate() const noexcept {
        return keep.ok() && length >= 0 ? status{} : detail::bad("segment_mask");
    }
    void select(selection_sequence const& s, sequence_output out) const noexcept {
        auto memory = s.memory;
        auto const drop = memory.take<std::uint8_t>(s.size());
        detail::for_each_segment(s, length, [&](std::size_t begin, std::size_t end) {
            auto const part = detail::part_of(s, begin, end);
            if (detail::violates_band<Stat>(part, keep)) std::fill_n(drop.data() + begin, end - begin, std::uint8_t{1});
        });
        out.reject_if([&](std::size_t i) { return drop[i] != 0; });
    }
    static constexpr selection_bytes scratch{1, 0, 0};
};

TRM_NAMESPACE_END
