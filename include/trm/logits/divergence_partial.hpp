// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/logits/partial.hpp>

TRM_NAMESPACE_BEGIN

/// What one shard of the vocabulary knows about a pair of rows, with z = logits / temperature of mu and of pi:
///   sum = sum_v e_v and diff = sum_v e_v ((z^mu_v - mu_shift) - (z^pi_v - pi_shift)),  e_v = exp(z_v - shift),
/// for e of mu and e of pi. `merge` is commutative and associative up to double rounding; a default one is neutral.
struct divergence_partial {
    double mu_shift = -0x1p1000, pi_shift = -0x1p1000;
    double mu_sum = 0.0, pi_sum = 0.0;
    double mu_diff = 0.0, pi_diff = 0.0;
    bool mu_outside = false;  ///< mu has support where pi has none: KL(mu||pi) = inf
    bool pi_outside = false;

    void rebase(double mu_to, double pi_to) noexcept {
        double const dm = mu_shift - mu_to, dp = pi_shift - pi_to;
        double const d = dm - dp;
        double const fm = mu_sum == 0.0 ? 0.0 : std::exp(dm), fp = pi_sum == 0.0 ? 0.0 : std::exp(dp);
        mu_diff = fm == 0.0 ? 0.0 : fm * (mu_diff + d * mu_sum);
        pi_diff = fp == 0.0 ? 0.0 : fp * (pi_diff + d * pi_sum);
        mu_sum *= fm;
        pi_sum *= fp;
        mu_shift = mu_to;
        pi_shift = pi_to;
    }
    void merge(divergence_partial o) noexcept {
        double const m = o.mu_shift > mu_shift ? o.mu_shift : mu_shift;
        double const p = o.pi_shift > pi_shift ? o.pi_shift : pi_shift;
        rebase(m, p);
        o.rebase(m, p);
        mu_sum += o.mu_sum;
        pi_sum += o.pi_sum;
        mu_diff += o.mu_diff;
        pi_diff += o.pi_diff;
        mu_outside = mu_outside || o.mu_outside;
        pi_outside = pi_outside || o.pi_outside;
    }

    /// KL(mu || pi) in nats: 0 at least, inf if mu has support outside pi's, NaN if a row is empty or holds NaN or +inf.
    [[nodiscard]] double kl_mu_pi() const noexcept {
        return finish(mu_outside, mu_diff / mu_sum - std::log(mu_sum / pi_sum));
    }
    /// KL(pi || mu) in nats.
    [[nodiscard]] double kl_pi_mu() const noexcept {
        return finish(pi_outside, std::log(mu_sum / pi_sum) - pi_diff / pi_sum);
    }
    [[nodiscard]] double mu_logsumexp() const noexcept { return logits_partial{mu_shift, mu_sum}.logsumexp(); }
    [[nodiscard]] double pi_logsumexp() const noexcept { return logits_partial{pi_shift, pi_sum}.logsumexp(); }

private:
    [[nodiscard]] double finish(bool outside, double value) const noexcept {
        if (!(mu_sum > 0.0 && pi_sum > 0.0) || !is_finite(mu_sum) || !is_finite(pi_sum))
            return std::numeric_limits<double>::quiet_NaN();
        if (outside) return std::numeric_limits<double>::infinity();
        return value < 0.0 ? 0.0 : value;
    }
};

TRM_NAMESPACE_END
