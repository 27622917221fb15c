// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "larger.hpp"
#include "logits_rows.hpp"

#include <trm/logits/linear_divergence.hpp>
#include <trm/logits/linear_gradient.hpp>
#include <trm/logits/topk.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>
#include <thread>

namespace {

/// A head and its exact answers in double.
template <class H, class W>
struct problem {
    std::int64_t rows, width, vocab;
    double temperature = 0.9;
    std::vector<H> hidden;
    std::vector<W> weight;
    std::vector<double> h, w;  ///< what the storage holds
    std::vector<std::int32_t> ids;
    std::vector<std::uint8_t> mask;

    problem(std::int64_t rows_, std::int64_t width_, std::int64_t vocab_, unsigned seed)
        : rows(rows_), width(width_), vocab(vocab_) {
        std::mt19937_64 rng(seed);
        std::normal_distribution<double> normal(0, 1);
        h.resize(std::size_t(rows * width));
        w.resize(std::size_t(vocab * width));
        for (double& v : h) v = normal(rng);
        for (double& v : w) v = 2 * normal(rng) / std::sqrt(double(width));
        hidden = rows::store<H>(h);
        weight = rows::store<W>(w);
        for (std::int64_t r = 0; r < rows; ++r) {
            ids.push_back(std::int32_t(rng() % std::uint64_t(vocab)));
            mask.push_back(rng() % 3 != 0 || r == 0 || r + 1 == rows);  // the ends are kept
        }
    }
    trm::linear_view<H, W> view() const {
        return {.hidden = hidden.data(),
                .weight = weight.data(),
                .rows = rows,
                .width = width,
                .vocab = vocab,
                .temperature = temperature,
                .row_mask = mask.data()};
    }
    std::vector<double> logits(std::int64_t r) const {
        std::vector<double> z(std::size_t(vocab), 0.0);
        for (std::int64_t v = 0; v < vocab; ++v) {
            for (std::int64_t k = 0; k < width; ++k)
                z[std::size_t(v)] += h[std::size_t(r * width + k)] * w[std::size_t(v * width + k)];
            z[std::size_t(v)] /= temperature;
        }
        return z;
    }
};

/// Last block first, every other one on another thread.
struct backwards {
    template <class F>
    void operator()(std::int64_t n, F const& f) const {
        for (std::int64_t i = n - 1; i >= 0; --i) {
            if (i % 2 == 0) std::thread([&] { f(i); }).join();
            else f(i);
        }
    }
};
/// All blocks at the same time.
struct together {
    template <class F>
    void operator()(std::int64_t n, F const& f) const {
        std::vector<std::thread> threads;
        for (std::int64_t i = 0; i < n; ++i) threads.emplace_back([&f, i] { f(i); });
        for (auto& t : threads) t.join();
    }
};

/// How many tasks a call of the executor has, at most.
struct most_at_once {
    mutable std::int64_t tasks = 0;
    template <class F>
    void operator()(std::int64_t n, F const& f) const {
        tasks = std::max(tasks, n);
        trm::serial_executor{}(n, f);
    }
};

struct results {
    std::vector<float> logp, entropy;
    std::vector<double> lse;
    std::vector<float> d_hidden, d_weight;
    friend bool operator==(results const&, results const&) = default;
};

template <class H, class W, class Exec = trm::serial_executor>
results run(problem<H, W> const& p, trm::linear_blocks b, std::vector<float> const& up, std::vector<float> const& up_h,
            Exec const& exec = {}) {
    auto const n = std::size_t(p.rows);
    results r{std::vector<float>(n, 9), std::vector<float>(n, 9), std::vector<double>(n, 9),
              std::vector<float>(n * std::size_t(p.width), 9), std::vector<float>(std::size_t(p.vocab * p.width), 9)};
    std::vector<std::byte> ws(std::size_t(
        std::max(trm::linear_workspace<H, W>(p.width, b), trm::linear_gradient_workspace<H, W>(p.width, b))));
    REQUIRE(trm::linear_log_prob(p.view(), p.ids, trm::log_prob_out<float>{r.logp, r.lse, r.entropy}, ws, b,
                                 trm::linear_gather<float>{}, exec)
                .ok());
    trm::logits_gradient_in<float> const in{r.lse, up, up_h, r.entropy};
    REQUIRE(trm::linear_gradient(p.view(), p.ids, in, trm::linear_gradient_out{r.d_hidden.data(), r.d_weight.data()},
                                 ws, b, exec)
                .ok());
    return r;
}

template <class H, class W>
void against_oracle(std::int64_t rows, std::int64_t width, std::int64_t vocab, trm::linear_blocks b) {
    problem<H, W> const p(rows, width, vocab, 31);
    std::vector<float> up(std::size_t(rows), -0.75f), up_h(std::size_t(rows), 0.25f);
    for (std::size_t r = 0; r < up.size(); r += 4) up[r] = up_h[r] = 0;
    results const got = run(p, b, up, up_h);
    std::vector<double> d_hidden(p.h.size()), d_weight(p.w.size());
    for (std::int64_t r = 0; r < rows; ++r) {
        auto const i = std::size_t(r);
        std::vector<double> const z = p.logits(r);
        if (p.mask[i] == 0) {
            CHECK(got.logp[i] == 0);
            CHECK(got.lse[i] == 0);
            CHECK(got.entropy[i] == 0);
            continue;
        }
        double const lse = trm::reference::logsumexp(z);
        CHECK(got.lse[i] == Approx(lse).epsilon(2e-6));
        CHECK(got.logp[i] == Approx(z[std::size_t(p.ids[i])] - lse).epsilon(2e-6).margin(4e-6));
        CHECK(got.entropy[i] == Approx(trm::reference::entropy(z)).epsilon(4e-6).margin(4e-6));
        if (up[i] == 0) continue;
        std::vector<double> const g =
            trm::reference::logits_gradient(z, std::size_t(p.ids[i]), double(up[i]), double(up_h[i]), p.temperature);
        for (std::int64_t v = 0; v < vocab; ++v)
            for (std::int64_t k = 0; k < width; ++k) {
                d_hidden[std::size_t(r * width + k)] += g[std::size_t(v)] * p.w[std::size_t(v * width + k)];
                d_weight[std::size_t(v * width + k)] += g[std::size_t(v)] * p.h[std::size_t(r * width + k)];
            }
    }
    double worst_h = 0, worst_w = 0;
    for (std::size_t i = 0; i < d_hidden.size(); ++i)
        worst_h = larger(worst_h, std::fabs(double(got.d_hidden[i]) - d_hidden[i]));
    for (std::size_t i = 0; i < d_weight.size(); ++i)
        worst_w = larger(worst_w, std::fabs(double(got.d_weight[i]) - d_weight[i]));
    CHECK(worst_h < 5e-6);
    CHECK(worst_w < 5e-6);
}

}  // namespace

