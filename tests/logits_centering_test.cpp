// SPDX-License-Identifier: Apache-2.0
// Score centering and gradients of further tokens: the published formulas on three rows, exact rows against the oracle,
// derivatives, lists against whole rows, the fused head, what is skipped.
#include "catch.hpp"
#include "larger.hpp"
#include "logits_rows.hpp"

#include <trm/logits/centering.hpp>
#include <trm/logits/linear_centering.hpp>
#include <trm/logits/linear_gradient.hpp>
#include <trm/reference/logits.hpp>

#include <algorithm>
#include <array>
#include <numeric>

using namespace trm;

namespace {

using doubles = std::vector<double>;

score_centering const rules[] = {
    {}, {true, clamp_to(0.5, 2.0)}, {true, zero_outside(0.8, 1.25)}, {true, unbounded}, {true, {0.7, 1.6, 0.3, 1.2}}};
double weight_of(score_centering const& rule, double r) { return rule.weighted ? rule.bound(r) : 1.0; }

/// Two rows of logits and everything that follows from them.
template <class S>
struct problem {
    std::size_t n;
    double t_mu = 0.9, t_pi = 1.1;
    doubles mu, pi;  ///< scaled
    std::vector<S> mu_logits, pi_logits;
    std::array<std::int32_t, 1> target;
    double mu_lse = 0, pi_lse = 0;

    problem(std::size_t vocab, std::mt19937_64& rng, double distance = 0.4) : n(vocab), target{} {
        std::normal_distribution<double> normal(0, 1);
        doubles x = rows::make(rows::kind::normal, n, 0, rng), y = x;
        for (double& v : y) v += distance * normal(rng);
        target[0] = static_cast<std::int32_t>(rng() % n);
        mu_logits = rows::store<S>(x);
        pi_logits = rows::store<S>(y);
        mu = rows::scaled(x, t_mu);
        pi = rows::scaled(y, t_pi);
        REQUIRE(log_prob(mu_view(), target, log_prob_out<double>{.logsumexp = {&mu_lse, 1}}).ok());
        REQUIRE(log_prob(pi_view(), target, log_prob_out<double>{.logsumexp = {&pi_lse, 1}}).ok());
    }
    logits_view<S> view(std::vector<S> const& x, double t) const {
        return {.data = x.data(), .rows = 1, .vocab = std::int64_t(n), .temperature = t};
    }
    logits_view<S> mu_view() const { return view(mu_logits, t_mu); }
    logits_view<S> pi_view() const { return view(pi_logits, t_pi); }
    /// The k most likely tokens of mu.
    std::vector<std::int32_t> head(std::size_t k) const {
        std::vector<std::int32_t> ids(n);
        std::iota(ids.begin(), ids.end(), 0);
        std::stable_sort(ids.begin(), ids.end(),
                         [&](auto a, auto b) { return mu[std::size_t(a)] > mu[std::size_t(b)]; });
        ids.resize(k);
        return ids;
    }
    template <class T>
    std::vector<T> logp(logits_view<S> const& v, double lse, std::vector<std::int32_t> const& ids) const {
        std::vector<T> out(ids.size());
        REQUIRE(
            gather_log_prob(v, std::span(ids), std::ssize(ids), std::span<double const>(&lse, 1), std::span(out)).ok());
        return out;
    }
    /// The row by `center_scores` and `logits_gradient`; the value of the centering term.
    std::pair<doubles, double> by_list(std::size_t k, score_centering const& rule, double d_logp,
                                       double d_center) const {
        auto const ids = head(k);
        auto const q = logp<double>(mu_view(), mu_lse, ids), p = logp<double>(pi_view(), pi_lse, ids);
        doubles c(k), g(n);
        double value = 0;
        topk_view<double> const list{.rows = 1, .k = std::int64_t(k), .ids = ids, .mu_logp = q, .pi_logp = p};
        REQUIRE(
            center_scores(list, std::span<double const>(&d_center, 1), rule, center_out<double>{c, {&value, 1}}).ok());
        logits_gradient_in<double> in{.logsumexp = {&pi_lse, 1}, .d_logp = {&d_logp, 1}};
        in.gathered = {ids, std::int64_t(k), c};
        REQUIRE(logits_gradient(pi_view(), target, in, logits_gradient_out<double>{g.data()}).ok());
        return {g, value};
    }
    /// The exact row.
    template <class O, class Arch = simd::default_arch>
    std::vector<O> exact(score_centering const& rule, double d_logp, double d_center,
                         logits_write mode = logits_write::overwrite, O fill = O{}) const {
        std::vector<O> g(n, fill);
        REQUIRE(centered_gradient<Arch>(mu_view(), pi_view(), target, in(d_logp, d_center), rule,
                                        logits_gradient_out<O>{g.data(), 0, mode})
                    .ok());
        return g;
    }
    centered_gradient_in<double> in(double const& d_logp, double const& d_center) const {
        return {.mu_logsumexp = {&mu_lse, 1},
                .pi_logsumexp = {&pi_lse, 1},
                .d_logp = {&d_logp, 1},
                .d_center = {&d_center, 1}};
    }
    doubles want(score_centering const& rule, double d_logp, double d_center) const {
        doubles up = reference::centering_parts(mu, pi, [&](double r) { return weight_of(rule, r); });
        for (double& m : up) m *= d_center;
        up[std::size_t(target[0])] += d_logp;
        return reference::scores_gradient(pi, up, t_pi);
    }
};
double distance(doubles const& a, doubles const& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) most = larger(most, std::fabs(a[i] - b[i]));
    return most;
}
template <class O>
doubles widened(std::vector<O> const& v) {
    doubles out;
    for (O x : v) out.push_back(static_cast<double>(to_float(x)));
    return out;
}

