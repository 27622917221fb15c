// SPDX-License-Identifier: Apache-2.0
// The heap of logits kernels, Eigen's packing buffers included.
#include "catch.hpp"
#include "heap.hpp"

#include <trm/logits/divergence.hpp>
#include <trm/logits/linear_divergence.hpp>
#include <trm/logits/linear_gradient.hpp>

#include <vector>

TEST_CASE("The counter counts", "[logits][unit]") {
    heap::result const r = heap::of([] {
        std::vector<float> const buffer(1 << 20);
        __asm__ volatile("" : : "r"(buffer.data()) : "memory");  // the compiler may not leave it out
    });
    CHECK(r.calls == 1);
    CHECK(r.peak >= 4 << 20);
}

TEST_CASE("Logits kernels allocate nothing", "[logits][unit]") {
    std::int64_t const rows = 5, vocab = 10007;
    std::vector<float> x(std::size_t(rows * vocab), 0.25f), y(std::size_t(rows * vocab), 0.5f), d(x.size());
    std::vector<std::uint8_t> mask(std::size_t(vocab), 1);
    std::vector<std::int32_t> const ids(std::size_t(rows), 3);
    std::vector<float> logp(5), h(5), kl(5), tv(5);
    std::vector<double> lse(5);
    trm::logits_view<float> const v{.data = x.data(), .rows = rows, .vocab = vocab, .vocab_mask = mask.data()};
    trm::logits_view<float> const u{.data = y.data(), .rows = rows, .vocab = vocab};
    bool ok = true;
    heap::result const r = heap::of([&] {
        ok = ok && trm::log_prob(v, ids, trm::log_prob_out<float>{logp, lse, h}).ok();
        ok = ok && trm::exact_divergence(v, u, trm::divergence_out<float>{.kl_mu_pi = kl, .tv = tv}).ok();
        ok = ok && trm::logits_gradient(v, ids, trm::logits_gradient_in<float>{lse, logp, logp, h},
                                        trm::logits_gradient_out<float>{d.data()})
                       .ok();
    });
    CHECK(ok);
    CHECK(r.calls == 0);
}

TEST_CASE("The fused head's memory does not depend on the vocabulary", "[logits][linear][unit]") {
    // Room for the blocks that Eigen packs operands into. It sizes them by the caches it sees, never by N x V.
    std::int64_t const packing = 4 << 20;
    std::int64_t const rows = 300, width = 64;
    std::vector<float> hidden(300 * 64, 0.1f), d_hidden(300 * 64), logp(300), h(300);
    std::vector<double> lse(300);
    std::vector<std::int32_t> const ids(300, 3);
    trm::linear_blocks const b{64, 1024, 1};
    std::int64_t peaks[2] = {};
    for (int big = 0; big < 2; ++big) {
        std::int64_t const vocab = big != 0 ? 151936 : 20000;
        std::vector<float> weight(std::size_t(vocab * width));
        for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = float(i % 17) * 0.01f;
        std::vector<float> d_weight(weight.size());
        trm::linear_view<float, float> const v{
            .hidden = hidden.data(), .weight = weight.data(), .rows = rows, .width = width, .vocab = vocab};
        bool ok = true;
        auto const all = [&] {
            std::vector<std::byte> ws(std::size_t(std::max(trm::linear_workspace<float, float>(width, b),
                                                           trm::linear_gradient_workspace<float, float>(width, b))));
            ok = ok && trm::linear_log_prob(v, ids, trm::log_prob_out<float>{logp, lse, h}, ws, b).ok();
            ok = ok && trm::linear_gradient(v, ids, trm::logits_gradient_in<float>{.logsumexp = lse, .d_logp = logp},
                                            trm::linear_gradient_out{d_hidden.data(), d_weight.data()}, ws, b)
                           .ok();
        };
        peaks[big] = heap::of(all).peak;
        CHECK(ok);
        INFO("V = " << vocab << ": peak " << peaks[big] << " bytes; N x V would be " << rows * vocab * 4);
        CHECK(peaks[big] <= trm::linear_gradient_workspace<float, float>(width, b) + packing);
        CHECK(peaks[big] < rows * vocab * 4 / 4);
    }
    CHECK(peaks[1] <= peaks[0] + 4096);
    WARN("fused head, V = 151936: peak " << double(peaks[1]) / (1 << 20) << " MiB, stated workspace "
                                         << double(trm::linear_gradient_workspace<float, float>(width, b)) / (1 << 20)
                                         << " MiB, N x V " << double(rows * 151936 * 4) / (1 << 20) << " MiB");
}

TEST_CASE("A fused head without memory for its products says so", "[logits][linear][unit]") {
    std::int64_t const rows = 300, width = 512, vocab = 3000;
    std::vector<float> hidden(std::size_t(rows * width), 0.1f), weight(std::size_t(vocab * width), 0.2f), logp(300),
        d_hidden(hidden.size()), d_weight(weight.size()), tv(300), up(300, 1.0f);
    std::vector<double> lse(300);
    std::vector<double> const known(300, 9.0);
    std::vector<std::int32_t> const ids(300, 3);
    trm::linear_blocks const b{256, 1024, 1};
    std::vector<std::byte> ws(std::size_t(4) * std::size_t(trm::linear_gradient_workspace<float, float>(width, b)));
    trm::linear_view<float, float> const v{
        .hidden = hidden.data(), .weight = weight.data(), .rows = rows, .width = width, .vocab = vocab};
    trm::status s[3];
    auto const all = [&](std::size_t most) {
        heap::most = most;
        s[0] = trm::linear_log_prob(v, ids, trm::log_prob_out<float>{logp, lse, {}}, ws, b);
        s[1] =
            trm::linear_divergence(v, v, ids, trm::log_prob_out<float>{}, trm::divergence_out<float>{.tv = tv}, ws, b);
        s[2] = trm::linear_gradient(v, ids, trm::logits_gradient_in<float>{.logsumexp = known, .d_logp = up},
                                    trm::linear_gradient_out{d_hidden.data(), d_weight.data()}, ws, b);
        heap::most = static_cast<std::size_t>(-1);
    };
    all(static_cast<std::size_t>(-1));
    for (trm::status const& each : s) CHECK(each.ok());
    all(1 << 17);
    for (int i = 0; i < 3; ++i) {
        INFO("call " << i);
        CHECK(s[i].code == trm::errc::out_of_memory);
    }
}
