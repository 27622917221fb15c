// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/batch_bounds.hpp>
#include <trm/bounds/estimates.hpp>
#include <trm/bounds/paper.hpp>

#include "catch.hpp"
#include "tabular.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace b = trm::bounds;

namespace {

/// Every response, weighted by its probability under mu: expectations come out exact.
b::evidence exact_evidence(const tabular::enumeration& e, const std::vector<double>& reward, bool divergences = true) {
    b::trajectories<double> t{
        .layout = trm::packed{e.offsets}, .log_ratio = e.log_ratio, .rewards = reward, .weights = e.mu};
    if (divergences) {
        t.kl = e.kl;
        t.tv = e.tv;
    }
    b::evidence out;
    REQUIRE(out.add(t).ok());
    return out;
}

/// a_t, b_t, c_t written out from their definitions, no running sums shared with the library.
double second_moment_by_hand(const tabular::enumeration& e, bool with_tv) {
    double total = 0.0;
    const std::size_t length = e.s.length;
    for (std::size_t t = 0; t < length; ++t) {
        double a = 0.0;
        double square = 0.0;
        double future_kl = 0.0;
        double c = 0.0;
        for (std::size_t id = 0; id < e.mu.size(); ++id) {
            const double step = std::exp(e.log_ratio[id * length + t]) - 1.0;
            double kl = 0.0;
            double tv = 0.0;
            for (std::size_t j = t + 1; j < length; ++j) {
                kl += e.kl[id * length + j];
                tv += e.tv[id * length + j];
            }
            a += e.mu[id] * std::fabs(step);
            square += e.mu[id] * step * step;
            future_kl += e.mu[id] * kl;
            c += e.mu[id] * std::fabs(step) * tv;
        }
        const double bound = std::min(a, std::sqrt(square * 0.5 * future_kl));
        total += with_tv ? std::min(bound, c) : bound;
    }
    return total;
}

/// A response drawn token by token from mu.
std::size_t sample(const tabular::pair& p, std::mt19937_64& rng) {
    std::size_t id = 0;
    for (std::size_t t = 0; t < p.s.length; ++t) {
        const std::size_t row = p.s.row(id * p.s.contexts(p.s.length - t), t) * p.s.vocabulary;
        double u = tabular::unit(rng);
        std::size_t y = 0;
        while (y + 1 < p.s.vocabulary && u >= p.mu[row + y]) u -= p.mu[row + y++];
        id = id * p.s.vocabulary + y;
    }
    return id;
}

}  // namespace

TEST_CASE("second-moment and direct estimates bound every enumerated error, and are what they say", "[property]") {
    std::mt19937_64 rng(7);
    double looser_than_adaptive = 0.0;
    for (std::size_t i = 0; i < 2400; ++i) {
        const auto kind = static_cast<tabular::mismatch>(i % 3);
        const double size = std::exp(-4.0 * tabular::unit(rng)) * 1.5;
        const auto e = tabular::enumerate(tabular::random_pair(tabular::nth_shape(i / 3), kind, size, rng));
        const auto worst = tabular::make_rewards(e, tabular::rewards::adversarial, rng);
        const double worst_error = tabular::evaluate(e, worst).error();
        CAPTURE(i, e.s.vocabulary, e.s.length);
        for (auto reward : {tabular::rewards::random, tabular::rewards::binary, tabular::rewards::adversarial}) {
            const auto r = tabular::make_rewards(e, reward, rng);
            const auto o = tabular::evaluate(e, r);
            const b::evidence all = exact_evidence(e, r);
            const b::direct_estimate d = b::direct(all.sequences);
            REQUIRE(d.observed == Approx(o.error()).margin(1e-12));
            REQUIRE(d.improvement == Approx(o.improvement).margin(1e-12));
            REQUIRE(d.surrogate == Approx(o.surrogate).margin(1e-12));
            REQUIRE(d.ratio_excess == Approx(0.0).margin(1e-12));
            REQUIRE(d.worst_case == Approx(worst_error).margin(1e-12).epsilon(1e-12));
            REQUIRE(std::fabs(o.error()) <= d.worst_case + 1e-12);
            const double bound = b::second_moment(all);
            REQUIRE(bound == Approx(second_moment_by_hand(e, true)).margin(1e-13));
            REQUIRE(std::fabs(o.error()) <= bound + 1e-12);
            REQUIRE(d.worst_case <= bound + 1e-12);
        }
        // Sampled tokens alone: k3 has the mean of the KL given the context, so b_t is the same; c_t is missing.
        const b::evidence sampled = exact_evidence(e, worst, false);
        REQUIRE(b::second_moment(sampled) == Approx(second_moment_by_hand(e, false)).margin(1e-10));
        REQUIRE(b::second_moment(sampled) >= b::second_moment(exact_evidence(e, worst)) - 1e-12);
        const double adaptive = b::adaptive(e.mean_tv, e.eps, e.delta);
        if (adaptive > 1e-9) {
            looser_than_adaptive =
                std::max(looser_than_adaptive, b::second_moment(exact_evidence(e, worst)) / adaptive);
        }
        // Ranges other than [0, 1] scale; rewards only shift.
        REQUIRE(b::second_moment(sampled, {-1.0, 3.0}) == Approx(4.0 * b::second_moment(sampled)));
    }
    CHECK(looser_than_adaptive <= 1.0 + 1e-9);
}

