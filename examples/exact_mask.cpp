// SPDX-License-Identifier: Apache-2.0
// The paper's mask as it is defined, from logits to d logits: the exact KL(mu || pi) of every token over the whole
// vocabulary, the sequence mask max_t KL <= delta, the importance-weighted surrogate, and the backward pass into the
// logits of the current policy, where rejected tokens cost nothing.
//
// The policies are tables small enough to enumerate, so that the batch is every possible response, weighted by its
// probability under mu, and the loss is the expectation itself. The program compares loss and gradient with the
// definition, and fails if they differ.
#include <trm/logits/divergence.hpp>
#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/checked.hpp>
#include <trm/loss/masked_loss.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace {

constexpr std::size_t vocabulary = 4, length = 4, contexts = 1 + 4 + 16 + 64, responses = 256;

/// Token of response y at position t, and the context (row of the tables) in which it was chosen.
constexpr std::size_t token(std::size_t y, std::size_t t) { return y >> 2 * (length - 1 - t) & 3; }
constexpr std::size_t context(std::size_t y, std::size_t t) {
    constexpr std::size_t first[] = {0, 1, 5, 21};
    return first[t] + (y >> 2 * (length - t));
}

using table = std::vector<double>;  // [contexts, vocabulary] logits

std::vector<double> softmax(table const& logits, std::size_t c) {
    std::vector<double> p(vocabulary);
    double sum = 0;
    for (std::size_t v = 0; v < vocabulary; ++v) sum += p[v] = std::exp(logits[c * vocabulary + v]);
    for (double& v : p) v /= sum;
    return p;
}

/// The definition, response by response: loss = -sum_y mu(y) M(y) R(y) sum_t rho_t and its derivative in the logits of pi.
struct enumerated {
    double loss = 0, kept = 0;
    table gradient = table(contexts * vocabulary);
};
enumerated enumerate(table const& mu, table const& pi, std::vector<double> const& reward, double delta) {
    enumerated e;
    for (std::size_t y = 0; y < responses; ++y) {
        double probability = 1, largest = 0;
        for (std::size_t t = 0; t < length; ++t) {
            std::vector<double> const a = softmax(mu, context(y, t)), b = softmax(pi, context(y, t));
            double kl = 0;
            for (std::size_t v = 0; v < vocabulary; ++v) kl += a[v] * std::log(a[v] / b[v]);
            largest = std::max(largest, kl);
            probability *= a[token(y, t)];
        }
        if (largest > delta) continue;
        e.kept += probability;
        for (std::size_t t = 0; t < length; ++t) {
            std::size_t const c = context(y, t);
            std::vector<double> const a = softmax(mu, c), b = softmax(pi, c);
            double const term = -probability * reward[y] * b[token(y, t)] / a[token(y, t)];
            e.loss += term;
            for (std::size_t v = 0; v < vocabulary; ++v)
                e.gradient[c * vocabulary + v] += term * ((v == token(y, t) ? 1.0 : 0.0) - b[v]);
        }
    }
    return e;
}

}  // namespace

