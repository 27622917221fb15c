// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/interop/c.h>

namespace trm_python {

struct diagnostic {
    char const* name;
    double trm_diagnostics::* member;
};

#define TRM_PY_NUMBER(name) \
    diagnostic { #name, &trm_diagnostics::name }
// clang-format off
inline constexpr diagnostic diagnostic_numbers[] = {
    TRM_PY_NUMBER(tokens), TRM_PY_NUMBER(nonfinite_tokens), TRM_PY_NUMBER(positive_logp_tokens),
    TRM_PY_NUMBER(kept_tokens), TRM_PY_NUMBER(sum_x), TRM_PY_NUMBER(sum_k3), TRM_PY_NUMBER(sum_r_squared),
    TRM_PY_NUMBER(sum_logp), TRM_PY_NUMBER(kept_x), TRM_PY_NUMBER(kept_k3), TRM_PY_NUMBER(max_x), TRM_PY_NUMBER(min_x),
    TRM_PY_NUMBER(positive_tokens), TRM_PY_NUMBER(negative_tokens), TRM_PY_NUMBER(clipped_positive),
    TRM_PY_NUMBER(clipped_negative), TRM_PY_NUMBER(sum_weight), TRM_PY_NUMBER(sum_weight_squared),
    TRM_PY_NUMBER(max_weight), TRM_PY_NUMBER(sequences), TRM_PY_NUMBER(kept_sequences),
    TRM_PY_NUMBER(measured_sequences), TRM_PY_NUMBER(sum_log_ppl), TRM_PY_NUMBER(sum_rollout_log_ppl),
    TRM_PY_NUMBER(sum_ppl), TRM_PY_NUMBER(sum_rollout_ppl), TRM_PY_NUMBER(sum_ppl_ratio),
    TRM_PY_NUMBER(sum_log_ppl_abs_diff), TRM_PY_NUMBER(max_log_ppl_diff), TRM_PY_NUMBER(min_log_ppl_diff),
    TRM_PY_NUMBER(sum_seq_ratio), TRM_PY_NUMBER(sum_seq_ratio_squared),
    TRM_PY_NUMBER(kept_fraction), TRM_PY_NUMBER(kept_sequence_fraction), TRM_PY_NUMBER(kl_k1), TRM_PY_NUMBER(kl_k3),
    TRM_PY_NUMBER(kl_k1_kept), TRM_PY_NUMBER(kl_k3_kept), TRM_PY_NUMBER(kl_k1_masked), TRM_PY_NUMBER(kl_k3_masked),
    TRM_PY_NUMBER(mean_ratio), TRM_PY_NUMBER(max_ratio), TRM_PY_NUMBER(min_ratio), TRM_PY_NUMBER(max_k2),
    TRM_PY_NUMBER(max_k3), TRM_PY_NUMBER(chi2_token), TRM_PY_NUMBER(chi2_sequence), TRM_PY_NUMBER(ess),
    TRM_PY_NUMBER(ess_sequence), TRM_PY_NUMBER(ess_weight), TRM_PY_NUMBER(mean_weight), TRM_PY_NUMBER(clip_fraction),
    TRM_PY_NUMBER(clip_fraction_positive), TRM_PY_NUMBER(clip_fraction_negative), TRM_PY_NUMBER(log_ppl),
    TRM_PY_NUMBER(rollout_log_ppl), TRM_PY_NUMBER(ppl), TRM_PY_NUMBER(rollout_ppl), TRM_PY_NUMBER(ppl_ratio),
    TRM_PY_NUMBER(log_ppl_diff), TRM_PY_NUMBER(log_ppl_abs_diff)};
// clang-format on
#undef TRM_PY_NUMBER
static_assert(sizeof(trm_diagnostics) ==
                  sizeof(size_t) +
                      sizeof(double) * (2 * TRM_MAX_CRITERIA + sizeof(diagnostic_numbers) / sizeof(diagnostic)),
              "a number of trm_diagnostics is missing in the list");

}  // namespace trm_python
