// SPDX-License-Identifier: Apache-2.0
// The token pipeline against the machine's ceilings for the same bytes, a naive and a careful Eigen user and a scalar loop.
// Rows are token/<loss>/<sequence lengths>/<tokens>/r<percent of sequences rejected>/<threads>T.
#include "token_loss.hpp"

#include <trm/loss/to_spec.hpp>

#include <Eigen/Core>

namespace {

using namespace bench;

trm::masked_loss const ppo{max_and_mean, trm::ppo_clip{}, trm::token_mean{}};
trm::masked_loss const trm_max{max_k2, trm::importance_ratio{}, trm::token_mean{}};

template <class S, class Loss>
void pipeline(benchmark::State& state, Loss const& loss, std::int64_t tokens, lengths shape, int rejected,
              int threads) {
    if (!matches_oracle(loss, small_batch<S>())) return state.SkipWithError("not what the oracle says");
    auto& r = rollouts<S>::get(tokens, shape, rejected);
    pipeline_row(state, loss, r.view(), r.outputs(), 2.0 * sizeof(S) + 8, threads);
}

/// What a driver of a GPU trainer asks for: truncated weights of tokens and `keep`, no gradient.
void correction(benchmark::State& state, std::int64_t tokens) {
    trm::masked_loss const loss = quiet(trm::masked_loss{max_and_mean, trm::ppo_clip{}, trm::token_mean{},
                                                         trm::token_weight{trm::truncate_above(2.0)}});
    if (!matches_oracle(loss, small_batch<float>())) return state.SkipWithError("not what the oracle says");
    auto const view = rollouts<float>::get(tokens, lengths::ragged, 10).view();
    std::vector<float> weights(view.logp.size());
    std::vector<std::uint8_t> keep(view.logp.size());
    trm::outputs<float> out;
    out.weights = weights;
    out.keep = keep;
    pipeline_row(state, loss, view, out, 17, 1);
}

enum class variant { loss_mask, scattered_mask, sequence_advantages, in_place, unaligned };
void variants(benchmark::State& state, variant which, std::int64_t tokens, int threads) {
    auto const loss = quiet(ppo);
    auto batch = small_batch<float>();
    auto& small = rollouts<float>::at_least(4096);
    auto const change = [&](trm::batch_view<float>& b, rollouts<float> const& r) {
        if (which == variant::loss_mask) b.loss_mask = r.loss_mask();
        if (which == variant::scattered_mask) b.loss_mask = r.scattered_mask();
        if (which == variant::sequence_advantages) {
            b.advantages = {};
            b.sequence_advantages = r.sequence_advantages;
        }
    };
    change(batch, small);
    if (!matches_oracle(loss, batch)) return state.SkipWithError("not what the oracle says");
    auto& r = rollouts<float>::get(tokens, lengths::ragged, 10);
    auto view = r.view();
    change(view, r);
    auto out = r.outputs();
    bool const masked = which == variant::loss_mask || which == variant::scattered_mask;
    double const bytes = masked ? 17 : which == variant::sequence_advantages ? 12 : 16;
    if (which == variant::unaligned) {  // as std::vector<float> has it: 16 bytes after a page
        std::vector<float> a(view.logp.begin(), view.logp.end()), b(view.rollout_logp.begin(), view.rollout_logp.end()),
            c(view.advantages.begin(), view.advantages.end()), grad(a.size());
        view.logp = a;
        view.rollout_logp = b;
        view.advantages = c;
        out.grad = grad;
        return pipeline_row(state, loss, view, out, bytes, threads);
    }
    if (which != variant::in_place) return pipeline_row(state, loss, view, out, bytes, threads);
    out.grad = r.span(r.advantage());
    trm::workspace scratch;
    row(
        state, tokens, bytes, threads,
        [&] {
            with_threads(threads, [&](auto const& run) {
                auto result = loss(view, out, run, scratch);
                benchmark::DoNotOptimize(result.loss);
            });
        },
        [&] { r.restore_advantages(); });
    r.restore_advantages();
}

void chosen_at_run_time(benchmark::State& state, std::int64_t tokens, int threads) {
    auto const loss = quiet(trm::any_loss{trm::to_spec(ppo)});
    if (!agrees(ppo, small_batch<float>(), [&](auto const& b, auto grad) { return loss(b, grad).loss; }))
        return state.SkipWithError("not what the oracle says");
    auto& r = rollouts<float>::get(tokens, lengths::ragged, 10);
    pipeline_row(state, loss, r.view(), r.outputs(), 16, threads);
}

/// Sums f over the sequences: f(logp, rollout_logp, advantages, gradient to write, scale of the gradient).
template <class F>
double by_sequence(trm::batch_view<float> const& b, std::span<float> grad, F const& f) {
    double loss = 0;
    auto const n_tokens = static_cast<float>(b.layout.extent());
    for (std::int64_t i = 0; i < b.layout.runs(); ++i) {
        using in = Eigen::Map<Eigen::ArrayXf const>;
        auto const run = b.layout.run(i);
        loss += static_cast<double>(f(in(b.logp.data() + run.begin, run.size),
                                      in(b.rollout_logp.data() + run.begin, run.size),
                                      in(b.advantages.data() + run.begin, run.size),
                                      Eigen::Map<Eigen::ArrayXf>(grad.data() + run.begin, run.size), -1 / n_tokens));
    }
    return loss / static_cast<double>(n_tokens);
}
/// The formulas as they stand, one array per quantity, sequence by sequence.
double eigen_naive(trm::batch_view<float> const& b, std::span<float> grad) {
    return by_sequence(b, grad, [](auto logp, auto rollout, auto advantage, auto g, float scale) {
        Eigen::ArrayXf const log_ratio = (logp - rollout).max(-20.0f).min(20.0f);
        Eigen::ArrayXf const ratio = log_ratio.exp();
        Eigen::ArrayXf const k2 = 0.5f * log_ratio.square();
        Eigen::ArrayXf const k3 = ratio - 1.0f - log_ratio;
        bool const keep = k2.maxCoeff() <= 0.125f && k3.mean() <= 0.5f;
        Eigen::ArrayXf const unclipped = ratio * advantage;
        Eigen::ArrayXf const clipped = ratio.max(0.8f).min(1.2f) * advantage;
        Eigen::ArrayXf const surrogate = unclipped.min(clipped);
        if (!keep) {
            g.setZero();
            return 0.0f;
        }
        g = (clipped < unclipped).select(0.0f, unclipped * scale);
        return -surrogate.sum();
    });
}
/// What a careful Eigen user writes: no array that is not read twice.
double eigen(trm::batch_view<float> const& b, std::span<float> grad) {
    return by_sequence(b, grad, [](auto logp, auto rollout, auto a, auto g, float scale) {
        Eigen::ArrayXf const x = (logp - rollout).max(-20.0f).min(20.0f), ratio = x.exp();
        bool const keep = (x.square() * 0.5f).maxCoeff() <= 0.125f && (ratio - 1.0f - x).mean() <= 0.5f;
        if (!keep) {
            g.setZero();
            return 0.0f;
        }
        g = ((a > 0.0f && ratio > 1.2f) || (a < 0.0f && ratio < 0.8f)).select(0.0f, ratio * a * scale);
        return -(ratio * a).min(ratio.max(0.8f).min(1.2f) * a).sum();
    });
}
/// One token at a time with <cmath>.
double scalar(trm::batch_view<float> const& b, std::span<float> grad) {
    double loss = 0;
    float const scale = -1 / static_cast<float>(b.layout.extent());
    for (std::int64_t i = 0; i < b.layout.runs(); ++i) {
        auto const run = b.layout.run(i);
        float const *lp = b.logp.data() + run.begin, *mu = b.rollout_logp.data() + run.begin,
                    *adv = b.advantages.data() + run.begin;
        float* g = grad.data() + run.begin;
        float worst = 0;
        double mean = 0, sum = 0;
        for (std::int64_t t = 0; t < run.size; ++t) {
            float const x = std::clamp(lp[t] - mu[t], -20.0f, 20.0f), ratio = std::exp(x), a = adv[t];
            worst = std::max(worst, x * x / 2);
            mean += static_cast<double>(std::expm1(x) - x);
            bool const clipped = (a > 0 && ratio > 1.2f) || (a < 0 && ratio < 0.8f);
            g[t] = clipped ? 0.0f : ratio * a * scale;
            sum -= static_cast<double>(std::min(ratio * a, std::clamp(ratio, 0.8f, 1.2f) * a));
        }
        if (worst <= 0.125f && mean <= 0.5 * static_cast<double>(run.size)) {
            loss += sum;
        } else {
            std::fill_n(g, run.size, 0.0f);
        }
    }
    return loss / static_cast<double>(b.layout.extent());
}
void peer(benchmark::State& state, double (*f)(trm::batch_view<float> const&, std::span<float>), std::int64_t tokens) {
    if (!agrees(ppo, small_batch<float>(), f)) return state.SkipWithError("not what the oracle says");
    auto& r = rollouts<float>::get(tokens, lengths::ragged, 10);
    auto const view = r.view();
    row(state, tokens, 16, 1, [&] { benchmark::DoNotOptimize(f(view, r.span(r.grad()))); });
}

std::string name(char const* loss, lengths shape, std::int64_t tokens, int rejected, int threads) {
    return std::string("token/") + loss + "/" + name_of(shape) + "/" + size_name(tokens) + "/r" +
           std::to_string(rejected) + "/" + std::to_string(threads) + "T";
}
template <class S = float, class Loss>
void add_pipeline(char const* as, Loss const& loss, lengths shape, std::int64_t tokens, std::vector<int> rejections) {
    for (int rejected : rejections)
        for (int threads : {1, 2})
            add_row(name(as, shape, tokens, rejected, threads),
                    [=](benchmark::State& s) { pipeline<S>(s, loss, tokens, shape, rejected, threads); });
}

}  // namespace