/// Three rows of five logits, y their sampled token, A = 0.7, H the three most likely tokens of mu:
/// rho = (1 - sum_H q) / max(1 - sum_H p, 1e-6); m_v = q_v, clamp(p_v, 0.5 q_v, 2 q_v), p_v inside [0.8, 1.25] q_v else 0, p_v;
/// alpha = rho, clamp(1, 0.5 rho, 2 rho), 1 if 1 / rho is in [0.8, 1.25] else 0, 1; C = sum_H (m_v - alpha p_v) log p_v;
/// row -A (w_y (e_y - p) - (c - p sum c)). Worked out apart, in python.
struct published {
    std::size_t rule;
    std::vector<std::int32_t> head;
    double weight, value;
    doubles row;
};
published const examples[] = {
    {0,
     {0, 1, 3},
     1.0,
     -0.2539649486212537,
     {0.3349080977135756, -0.5495160913798898, 0.059014400270236786, 0.12320580383066103, 0.032387789565416415}},
    {0,
     {2, 4, 0},
     1.0,
     -0.3835814310330643,
     {0.027809009731402223, 0.014361410206392472, -0.14144110824263534, 0.02367796248452918, 0.07559272582031143}},
    {0,
     {1, 2, 3},
     1.0,
     -0.5410774876267671,
     {0.0302193913188229, 0.46890416166134763, 0.0856610646952882, 0.07013334800743504, -0.6549179656828937}},
    {1,
     {0, 1, 3},
     1.3566091099468485,
     0.0,
     {0.37384180572049736, -0.6726775556324945, 0.11259898805381975, 0.12444112700182888, 0.06179563485634857}},
    {1,
     {2, 4, 0},
     0.5079619811921907,
     -0.014553234278490921,
     {0.02415045022919176, 0.01714654862809983, -0.1573844271984545, 0.028269879442242286, 0.0878175488989206}},
    {1,
     {1, 2, 3},
     2.0,
     -0.2066477913386465,
     {0.15514732912188553, 0.49293251434801116, 0.2989786831213064, 0.22148885605168936, -1.1685473826428923}},
    {2,
     {0, 1, 3},
     0.0,
     -0.2568969546113426,
     {0.16708612640293308, -0.080367394472029, -0.03267494422473133, -0.03611139810691691, -0.017932389599255864}},
    {2, {2, 4, 0}, 0.0, 0.0, {0.0, 0.0, -0.0, 0.0, 0.0}},
    {2, {1, 2, 3}, 0.0, 0.0, {0.0, 0.0, 0.0, 0.0, -0.0}},
    {3,
     {0, 1, 3},
     1.3566091099468485,
     0.0,
     {0.37384180572049736, -0.6726775556324945, 0.11259898805381975, 0.12444112700182888, 0.06179563485634857}},
    {3,
     {2, 4, 0},
     0.5079619811921907,
     0.0,
     {0.05301965588184972, 0.019504841376917045, -0.21145101969974972, 0.0321580468597551, 0.10676847558122783}},
    {3,
     {1, 2, 3},
     2.4874585521531567,
     0.0,
     {0.21549149800413056, 0.5857666232120466, 0.3552854164144443, 0.2632019100223118, -1.4197454476529332}},
};
struct example_row {
    doubles mu, pi;
    std::int32_t y;
};
example_row const example_rows[] = {{{1.0, 0.2, -0.5, 0.0, -2.0}, {0.8, 0.5, -0.4, -0.3, -1.0}, 1},
                                    {{0.0, 0.0, 3.0, -1.0, 1.0}, {0.5, -0.5, 1.5, 0.0, 1.2}, 2},
                                    {{-1.0, 2.0, 0.3, 0.1, -0.2}, {0.0, 1.0, 0.5, 0.2, 0.4}, 4}};

}  // namespace

