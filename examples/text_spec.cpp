// SPDX-License-Identifier: Apache-2.0

// The same loss composed at compile time and read from text: the same bits.
#include <trm/loss/spec.hpp>
#include <trm/trm.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
    // [spec]
    trm::masked_loss const composed{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)} &&
                                        trm::token_mask{trm::ratio{}, trm::within(0.8, 1.25)},
                                    trm::importance_ratio{}, trm::token_mean{}};
    trm::any_loss const read{trm::parse_spec(
        "mask: seq_max_k2 <= 0.05 && ratio in [0.8, 1.25]; surrogate: importance_ratio; aggregate: token_mean")};
    // [/spec]

    std::vector<float> mu, logp;
    for (int t = 0; t < 1000; ++t) {
        mu.push_back(-2 + std::sin(static_cast<float>(t)));
        logp.push_back(mu.back() + (t < 600 ? 0.3f : 0.4f) * std::sin(7 * static_cast<float>(t)));
    }
    std::vector<std::int32_t> const cu_seqlens{0, 600, 1000};
    std::vector<float> const advantages{1, -1};
    trm::batch_view<float> const batch{
        .logp = logp, .rollout_logp = mu, .sequence_advantages = advantages, .layout = trm::packed{cu_seqlens}};
    std::vector<float> one(logp.size()), other(logp.size());
    trm::result const a = trm::checked(composed)(batch, one), b = trm::checked(read)(batch, other);
    std::printf("composed: loss %.9g, kept %.0f tokens; read: loss %.9g, kept %.0f tokens\n", a.loss,
                a.diagnostics.kept_tokens, b.loss, b.diagnostics.kept_tokens);
    bool const some = a.diagnostics.kept_tokens > 0 && a.diagnostics.kept_tokens < 600;

    try {
        trm::any_loss const wrong{trm::parse_spec("mask: seq_max_k7 <= 0.05")};
    } catch (std::exception const& e) {
        std::printf("%s\n", e.what());
        return some && a.loss == b.loss && one == other ? 0 : 1;
    }
    return 1;
}