TEST_CASE("The fused head matches the oracle, forward and backward", "[logits][linear][parity]") {
    for (trm::linear_blocks b : {trm::linear_blocks{8, 100, 1}, trm::linear_blocks{5, 997, 3},
                                 trm::linear_blocks{64, 2048, 1}, trm::linear_blocks{16, 600, 2}}) {
        against_oracle<float, float>(37, 24, 1003, b);
        against_oracle<trm::bf16, trm::bf16>(23, 17, 1003, b);
        against_oracle<float, trm::f16>(9, 33, 601, b);
    }
    against_oracle<float, float>(1, 1, 1, {});
    against_oracle<trm::bf16, float>(4, 3, 2, {2, 1, 2});
}

TEST_CASE("The fused head gives the same bits for any executor and any number of workers",
          "[logits][linear][property]") {
    problem<float, float> const p(61, 40, 3001, 32);
    std::vector<float> const up(61, 1.5f), up_h(61, -0.5f);
    results const one = run(p, {8, 512, 1}, up, up_h);
    CHECK(one == run(p, {8, 512, 2}, up, up_h));
    CHECK(one == run(p, {8, 512, 5}, up, up_h, backwards{}));
    CHECK(one == run(p, {8, 512, 3}, up, up_h, together{}));
}

TEST_CASE("The fused head gives the same bits however few rows are kept, and cuts few rows into panels",
          "[logits][linear][property]") {
    problem<trm::bf16, trm::bf16> p(300, 5, 2300,
                                    39);  // a rest in every cut: chunks of 1100 in panels of 512, 512 and 76
    std::vector<float> const up(300, 1.5f), up_h(300, -0.5f);
    for (std::size_t kept : {0u, 1u, 17u, 65u, 255u, 257u}) {
        for (std::size_t r = 0; r < 300; ++r) p.mask[r] = r * 7 % 300 < kept;  // 7 and 300 have no common divisor
        results const one = run(p, {256, 1100, 1}, up, up_h);
        CAPTURE(kept);
        CHECK(std::count(one.logp.begin(), one.logp.end(), 0.0f) == 300 - std::ptrdiff_t(kept));
        CHECK(one == run(p, {256, 1100, 2}, up, up_h, together{}));
        CHECK(one == run(p, {256, 1100, 3}, up, up_h, backwards{}));
        most_at_once const count;
        CHECK(one == run(p, {256, 1100, 1}, up, up_h, count));
        CHECK(count.tasks == (kept == 0 ? 0 : 4));  // d weight in three panels, d hidden in one part
    }
}