TEST_CASE("score centering by the published formula", "[logits][parity]") {
    std::size_t i = 0;
    std::mt19937_64 rng(1);
    for (published const& e : examples) {
        example_row const& r = example_rows[i++ % 3];
        problem<double> p(5, rng);
        p.t_mu = p.t_pi = 1;
        p.mu = p.mu_logits = r.mu;
        p.pi = p.pi_logits = r.pi;
        p.mu_lse = reference::logsumexp(p.mu);
        p.pi_lse = reference::logsumexp(p.pi);
        p.target = {r.y};
        INFO("example " << i - 1);
        CHECK(p.head(3) == e.head);
        auto const lq = reference::log_softmax(p.mu), lp = reference::log_softmax(p.pi);
        CHECK(weight_of(rules[e.rule], std::exp(lp[std::size_t(r.y)] - lq[std::size_t(r.y)])) ==
              Approx(e.weight).epsilon(1e-12));
        auto const [row, value] = p.by_list(3, rules[e.rule], -0.7 * e.weight, 0.7);
        CHECK(value == Approx(e.value).margin(1e-10));
        CHECK(distance(row, e.row) < 1e-10);
    }
}

TEST_CASE("exact score centering without weights is A (e_y - q)", "[logits][property]") {
    std::mt19937_64 rng(2);
    for (std::size_t n : {1u, 3u, 17u, 64u, 1001u}) {
        problem<double> const p(n, rng);
        double const A = 0.7;
        auto const g = p.exact<double>({}, -A, A);
        auto const lq = reference::log_softmax(p.mu);
        doubles want(n);
        for (std::size_t v = 0; v < n; ++v)
            want[v] = -A * ((v == std::size_t(p.target[0]) ? 1.0 : 0.0) - std::exp(lq[v])) / p.t_pi;
        CHECK(distance(g, want) < 1e-13);
    }
}

TEST_CASE("what centering subtracts is the mean over sampled tokens", "[logits][property]") {
    std::mt19937_64 rng(3);
    problem<double> p(23, rng);
    for (score_centering const& rule : rules) {
        auto const lq = reference::log_softmax(p.mu), lp = reference::log_softmax(p.pi);
        doubles mean(p.n);
        for (std::size_t y = 0; y < p.n; ++y) {
            p.target[0] = static_cast<std::int32_t>(y);
            auto const g = p.exact<double>(rule, -weight_of(rule, std::exp(lp[y] - lq[y])), 1);
            for (std::size_t v = 0; v < p.n; ++v) mean[v] += std::exp(lq[y]) * g[v];
        }
        CHECK(distance(mean, doubles(p.n)) < 1e-14);
    }
}

TEMPLATE_TEST_CASE("exact score centering matches the oracle", "[logits][parity]", float, double, bf16) {
    std::mt19937_64 rng(4);
    double const bound = std::is_same_v<TestType, double> ? 1e-13 : 3e-6;
    for (std::size_t n : {1u, 5u, 16u, 31u, 160u, 4099u})
        for (score_centering const& rule : rules) {
            problem<TestType> const p(n, rng, std::is_same_v<TestType, bf16> ? 0.8 : 0.4);
            auto const want = p.want(rule, -1.3, 0.9);
            INFO("V " << n << " weighted " << rule.weighted << " upper " << rule.bound.upper);
            using O = std::conditional_t<std::is_same_v<TestType, double>, double, float>;
            CHECK(distance(widened(p.template exact<O>(rule, -1.3, 0.9)), want) < bound);
            CHECK(distance(widened(p.template exact<O, simd::scalar>(rule, -1.3, 0.9)), want) < bound);
            auto added = widened(p.template exact<O>(rule, -1.3, 0.9, logits_write::accumulate, O(0.5)));
            for (double& v : added) v -= 0.5;
            CHECK(distance(added, want) < 2 * bound);
            auto in_place = p;  // the logits of pi become their gradient
            REQUIRE(centered_gradient(in_place.mu_view(), in_place.pi_view(), p.target, in_place.in(-1.3, 0.9), rule,
                                      logits_gradient_out<TestType>{in_place.pi_logits.data()})
                        .ok());
            CHECK(distance(widened(in_place.pi_logits), want) < bound + (sizeof(TestType) == 2 ? 0.02 : 0));
        }
}