int main() {
    std::mt19937_64 rng(7);
    std::normal_distribution<double> normal(0, 1);
    table mu(contexts * vocabulary), pi(mu.size());
    for (std::size_t i = 0; i < mu.size(); ++i) {
        double const step = i / vocabulary < 5 ? 0.05 : 0.3;  // late contexts moved further
        pi[i] = (mu[i] = normal(rng)) + step * normal(rng);
    }
    std::vector<double> reward(responses), advantage(responses);
    for (double& r : reward) r = normal(rng);

    // What a trainer has: for every token of the batch a row of logits from each model, and the sampled token.
    constexpr std::size_t tokens = responses * length;
    std::vector<double> mu_logits, pi_logits;
    std::vector<std::int32_t> targets, cu_seqlens{0};
    for (std::size_t y = 0; y < responses; ++y) {
        advantage[y] = reward[y];
        for (std::size_t t = 0; t < length; ++t) {
            std::size_t const row = context(y, t) * vocabulary;
            mu_logits.insert(mu_logits.end(), &mu[row], &mu[row] + vocabulary);
            pi_logits.insert(pi_logits.end(), &pi[row], &pi[row] + vocabulary);
            targets.push_back(static_cast<std::int32_t>(token(y, t)));
            advantage[y] *= softmax(mu, context(y, t))[token(y, t)];  // every response once, weighted by mu(y)
        }
        cu_seqlens.push_back(static_cast<std::int32_t>(targets.size()));
    }

    // 1. Forward: log-probs of the sampled tokens under both policies.
    trm::logits_view<double> const mu_view{.data = mu_logits.data(), .rows = tokens, .vocab = vocabulary};
    trm::logits_view<double> const pi_view{.data = pi_logits.data(), .rows = tokens, .vocab = vocabulary};
    std::vector<double> mu_logp(tokens), pi_logp(tokens), mu_lse(tokens), pi_lse(tokens), kl(tokens);
    trm::throw_if(trm::log_prob(mu_view, targets, trm::log_prob_out<double>{.logp = mu_logp, .logsumexp = mu_lse}));
    trm::throw_if(trm::log_prob(pi_view, targets, trm::log_prob_out<double>{.logp = pi_logp, .logsumexp = pi_lse}));

    // 2. Exact KL of every token, over the whole vocabulary.
    trm::throw_if(trm::exact_divergence(mu_view, pi_view, trm::divergence_out<double>{.kl_mu_pi = kl}));

    trm::batch_view<double> const batch{.logp = pi_logp,
                                        .rollout_logp = mu_logp,
                                        .sequence_advantages = advantage,
                                        .given = kl,
                                        .layout = trm::packed{cu_seqlens}};
    std::vector<double> d_logp(tokens), d_logits(tokens * vocabulary);
    bool ok = true;
    std::printf("%8s %10s %12s %12s %12s\n", "delta", "mu(kept)", "loss", "loss error", "grad error");
    for (double delta : {0.02, 0.05, 0.1, 10.0}) {
        // 3. Mask and loss: d loss / d logp of every token, zero in rejected sequences.
        trm::masked_loss const loss{trm::sequence_mask{trm::given{}, trm::stat::max, trm::at_most(delta)},
                                    trm::importance_ratio{}, trm::token_sum{}};
        trm::result const r = trm::checked(loss)(batch, d_logp);

        // 4. Backward into the logits. Rows of rejected sequences are zero-filled without being read.
        trm::throw_if(trm::logits_gradient(pi_view, targets,
                                           trm::logits_gradient_in<double>{.logsumexp = pi_lse, .d_logp = d_logp},
                                           trm::logits_gradient_out<double>{.data = d_logits.data()}));

        // A model's backward pass would continue from d_logits; here every row belongs to an entry of the table.
        table gradient(pi.size());
        for (std::size_t y = 0; y < responses; ++y)
            for (std::size_t t = 0; t < length; ++t)
                for (std::size_t v = 0; v < vocabulary; ++v)
                    gradient[context(y, t) * vocabulary + v] += d_logits[(y * length + t) * vocabulary + v];

        enumerated const want = enumerate(mu, pi, reward, delta);
        double largest = 0;
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            double const error = std::fabs(gradient[i] - want.gradient[i]);
            largest = std::max(largest, error);
            ok = ok && error < 1e-12;  // NaN is an error, too
        }
        std::printf("%8.3f %10.4f %12.6f %12.1e %12.1e\n", delta, want.kept, r.loss, std::fabs(r.loss - want.loss),
                    largest);
        ok = ok && std::fabs(r.loss - want.loss) < 1e-12;
    }
    std::printf("%s\n", ok ? "agrees with the enumeration" : "DISAGREES with the enumeration");
    return ok ? 0 : 1;
}