TEST_CASE("second-moment bounds gain most where mismatch is sparse", "[property]") {
    std::mt19937_64 rng(15);
    const auto gains = [&](tabular::mismatch kind) {
        std::vector<double> over_adaptive, over_marginal;
        for (int i = 0; i < 200; ++i) {
            const tabular::shape s{2, i % 2 == 0 ? std::size_t{6} : std::size_t{8}};
            const auto e = tabular::enumerate(tabular::random_pair(s, kind, 0.3, rng));
            const double bound = b::second_moment(exact_evidence(e, std::vector<double>(e.mu.size(), 0.0)));
            if (bound < 1e-9) continue;  // no context differs
            over_adaptive.push_back(b::adaptive(e.mean_tv, e.eps, e.delta) / bound);
            over_marginal.push_back(b::pinsker_marginal(static_cast<std::int64_t>(s.length), e.delta) / bound);
        }
        for (auto* v : {&over_adaptive, &over_marginal}) std::sort(v->begin(), v->end());
        return std::pair{over_adaptive[over_adaptive.size() / 2], over_marginal[over_marginal.size() / 2]};
    };
    const auto dense = gains(tabular::mismatch::uniform);
    const auto sparse = gains(tabular::mismatch::sparse);
    CAPTURE(dense.first, dense.second, sparse.first, sparse.second);
    CHECK(dense.first > 1.5);
    CHECK(dense.second > 5.0);
    CHECK(sparse.first > 2.0 * dense.first);
    CHECK(sparse.second > 5.0 * dense.second);
}

TEST_CASE("the second-moment bound is attained at T = 2", "[property]") {
    for (double tv : {0.01, 0.1, 0.4}) {
        tabular::pair p{{2, 2}, {}, {}};
        for (std::size_t row = 0; row < p.s.rows(); ++row) {
            p.mu.insert(p.mu.end(), {0.5, 0.5});
            p.pi.insert(p.pi.end(), {0.5 + tv, 0.5 - tv});
        }
        const auto e = tabular::enumerate(p);
        std::mt19937_64 rng(3);
        const auto r = tabular::make_rewards(e, tabular::rewards::adversarial, rng);
        CHECK(b::second_moment(exact_evidence(e, r)) == Approx(tabular::evaluate(e, r).error()).epsilon(1e-12));
    }
}

