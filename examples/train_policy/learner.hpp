// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "losses.hpp"
#include "parallel.hpp"
#include "policy.hpp"
#include "rollouts.hpp"

#include <trm/bounds/evidence.hpp>

/// What one batch looked like to the trainer, beside loss and diagnostics of the loss. Exact: over the whole vocabulary.
struct batch_report {
    trm::result loss;
    double max_kl = 0, mean_kl = 0;  ///< exact KL(mu || pi) of sampled tokens, nats
    double entropy = 0;  ///< mean of the current policy over sampled tokens, nats
    double expert_flips = 0;  ///< share of tokens whose expert differs between engine and trainer
};

/// Loss and gradient in the parameters of a batch of rollouts: forward pass, log-probabilities and exact divergences through
/// trm, the loss from text, and backward through trm's d logits. Sequences are cut into chunks of a fixed size whose gradients
/// are added in order: the bits do not depend on the number of threads.
template <class T>
class learner {
public:
    learner(model_shape const& shape, method_loss const& method, std::size_t chunk = 16)
        : shape_(shape), loss_(method.spec), center_(method.center), centering_(method.centering), chunk_(chunk) {
        center_.diagnose = false;
    }

    /// `gradient` is overwritten.
    batch_report operator()(vector<T> const& parameters, rollouts const& batch, vector<T>& gradient,
                            parallel_for const& parallel = {});
    /// The last batch, for a certificate.
    [[nodiscard]] trm::bounds::evidence evidence(rollouts const& batch) const;

    std::vector<T> logp, kl, tv, d_logp;  ///< [n][T] of the last batch; d_logp = d loss / d logp

private:
    void read(vector<T> const& parameters, rollouts const& batch, std::size_t chunk);
    void backward_of(vector<T> const& parameters, rollouts const& batch, std::size_t chunk);
    [[nodiscard]] std::pair<std::size_t, std::size_t> range(rollouts const& batch, std::size_t chunk) const;
    void summarise(rollouts const& batch, batch_report& report) const;

    model_shape shape_;
    trm::any_loss loss_, center_;
    std::optional<trm::score_centering> centering_;
    std::size_t chunk_;
    trm::workspace scratch_;
    std::vector<T> rollout_logits_, rollout_logp_, advantages_, entropy_, d_center_;
    std::vector<double> logsumexp_, rollout_logsumexp_;
    std::vector<std::int64_t> offsets_;
    std::vector<activations<T>> chunks_;
    std::vector<vector<T>> gradients_;
};