TEST_CASE("Two fused heads give the same bits for any executor and any number of workers",
          "[logits][linear][property]") {
    problem<float, float> pi(300, 5, 1300, 40);
    problem<trm::bf16, trm::bf16> mu(300, 5, 1300, 41);
    for (std::size_t kept : {1u, 65u, 257u}) {
        for (std::size_t r = 0; r < 300; ++r) pi.mask[r] = mu.mask[r] = r * 7 % 300 < kept;
        auto const all = [&](std::int64_t workers, auto const& exec) {
            trm::linear_blocks const b{256, 600, workers};
            std::vector<std::byte> ws(
                std::size_t(trm::linear_divergence_workspace<trm::bf16, trm::bf16, float, float>(5, 5, b)));
            std::vector<std::vector<float>> r(5, std::vector<float>(300, 9));
            REQUIRE(trm::linear_divergence(mu.view(), pi.view(), pi.ids, trm::log_prob_out<float>{r[0], {}, r[1]},
                                           trm::divergence_out<float>{.kl_mu_pi = r[2], .kl_pi_mu = r[3], .tv = r[4]},
                                           ws, b, exec)
                        .ok());
            return r;
        };
        auto const one = all(1, trm::serial_executor{});
        CAPTURE(kept);
        CHECK(one == all(2, together{}));
        CHECK(one == all(3, backwards{}));
    }
}

