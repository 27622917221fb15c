// SPDX-License-Identifier: Apache-2.0
// A policy trained with LibTorch in C++, the loss from trm, its gradient through autograd. Checks loss and gradient against
// the same formula in eager tensors, and that mistakes are refused.
//
//   c++ -std=c++20 -O2 -Iinclude -I$TORCH/include -I$TORCH/include/torch/csrc/api/include examples/libtorch/train.cpp
//       -L$TORCH/lib -Wl,-rpath,$TORCH/lib -ltorch -ltorch_cpu -lc10
//
// TORCH: where LibTorch is, or torch's folder in Python's site-packages; /usr with Debian's libtorch-dev.
#include <trm/interop/torch.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/spec.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

void check(bool holds, char const* what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what);
    std::exit(1);
}
bool close(at::Tensor const& a, at::Tensor const& b, double tolerance) {
    return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>() <= tolerance;
}
template <class F>
void refused(F const& f, char const* sentence) {
    std::string what = "nothing thrown";
    try {
        f();
    } catch (std::exception const& e) {
        what = e.what();
    }
    if (what.find(sentence) == std::string::npos) std::printf("%s\n", what.c_str());
    check(what.find(sentence) != std::string::npos, sentence);
}

trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.05)}, trm::importance_ratio{},
                            trm::token_mean{}};

/// The same in eager tensors.
at::Tensor eager(at::Tensor const& logp, at::Tensor const& rollout, at::Tensor const& advantages,
                 at::Tensor const& mask) {
    at::Tensor const x = at::where(mask, logp - rollout, at::zeros_like(logp));
    at::Tensor const keep = std::get<0>((x * x / 2).detach().max(1, true)) <= 0.05;
    return at::where(mask & keep, -at::exp(x) * advantages, at::zeros_like(x)).sum() / mask.sum();
}

void compare(at::ScalarType dtype, double tolerance) {
    at::manual_seed(5);
    auto const real = dtype == at::kDouble ? at::kDouble : at::kFloat;
    at::Tensor const rollout = (-0.1 - 2 * at::rand({8, 20}, at::kDouble)).to(dtype);
    at::Tensor const start = (rollout.to(at::kDouble) + 0.15 * at::randn({8, 20}, at::kDouble)).to(dtype);
    at::Tensor const advantages = at::randn({8, 20}, real), mask = at::rand({8, 20}) < 0.9;
    at::Tensor const logp = start.clone().requires_grad_(), wide = start.to(at::kDouble).clone().requires_grad_();
    at::Tensor const want = eager(wide, rollout.to(at::kDouble), advantages.to(at::kDouble), mask);
    (2 * want).backward();
    auto const out = trm::torch::masked_loss(
        loss, {.logp = logp, .rollout_logp = rollout, .advantages = advantages, .loss_mask = mask});
    (2 * out.loss).backward();
    check(close(out.loss, want, tolerance), "the loss is that of eager tensors");
    check(close(2 * out.grad, wide.grad(), tolerance), "the gradient is that of autograd");
    check(close(logp.grad(), wide.grad(), dtype == real ? tolerance : 1e-3), "backward gives the gradient");
    check(logp.grad().scalar_type() == dtype && out.grad.scalar_type() == real, "dtypes");
    check(out.diagnostics.kept_sequences > 0 && out.diagnostics.kept_sequences < 8, "some sequences are rejected");

    // packed, one advantage per sequence
    at::Tensor const cu = at::arange(0, 161, 20, at::kInt), each = at::randn({8}, real);
    auto const packed = trm::torch::masked_loss(
        loss, {.logp = start.view({-1}), .rollout_logp = rollout.view({-1}), .advantages = each, .cu_seqlens = cu});
    auto const padded = trm::torch::masked_loss(
        loss, {.logp = start, .rollout_logp = rollout, .advantages = each.unsqueeze(1).expand({8, 20}).contiguous()});
    check(at::equal(packed.loss, padded.loss) && at::equal(packed.grad.view({8, 20}), padded.grad), "layouts agree");
}

/// A loss from text, compiled for one dtype.
void from_text() {
    trm::any_loss const read{trm::parse_spec("mask: seq_max_k2 <= 0.05; surrogate: importance_ratio")};
    at::Tensor const logp = -at::rand({4, 6}), rollout = logp + 0.1 * at::randn({4, 6}), advantages = at::randn({4});
    trm::torch::tensors const t{.logp = logp, .rollout_logp = rollout, .advantages = advantages};
    auto const out = trm::torch::masked_loss<float>(read, t), composed = trm::torch::masked_loss<float>(loss, t);
    check(at::equal(out.loss, composed.loss) && at::equal(out.grad, composed.grad), "text and types agree");
}

void train() {
    at::manual_seed(6);
    at::Tensor logits = at::zeros({16, 12, 5}).requires_grad_();
    at::Tensor const targets = at::randint(5, {16, 12});
    at::Tensor const advantages = (targets == 3).to(at::kFloat) - 0.2;
    auto const logp_of = [&] { return at::log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1); };
    at::Tensor const rollout = logp_of().detach();
    double first = 0, last = 0;
    for (int step = 0; step < 20; ++step) {
        auto const out = trm::torch::masked_loss(
            loss, {.logp = logp_of().contiguous(), .rollout_logp = rollout, .advantages = advantages});
        logits.mutable_grad() = at::Tensor();
        out.loss.backward();
        at::NoGradGuard const none;
        logits -= 3 * logits.grad();
        (step == 0 ? first : last) = out.loss.item<double>();
    }
    std::printf("loss %.4f after one step, %.4f after twenty\n", first, last);
    check(last < first - 0.01, "the policy improves");
}

void mistakes() {
    at::Tensor const x = -at::ones({2, 3}), a = at::ones({2, 3});
    auto const call = [](trm::torch::tensors const& t) { (void)trm::torch::masked_loss(loss, t); };
    refused([&] { call({.rollout_logp = x}); }, "trm: logp is missing");
    refused([&] { call({.logp = x, .rollout_logp = x}); }, "the loss reads a stream that the batch does not have");
    refused([&] { call({.logp = x, .rollout_logp = x.to(at::kDouble), .advantages = a}); },
            "trm: rollout_logp must be Float, not Double");
    refused([&] { call({.logp = x, .rollout_logp = at::ones({3, 2}).t(), .advantages = a}); },
            "trm: rollout_logp must be contiguous");
    refused([&] { call({.logp = x, .rollout_logp = x, .advantages = at::ones({5})}); },
            "trm: advantages must have 2 elements, not 5");
    refused([&] { call({.logp = x.view({-1}), .rollout_logp = x.view({-1}), .advantages = a}); },
            "or cu_seqlens be given");
    refused([&] { call({.logp = at::ones({2, 3}, at::kMeta), .rollout_logp = x, .advantages = a}); },
            "trm: logp is on meta; trm computes on the CPU");
    refused([&] { call({.logp = at::ones({2, 3}, at::kInt), .rollout_logp = x, .advantages = a}); },
            "trm: logp is Int, for which this call is not compiled");
}

}  // namespace

int main() {
    compare(at::kDouble, 1e-13);
    compare(at::kFloat, 1e-6);
    compare(at::kBFloat16, 1e-6);
    compare(at::kHalf, 1e-6);
    from_text();
    mistakes();
    train();
    std::printf("loss and gradient agree with eager tensors\n");
}
