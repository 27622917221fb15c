// SPDX-License-Identifier: Apache-2.0
// The fused head over kept ids against the oracle in double, for every storage type; executors; what is left out; misuse.
#include "catch.hpp"
#include "larger.hpp"
#include "logits_rows.hpp"

#include <trm/logits/linear_support.hpp>
#include <trm/reference/logits.hpp>

#include <thread>

using namespace trm;

namespace {

using doubles = std::vector<double>;

struct backwards {
    template <class F>
    void operator()(std::int64_t n, F const& f) const {
        for (std::int64_t i = n - 1; i >= 0; --i) std::thread([&] { f(i); }).join();
    }
};

template <class H, class W>
struct problem {
    std::int64_t rows = 6, width, vocab = 40;
    doubles h, w;
    std::vector<H> hidden;
    std::vector<W> weight;
    std::vector<std::int32_t> ids, targets;
    std::vector<std::int32_t> cu{0};
    std::vector<std::uint8_t> mask{1, 1, 0, 1, 1, 1};
    doubles lse, entropy, up{0.8, -1.1, 1, 0, 0.4, 0.6}, up_h{0.1, 0, 1, 0, -0.3, 0};
    std::vector<float> logp;

    explicit problem(std::int64_t columns, unsigned seed)
        : width(columns),
          h(std::size_t(rows * columns)),
          w(std::size_t(vocab * columns)),
          lse(6, 7.0),
          entropy(6, 7.0),
          logp(6, 7.0f) {
        std::mt19937_64 rng(seed);
        std::normal_distribution<double> normal(0, 1);
        for (double& x : h) x = normal(rng);
        for (double& x : w) x = normal(rng) / std::sqrt(double(width));
        hidden = rows::store<H>(h);
        weight = rows::store<W>(w);
        for (std::int64_t r = 0; r < rows; ++r) {
            auto const first = std::int32_t(rng() % 20), step = std::int32_t(1 + rng() % 3);
            for (std::int32_t id = first; id < 40 && id < first + 7 * step; id += step) ids.push_back(id);
            cu.push_back(std::int32_t(ids.size()));
            targets.push_back(first + step);
        }
    }
    linear_view<H, W> view() const {
        return {.hidden = hidden.data(),
                .weight = weight.data(),
                .rows = rows,
                .width = width,
                .vocab = vocab,
                .temperature = 0.7,
                .row_mask = mask.data()};
    }
    kept_ids kept() const { return {ids, cu}; }
    doubles logits(std::size_t r) const {  // -inf where not kept
        doubles z(40, -rows::inf);
        for (auto i = std::size_t(cu[r]); i < std::size_t(cu[r + 1]); ++i) {
            double& to = z[std::size_t(ids[i])] = 0;
            for (std::size_t k = 0; k < std::size_t(width); ++k)
                to += h[r * std::size_t(width) + k] * w[std::size_t(ids[i]) * std::size_t(width) + k] / 0.7;
        }
        return z;
    }
    log_prob_out<double> out() { return {{}, lse, entropy}; }
    logits_gradient_in<double> in() const {
        return {.logsumexp = lse, .d_logp = up, .d_entropy = up_h, .entropy = entropy};
    }
};

template <class H, class W>
void check(std::int64_t width) {
    problem<H, W> p(width, 5);
    INFO("width " << width);
    REQUIRE(linear_log_prob_of_kept(p.view(), p.kept(), p.targets, p.out()).ok());
    REQUIRE(
        linear_log_prob_of_kept(p.view(), p.kept(), p.targets, log_prob_out<float>{.logp = p.logp}, backwards{}).ok());
    auto const n = std::size_t(width);
    std::vector<double> memory(p.ids.size());
    std::vector<float> d_hidden(6 * n, 7.0f), d_weight(40 * n, 7.0f);
    REQUIRE(linear_gradient_of_kept(p.view(), p.kept(), p.targets, p.in(),
                                    linear_gradient_out{d_hidden.data(), d_weight.data()}, memory)
                .ok());
    doubles want_hidden(6 * n), want_weight(40 * n);
    for (std::size_t r = 0; r < 6; ++r) {
        if (p.mask[r] == 0) {
            CHECK(p.logp[r] == 0);
            CHECK(p.lse[r] == 0);
            continue;
        }
        doubles const z = p.logits(r);
        auto const target = std::size_t(p.targets[r]);
        CHECK(double(p.logp[r]) == Approx(reference::log_softmax(z)[target]).margin(2e-6));
        CHECK(p.lse[r] == Approx(reference::logsumexp(z)).margin(2e-6));
        CHECK(p.entropy[r] == Approx(reference::entropy(z)).margin(5e-6));
        auto const g = reference::logits_gradient(z, target, p.up[r], p.up_h[r], 0.7);
        for (std::size_t v = 0; v < 40; ++v)
            for (std::size_t k = 0; k < n; ++k) {
                want_hidden[r * n + k] += g[v] * p.w[v * n + k];
                want_weight[v * n + k] += g[v] * p.h[r * n + k];
            }
    }
    double worst = 0;
    for (std::size_t i = 0; i < d_hidden.size(); ++i)
        worst = larger(worst, std::fabs(double(d_hidden[i]) - want_hidden[i]));
    for (std::size_t i = 0; i < d_weight.size(); ++i)
        worst = larger(worst, std::fabs(double(d_weight[i]) - want_weight[i]));
    CHECK(worst < 1e-5);
    // any executor, adding to what is there, rows that are not needed left alone
    std::vector<float> other(d_hidden.size(), 7.0f), sum(d_weight.size(), 0.25f);
    REQUIRE(linear_gradient_of_kept(p.view(), p.kept(), p.targets, p.in(), linear_gradient_out{other.data(), nullptr},
                                    memory, backwards{})
                .ok());
    CHECK(other == d_hidden);
    linear_gradient_out more{other.data(), sum.data()};
    more.hidden_mode = logits_write::nonzero_rows;
    more.accumulate_weight = true;
    other.assign(other.size(), 7.0f);
    REQUIRE(linear_gradient_of_kept(p.view(), p.kept(), p.targets, p.in(), more, memory).ok());
    for (std::size_t i = 0; i < other.size(); ++i) CHECK(other[i] == (i / n == 2 || i / n == 3 ? 7.0f : d_hidden[i]));
    for (std::size_t i = 0; i < sum.size(); ++i) CHECK(sum[i] == Approx(0.25f + d_weight[i]).margin(1e-5));
}

}  // namespace