TEST_CASE("The fused head's gradient is the derivative of its forward pass", "[logits][linear][property]") {
    problem<float, float> p(6, 10, 50, 33);
    std::vector<float> const up{1, -2, 0.5f, 0, 3, -1}, up_h{0.5f, 0.5f, 0, 0, -1, 1};
    trm::linear_blocks const b{4, 16, 1};
    results const at = run(p, b, up, up_h);
    auto const value = [&] {
        results const r = run(p, b, up, up_h);
        double s = 0;
        for (std::size_t i = 0; i < up.size(); ++i)
            s += double(up[i]) * double(r.logp[i]) + double(up_h[i]) * double(r.entropy[i]);
        return s;
    };
    std::mt19937_64 rng(34);
    std::normal_distribution<double> normal(0, 1);
    for (int round = 0; round < 8; ++round) {  // along random directions
        std::vector<float> const h0 = p.hidden, w0 = p.weight;
        std::vector<double> dh(h0.size()), dw(w0.size());
        double want = 0;
        for (std::size_t i = 0; i < dh.size(); ++i)
            dh[i] = round % 2 != 0 ? normal(rng) : 0, want += dh[i] * double(at.d_hidden[i]);
        for (std::size_t i = 0; i < dw.size(); ++i)
            dw[i] = round % 2 == 0 ? normal(rng) : 0, want += dw[i] * double(at.d_weight[i]);
        double side[2];
        for (int s = 0; s < 2; ++s) {
            double const step = s == 0 ? 4e-3 : -4e-3;
            for (std::size_t i = 0; i < dh.size(); ++i) p.hidden[i] = h0[i] + float(step * dh[i]);
            for (std::size_t i = 0; i < dw.size(); ++i) p.weight[i] = w0[i] + float(step * dw[i]);
            side[s] = value();
        }
        p.hidden = h0;
        p.weight = w0;
        CHECK((side[0] - side[1]) / 8e-3 == Approx(want).epsilon(2e-3).margin(5e-3));
    }
}

TEST_CASE("The fused head accumulates, gathers stored ids and drops rows", "[logits][linear][unit]") {
    problem<float, float> p(10, 12, 300, 35);
    p.mask.assign(10, 1);
    p.mask[4] = 0;
    p.ids[4] = -100;
    std::vector<float> const nan(12, std::numeric_limits<float>::quiet_NaN());
    std::copy(nan.begin(), nan.end(), p.hidden.begin() + 4 * 12);
    trm::linear_blocks const b{4, 70, 1};
    std::vector<std::byte> ws(std::size_t(
        std::max(trm::linear_workspace<float, float>(12, b), trm::linear_gradient_workspace<float, float>(12, b))));
    std::vector<float> logp(10), gathered(30, 5);
    std::vector<double> lse(10);
    std::vector<std::int32_t> wanted(30);
    for (std::size_t i = 0; i < 30; ++i) wanted[i] = std::int32_t(i * 97 % 300);
    wanted[0] = p.ids[0];
    wanted[1] = 300;  // outside
    REQUIRE(trm::linear_log_prob(p.view(), p.ids, trm::log_prob_out<float>{logp, lse, {}}, ws, b,
                                 trm::linear_gather<float>{wanted, 3, gathered})
                .ok());
    CHECK(gathered[0] == Approx(logp[0]).margin(1e-6));
    CHECK(gathered[1] == -std::numeric_limits<float>::infinity());
    CHECK(gathered[12] == 0);
    std::vector<double> const z = p.logits(7);
    for (std::size_t k = 0; k < 3; ++k)
        CHECK(gathered[21 + k] == Approx(z[std::size_t(wanted[21 + k])] - trm::reference::logsumexp(z)).margin(5e-6));

    std::vector<float> up(10, 0.5f), dh(120, 2.0f), dw(3600, 2.0f), dh0(120, 7.0f), dw0(3600, 7.0f);
    up[2] = 0;
    trm::logits_gradient_in<float> const in{.logsumexp = lse, .d_logp = up};
    trm::linear_gradient_out out{.d_hidden = dh.data(),
                                 .d_weight = dw.data(),
                                 .hidden_mode = trm::logits_write::accumulate,
                                 .accumulate_weight = true};
    REQUIRE(trm::linear_gradient(p.view(), p.ids, in, out, ws, b).ok());
    out = {.d_hidden = dh0.data(), .d_weight = dw0.data()};
    REQUIRE(trm::linear_gradient(p.view(), p.ids, in, out, ws, b).ok());
    for (std::size_t i = 0; i < 120; ++i) {
        CHECK(dh[i] == Approx(dh0[i] + 2).margin(1e-6));
        if (i / 12 == 2 || i / 12 == 4) CHECK(dh0[i] == 0);
    }
    for (std::size_t i = 0; i < 3600; ++i) REQUIRE(dw[i] == Approx(dw0[i] + 2).margin(1e-6));
    out = {.d_hidden = dh.data(), .hidden_mode = trm::logits_write::nonzero_rows};
    dh.assign(120, 3.0f);
    REQUIRE(trm::linear_gradient(p.view(), p.ids, in, out, ws, b).ok());
    for (std::size_t i = 0; i < 120; ++i) CHECK(dh[i] == (i / 12 == 2 || i / 12 == 4 ? 3.0f : dh0[i]));

    CHECK(trm::linear_log_prob(p.view(), p.ids, trm::log_prob_out<float>{logp, lse, {}}, std::span(ws).first(100), b)
              .code == trm::errc::size_mismatch);
    p.ids[3] = 300;
    CHECK(trm::linear_gradient(p.view(), p.ids, in, out, ws, b) == trm::status{trm::errc::bad_layout, -1, 3, ""});
}

