// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../larger.hpp"
#include "../loss_batch.hpp"

#include <trm/logits/log_prob.hpp>

#include <cmath>
#include <vector>

namespace accuracy {

/// Largest error of logsumexp over rows of float logits, against a sum in long double: random rows of several spreads, and rows
/// with half of the probability in one token and the rest spread out.
template <class A>
double worst_logsumexp(int rows) {
    constexpr std::int64_t vocab = 32768;
    batches::random r(4);
    std::vector<float> x(vocab);
    double worst = 0;
    for (int k = 0; k < rows; ++k) {
        double const spread = 0.5 * static_cast<double>(1 + r.below(20)), level = 100 * r.normal();
        for (auto& v : x) v = static_cast<float>(level + spread * r.normal());
        if (k % 4 == 0) {
            for (auto& v : x) v = static_cast<float>(level);
            x[static_cast<std::size_t>(r.below(vocab))] = static_cast<float>(level + std::log(double(vocab)));
        }
        std::vector<std::int32_t> const target{0};
        std::vector<double> got(1);
        trm::log_prob_out<float> out;
        out.logsumexp = got;
        if (!trm::log_prob<A>(trm::logits_view<float>{.data = x.data(), .rows = 1, .vocab = vocab}, target, out).ok())
            return batches::inf;
        long double top = -INFINITY, sum = 0;
        for (float v : x) top = std::fmax(top, static_cast<long double>(v));
        for (float v : x) sum += std::exp(static_cast<long double>(v) - top);
        double const want = static_cast<double>(top + std::log(sum));
        worst = larger(worst, std::fabs(got[0] - want) / std::fmax(1.0, std::fabs(want)));
    }
    return worst;
}

}  // namespace accuracy