TEST_CASE("the fused head over kept ids matches the oracle", "[logits][parity]") {
    for (std::int64_t width : {1, 7, 64, 300}) {
        check<float, float>(width);
        check<bf16, bf16>(width);
        check<float, f16>(width);
    }
}

TEST_CASE("the fused head over kept ids: misuse", "[logits][unit]") {
    problem<float, float> p(8, 6);
    doubles memory(p.ids.size());
    std::vector<float> d(48);
    auto const forward = [&](auto const& v, kept_ids const& k) {
        return linear_log_prob_of_kept(v, k, p.targets, p.out()).code;
    };
    CHECK(forward(p.view(), p.kept()) == errc::ok);
    auto v = p.view();
    v.width = 0;
    CHECK(forward(v, p.kept()) == errc::bad_layout);
    v = p.view();
    v.vocab = 10;
    CHECK(forward(v, p.kept()) == errc::bad_layout);
    v = p.view();
    v.temperature = 0;
    CHECK(forward(v, p.kept()) == errc::bad_threshold);
    std::vector<std::int32_t> const one{0, 1};
    CHECK(forward(p.view(), {p.ids, one}) == errc::size_mismatch);
    auto const backward = [&](logits_gradient_in<double> const& in, std::span<double> w) {
        return linear_gradient_of_kept(p.view(), p.kept(), p.targets, in, linear_gradient_out{d.data(), nullptr}, w)
            .code;
    };
    CHECK(backward(p.in(), memory) == errc::ok);
    CHECK(backward(p.in(), std::span(memory).first(memory.size() - 1)) == errc::size_mismatch);
    auto in = p.in();
    in.entropy = {};
    CHECK(backward(in, memory) == errc::missing_stream);
    in = p.in();
    in.logsumexp = {};
    CHECK(backward(in, memory) == errc::size_mismatch);
}

TEST_CASE("the fused head over kept ids: where no row has a gradient, d weight is cleared whole", "[logits][unit]") {
    problem<float, float> p(5, 7);
    REQUIRE(linear_log_prob_of_kept(p.view(), p.kept(), p.targets, p.out()).ok());
    std::fill(p.up.begin(), p.up.end(), 0.0);
    std::fill(p.up_h.begin(), p.up_h.end(), 0.0);
    std::vector<double> memory(p.ids.size());
    std::vector<float> d_weight(40 * 5, 7.0f);
    REQUIRE(linear_gradient_of_kept(p.view(), p.kept(), p.targets, p.in(),
                                    linear_gradient_out{.d_weight = d_weight.data()}, memory)
                .ok());
    for (float const v : d_weight) CHECK(v == 0);
}