TEST_CASE("Two fused heads give the exact KL of their logits", "[logits][linear][parity]") {
    problem<float, float> pi(21, 16, 777, 36);
    problem<trm::bf16, trm::bf16> mu(21, 16, 777, 36);  // the same numbers, rounded
    trm::linear_blocks const b{8, 200, 2};
    std::vector<std::byte> ws(
        std::size_t(trm::linear_divergence_workspace<trm::bf16, trm::bf16, float, float>(16, 16, b)));
    std::vector<float> logp(21), h(21), kl(21), rl(21), tv(21);
    std::vector<double> lse(21), mu_lse(21), pi_lse(21);
    REQUIRE(trm::linear_divergence(mu.view(), pi.view(), pi.ids, trm::log_prob_out<float>{logp, lse, h},
                                   trm::divergence_out<float>{kl, rl, tv, mu_lse, pi_lse}, ws, b, together{})
                .ok());
    for (std::size_t r = 0; r < 21; ++r) {
        if (pi.mask[r] == 0) {
            CHECK(kl[r] == 0);
            CHECK(tv[r] == 0);
            continue;
        }
        std::vector<double> const x = mu.logits(std::int64_t(r)), y = pi.logits(std::int64_t(r));
        CHECK(kl[r] == Approx(trm::reference::kl(x, y)).margin(2e-6));
        CHECK(rl[r] == Approx(trm::reference::kl(y, x)).margin(2e-6));
        CHECK(tv[r] == Approx(trm::reference::tv(x, y)).margin(2e-6));
        CHECK(kl[r] > 0);
        CHECK(tv[r] <= std::sqrt(kl[r] / 2));
        CHECK(mu_lse[r] == Approx(trm::reference::logsumexp(x)).epsilon(1e-6));
        CHECK(pi_lse[r] == Approx(lse[r]).epsilon(1e-7));
        CHECK(logp[r] == Approx(y[std::size_t(pi.ids[r])] - trm::reference::logsumexp(y)).margin(5e-6));
    }

    // One chunk that holds the vocabulary.
    trm::linear_blocks const whole{8, 777, 1};
    ws.resize(std::size_t(trm::linear_divergence_workspace<trm::bf16, trm::bf16, float, float>(16, 16, whole)));
    std::vector<float> tv_whole(21);
    REQUIRE(trm::linear_divergence(mu.view(), pi.view(), pi.ids, trm::log_prob_out<float>{},
                                   trm::divergence_out<float>{.tv = tv_whole}, ws, whole)
                .ok());
    for (std::size_t r = 0; r < 21; ++r) CHECK(tv_whole[r] == Approx(tv[r]).margin(1e-6));
    CHECK(trm::linear_divergence(mu.view(), pi.view(), pi.ids, trm::log_prob_out<float>{},
                                 trm::divergence_out<float>{.tv = std::span(tv).first(20)}, ws, whole)
              .code == trm::errc::size_mismatch);
}