TEST_CASE("a list of the whole vocabulary is exact, a short one nearly", "[logits][property]") {
    std::mt19937_64 rng(5);
    for (score_centering const& rule : rules) {
        problem<double> const p(40, rng);
        auto const exact = p.want(rule, -1.1, 0.8);
        CHECK(distance(p.by_list(40, rule, -1.1, 0.8).first, exact) < 1e-9);  // what is left of 1 is rounding
        auto const without = p.by_list(0, rule, -1.1, 0.8).first;
        CHECK(distance(p.by_list(30, rule, -1.1, 0.8).first, exact) < 0.25 * distance(without, exact) + 0.01);
    }
}

TEST_CASE("the row of a list is the derivative of its value", "[logits][property]") {
    std::mt19937_64 rng(6);
    for (score_centering const& rule : rules) {
        problem<double> p(12, rng);
        auto const ids = p.head(4);
        auto const q = p.logp<double>(p.mu_view(), p.mu_lse, ids);
        auto const [row, value] = p.by_list(4, rule, -1.2, 0.6);
        // c = sg(m - alpha p), as published, held fixed
        auto const now = p.logp<double>(p.pi_view(), p.pi_lse, ids);
        double rest_q = 1, rest_p = 1;
        for (std::size_t i = 0; i < 4; ++i) rest_q -= std::exp(q[i]), rest_p -= std::exp(now[i]);
        double const rho = rest_q / rest_p;
        auto const loss = [&] {
            auto const lp = reference::log_softmax(rows::scaled(p.pi_logits, p.t_pi));
            double sum = -1.2 * lp[std::size_t(p.target[0])];
            for (std::size_t i = 0; i < 4; ++i) {
                double const m = std::exp(q[i]) * weight_of(rule, std::exp(now[i] - q[i]));
                sum += 0.6 * (m - rho * weight_of(rule, 1 / rho) * std::exp(now[i])) * lp[std::size_t(ids[i])];
            }
            return sum;
        };
        CHECK(loss() + 1.2 * p.logp<double>(p.pi_view(), p.pi_lse, {p.target[0]})[0] == Approx(value).margin(1e-12));
        for (std::size_t v = 0; v < p.n; ++v) {
            double const h = 1e-4, z = p.pi_logits[v];
            p.pi_logits[v] = z + h;
            double const up = loss();
            p.pi_logits[v] = z - h;
            double const down = loss();
            p.pi_logits[v] = z;
            CHECK((up - down) / (2 * h) == Approx(row[v]).margin(1e-8));
        }
    }
}

TEST_CASE("centering lists: repeated ids, unused slots, impossible tokens, skipped rows", "[logits][unit]") {
    std::vector<std::int32_t> const ids{3, -1, 3, 5, 1, 2, 7, 9};
    doubles const q{-1.0, 0.0, -1.0, -2.0, -1, -2, -3, -4}, p{-1.2, 0.0, -1.2, -rows::inf, -1, -2, -3, -4};
    doubles const center{0.5, 0.0};
    doubles c(8, 7.0), value(2, 7.0);
    topk_view<double> list{.rows = 2, .k = 4, .ids = ids, .mu_logp = q, .pi_logp = p};
    REQUIRE(center_scores(list, std::span(center), {}, center_out<double>{c, value}).ok());
    double const rho = (1 - std::exp(-1.0) - std::exp(-2.0)) / (1 - std::exp(-1.2));
    CHECK(c[0] == Approx(0.5 * (std::exp(-1.0) - rho * std::exp(-1.2))).epsilon(1e-14));
    for (std::size_t i = 1; i < 8; ++i) CHECK(c[i] == 0);
    CHECK(value[0] == Approx(-1.2 * c[0]).epsilon(1e-14));
    CHECK(value[1] == 0);
    std::array<std::uint8_t, 2> const none{0, 0};
    list.row_mask = none.data();
    REQUIRE(center_scores(list, std::span(center), {}, center_out<double>{c, value}).ok());
    CHECK(c == doubles(8));
    CHECK(center_scores(list, std::span(center).first(1), {}, center_out<double>{}).code == errc::size_mismatch);
    CHECK(center_scores(list, std::span(center), {true, {2, 1, 0, 0}}, center_out<double>{}).code ==
          errc::bad_threshold);
    CHECK(center_scores(list, std::span(center), {}, center_out<double>{std::span(c).first(4)}).code ==
          errc::size_mismatch);
}

