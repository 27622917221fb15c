// SPDX-License-Identifier: Apache-2.0

// A divergence of your own, without a change to the library: one struct. It vectorises, fuses and works in every mask like
// those that come with trm.
#include <trm/trm.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

// [struct]
/// x (r - 1) >= 0: unbiased for KL(mu || pi) + KL(pi || mu) when tokens come from mu. No transcendental beyond r's own.
struct jeffreys {
    static constexpr trm::ratio_kind over = trm::ratio_kind::current_over_rollout;
    template <class V>
    TRM_INLINE V operator()(trm::log_ratio<V> const& l) const noexcept {
        return l.value * l.expm1;
    }
};
// [/struct]

int main() {
    std::vector<double> mu, logp;
    for (int t = 0; t < 1000; ++t) {
        mu.push_back(-2 + std::sin(t));
        logp.push_back(mu.back() + 0.3 * std::sin(7 * t));
    }
    std::vector<std::int32_t> const cu_seqlens{0, 300, 1000};
    std::vector<double> const advantages{1, -1};
    trm::batch_view<double> const batch{
        .logp = logp, .rollout_logp = mu, .sequence_advantages = advantages, .layout = trm::packed{cu_seqlens}};
    trm::masked_loss const loss{trm::token_mask{jeffreys{}, trm::at_most(0.05)}, trm::importance_ratio{},
                                trm::token_mean{}};
    auto const kept = trm::checked(loss)(batch).diagnostics.kept_tokens;

    double expected = 0;
    for (std::size_t t = 0; t < mu.size(); ++t) {
        double const x = logp[t] - mu[t];
        expected += x * std::expm1(x) <= 0.05;
    }
    std::printf("kept %.0f of %zu tokens, by the formula %.0f\n", kept, mu.size(), expected);
    return kept == expected && kept > 0 && kept < 1000 ? 0 : 1;
}
