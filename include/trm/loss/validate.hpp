// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>
#include <trm/loss/composition.hpp>
#include <trm/policy/aggregation.hpp>

TRM_NAMESPACE_BEGIN

/// What holds for a loss besides its policies.
struct loss_options {
    double log_ratio_clamp = 20.0;  ///< log-ratios are clamped to +- this before exp; a clamped ratio has gradient 0
    bool strict = false;   ///< a non-finite input is an error that names sequence and token, and nothing is written
    bool diagnose = true;  ///< false: diagnostics stay zero, which saves a few cycles per token
};

namespace detail {

/// What a call is checked for before anything is written.
template <class Core>
struct checks {
    Core const& core;
    aggregation const& aggregate;
    loss_options const& options;

    [[nodiscard]] std::int64_t sum_width() const noexcept { return sequence_statistics::fixed_sums + core.sum_width(); }
    [[nodiscard]] std::int64_t max_width() const noexcept { return core.max_width(); }

    /// Sizes, layout, streams, thresholds.
    template <class S>
    [[nodiscard]] status validate(batch_view<S> const& batch) const noexcept {
        if (status s = core.validate(); !s.ok()) return s;
        if (status s = aggregate.validate(); !s.ok()) return s;
        if (!(options.log_ratio_clamp > 0) || options.log_ratio_clamp > 80)
            return {errc::bad_threshold, -1, -1, "log_ratio_clamp must be in (0, 80]"};
        if (status s = batch.layout.validate(); !s.ok()) return s;
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        auto const sequences = static_cast<std::size_t>(batch.layout.sequences());
        unsigned needs = core.needs() | need::ratio(core.diagnose_over());
        auto const stream = [&](auto span, bool required, char const* name) -> status {
            if (span.empty() && extent > 0) return required ? status{errc::missing_stream, -1, -1, name} : status{};
            return span.size() < extent ? status{errc::size_mismatch, -1, -1, name} : status{};
        };
        bool const wants_proximal =
            (needs & (need::ratio(ratio_kind::proximal_over_rollout) | need::ratio(ratio_kind::current_over_proximal) |
                      need::proximal_logp)) != 0;
        bool const wants_advantage = (needs & need::advantage) != 0;
        if (status s = stream(batch.logp, true, "logp"); !s.ok()) return s;
        if (status s = stream(batch.rollout_logp, true, "rollout_logp"); !s.ok()) return s;
        if (status s = stream(batch.proximal_logp, wants_proximal, "proximal_logp"); !s.ok()) return s;
        if (status s = stream(batch.ref_logp, (needs & need::ref_logp) != 0, "ref_logp"); !s.ok()) return s;
        if (status s = stream(batch.given, (needs & need::given) != 0, "given"); !s.ok()) return s;
        if (status s = stream(batch.token_weights, false, "token_weights"); !s.ok()) return s;
        if (status s = stream(batch.loss_mask, false, "loss_mask"); !s.ok()) return s;
        if (status s = stream(batch.rejected, false, "rejected"); !s.ok()) return s;
        if (status s = stream(batch.marks, (needs & need::marks) != 0 && !core.has_marker(), "marks"); !s.ok())
            return s;
        if (!batch.sequence_advantages.empty()) {
            if (!batch.advantages.empty())
                return {errc::unsupported, -1, -1, "advantages and sequence_advantages exclude each other"};
            if (batch.sequence_advantages.size() != sequences)
                return {errc::size_mismatch, -1, -1, "sequence_advantages"};
        } else if (status s = stream(batch.advantages, wants_advantage, "advantages"); !s.ok()) {
            return s;
        }
        bool const wants_groups = aggregate.which == aggregation::kind::prompt_mean || (needs & need::group) != 0;
        if (wants_groups && batch.group_of.size() != sequences)
            return {batch.group_of.empty() ? errc::missing_stream : errc::size_mismatch, -1, -1, "group_of"};
        if (wants_groups)
            for (std::size_t i = 0; i < sequences; ++i)
                if (batch.group_of[i] < 0)
                    return {errc::bad_layout, static_cast<std::int64_t>(i), -1, "group_of must not be negative"};
        return options.strict ? first_nonfinite(batch) : status{};
    }
    template <class S, class T>
    [[nodiscard]] status validate(batch_view<S> const& batch, outputs<T> const& out) const noexcept {
        if (status s = validate(batch); !s.ok()) return s;
        auto const extent = static_cast<std::size_t>(batch.layout.extent());
        auto const short_of = [&](auto span) { return !span.empty() && span.size() < extent; };
        if (short_of(out.grad)) return {errc::size_mismatch, -1, -1, "grad"};
        if (short_of(out.keep)) return {errc::size_mismatch, -1, -1, "keep"};
        if (short_of(out.reasons)) return {errc::size_mismatch, -1, -1, "reasons"};
        if (short_of(out.weights)) return {errc::size_mismatch, -1, -1, "weights"};
        if (!is_finite(out.loss_scale)) return {errc::bad_threshold, -1, -1, "loss_scale"};
        return {};
    }
    [[nodiscard]] status validate(layout_view const& layout, sequence_statistics const& stats) const noexcept {
        auto const n = layout.sequences();
        bool const ok = std::ssize(stats.sums) >= n * sum_width() && std::ssize(stats.maxima) >= n * max_width();
        return ok ? status{} : status{errc::size_mismatch, -1, -1, "sequence_statistics"};
    }

private:
    /// Strict mode: the first loss_mask token at which something that the loss reads is not finite.
    template <class S>
    [[nodiscard]] status first_nonfinite(batch_view<S> const& batch) const noexcept {
        unsigned const needs = core.needs();
        for (std::int64_t i = 0; i < batch.layout.runs(); ++i) {
            token_run const run = batch.layout.run(i);
            for (std::int64_t t = 0; t < run.size; ++t) {
                auto const at = static_cast<std::size_t>(run.begin + t);
                if (!batch.loss_mask.empty() && batch.loss_mask[at] == 0) continue;
                char const* bad = nullptr;
                auto const check = [&](auto span, char const* name) {
                    if (span.empty()) return;
                    using U = storage_t<typename decltype(span)::value_type>;
                    if (!is_finite(to_float(reinterpret_cast<U const*>(span.data())[at]))) bad = name;
                };
                check(batch.logp, "logp");
                check(batch.rollout_logp, "rollout_logp");
                check(batch.proximal_logp, "proximal_logp");
                if ((needs & need::ref_logp) != 0) check(batch.ref_logp, "ref_logp");
                if ((needs & need::given) != 0) check(batch.given, "given");
                check(batch.advantages, "advantages");
                check(batch.token_weights, "token_weights");
                if (!batch.sequence_advantages.empty() &&
                    !is_finite(batch.sequence_advantages[static_cast<std::size_t>(run.sequence)]))
                    bad = "sequence_advantages";
                if (bad != nullptr) return {errc::nonfinite_input, run.sequence, t, bad};
            }
        }
        return {};
    }
};

}  // namespace detail
TRM_NAMESPACE_END