TEST_CASE("gradients of further tokens add up, over shards too", "[logits][parity]") {
    std::mt19937_64 rng(7);
    problem<double> const p(29, rng);
    std::vector<std::int32_t> const ids{4, p.target[0], -1, 28, 4, 0};
    doubles const up{0.3, -0.2, 9.0, 1.1, 0.25, -0.7};
    doubles upstream(29);
    for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] >= 0) upstream[std::size_t(ids[i])] += up[i];
    double d_logp = 0;
    for (double const own : {0.0, -0.9}) {
        d_logp = own;
        upstream[std::size_t(p.target[0])] += own;
        logits_gradient_in<double> in{.logsumexp = {&p.pi_lse, 1}, .d_logp = {&d_logp, 1}};
        in.gathered = {ids, 6, up};
        doubles g(29, 7.0), parts(29, 7.0);
        REQUIRE(logits_gradient(p.pi_view(), p.target, in, logits_gradient_out<double>{g.data()}).ok());
        CHECK(distance(g, reference::scores_gradient(p.pi, upstream, p.t_pi)) < 1e-14);
        for (std::int64_t first : {0, 11}) {
            auto shard = p.pi_view();
            shard.data += first;
            shard.row_stride = 29;
            shard.vocab = first == 0 ? 11 : 18;
            REQUIRE(
                logits_gradient_shard(shard, first, p.target, in, logits_gradient_out<double>{parts.data() + first, 29})
                    .ok());
        }
        CHECK(distance(g, parts) < 1e-15);
    }
    logits_gradient_in<double> in{.logsumexp = {&p.pi_lse, 1}, .d_logp = {&d_logp, 1}};
    doubles g(29, 7.0);
    auto const code = [&](std::vector<std::int32_t> const& which, std::int64_t per_row, doubles const& u) {
        in.gathered = {which, per_row, u};
        return logits_gradient(p.pi_view(), p.target, in, logits_gradient_out<double>{g.data()}).code;
    };
    CHECK(code({29}, 1, {1.0}) == errc::bad_layout);
    CHECK(code({2}, 1, {1.0, 2.0}) == errc::size_mismatch);
    CHECK(code({2}, 2, {1.0}) == errc::size_mismatch);
    CHECK(code({2}, -1, {1.0}) == errc::bad_layout);
    CHECK(g == doubles(29, 7.0));
    d_logp = 0;  // nothing upstream: the row is not touched
    doubles const zeros(6);
    in.gathered = {ids, 6, zeros};
    REQUIRE(
        logits_gradient(p.pi_view(), p.target, in, logits_gradient_out<double>{g.data(), 0, logits_write::nonzero_rows})
            .ok());
    CHECK(g == doubles(29, 7.0));
}