TEST_CASE("sampled estimates converge to the enumerated values", "[property]") {
    std::mt19937_64 rng(99);
    const auto p = tabular::random_pair({2, 6}, tabular::mismatch::uniform, 0.7, rng);
    const auto e = tabular::enumerate(p);
    const auto reward = tabular::make_rewards(e, tabular::rewards::random, rng);
    const b::evidence exact = exact_evidence(e, reward);
    const b::direct_estimate truth = b::direct(exact.sequences);
    const std::size_t length = e.s.length;

    const auto run = [&](std::size_t n) {
        std::vector<std::int64_t> offsets{0};
        std::vector<double> log_ratio, kl, tv, rewards;
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t id = sample(p, rng);
            for (std::size_t t = 0; t < length; ++t) {
                log_ratio.push_back(e.log_ratio[id * length + t]);
                kl.push_back(e.kl[id * length + t]);
                tv.push_back(e.tv[id * length + t]);
            }
            rewards.push_back(reward[id]);
            offsets.push_back(offsets.back() + static_cast<std::int64_t>(length));
        }
        std::vector<std::int64_t> one_group(n, 0);
        b::evidence out;
        b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = log_ratio, .kl = kl, .tv = tv};
        t.rewards = rewards;
        t.groups = one_group;
        REQUIRE(out.add(t).ok());
        return out;
    };
    const b::evidence some = run(2000);
    const b::evidence many = run(200000);
    const b::direct_estimate d = b::direct(many.sequences);
    CHECK(d.worst_case == Approx(truth.worst_case).epsilon(0.02));
    CHECK(d.observed == Approx(truth.observed).margin(0.01));
    CHECK(d.improvement == Approx(truth.improvement).margin(0.01));
    CHECK(d.ratio_excess == Approx(0.0).margin(0.02));
    CHECK(d.ess == Approx(truth.ess).epsilon(0.05));
    CHECK(b::second_moment(many) == Approx(b::second_moment(exact)).epsilon(0.01));
    CHECK(std::fabs(b::second_moment(many) / b::second_moment(exact) - 1.0) <
          std::fabs(b::second_moment(some) / b::second_moment(exact) - 1.0) + 0.01);

    // E[rho] = 1, E[k3] = KL, E|rho - 1| = 2 TV, all per position.
    const b::batch_divergences seen = b::measure(many);
    const auto totals = many.totals();
    const auto n = static_cast<double>(many.sequences.size());
    double first_order = 0.0;
    double k3 = 0.0;
    for (const b::sequence_record& r : many.sequences) first_order += r.first_order / n;
    for (const b::sequence_record& r : many.sequences) k3 += (r.first_order - r.log_ratio) / n;
    CHECK(first_order == Approx(0.0).margin(0.02));
    CHECK(k3 == Approx(e.seq_kl).epsilon(0.02));
    CHECK(seen.seq_kl == Approx(e.seq_kl).epsilon(0.02));
    CHECK(*seen.seq_tv == Approx(e.seq_tv).epsilon(0.02));
    CHECK(seen.delta == e.delta);  // every context of so small a tree has been visited
    CHECK(*seen.eps == e.eps);
    for (std::size_t t = 0; t < length; ++t) {
        CHECK(totals[t].magnitude / n == Approx(2.0 * e.mean_tv[t]).epsilon(0.03));
        CHECK(seen.mean_tv[t] == Approx(e.mean_tv[t]).epsilon(0.03));
    }
}

TEST_CASE("S is accurate where plain arithmetic is not", "[unit]") {
    // Log-ratios of 1e-7: S is a difference of terms near 1e-13 that a product of ratios loses altogether.
    const std::vector<double> x{1e-7, 3e-7, -2e-7};
    const std::vector<std::int64_t> offsets{0, 3};
    b::evidence e;
    REQUIRE(e.add(b::trajectories<double>{.layout = trm::packed{offsets}, .log_ratio = x}).ok());
    const double pairs = x[0] * x[1] + x[0] * x[2] + x[1] * x[2];  // S up to third order
    CHECK(e.sequences[0].excess == Approx(pairs).epsilon(1e-5).margin(0));
    CHECK(b::detail::k3(1e-9) == Approx(0.5e-18).epsilon(1e-8).margin(0));
    CHECK(b::detail::k3(-0.25) == Approx(b::detail::k3(-0.2499999999)).epsilon(1e-9));
    CHECK(b::detail::k3(100.0) == Approx(std::exp(100.0)));
}

