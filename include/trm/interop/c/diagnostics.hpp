// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c/support.hpp>
#include <trm/loss/diagnostics.hpp>

TRM_NAMESPACE_BEGIN
namespace c_api {

// clang-format off
#define TRM_C_STORED(X) \
    X(tokens) X(nonfinite_tokens) X(positive_logp_tokens) X(kept_tokens) X(sum_x) X(sum_k3) X(sum_r_squared) \
    X(sum_logp) X(kept_x) X(kept_k3) X(max_x) X(min_x) X(positive_tokens) X(negative_tokens) \
    X(clipped_positive) X(clipped_negative) X(sum_weight) X(sum_weight_squared) X(max_weight) X(sequences) \
    X(kept_sequences) X(measured_sequences) X(sum_log_ppl) X(sum_rollout_log_ppl) X(sum_ppl) \
    X(sum_rollout_ppl) X(sum_ppl_ratio) X(sum_log_ppl_abs_diff) X(max_log_ppl_diff) X(min_log_ppl_diff) \
    X(sum_seq_ratio) X(sum_seq_ratio_squared)
#define TRM_C_DERIVED(X) \
    X(kept_fraction) X(kept_sequence_fraction) X(kl_k1) X(kl_k3) X(kl_k1_kept) X(kl_k3_kept) X(kl_k1_masked) \
    X(kl_k3_masked) X(mean_ratio) X(max_ratio) X(min_ratio) X(max_k2) X(max_k3) X(chi2_token) X(chi2_sequence) \
    X(ess) X(ess_sequence) X(ess_weight) X(mean_weight) X(clip_fraction) X(clip_fraction_positive) \
    X(clip_fraction_negative) X(log_ppl) X(rollout_log_ppl) X(ppl) X(rollout_ppl) X(ppl_ratio) X(log_ppl_diff) \
    X(log_ppl_abs_diff)
// clang-format on

#define TRM_C_COUNT(member) +1
inline constexpr std::size_t stored_numbers = 0 TRM_C_STORED(TRM_C_COUNT),
                             derived_numbers = 0 TRM_C_DERIVED(TRM_C_COUNT);
#undef TRM_C_COUNT
static_assert(max_criteria == TRM_MAX_CRITERIA);
static_assert(sizeof(diagnostics) == (stored_numbers + 2 * TRM_MAX_CRITERIA) * sizeof(double),
              "a member of trm::diagnostics is missing in trm_diagnostics");
static_assert(sizeof(trm_diagnostics) == sizeof(std::size_t) + sizeof(diagnostics) + derived_numbers * sizeof(double));

[[nodiscard]] inline trm_diagnostics to_c(diagnostics const& d) noexcept {
    trm_diagnostics c;
    std::memset(&c, 0, sizeof c);
    c.size = sizeof c;
#define TRM_C_COPY(member) c.member = d.member;
    TRM_C_STORED(TRM_C_COPY)
#undef TRM_C_COPY
#define TRM_C_COPY(member) c.member = d.member();
    TRM_C_DERIVED(TRM_C_COPY)
#undef TRM_C_COPY
    std::memcpy(c.rejected_tokens, d.rejected_tokens, sizeof c.rejected_tokens);
    std::memcpy(c.rejected_sequences, d.rejected_sequences, sizeof c.rejected_sequences);
    return c;
}
[[nodiscard]] inline diagnostics from_c(trm_diagnostics const& c) noexcept {
    diagnostics d;
#define TRM_C_COPY(member) d.member = c.member;
    TRM_C_STORED(TRM_C_COPY)
#undef TRM_C_COPY
    std::memcpy(d.rejected_tokens, c.rejected_tokens, sizeof c.rejected_tokens);
    std::memcpy(d.rejected_sequences, c.rejected_sequences, sizeof c.rejected_sequences);
    return d;
}
#undef TRM_C_STORED
#undef TRM_C_DERIVED

}  // namespace c_api
TRM_NAMESPACE_END