TEST_CASE("score centering through the fused head", "[logits][parity]") {
    std::mt19937_64 rng(8);
    std::normal_distribution<double> normal(0, 1);
    constexpr std::int64_t rows = 7, width = 6, vocab = 150;
    constexpr std::size_t k = 9;
    std::vector<float> hidden(rows * width), weight(vocab * width), up(rows), center(rows);
    for (float& v : hidden) v = static_cast<float>(normal(rng));
    for (float& v : weight) v = static_cast<float>(normal(rng));
    std::vector<std::int32_t> targets(rows), ids(rows * k);
    std::vector<float> q(rows * k), p(rows * k), c(rows * k), logp(rows);
    doubles lse(rows);
    for (std::size_t r = 0; r < rows; ++r) {
        targets[r] = static_cast<std::int32_t>(rng() % vocab);
        up[r] = r == 2 ? 0.0f : static_cast<float>(normal(rng));
        center[r] = r == 2 || r == 4 ? 0.0f : static_cast<float>(normal(rng));
        for (std::size_t i = 0; i < k; ++i) {
            ids[r * k + i] = static_cast<std::int32_t>((17 * i + 5 * r) % vocab);
            q[r * k + i] = -2.5f - 0.1f * static_cast<float>(i);
        }
    }
    up[5] = 0;  // a gradient through further tokens alone
    linear_view<float, float> const head{
        .hidden = hidden.data(), .weight = weight.data(), .rows = rows, .width = width, .vocab = vocab};
    linear_blocks const blocks{.rows = 2, .vocab = 128};
    std::vector<std::byte> memory(static_cast<std::size_t>(linear_workspace<float, float>(width, blocks) +
                                                           linear_gradient_workspace<float, float>(width, blocks)));
    REQUIRE(linear_log_prob(head, targets, log_prob_out<float>{.logp = logp, .logsumexp = lse}, memory, blocks,
                            linear_gather<float>{ids, k, p})
                .ok());
    topk_view<float> const list{.rows = rows, .k = k, .ids = ids, .mu_logp = q, .pi_logp = p};
    REQUIRE(center_scores(list, std::span<float const>(center), rules[1], center_out<float>{c}).ok());
    logits_gradient_in<float> in{.logsumexp = lse, .d_logp = up};
    in.gathered = {ids, k, c};
    std::vector<float> d_hidden(rows * width, 7.0f), d_weight(vocab * width, 7.0f);
    REQUIRE(
        linear_gradient(head, targets, in, linear_gradient_out{d_hidden.data(), d_weight.data()}, memory, blocks).ok());
    doubles want_hidden(rows * width), want_weight(vocab * width);
    for (std::size_t r = 0; r < rows; ++r) {
        doubles z(vocab), upstream(vocab);
        for (std::size_t v = 0; v < vocab; ++v)
            for (std::size_t j = 0; j < width; ++j)
                z[v] += double(hidden[r * width + j]) * double(weight[v * width + j]);
        upstream[std::size_t(targets[r])] += double(up[r]);
        for (std::size_t i = 0; i < k; ++i) upstream[std::size_t(ids[r * k + i])] += double(c[r * k + i]);
        auto const g = reference::scores_gradient(z, upstream, 1);
        for (std::size_t v = 0; v < vocab; ++v)
            for (std::size_t j = 0; j < width; ++j) {
                want_hidden[r * width + j] += g[v] * double(weight[v * width + j]);
                want_weight[v * width + j] += g[v] * double(hidden[r * width + j]);
            }
    }
    CHECK(distance(widened(d_hidden), want_hidden) < 2e-5);
    CHECK(distance(widened(d_weight), want_weight) < 2e-5);
    CHECK(std::fabs(want_hidden[5 * width]) > 1e-3);
    for (std::size_t j = 0; j < width; ++j) CHECK(d_hidden[2 * width + j] == 0);
    in.gathered.per_row = 8;
    CHECK(linear_gradient(head, targets, in, linear_gradient_out{d_hidden.data(), nullptr}, memory, blocks).code ==
          errc::size_mismatch);
}

namespace {

/// Two heads over the same rows: the rollout policy's weight is the current one's, moved.
template <class W>
struct two_heads {
    static constexpr std::int64_t rows = 9, width = 5, vocab = 700;  // two panels
    std::vector<float> hidden, up, center;
    std::vector<W> mu_weight, pi_weight;
    std::vector<std::int32_t> targets;
    std::vector<std::uint8_t> mask;
    doubles mu_lse = doubles(rows), pi_lse = doubles(rows);
    linear_blocks blocks{.rows = 2, .vocab = 600, .workers = 2};