TEST_CASE("slots outside loss_mask are never read, non-finite tokens exclude their sequence", "[unit]") {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    constexpr double inf = std::numeric_limits<double>::infinity();
    const std::vector<std::int64_t> offsets{0, 4, 4, 7};
    const std::vector<std::int64_t> clean_offsets{0, 4, 4, 7};
    std::vector<double> x{0.1, nan, -0.2, 0.3, 0.05, inf, -0.07};
    std::vector<double> kl{0.01, nan, 0.02, 0.03, 0.004, -inf, 0.005};
    std::vector<double> tv{0.05, nan, 0.06, 0.07, 0.01, 9.0, 0.02};
    const std::vector<std::uint8_t> mask{1, 0, 1, 1, 1, 0, 255};
    b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .kl = kl, .tv = tv, .loss_mask = mask};
    b::evidence dirty;
    REQUIRE(dirty.add(t).ok());
    CHECK(dirty.excluded == 0);
    CHECK(dirty.tokens == 5);
    CHECK(dirty.sequences.size() == 3);

    x[1] = x[5] = 0.0;
    kl[1] = kl[5] = tv[1] = tv[5] = 0.0;
    b::trajectories<double> u{.layout = trm::packed{clean_offsets}, .log_ratio = x, .kl = kl, .tv = tv};
    b::evidence clean;
    REQUIRE(clean.add(u).ok());
    CHECK(b::second_moment(dirty) == b::second_moment(clean));
    CHECK(b::direct(dirty.sequences).worst_case == b::direct(clean.sequences).worst_case);
    CHECK(b::adaptive_of(t, 0.1, 0.05, 9) == b::adaptive_of(u, 0.1, 0.05, 9));

    for (double bad : {nan, inf, -inf}) {
        for (auto* stream : {&x, &kl, &tv}) {
            const double saved = (*stream)[2];
            (*stream)[2] = bad;
            b::evidence e;
            REQUIRE(e.add(t).ok());
            CHECK(e.excluded == 1);
            CHECK(e.sequences.size() == 2);
            CHECK(b::detail::finite(b::second_moment(e)));
            CHECK(b::detail::finite(b::direct(e.sequences).worst_case));
            (*stream)[2] = saved;
        }
    }
    const std::vector<double> rewards{1.0, nan, 0.0};
    t.rewards = rewards;
    b::evidence e;
    REQUIRE(e.add(t).ok());
    CHECK(e.excluded == 1);
    CHECK(e.has_rewards());

    // Ratios beyond any use stay finite and are flagged.
    x[0] = 5000.0;
    b::evidence wild;
    REQUIRE(wild.add(t).ok());
    CHECK(wild.sequences[0].saturated);
    CHECK(b::detail::finite(b::direct(wild.sequences).worst_case));
    CHECK(b::detail::finite(b::second_moment(wild)));
}

TEST_CASE("misuse is reported and adds nothing", "[unit]") {
    const std::vector<double> x{0.1, 0.2, 0.3};
    const std::vector<double> two{0.1, 0.2};
    const std::vector<std::int64_t> good{0, 1, 3};
    const std::vector<std::int64_t> down{0, 2, 1, 3};
    const std::vector<std::int64_t> late{1, 3};
    const std::vector<std::int64_t> three{0, 0, 0};
    const std::vector<std::uint8_t> mask{1};
    b::evidence e;
    using T = b::trajectories<double>;
    const auto code = [&e](const T& t) { return e.add(t).code; };
    CHECK(code(T{.log_ratio = x}) == trm::errc::size_mismatch);
    const trm::status s = e.add(T{.layout = trm::packed{down}, .log_ratio = x});
    CHECK(s.code == trm::errc::decreasing_offsets);
    CHECK(s.sequence == 1);
    CHECK(code(T{.layout = trm::packed{late}, .log_ratio = x}) == trm::errc::decreasing_offsets);
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = two}) == trm::errc::size_mismatch);
    CHECK(code(T{.layout = trm::packed{good}}) == trm::errc::missing_stream);
    CHECK(code(T{.layout = trm::packed{good}, .logp = x}) == trm::errc::missing_stream);
    CHECK(code(T{.layout = trm::packed{good}, .logp = x, .rollout_logp = two}) == trm::errc::size_mismatch);
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = x, .kl = two}) == trm::errc::size_mismatch);
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = x, .tv = two}) == trm::errc::size_mismatch);
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = x, .loss_mask = mask}) == trm::errc::size_mismatch);
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = x, .rewards = x}) == trm::errc::size_mismatch);
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = x, .groups = three}) == trm::errc::size_mismatch);
    CHECK(e.sequences.empty());
    CHECK(e.groups.empty());
    CHECK(code(T{.layout = trm::packed{good}, .log_ratio = x}) == trm::errc::ok);
    CHECK(e.sequences.size() == 2);

    // Both spellings of a log-ratio agree, in float as in double.
    const std::vector<float> logp{-1.0F, -2.0F, -0.5F};
    const std::vector<float> mu{-1.5F, -1.75F, -0.625F};
    const std::vector<float> diff{0.5F, -0.25F, 0.125F};
    b::evidence f, g;
    REQUIRE(f.add(b::trajectories<float>{.layout = trm::packed{good}, .logp = logp, .rollout_logp = mu}).ok());
    REQUIRE(g.add(b::trajectories<float>{.layout = trm::packed{good}, .log_ratio = diff}).ok());
    CHECK(b::second_moment(f) == b::second_moment(g));
    CHECK(f.sequences[1].excess == g.sequences[1].excess);

    const std::vector<std::int32_t> ids{0, 0};
    CHECK(code(T{.layout = trm::segments{good, ids, 1}, .log_ratio = x}) == trm::errc::unsupported);
    CHECK(code(T{.layout = trm::padded{2, 3, 2}, .log_ratio = x}) == trm::errc::bad_layout);
}

