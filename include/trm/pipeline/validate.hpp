// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/loss/result.hpp>
#include <trm/pipeline/call.hpp>
#include <trm/pipeline/selection.hpp>
#include <trm/policy/token.hpp>
#include <trm/simd/dispatch.hpp>

/// \file
/// What a call is checked for before anything is written.

TRM_NAMESPACE_BEGIN
namespace detail {

/// Strict mode: the first loss_mask token at which something that the loss reads is not finite, or a log-probability is
/// above 0 by more than rounding.
template <class S>
[[nodiscard]] status first_bad_token(batch_view<S> const& batch, unsigned needs) noexcept {
    for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
        token_run const run = batch.layout.run(i);
        for (std::int64_t t = 0; t < run.size; ++t) {
            auto const at = static_cast<std::size_t>(run.begin + t);
            if (!batch.loss_mask.empty() && batch.loss_mask[at] == 0) continue;
            char const *bad = nullptr, *positive = nullptr;
            auto const read = [&](auto span) {
                using U = storage_t<typename decltype(span)::value_type>;
                return to_float(reinterpret_cast<U const*>(span.data())[at]);
            };
            auto const check = [&](auto span, char const* name) {
                if (!span.empty() && !is_finite(read(span))) bad = name;
            };
            auto const check_logp = [&](auto span, char const* name) {
                check(span, name);
                if (!span.empty() && static_cast<double>(read(span)) > positive_tolerance<S>) positive = name;
            };
            check_logp(batch.logp, "logp");
            check_logp(batch.rollout_logp, "rollout_logp");
            check_logp(batch.proximal_logp, "proximal_logp");
            if ((needs & need::ref_logp) != 0) check_logp(batch.ref_logp, "ref_logp");
            if ((needs & need::given) != 0) check(batch.given, "given");
            check(batch.advantages, "advantages");
            check(batch.token_weights, "token_weights");
            if (!batch.sequence_advantages.empty() &&
                !is_finite(batch.sequence_advantages[static_cast<std::size_t>(run.sequence)]))
                bad = "sequence_advantages";
            if (bad != nullptr) return {errc::nonfinite_input, run.sequence, t, bad};
            if (positive != nullptr) return {errc::positive_logp, run.sequence, t, positive};
        }
    }
    return {};
}

