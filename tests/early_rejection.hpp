// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "catch.hpp"

#include <trm/core/batch_view.hpp>
#include <trm/loss/result.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

/// Three sequences of several tiles each; one token of the second may violate, early or late.
struct early_rejection {
    static constexpr std::size_t length = 5000, tokens = 3 * length;
    std::size_t violation;  ///< length: none
    std::vector<float> logp = std::vector<float>(tokens), rollout = std::vector<float>(tokens, -1.0f), advantage = logp;
    std::vector<std::int64_t> cu{0, length, 2 * length, tokens};

    explicit early_rejection(std::size_t where) : violation(where) {
        for (std::size_t t = 0; t < tokens; ++t) {
            logp[t] = -1.0f + 0.001f * static_cast<float>(t % 100);
            advantage[t] = t % 3 == 0 ? -0.5f : 1.0f;
        }
        if (violation < length) logp[length + violation] = 0.5f;
    }
    [[nodiscard]] trm::batch_view<float> view() const {
        return {.logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = trm::packed{cu}};
    }
    /// importance_ratio over token_mean: the second sequence has no part in loss and gradient if it has a violation.
    void check(trm::result const& r, std::vector<float> const& grad, bool diagnose) const {
        double sum = 0;
        for (std::size_t t = 0; t < tokens; ++t) {
            bool const kept = violation == length || t / length != 1;
            double const x = static_cast<double>(logp[t]) - static_cast<double>(rollout[t]);
            double const term = kept ? -std::exp(x) * static_cast<double>(advantage[t]) / tokens : 0.0;
            sum += term;
            if (std::abs(static_cast<double>(grad[t]) - term) > 1e-9) FAIL_CHECK("token " << t << ": " << grad[t]);
        }
        CHECK(r.status.ok());
        CHECK(r.loss == Approx(sum).epsilon(1e-6));
        CHECK(r.diagnostics.tokens == (diagnose ? tokens : 0));
    }
};