    explicit two_heads(std::mt19937_64& rng)
        : hidden(rows * width), up(rows), center(rows), targets(rows), mask(rows, 1) {
        std::normal_distribution<float> normal(0, 1);
        for (float& v : hidden) v = normal(rng);
        doubles of_pi(static_cast<std::size_t>(vocab * width)), of_mu;
        for (double& w : of_pi) w = double(normal(rng));
        of_mu = of_pi;
        for (double& w : of_mu) w += 0.2 * double(normal(rng));
        pi_weight = rows::store<W>(of_pi);
        mu_weight = rows::store<W>(of_mu);
        for (std::size_t r = 0; r < rows; ++r) {
            targets[r] = static_cast<std::int32_t>(rng() % vocab);
            up[r] = -normal(rng);
            center[r] = normal(rng);
        }
        up[2] = center[2] = 0;  // nothing
        up[3] = 0;  // centering alone
        center[4] = 0;  // a plain gradient
        mask[6] = 0;
        std::vector<std::byte> memory(static_cast<std::size_t>(linear_workspace<float, W>(width, blocks)));
        for (bool const is_mu : {true, false})
            REQUIRE(linear_log_prob(is_mu ? mu() : pi(), targets,
                                    log_prob_out<float>{.logsumexp = is_mu ? mu_lse : pi_lse}, memory, blocks)
                        .ok());
    }
    linear_view<float, W> view(std::vector<W> const& weight, double temperature) const {
        return {.hidden = hidden.data(),
                .weight = weight.data(),
                .rows = rows,
                .width = width,
                .vocab = vocab,
                .temperature = temperature,
                .row_mask = mask.data()};
    }
    linear_view<float, W> mu() const { return view(mu_weight, 0.9); }
    linear_view<float, W> pi() const { return view(pi_weight, 1.1); }
    centered_gradient_in<float> in() const { return {mu_lse, pi_lse, up, center}; }
    doubles logits(std::vector<W> const& weight, double temperature, std::size_t r) const {
        doubles z(vocab);
        for (std::size_t v = 0; v < vocab; ++v)
            for (std::size_t j = 0; j < width; ++j)
                z[v] += double(hidden[r * width + j]) * double(to_float(weight[v * width + j])) / temperature;
        return z;
    }
    /// d_hidden and d_weight from the formula, row by row.
    std::pair<doubles, doubles> want(score_centering const& rule) const {
        doubles d_hidden(rows * width), d_weight(vocab * width);
        for (std::size_t r = 0; r < rows; ++r) {
            if (mask[r] == 0) continue;
            auto const lq = reference::log_softmax(logits(mu_weight, 0.9, r)),
                       lp = reference::log_softmax(logits(pi_weight, 1.1, r));
            doubles m(vocab);
            double total = 0;
            for (std::size_t v = 0; v < vocab; ++v)
                total += m[v] = weight_of(rule, std::exp(lp[v] - lq[v])) * std::exp(lq[v]);
            for (std::size_t v = 0; v < vocab; ++v) {
                double const p = std::exp(lp[v]), is_target = v == std::size_t(targets[r]);
                double const g = (double(up[r]) * (is_target - p) + double(center[r]) * (m[v] - p * total)) / 1.1;
                for (std::size_t j = 0; j < width; ++j) {
                    d_hidden[r * width + j] += g * double(to_float(pi_weight[v * width + j]));
                    d_weight[v * width + j] += g * double(hidden[r * width + j]);
                }
            }
        }
        return {d_hidden, d_weight};
    }
    std::pair<std::vector<float>, std::vector<float>> got(score_centering const& rule, linear_blocks const& b,
                                                          float before = 0) const {
        std::vector<float> d_hidden(rows * width, before), d_weight(vocab * width, before);
        std::vector<std::byte> memory(
            static_cast<std::size_t>(linear_centered_workspace<float, W, float, W>(width, width, b)));
        linear_gradient_out out{d_hidden.data(), d_weight.data()};
        if (before != 0) {
            out.hidden_mode = logits_write::accumulate;
            out.accumulate_weight = true;
        }
        REQUIRE(linear_centered_gradient(mu(), pi(), targets, in(), rule, out, memory, b).ok());
        return {d_hidden, d_weight};
    }
};

}  // namespace

TEMPLATE_TEST_CASE("exact score centering through the fused heads", "[logits][parity]", float, bf16) {
    std::mt19937_64 rng(21);
    two_heads<TestType> const heads(rng);
    for (score_centering const& rule : rules) {
        INFO("weighted " << rule.weighted << " upper " << rule.bound.upper);
        auto const [want_hidden, want_weight] = heads.want(rule);
        auto const [d_hidden, d_weight] = heads.got(rule, heads.blocks);
        CHECK(distance(widened(d_hidden), want_hidden) < 3e-5);
        CHECK(distance(widened(d_weight), want_weight) < 3e-5);
        double largest = 0;  // of row 3, which only centering moves
        for (std::size_t j = 0; j < heads.width; ++j) {
            CHECK(d_hidden[2 * heads.width + j] == 0);
            CHECK(d_hidden[6 * heads.width + j] == 0);
            largest = std::fmax(largest, std::fabs(double(d_hidden[3 * heads.width + j])));
        }
        // with the ratio itself as the weight, centering vanishes but for rounding
        CHECK((largest > 1e-4) == !(rule.weighted && rule.bound.upper > 1e9));
        auto one = heads.blocks;
        one.workers = 1;
        CHECK(heads.got(rule, one) == std::pair(d_hidden, d_weight));  // the same bits
        auto added = widened(heads.got(rule, heads.blocks, 0.5f).first);
        for (double& v : added) v -= 0.5;
        CHECK(distance(added, want_hidden) < 6e-5);
    }
}