TEST_CASE("layouts, offset widths and storage types say the same", "[unit]") {
    // Lengths 3, 0 and 2; multiples of 1/8, exact in bf16.
    const std::vector<float> logp{-1.0F, -2.0F, -0.5F, -0.25F, -3.0F};
    const std::vector<float> mu{-1.5F, -1.75F, -0.625F, -0.5F, -2.5F};
    const std::vector<std::int32_t> narrow{0, 3, 3, 5};
    const std::vector<std::int64_t> wide{0, 3, 3, 5};
    const std::vector<double> rewards{1.0, 0.0, 1.0};
    using F = b::trajectories<float>;
    b::evidence reference;
    REQUIRE(reference.add(F{.layout = trm::packed{wide}, .logp = logp, .rollout_logp = mu, .rewards = rewards}).ok());
    const auto same = [&](const auto& batch) {
        b::evidence e;
        REQUIRE(e.add(batch).ok());
        REQUIRE(e.sequences.size() == 3);
        CHECK(b::second_moment(e) == b::second_moment(reference));
        CHECK(e.tokens == reference.tokens);
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(e.sequences[i].excess == reference.sequences[i].excess);
            CHECK(e.sequences[i].tokens == reference.sequences[i].tokens);
        }
        CHECK(b::direct(e.sequences).observed == b::direct(reference.sequences).observed);
    };
    same(F{.layout = trm::packed{narrow}, .logp = logp, .rollout_logp = mu, .rewards = rewards});

    std::vector<trm::bf16> narrow_logp, narrow_mu;
    for (float v : logp) narrow_logp.push_back(trm::to_bf16(v));
    for (float v : mu) narrow_mu.push_back(trm::to_bf16(v));
    same(b::trajectories<trm::bf16>{
        .layout = trm::packed{wide}, .logp = narrow_logp, .rollout_logp = narrow_mu, .rewards = rewards});

    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> padded_logp(3 * 4, nan), padded_mu(3 * 4, nan);
    std::vector<std::uint8_t> mask(3 * 4, 0);
    for (std::size_t i = 0; i < 3; ++i) {
        for (auto t = static_cast<std::size_t>(wide[i]); t < static_cast<std::size_t>(wide[i + 1]); ++t) {
            const std::size_t to = 4 * i + t - static_cast<std::size_t>(wide[i]);
            padded_logp[to] = logp[t];
            padded_mu[to] = mu[t];
            mask[to] = 1;
        }
    }
    F padded{.layout = trm::padded{3, 4, 4}, .logp = padded_logp, .rollout_logp = padded_mu};
    padded.loss_mask = mask;
    padded.rewards = rewards;
    same(padded);

    trm::batch_view<float> view;
    view.logp = padded_logp;
    view.rollout_logp = padded_mu;
    view.loss_mask = mask;
    view.layout = trm::padded{3, 4, 4};
    F from_view = b::trajectories_of(view);
    from_view.rewards = rewards;
    same(from_view);
}