/// Sizes, layout, streams, thresholds.
template <class Call, class S>
[[nodiscard]] status validate(Call const& call, batch_view<S> const& batch) noexcept {
    auto const& core = call.core;
    aggregation const& aggregate = call.aggregate;
    loss_options const& options = call.options;
    if (status s = simd::check_unit<typename Call::arch>(); !s.ok()) return s;
    if (status s = core.validate(); !s.ok()) return s;
    if (status s = aggregate.validate(); !s.ok()) return s;
    if (!options.log_ratio_clamp.ok())
        return {errc::bad_threshold, -1, -1, "log_ratio_clamp must be in (0, 80], its lower end in [-80, 0)"};
    if (!options.mean_epsilon.ok()) return {errc::bad_threshold, -1, -1, "mean_epsilon must be in [0, 1]"};
    auto const size = std::ssize(batch.logp);
    if (size > 0 && batch.layout.holds_lengths(size))
        return {errc::decreasing_offsets, 0, -1, "cu_seqlens looks like lengths: it takes offsets 0, n0, n0 + n1, ..."};
    if (status s = batch.layout.validate(); !s.ok()) return s;
    if (!batch.partial && size > batch.layout.largest_extent())
        return size_mismatch("logp is longer than the layout: set batch.layout to cover it, or batch.partial",
                             batch.layout.extent(), size);
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    auto const sequences = static_cast<std::size_t>(batch.layout.sequences());
    unsigned needs = core.needs() | need::ratio(core.diagnose_over());
    auto const stream = [&](auto span, bool required, char const* name) -> status {
        if (span.empty() && extent > 0) return required ? status{errc::missing_stream, -1, -1, name} : status{};
        return check_extent(name, extent, span.size());
    };
    bool const wants_proximal = (needs & (need::ratio(ratio_kind::proximal_over_rollout) |
                                          need::ratio(ratio_kind::current_over_proximal) | need::proximal_logp)) != 0;
    bool const wants_advantage = (needs & need::advantage) != 0;
    if (status s = stream(batch.logp, true, "logp"); !s.ok()) return s;
    if (status s = stream(batch.rollout_logp, true, "rollout_logp"); !s.ok()) return s;
    if (status s = stream(batch.proximal_logp, wants_proximal, "proximal_logp"); !s.ok()) return s;
    if (status s = stream(batch.ref_logp, (needs & need::ref_logp) != 0, "ref_logp"); !s.ok()) return s;
    if (status s = stream(batch.given, (needs & need::given) != 0, "given"); !s.ok()) return s;
    if (status s = stream(batch.token_weights, false, "token_weights"); !s.ok()) return s;
    if (status s = stream(batch.loss_mask, false, "loss_mask"); !s.ok()) return s;
    if (!batch.sequence_advantages.empty()) {
        if (!batch.advantages.empty())
            return {errc::unsupported, -1, -1, "advantages and sequence_advantages exclude each other"};
        if (status s = check_size("sequence_advantages", sequences, batch.sequence_advantages.size()); !s.ok())
            return s;
    } else if (status s = stream(batch.advantages, wants_advantage, "advantages"); !s.ok()) {
        return s;
    }
    if (call.wants_groups() && batch.group_of.size() != sequences)
        return batch.group_of.empty() ? status{errc::missing_stream, -1, -1, "group_of"}
                                      : size_mismatch("group_of", sequences, batch.group_of.size());
    if (call.wants_groups())
        for (std::size_t i = 0; i < sequences; ++i)
            if (batch.group_of[i] < 0)
                return {errc::bad_layout, static_cast<std::int64_t>(i), -1, "group_of must not be negative"};
    return options.strict ? first_bad_token(batch, core.needs()) : status{};
}
/// A selection covers the layout's extent, and no more than the batch's streams.
template <class Call, class S>
[[nodiscard]] status validate(Call const& call, batch_view<S> const& batch, selection_view const& chosen) noexcept {
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    auto const check = [&](auto const& stream, char const* name) {
        bool const fits = stream.empty() || (stream.size() >= extent && stream.size() <= batch.logp.size());
        return fits ? status{} : size_mismatch(name, extent, stream.size());
    };
    if (status s = check(chosen.reasons, "selection reasons"); !s.ok()) return s;
    if (status s = check(chosen.marks, "selection marks"); !s.ok()) return s;
    bool const wants_marks = (call.core.needs() & need::marks) != 0 && !call.core.has_marker();
    if (wants_marks && chosen.marks.empty() && extent > 0) return {errc::missing_stream, -1, -1, "selection marks"};
    return {};
}
template <class Call, class S, class T>
[[nodiscard]] status validate(Call const& call, batch_view<S> const& batch, outputs<T> const& out) noexcept {
    if (status s = validate(call, batch); !s.ok()) return s;
    auto const extent = static_cast<std::size_t>(batch.layout.extent());
    auto const output = [&](auto span, char const* name) {
        return span.empty() ? status{} : check_extent(name, extent, span.size());
    };
    if (status s = output(out.grad, "grad"); !s.ok()) return s;
    if (status s = output(out.keep, "keep"); !s.ok()) return s;
    if (status s = output(out.reasons, "reasons"); !s.ok()) return s;
    if (status s = output(out.weights, "weights"); !s.ok()) return s;
    if (!is_finite(out.loss_scale)) return {errc::bad_threshold, -1, -1, "loss_scale"};
    return {};
}

}  // namespace detail
TRM_NAMESPACE_END
