// SPDX-License-Identifier: Apache-2.0
// trm for peers_torch.py: a shared library, so that trm and its peers take turns in one process on the same arrays.
#include "logits_ceilings.hpp"

#include <trm/logits/gradient.hpp>
#include <trm/logits/log_prob.hpp>
#include <trm/loss/masked_loss.hpp>

#include <cmath>
#include <limits>

namespace {

template <class F>
auto with_threads(int threads, F const& f) {
    static bench::two_threads const pool;
    return threads == 2 ? f(trm::with_grain{pool}) : f(trm::with_grain{trm::serial_executor{}});
}
template <class T>
std::span<T> span(T* p, std::int64_t n) {
    return {p, p == nullptr ? 0 : static_cast<std::size_t>(n)};
}

template <class S>
bool log_prob(S const* x, std::int64_t rows, std::int64_t vocab, std::int64_t const* ids, float* logp, double* lse,
              float* entropy, int threads) {
    trm::logits_view<S> const v{.data = x, .rows = rows, .vocab = vocab};
    return with_threads(threads, [&](auto const& run) {
        return trm::log_prob(v, span(ids, rows),
                             trm::log_prob_out<float>{span(logp, rows), span(lse, rows), span(entropy, rows)}, run)
            .ok();
    });
}
template <class S>
bool gradient(S const* x, std::int64_t rows, std::int64_t vocab, std::int64_t const* ids, double const* lse,
              float const* d_logp, float const* d_entropy, float const* entropy, S* out, int threads) {
    trm::logits_view<S> const v{.data = x, .rows = rows, .vocab = vocab};
    trm::logits_gradient_in<float> const in{span(lse, rows), span(d_logp, rows), span(d_entropy, rows),
                                            span(entropy, rows)};
    return with_threads(threads, [&](auto const& run) {
        return trm::logits_gradient(v, span(ids, rows), in, trm::logits_gradient_out<S>{.data = out, .stream = true},
                                    run)
            .ok();
    });
}

}  // namespace

extern "C" {

int peers_simd_width() { return trm::simd::width(); }

int peers_log_prob_f32(float const* x, std::int64_t rows, std::int64_t vocab, std::int64_t const* ids, float* logp,
                       double* lse, float* entropy, int threads) {
    return log_prob(x, rows, vocab, ids, logp, lse, entropy, threads);
}
int peers_log_prob_bf16(trm::bf16 const* x, std::int64_t rows, std::int64_t vocab, std::int64_t const* ids, float* logp,
                        double* lse, float* entropy, int threads) {
    return log_prob(x, rows, vocab, ids, logp, lse, entropy, threads);
}
int peers_gradient_f32(float const* x, std::int64_t rows, std::int64_t vocab, std::int64_t const* ids,
                       double const* lse, float const* d_logp, float const* d_entropy, float const* entropy, float* out,
                       int threads) {
    return gradient(x, rows, vocab, ids, lse, d_logp, d_entropy, entropy, out, threads);
}
int peers_gradient_bf16(trm::bf16 const* x, std::int64_t rows, std::int64_t vocab, std::int64_t const* ids,
                        double const* lse, float const* d_logp, float const* d_entropy, float const* entropy,
                        trm::bf16* out, int threads) {
    return gradient(x, rows, vocab, ids, lse, d_logp, d_entropy, entropy, out, threads);
}

/// PPO clip on the sequences whose k3 stays small, `rows` of `length` tokens; the loss, or NaN.
double peers_token_loss(float const* logp, float const* rollout, float const* advantage, std::int64_t rows,
                        std::int64_t length, float* grad, int threads) {
    std::vector<std::int64_t> cu;
    for (std::int64_t r = 0; r <= rows; ++r) cu.push_back(r * length);
    trm::masked_loss loss{trm::sequence_mask{trm::k3{}, trm::stat::max, trm::at_most(0.125)} &&
                              trm::sequence_mask{trm::k3{}, trm::stat::mean, trm::at_most(0.01)},
                          trm::ppo_clip{}, trm::token_mean{}};
    loss.options.diagnose = false;
    std::int64_t const n = rows * length;
    trm::batch_view<float> const batch{.logp = span(logp, n),
                                       .rollout_logp = span(rollout, n),
                                       .advantages = span(advantage, n),
                                       .layout = trm::packed{cu}};
    static trm::workspace scratch;
    trm::outputs<float> out;
    out.grad = span(grad, n);
    trm::result const r = with_threads(threads, [&](auto const& run) { return loss(batch, out, run, scratch); });
    return r.status.ok() ? r.loss : std::numeric_limits<double>::quiet_NaN();
}
}