TEST_CASE("prompts of different horizon: the bound is the mean of their bounds", "[unit]") {
    const std::vector<std::int64_t> offsets{0, 2, 5};
    const std::vector<double> x{0.1, -0.1, 0.2, 0.05, -0.02};
    const std::vector<double> kl{0.01, 0.02, 0.015, 0.001, 0.002};
    const std::vector<double> tv{0.05, 0.04, 0.09, 0.03, 0.01};
    const std::vector<std::int64_t> horizons{10, 1000};
    b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .kl = kl, .tv = tv};
    t.horizons = horizons;
    b::evidence e;
    REQUIRE(e.add(t).ok());
    const b::batch_divergences d = b::measure(e);
    CHECK(d.horizons_differ);
    CHECK(d.horizon == 1000);
    const b::bound_table table = b::batch_bounds(e, d);
    CHECK(*table[b::bound_name::classical] == Approx((b::classical(10, 0.02) + b::classical(1000, 0.02)) / 2));
    CHECK(*table[b::bound_name::coupling] == Approx((b::coupling(10, 0.09) + b::coupling(1000, 0.09)) / 2));
    CHECK(*table[b::bound_name::pinsker_marginal] ==
          Approx((b::pinsker_marginal(10, 0.02) + b::pinsker_marginal(1000, 0.02)) / 2));
    const double first = b::adaptive(std::span(tv).first(2), 10, 0.09, 0.02);
    const double second = b::adaptive(std::span(tv).last(3), 1000, 0.09, 0.02);
    CHECK(b::adaptive_of(t, 0.09, 0.02) == Approx((first + second) / 2));
    CHECK(*table[b::bound_name::adaptive] >= b::adaptive_of(t, 0.09, 0.02));
    t.horizons = {};
    CHECK(b::adaptive_of(t, 0.09, 0.02, 1000) == Approx(*table[b::bound_name::adaptive]));
}

TEST_CASE("direct sums merge to those of the whole", "[unit]") {
    std::mt19937_64 rng(8);
    std::vector<double> x, rewards;
    std::vector<std::int64_t> offsets{0};
    for (int i = 0; i < 50; ++i) {
        for (int t = 0; t < 5; ++t) x.push_back(tabular::unit(rng) - 0.5);
        offsets.push_back(static_cast<std::int64_t>(x.size()));
        rewards.push_back(tabular::unit(rng));
    }
    b::evidence e;
    REQUIRE(e.add(b::trajectories<double>{.layout = trm::packed{offsets}, .log_ratio = x, .rewards = rewards}).ok());
    const std::span<const b::sequence_record> all(e.sequences);
    b::direct_sums merged = b::sum_direct(all.first(20), 0.5);
    merged.add(b::sum_direct(all.subspan(20), 0.5));
    const b::direct_estimate parts = b::direct_of(merged);
    const b::direct_estimate whole = b::direct(all);
    CHECK(parts.worst_case == Approx(whole.worst_case).epsilon(1e-13));
    CHECK(parts.observed == Approx(whole.observed).epsilon(1e-12));
    CHECK(parts.improvement == Approx(whole.improvement).epsilon(1e-12));
    CHECK(parts.surrogate == Approx(whole.surrogate).epsilon(1e-12));
    CHECK(parts.ess == Approx(whole.ess).epsilon(1e-13));
    CHECK(parts.tail_share == Approx(whole.tail_share).epsilon(1e-13));
    double largest = 0.0;
    double sum = 0.0;
    for (const auto& r : e.sequences) {
        largest = std::max(largest, std::exp(r.log_ratio));
        sum += std::exp(r.log_ratio);
    }
    CHECK(whole.tail_share == Approx(largest / sum).epsilon(1e-12));
    CHECK(b::direct_of({}).worst_case == 0.0);
}
