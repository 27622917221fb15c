// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/pipeline/select.hpp>

/// \file
/// Which tokens' log-probabilities a loss needs to know: those of sequences whose advantages are all 0 have no gradient.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Can the log-probabilities of a sequence whose advantages are all 0 reach its own gradient, or that of a sequence of another
/// prompt?
template <class Call>
[[nodiscard]] bool needs_every_row(Call const& call) noexcept {
    bool every = call.core.has_penalties() || call.core.normalises() || call.core.acts_without_advantage();
    every = every || (call.aggregate.divide_by.which == denominator::kind::kept &&
                      call.aggregate.which != aggregation::kind::token_sum);
    call.core.each_selection(
        [&](auto const& c, int) { every = every || !selects_by_sequence<std::remove_cvref_t<decltype(c)>>; });
    return every;
}
/// Is a sequence dropped for what another one of its prompt holds?
template <class Call>
[[nodiscard]] bool couples_prompts(Call const& call) noexcept {
    bool couples = false;
    call.core.each_selection(
        [&](auto const& c, int) { couples = couples || drops_group<std::remove_cvref_t<decltype(c)>>; });
    return couples;
}

template <class Call, class S>
[[nodiscard]] status check_needed(Call const& call, batch_view<S> const& b, std::size_t rows) noexcept {
    if (status s = b.layout.validate(); !s.ok()) return s;
    if (status s = call.core.validate(); !s.ok()) return s;
    std::int64_t const extent = b.layout.extent();
    if (status s = check_extent("rows", extent, rows); !s.ok()) return s;
    if (!b.loss_mask.empty())
        if (status s = check_extent("loss_mask", extent, b.loss_mask.size()); !s.ok()) return s;
    if (needs_every_row(call)) return {};
    if (b.advantages.empty() && b.sequence_advantages.empty() && extent > 0)
        return {errc::missing_stream, -1, -1, "advantages"};
    if (!b.advantages.empty())
        if (status s = check_extent("advantages", extent, b.advantages.size()); !s.ok()) return s;
    if (!b.sequence_advantages.empty())
        if (status s = check_size("sequence_advantages", b.layout.sequences(), b.sequence_advantages.size()); !s.ok())
            return s;
    return couples_prompts(call) ? check_size("group_of", b.layout.sequences(), b.group_of.size()) : status{};
}

/// 1 for every token of `rows` that loss_mask selects in a sequence, or prompt, with an advantage that is not 0.
template <class Call, class S>
[[nodiscard]] status needed_rows(Call const& call, batch_view<S> batch, std::span<std::uint8_t> rows,
                                 workspace& scratch) noexcept {
    if (status s = check_needed(call, batch, rows.size()); !s.ok()) return s;
    auto const n = static_cast<std::size_t>(batch.layout.sequences());
    auto* const memory = reinterpret_cast<std::uint8_t*>(scratch.reserve(workspace::purpose::statistics, 2 * n + 1));
    if (memory == nullptr) return {errc::out_of_memory, -1, -1, "workspace"};
    std::fill_n(memory, 2 * n, std::uint8_t{0});
    std::uint8_t *const needed = memory, *const of_prompt = memory + n;
    bool const every = needs_every_row(call);
    auto const selected = [&](std::int64_t t) {
        return batch.loss_mask.empty() || batch.loss_mask[static_cast<std::size_t>(t)] != 0;
    };
    auto const each_run = [&](auto const& f) {
        for (std::int64_t i = 0; i < batch.layout.runs(); ++i) f(batch.layout.run(i));
    };
    if (!every)
        each_run([&](token_run run) {
            std::uint8_t& mine = needed[run.sequence];
            if (batch.advantages.empty()) {
                mine = !(batch.sequence_advantages[static_cast<std::size_t>(run.sequence)] == 0);
                return;
            }
            for (std::int64_t t = run.begin; t < run.begin + run.size && mine == 0; ++t)
                mine = selected(t) && !(batch.advantages[static_cast<std::size_t>(t)] == 0);
        });
    if (!every && couples_prompts(call)) {
        if (status s = number_groups(call, batch, scratch); !s.ok()) return s;
        for (std::size_t i = 0; i < n; ++i) of_prompt[batch.group_of[i]] |= needed[i];
        for (std::size_t i = 0; i < n; ++i) needed[i] = of_prompt[batch.group_of[i]];
    }
    std::fill(rows.begin(), rows.end(), std::uint8_t{0});
    each_run([&](token_run run) {
        for (std::int64_t t = run.begin; t < run.begin + run.size; ++t)
            rows[static_cast<std::size_t>(t)] = selected(t) && (every || needed[run.sequence] != 0);
    });
    return {};
}

}  // namespace detail
TRM_NAMESPACE_END
