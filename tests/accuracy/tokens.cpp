// SPDX-License-Identifier: Apache-2.0
// Loss, gradient and kept set of 10^8 tokens in one call against the oracle, which takes them a piece at a time: sums of any
// length keep their accuracy.
//
//   tokens [number of tokens]
#include "../larger.hpp"
#include "../loss_batch.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/reference/loss.hpp>

#include <cstdio>
#include <cstdlib>

using namespace trm;

int main(int argc, char** argv) {
    auto const wanted = static_cast<std::size_t>(argc > 1 ? std::atof(argv[1]) : 1e8);
    // One piece of half a million tokens, again and again with other advantages: the whole never repeats.
    auto piece = batches::make<float>({batches::short_lengths(17000, 3), true, 0.3, 0.001}, 5);
    std::size_t const n = piece.tokens(), pieces = wanted / n + 1;
    std::vector<float> logp, rollout, advantages;
    std::vector<std::uint8_t> mask;
    std::vector<std::int64_t> cu{0};
    batches::random r(6);
    for (std::size_t k = 0; k < pieces; ++k) {
        for (std::size_t t = 0; t < n; ++t) {
            logp.push_back(piece.logp[t]);
            rollout.push_back(piece.rollout[t]);
            advantages.push_back(static_cast<float>(r.normal()));
            mask.push_back(piece.mask[t]);
        }
        for (std::size_t i = 1; i < piece.cu.size(); ++i) cu.push_back(static_cast<std::int64_t>(k * n) + piece.cu[i]);
    }
    batch_view<float> const batch{
        .logp = logp, .rollout_logp = rollout, .advantages = advantages, .loss_mask = mask, .layout = packed{cu}};
    masked_loss loss{token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k2{}, stat::max, at_most(0.6)},
                     ppo_clip{0.2, 0.28, 3.0}, token_mean{over_count(static_cast<double>(logp.size()))},
                     token_weight{truncate_above(1.7)}};
    std::vector<float> grad(logp.size());
    std::vector<std::uint8_t> keep(logp.size());
    outputs<float> out;
    out.grad = grad;
    out.keep = keep;
    result const got = loss(batch, out);
    if (!got.status.ok()) return std::fprintf(stderr, "%s\n", got.status.what), 1;
    long double want = 0, size = 0;
    double worst = 0;
    std::size_t other_kept = 0;
    for (std::size_t k = 0; k < pieces; ++k) {
        auto const part = [&](auto const& v) { return std::span(v).subspan(k * n, n); };
        batch_view<float> const some{.logp = part(logp),
                                     .rollout_logp = part(rollout),
                                     .advantages = part(advantages),
                                     .loss_mask = part(mask),
                                     .layout = packed{piece.cu}};
        auto const e = reference::evaluate(loss, some);
        want += static_cast<long double>(e.loss);
        size += static_cast<long double>(e.loss_size);
        for (std::size_t t = 0; t < n; ++t) {
            std::size_t const at = k * n + t;
            other_kept += keep[at] != e.keep[t];
            if (e.grad_size[t] > 0)
                worst = larger(
                    worst, std::fabs(double(grad[at]) - e.grad[t]) / std::fmax(std::fabs(e.grad[t]), e.grad_size[t]));
        }
    }
    std::printf(
        "%zu tokens, %s: loss %.9g, oracle %.9Lg, error %.2Lg of sum |terms| and %.2Lg of the loss; gradient within "
        "%.2g; "
        "%zu tokens kept otherwise\n",
        logp.size(), simd::default_arch::name(), got.loss, want,
        std::fabs(static_cast<long double>(got.loss) - want) / size,
        std::fabs((static_cast<long double>(got.loss) - want) / want), worst, other_kept);
    return 0;
}