TEST_CASE("exact score centering through the fused heads without weights is A (e_y - q)", "[logits][property]") {
    std::mt19937_64 rng(22);
    two_heads<float> heads(rng);
    for (std::size_t r = 0; r < heads.up.size(); ++r) heads.center[r] = -heads.up[r];  // A = d_center
    auto const d_weight = widened(heads.got({}, heads.blocks).second);
    doubles want(d_weight.size());
    for (std::size_t r = 0; r < heads.up.size(); ++r) {
        if (heads.mask[r] == 0) continue;
        auto const lq = reference::log_softmax(heads.logits(heads.mu_weight, 0.9, r));
        for (std::size_t v = 0; v < lq.size(); ++v) {
            double const g =
                double(heads.up[r]) * ((v == std::size_t(heads.targets[r]) ? 1 : 0) - std::exp(lq[v])) / 1.1;
            for (std::size_t j = 0; j < heads.width; ++j)
                want[v * heads.width + j] += g * double(heads.hidden[r * heads.width + j]);
        }
    }
    CHECK(distance(d_weight, want) < 3e-5);
}

TEST_CASE("exact score centering through the fused heads: misuse", "[logits][unit]") {
    std::mt19937_64 rng(23);
    two_heads<float> const heads(rng);
    std::vector<float> d_hidden(heads.rows * heads.width, 7.0f);
    std::vector<std::byte> memory(static_cast<std::size_t>(
        linear_centered_workspace<float, float, float, float>(heads.width, heads.width, heads.blocks)));
    auto const call = [&](auto&& change) {
        auto mu = heads.mu(), pi = heads.pi();
        auto in = heads.in();
        score_centering rule;
        std::span<std::byte> bytes = memory;
        change(mu, pi, in, rule, bytes);
        return linear_centered_gradient(mu, pi, heads.targets, in, rule, linear_gradient_out{d_hidden.data()}, bytes,
                                        heads.blocks)
            .code;
    };
    CHECK(call([](auto& mu, auto&...) { mu.vocab = 500; }) == errc::size_mismatch);
    CHECK(call([](auto& mu, auto&...) { mu.temperature = 0; }) == errc::bad_threshold);
    CHECK(call([](auto&, auto&, auto& in, auto&...) { in.d_center = {}; }) == errc::size_mismatch);
    CHECK(call([](auto&, auto&, auto& in, auto&...) { in.mu_logsumexp = {}; }) == errc::size_mismatch);
    CHECK(call([](auto&, auto&, auto&, auto& rule, auto&) { rule.bound = {2, 1, 0, 0}; }) == errc::bad_threshold);
    CHECK(call([](auto&, auto&, auto&, auto&, auto& bytes) { bytes = bytes.first(bytes.size() - 1); }) ==
          errc::size_mismatch);
    CHECK(d_hidden == std::vector<float>(d_hidden.size(), 7.0f));
    CHECK(call([](auto&...) {}) == errc::ok);
}

TEST_CASE("exact score centering: rows that are left out, misuse", "[logits][unit]") {
    std::mt19937_64 rng(9);
    problem<double> const p(8, rng);
    doubles g(8, 7.0);
    auto const call = [&](double up, double center, logits_write mode, auto&& change) {
        auto mu = p.mu_view(), pi = p.pi_view();
        auto in = p.in(up, center);
        score_centering rule;
        change(mu, pi, in, rule);
        return centered_gradient(mu, pi, p.target, in, rule, logits_gradient_out<double>{g.data(), 0, mode}).code;
    };
    auto const nothing = [](auto&...) {};
    CHECK(call(0, 0, logits_write::nonzero_rows, nothing) == errc::ok);
    CHECK(g == doubles(8, 7.0));
    std::uint8_t const no = 0;
    CHECK(call(1, 1, logits_write::overwrite, [&](auto& mu, auto&...) { mu.row_mask = &no; }) == errc::ok);
    CHECK(g == doubles(8));
    double const nan = std::nan("");
    g.assign(8, 7.0);
    CHECK(call(1, 1, logits_write::overwrite, [&](auto&, auto&, auto& in, auto&) { in.mu_logsumexp = {&nan, 1}; }) ==
          errc::ok);
    CHECK(g == doubles(8));
    g.assign(8, 7.0);
    CHECK(call(1, 1, logits_write::overwrite, [&](auto& mu, auto&...) { mu.vocab = 7; }) == errc::size_mismatch);
    CHECK(call(1, 1, logits_write::overwrite, [&](auto&, auto&, auto& in, auto&) { in.d_center = {}; }) ==
          errc::size_mismatch);
    CHECK(call(1, 1, logits_write::overwrite, [&](auto&, auto&, auto& in, auto&) { in.mu_logsumexp = {}; }) ==
          errc::size_mismatch);
    CHECK(call(1, 1, logits_write::overwrite, [&](auto&, auto&, auto&, auto& rule) { rule.bound = {2, 1, 0, 0}; }) ==
          errc::bad_threshold);
    CHECK(g == doubles(8, 7.0));
}