TEST_CASE("A fused head against the rollout's stored top-k bounds the exact KL from below",
          "[logits][linear][parity]") {
    problem<float, float> pi(17, 16, 501, 37), mu(17, 16, 501, 37);
    std::mt19937_64 rng(38);
    std::normal_distribution<double> normal(0, 0.05);
    for (std::size_t i = 0; i < mu.w.size(); ++i) mu.weight[i] = float(mu.w[i] += normal(rng));
    std::int64_t const k = 12;
    std::vector<std::int32_t> ids;
    std::vector<float> stored, mu_target(17);
    for (std::int64_t r = 0; r < 17; ++r) {
        std::vector<double> const lp = trm::reference::log_softmax(mu.logits(r));
        std::vector<std::int32_t> order(lp.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = std::int32_t(i);
        std::sort(order.begin(), order.end(), [&](auto a, auto b) { return lp[std::size_t(a)] > lp[std::size_t(b)]; });
        for (std::size_t i = 0; i < std::size_t(k); ++i)
            ids.push_back(order[i]), stored.push_back(float(lp[std::size_t(order[i])]));
        mu_target[std::size_t(r)] = float(lp[std::size_t(pi.ids[std::size_t(r)])]);
    }
    trm::linear_blocks const b{8, 100, 1};
    std::vector<std::byte> ws(std::size_t(trm::linear_workspace<float, float>(16, b)));
    std::vector<float> logp(17), current(std::size_t(17 * k)), kl(17), tv(17);
    REQUIRE(trm::linear_log_prob(pi.view(), pi.ids, trm::log_prob_out<float>{.logp = logp}, ws, b,
                                 trm::linear_gather<float>{ids, k, current})
                .ok());
    REQUIRE(trm::topk_divergence(trm::topk_view<float>{.rows = 17,
                                                       .k = k,
                                                       .ids = ids,
                                                       .mu_logp = stored,
                                                       .pi_logp = current,
                                                       .targets = pi.ids,
                                                       .mu_target_logp = mu_target,
                                                       .pi_target_logp = logp,
                                                       .row_mask = pi.mask.data()},
                                 trm::topk_out<float>{kl, {}, tv})
                .ok());
    for (std::size_t r = 0; r < 17; ++r) {
        std::vector<double> const x = mu.logits(std::int64_t(r)), y = pi.logits(std::int64_t(r));
        double const exact = pi.mask[r] != 0 ? trm::reference::kl(x, y) : 0.0;
        CHECK(kl[r] <= exact + 1e-5);
        CHECK(kl[r] >= 0.1 * exact - 1e-5);
        CHECK(tv[r] <= (pi.mask[r] != 0 ? trm::reference::tv(x, y) : 0.0) + 1e-5);
    }
}

TEST_CASE("Fused heads refuse what does not fit together, and write nothing", "[logits][linear][unit]") {
    problem<float, float> const p(4, 5, 30, 41);
    trm::linear_blocks const b{4, 30, 1};
    std::vector<std::byte> ws(
        std::size_t(std::max(trm::linear_gradient_workspace<float, float>(5, b),
                             trm::linear_divergence_workspace<float, float, float, float>(5, 5, b))));
    std::vector<float> const up(4, 1.0f);
    std::vector<double> const lse(4, 3.0);
    std::vector<float> dh(20, 7.0f), dw(150, 7.0f), kl(4, 7.0f);
    trm::logits_gradient_in<float> const in{.logsumexp = lse, .d_logp = up};
    auto const backward = [&](auto const& change, auto const& view_change, std::size_t bytes) {
        trm::linear_gradient_out out{.d_hidden = dh.data(), .d_weight = dw.data()};
        change(out);
        auto view = p.view();
        view_change(view);
        return trm::linear_gradient(view, p.ids, in, out, std::span(ws).first(bytes), b);
    };
    auto const same = [](auto&) {};
    auto const refused = [](trm::status const& s, trm::errc code, char const* what) {
        CHECK(s.code == code);
        CHECK(std::string(s.what) == what);
    };
    std::int64_t const huge = std::numeric_limits<std::int64_t>::max() / 4;
    using trm::errc;
    refused(backward([](auto& o) { o.d_hidden_stride = 4; }, same, ws.size()), errc::bad_layout,
            "d_hidden_stride < width");
    refused(backward([](auto& o) { o.d_weight_stride = 4; }, same, ws.size()), errc::bad_layout,
            "d_weight_stride < width");
    refused(backward([&](auto& o) { o.d_hidden_stride = huge; }, same, ws.size()), errc::bad_layout,
            "d_hidden_stride or d_weight_stride is too large");
    refused(backward([&](auto& o) { o.d_weight_stride = huge; }, same, ws.size()), errc::bad_layout,
            "d_hidden_stride or d_weight_stride is too large");
    refused(backward(same, same, 100), errc::size_mismatch, "workspace");
    refused(
        backward(same, [](auto& v) { v.hidden = nullptr; }, ws.size()), errc::missing_stream, "head: hidden or weight");
    refused(
        backward(same, [](auto& v) { v.weight = nullptr; }, ws.size()), errc::missing_stream, "head: hidden or weight");
    refused(backward(same, [](auto& v) { v.hidden_stride = 4; }, ws.size()), errc::bad_layout, "head: hidden_stride");
    refused(backward(same, [](auto& v) { v.weight_stride = 4; }, ws.size()), errc::bad_layout, "head: weight_stride");
    refused(backward(same, [](auto& v) { v.width = 0; }, ws.size()), errc::bad_layout, "head: rows, width or vocab");
    refused(backward(same, [](auto& v) { v.vocab = 0; }, ws.size()), errc::bad_layout, "head: rows, width or vocab");
    refused(backward(same, [](auto& v) { v.rows = -1; }, ws.size()), errc::bad_layout, "head: rows, width or vocab");
    auto const blocks = [&](std::int64_t r, std::int64_t v, std::int64_t workers) {
        return trm::linear_gradient(p.view(), p.ids, in, trm::linear_gradient_out{.d_hidden = dh.data()}, std::span(ws),
                                    trm::linear_blocks{r, v, workers});
    };
    std::int64_t const most = 1 << 20;
    char const* const much = "head: block sizes must be at most 2^20, workers at most 2^14";
    refused(blocks(most, most, most / 64), errc::size_mismatch, "workspace");
    refused(blocks(most + 1, 1, 1), errc::bad_layout, much);
    refused(blocks(1, most + 1, 1), errc::bad_layout, much);
    refused(blocks(1, 1, most / 64 + 1), errc::bad_layout, much);
    refused(blocks(0, 1, 1), errc::bad_layout, "head: block sizes below 1");
    refused(blocks(1, 0, 1), errc::bad_layout, "head: block sizes below 1");
    refused(blocks(1, 1, 0), errc::bad_layout, "head: block sizes below 1");
    refused(backward(
                same, [&](auto& v) { v.width = most + 1; }, ws.size()),
            errc::bad_layout, "head: width or a stride is too large");
    refused(backward(
                same, [&](auto& v) { v.hidden_stride = huge; }, ws.size()),
            errc::bad_layout, "head: width or a stride is too large");
    refused(backward(
                same, [&](auto& v) { v.weight_stride = huge; }, ws.size()),
            errc::bad_layout, "head: width or a stride is too large");
    refused(trm::linear_divergence(p.view(), p.view(), p.ids, trm::log_prob_out<float>{},
                                   trm::divergence_out<float>{.kl_mu_pi = kl}, std::span(ws).first(100), b),
            errc::size_mismatch, "workspace");
    for (float const v : dh) CHECK(v == 7);
    for (float const v : dw) CHECK(v == 7);
    for (float const v : kl) CHECK(v == 7);
    CHECK(backward(
              [](auto& o) {
                  o.d_hidden_stride = 5;
                  o.d_weight_stride = 5;
              },
              same, ws.size())
              .ok());
}