int main(int argc, char** argv) {
    constexpr std::int64_t million = std::int64_t(1) << 20;
    for (std::int64_t const tokens : {million / 64, million / 4, 4 * million, 32 * million}) {
        bool const end = tokens == million / 64 || tokens == 32 * million;
        add_pipeline("ppo", ppo, lengths::ragged, tokens, {10});
        add_pipeline("ppo_quiet", quiet(ppo), lengths::ragged, tokens, {0, 10, 80});
        add_pipeline("trm_max_quiet", quiet(trm_max), lengths::ragged, tokens, {0, 80});
        if (end) add_pipeline("ppo_quiet", quiet(ppo), lengths::sixteen, tokens, {10});
        if (tokens >= 4 * million) add_pipeline("ppo_quiet", quiet(ppo), lengths::million, tokens, {0, 80});
        add_pipeline<trm::bf16>("ppo_quiet_bf16", quiet(ppo), lengths::ragged, tokens, {10});
        auto const add = [&](char const* as, int threads, auto f) {
            add_row(name(as, lengths::ragged, tokens, 10, threads), f);
        };
        for (int threads : {1, 2}) {
            add("ppo_quiet_mask", threads,
                [=](benchmark::State& s) { variants(s, variant::loss_mask, tokens, threads); });
            add("any_loss_quiet", threads, [=](benchmark::State& s) { chosen_at_run_time(s, tokens, threads); });
            if (end)
                add("ppo_quiet_in_place", threads,
                    [=](benchmark::State& s) { variants(s, variant::in_place, tokens, threads); });
        }
        add("ppo_quiet_scattered_mask", 1,
            [=](benchmark::State& s) { variants(s, variant::scattered_mask, tokens, 1); });
        add("ppo_quiet_grpo", 1, [=](benchmark::State& s) { variants(s, variant::sequence_advantages, tokens, 1); });
        add("ppo_quiet_correction", 1, [=](benchmark::State& s) { correction(s, tokens); });
        add("ppo_quiet_unaligned", 1, [=](benchmark::State& s) { variants(s, variant::unaligned, tokens, 1); });
        add("eigen", 1, [=](benchmark::State& s) { peer(s, eigen, tokens); });
        add("eigen_naive", 1, [=](benchmark::State& s) { peer(s, eigen_naive, tokens); });
        add("scalar", 1, [=](benchmark::State& s) { peer(s, scalar, tokens); });
    }
    return run_rows(argc, argv);
}
