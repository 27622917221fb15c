// SPDX-License-Identifier: Apache-2.0
// Built with -fno-exceptions -fno-rtti: a loss, the same from text, logits, and what misuse gives instead of an exception.
#include <trm/trm.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>

#if defined(__cpp_exceptions) || defined(__GXX_RTTI)
#error "this file is to be built without exceptions and run-time types"
#endif

namespace {

int failures = 0;
void check(bool ok, char const* what) {
    if (!ok) std::printf("FAILED: %s\n", what);
    failures += !ok;
}

}  // namespace

int main() {
    std::array<float, 6> const logp{-0.9f, -1.2f, -0.3f, -2.0f, -0.5f, -0.7f},
        rollout_logp{-1.0f, -1.1f, -0.3f, -1.2f, -0.4f, -0.7f};
    std::array<float, 2> const advantages{1.0f, -0.5f};
    std::array<std::int32_t, 3> const cu_seqlens{0, 3, 6}, decreasing{0, 4, 3};
    trm::batch_view<float> batch{.logp = logp,
                                 .rollout_logp = rollout_logp,
                                 .sequence_advantages = advantages,
                                 .layout = trm::packed{cu_seqlens}};
    trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)},
                                trm::importance_ratio{}, trm::token_mean{}};
    std::array<float, 6> grad{}, same{};
    trm::result const r = loss(batch, std::span<float>(grad));
    check(r.status.ok() && r.loss < 0 && r.diagnostics.kept_tokens == 3, "loss");

    trm::spec_result const read =
        trm::parse_spec("mask: seq_max_k2 <= 0.05; surrogate: importance_ratio; aggregate: token_mean");
    check(read.ok(), "spec");
    trm::result const again = trm::any_loss{read.spec}(batch, std::span<float>(same));
    check(again.loss == r.loss && same == grad, "the loss that a text describes");

    trm::spec_result const wrong = trm::parse_spec("mask: seq_max_k7 <= 0.05");
    check(wrong.status.code == trm::errc::bad_spec && wrong.suggestion == "seq_max_k1", "bad spec");
    batch.layout = trm::packed{decreasing};
    check(!loss(batch, std::span<float>(grad)).status.ok(), "decreasing cu_seqlens");

    std::array<float, 4> const logits{0, 0, 0, 0};
    std::array<std::int32_t, 1> const target{2}, outside{4};
    std::array<float, 1> uniform{};
    trm::logits_view<float> const view{.data = logits.data(), .rows = 1, .vocab = 4};
    trm::log_prob_out<float> const out{.logp = uniform};
    check(trm::log_prob(view, target, out).ok() && std::fabs(uniform[0] + 1.38629436f) < 1e-6f, "log_prob");
    check(!trm::log_prob(view, outside, out).ok(), "target outside the vocabulary");
    return failures;
}
