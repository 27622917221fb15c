// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/view.hpp>

#include <cmath>
#include <limits>

TRM_NAMESPACE_BEGIN

/// What one shard of the vocabulary knows about one row, with z = logits / temperature:
///   sum_exp = sum_v exp(z_v - shift),  weighted_sum = sum_v exp(z_v - shift) (z_v - shift),
/// shift within a few nats of the shard's maximum, and the target's z if the target lives in this shard (-inf if not).
/// `merge` is commutative and associative up to double rounding: threads, vocabulary chunks and tensor-parallel ranks
/// combine in any order. A default-constructed partial is neutral.
struct logits_partial {
    double shift = -0x1p1000;
    double sum_exp = 0.0;
    double weighted_sum = 0.0;
    double target_logit = -std::numeric_limits<double>::infinity();

    /// Express the sums relative to another shift.
    void rebase(double to) noexcept {
        double const d = shift - to;
        double const f = sum_exp > 0.0 || is_nan(sum_exp) ? std::exp(d) : 0.0;
        weighted_sum = f == 0.0 ? 0.0 : f * (weighted_sum + d * sum_exp);
        sum_exp *= f;
        shift = to;
    }
    void merge(logits_partial o) noexcept {
        double const to = o.shift > shift ? o.shift : shift;
        rebase(to);
        o.rebase(to);
        sum_exp += o.sum_exp;
        weighted_sum += o.weighted_sum;
        if (!(target_logit >= o.target_logit)) target_logit = o.target_logit;
    }

    [[nodiscard]] double logsumexp() const noexcept {
        return sum_exp == 0.0 ? -std::numeric_limits<double>::infinity() : shift + std::log(sum_exp);
    }
    /// log p(target), never above 0; -inf if the target's logit is -inf, NaN if the row has no finite logit.
    [[nodiscard]] double logp() const noexcept {
        if (sum_exp == 0.0) return std::numeric_limits<double>::quiet_NaN();
        double const lp = (target_logit - shift) - std::log(sum_exp);
        return lp > 0.0 ? 0.0 : lp;
    }
    /// H = -sum_v p_v log p_v = log(sum_exp) - weighted_sum / sum_exp, in nats; 0 at least, and log(vocab) at most for the
    /// whole vocabulary.
    [[nodiscard]] double entropy(std::int64_t vocab = (std::numeric_limits<std::int64_t>::max)()) const noexcept {
        if (sum_exp == 0.0) return std::numeric_limits<double>::quiet_NaN();
        double const h = std::log(sum_exp) - weighted_sum / sum_exp, most = std::log(static_cast<double>(vocab));
        return h < 0.0 ? 0.0 : h > most ? most : h;
    }
};

TRM_NAMESPACE_END
