// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/block_bounds.hpp>
#include <trm/bounds/resample.hpp>

#include "catch.hpp"
#include "tabular.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

namespace b = trm::bounds;

namespace {

/// Every response with its probability as weight, so that means are expectations; every block length is on the grid.
b::evidence exact_evidence(const tabular::enumeration& e, bool divergences = true) {
    b::trajectories<double> t{.layout = trm::packed{e.offsets}, .log_ratio = e.log_ratio, .weights = e.mu};
    if (divergences) {
        t.kl = e.kl;
        t.tv = e.tv;
    }
    b::evidence out;
    for (std::size_t w = 1; w < e.s.length; ++w) out.grid.lengths.push_back(static_cast<std::int64_t>(w));
    REQUIRE(out.add(t).ok());
    return out;
}

struct by_hand {
    double within = 0.0, between = 0.0, refined = 0.0, ess = 1.0, third = 0.0, fourth = 0.0;
};

/// The definitions, block by block, with plain products of ratios and no running sum shared with the library.
by_hand blocks_by_hand(const tabular::enumeration& e, std::size_t w, bool with_tv) {
    const std::size_t length = e.s.length;
    const std::size_t blocks = (length + w - 1) / w;
    const auto product = [&](std::size_t id, std::size_t k) {
        double p = 1.0;
        for (std::size_t t = k * w; t < std::min((k + 1) * w, length); ++t) p *= std::exp(e.log_ratio[id * length + t]);
        return p;
    };
    by_hand out;
    for (std::size_t id = 0; id < e.mu.size(); ++id) {
        double excess = 0.0;
        for (std::size_t k = 0; k < blocks; ++k) {
            excess += product(id, k) - 1.0;
            for (std::size_t t = k * w; t < std::min((k + 1) * w, length); ++t) {
                excess -= std::exp(e.log_ratio[id * length + t]) - 1.0;
            }
        }
        out.within += 0.5 * e.mu[id] * std::fabs(excess);
    }
    for (std::size_t k = 0; k < blocks; ++k) {
        double first = 0.0, square = 0.0, kl = 0.0, third = 0.0, fourth = 0.0, second = 0.0;
        for (std::size_t id = 0; id < e.mu.size(); ++id) {
            const double p = product(id, k);
            double future_kl = 0.0, future_tv = 0.0, future_blocks = 0.0;
            for (std::size_t t = (k + 1) * w; t < length; ++t) {
                future_kl += e.kl[id * length + t];
                future_tv += e.tv[id * length + t];
            }
            for (std::size_t j = k + 1; j < blocks; ++j) future_blocks += std::fabs(product(id, j) - 1.0);
            first += e.mu[id] * std::fabs(p - 1.0);
            square += e.mu[id] * (p - 1.0) * (p - 1.0);
            second += e.mu[id] * p * p;
            kl += e.mu[id] * future_kl;
            third += e.mu[id] * std::fabs(p - 1.0) * future_tv;
            fourth += 0.5 * e.mu[id] * std::fabs(p - 1.0) * future_blocks;
        }
        double least = std::min(first, std::sqrt(0.5 * square * kl));
        if (with_tv) least = std::min(least, third);
        out.between += least;
        out.refined += std::min(least, fourth);
        out.third += third;
        out.fourth += fourth;
        out.ess = std::min(out.ess, 1.0 / second);
    }
    return out;
}

}  // namespace

TEST_CASE("block bounds hold with the worst reward at every block length", "[property]") {
    std::mt19937_64 rng(1729);
    double loosest = 0.0;
    double tightest_at_two = 0.0;
    for (std::size_t i = 0; i < 1200; ++i) {
        const tabular::shape s{2 + i % 2, 2 + i / 2 % 5};
        const auto kind = static_cast<tabular::mismatch>(i / 10 % 3);
        const auto e =
            tabular::enumerate(tabular::random_pair(s, kind, 1.5 * std::exp(-4.0 * tabular::unit(rng)), rng));
        const double worst = tabular::evaluate(e, tabular::make_rewards(e, tabular::rewards::adversarial, rng)).error();
        for (const bool with_tv : {true, false}) {
            const b::evidence all = exact_evidence(e, with_tv);
            const auto rows = b::block_bounds(all);
            REQUIRE(rows.size() == s.length);
            const double at_one = b::second_moment(all);
            for (const b::block_row& row : rows) {
                CAPTURE(i, s.vocabulary, s.length, row.length, with_tv);
                const by_hand h = blocks_by_hand(e, static_cast<std::size_t>(row.length), with_tv);
                REQUIRE(row.within == Approx(h.within).margin(1e-13));
                REQUIRE(row.between == Approx(h.between).margin(1e-9));  // k3's mean is the KL up to rounding
                REQUIRE(row.refined == Approx(h.within + h.refined).margin(1e-9));
                REQUIRE(row.ess == Approx(h.ess).epsilon(1e-10));
                REQUIRE(row.blocks == static_cast<std::int64_t>((s.length - 1) / row.length + 1));
                REQUIRE(worst <= row.value + 1e-12);
                REQUIRE(worst <= row.refined + 1e-12);
                REQUIRE(h.fourth <= h.third + 1e-12);
                if (at_one > 1e-6) loosest = std::max(loosest, row.value / at_one);
                if (s.length == 2 && worst > 1e-6) tightest_at_two = std::max(tightest_at_two, worst / row.value);
            }
            REQUIRE(rows.front().value == at_one);  // w = 1: not one bit differs
            REQUIRE(rows.back().value == b::direct(all.sequences).worst_case);
        }
        // Ranges other than [0, 1] scale.
        const b::evidence all = exact_evidence(e);
        REQUIRE(b::block_bounds(all, {-1.0, 3.0})[0].value == Approx(4.0 * b::block_bounds(all)[0].value));
    }
    CAPTURE(loosest, tightest_at_two);
    CHECK(loosest > 1.0);  // a longer block can be looser, so w is not chosen by value
    CHECK(loosest < 1.25);
    CHECK(tightest_at_two == Approx(1.0).epsilon(1e-9));
}

TEST_CASE("the one-sided direct estimate is the worst case, without the tail of the product", "[property]") {
    std::mt19937_64 rng(41);
    for (std::size_t i = 0; i < 600; ++i) {
        const auto kind = static_cast<tabular::mismatch>(i % 3);
        const auto e =
            tabular::enumerate(tabular::random_pair(tabular::nth_shape(i), kind, 3.0 * tabular::unit(rng), rng));
        const b::evidence all = exact_evidence(e);
        const b::direct_estimate d = b::direct(all.sequences);
        REQUIRE(d.one_sided == Approx(d.worst_case).margin(1e-12).epsilon(1e-10));
        REQUIRE(d.first_order == Approx(0.0).margin(1e-12));
        // What is averaged stays below 1 + sum of (rho - 1), however large the product.
        for (const b::sequence_record& r : all.sequences) {
            REQUIRE(std::max(-r.excess, 0.0) <= std::max(1.0 + r.first_order, 0.0) + 1e-12);
        }
    }
}

TEST_CASE("block sums merge, and cut ragged sequences where positions say", "[unit]") {
    std::mt19937_64 rng(5);
    std::vector<std::int64_t> offsets{0}, groups;
    std::vector<double> x, kl, tv;
    std::vector<std::uint8_t> mask;
    for (std::size_t i = 0; i < 40; ++i) {
        const std::size_t length = i % 7 == 0 ? 0 : 1 + rng() % (i < 20 ? 5 : 70);
        for (std::size_t t = 0; t < length; ++t) {
            x.push_back(0.4 * (tabular::unit(rng) - 0.5));
            kl.push_back(0.01 * tabular::unit(rng));
            tv.push_back(0.1 * tabular::unit(rng));
            mask.push_back(rng() % 5 != 0);
        }
        offsets.push_back(static_cast<std::int64_t>(x.size()));
        groups.push_back(static_cast<std::int64_t>(rng() % 6));
    }
    const auto part = [&](std::size_t first, std::size_t last, bool padded_grid = false) {
        const auto from = static_cast<std::size_t>(offsets[first]);
        const auto n = static_cast<std::size_t>(offsets[last]) - from;
        std::vector<std::int64_t> own(offsets.begin() + static_cast<std::ptrdiff_t>(first),
                                      offsets.begin() + static_cast<std::ptrdiff_t>(last) + 1);
        for (auto& o : own) o -= static_cast<std::int64_t>(from);
        b::trajectories<double> t{.layout = trm::packed{own}, .log_ratio = std::span(x).subspan(from, n)};
        t.kl = std::span<const double>(kl).subspan(from, n);
        t.tv = std::span<const double>(tv).subspan(from, n);
        t.loss_mask = std::span<const std::uint8_t>(mask).subspan(from, n);
        t.groups = std::span<const std::int64_t>(groups).subspan(first, last - first);
        b::evidence e;
        if (padded_grid) e.grid.lengths = {1, 3, 9, 10};
        REQUIRE(e.add(t).ok());
        return e;
    };
    const b::evidence whole = part(0, 40);
    const auto rows = b::block_bounds(whole);
    // The definition over sequences padded with rho = 1.
    for (const b::block_row& row : rows) {
        const auto w = static_cast<std::size_t>(row.length);
        double within = 0.0;
        std::vector<double> sum(static_cast<std::size_t>(row.blocks), 0.0), square(sum), top(sum);
        for (std::size_t i = 0; i < 40; ++i) {
            const auto first = static_cast<std::size_t>(offsets[i]);
            const auto length = static_cast<std::size_t>(offsets[i + 1]) - first;
            double excess = 0.0;
            for (std::size_t k = 0; k < sum.size(); ++k) {
                double p = 1.0;
                for (std::size_t t = k * w; t < std::min(length, (k + 1) * w); ++t) {
                    if (mask[first + t] == 0) continue;
                    p *= std::exp(x[first + t]);
                    excess -= std::exp(x[first + t]) - 1.0;
                }
                excess += p - 1.0;
                sum[k] += p;
                square[k] += p * p;
                top[k] = std::max(top[k], p);
            }
            within += std::fabs(excess) / 80.0;
        }
        double ess = 1.0, share = 0.0;
        for (std::size_t k = 0; k < sum.size(); ++k) {
            ess = std::min(ess, sum[k] * sum[k] / square[k] / 40.0);
            share = std::max(share, top[k] / sum[k]);
        }
        CAPTURE(row.length);
        CHECK(row.within == Approx(within).margin(1e-13));
        CHECK(row.ess == Approx(ess).epsilon(1e-12));
        CHECK(row.tail_share == Approx(share).epsilon(1e-12));
    }
    // Ranks that have seen short responses only have recorded fewer lengths.
    for (const std::size_t cut : {1U, 20U, 33U}) {
        b::evidence forward = part(0, cut), backward = part(cut, 40);
        forward.merge(part(cut, 40));
        backward.merge(part(0, cut));
        for (const b::evidence* e : {&forward, &backward}) {
            const auto merged = b::block_bounds(*e);
            REQUIRE(merged.size() == rows.size());
            for (std::size_t j = 0; j < rows.size(); ++j) {
                CHECK(merged[j].length == rows[j].length);
                CHECK(merged[j].value == Approx(rows[j].value).epsilon(1e-12));
                CHECK(merged[j].refined == Approx(rows[j].refined).epsilon(1e-12));
                CHECK(merged[j].ess == Approx(rows[j].ess).epsilon(1e-12));
                CHECK(merged[j].tail_share == Approx(rows[j].tail_share).epsilon(1e-12));
            }
        }
    }
    // Another grid: lengths that do not divide each other, and what cannot be merged with it.
    b::evidence odd = part(0, 40, true);
    const auto odd_rows = b::block_bounds(odd);
    REQUIRE(odd_rows.size() == 5);
    CHECK(odd_rows[0].value == rows[0].value);
    CHECK(odd_rows[4].value == rows.back().value);
    b::evidence split = part(0, 20, true);
    split.merge(part(20, 40, true));
    for (std::size_t j = 0; j < 5; ++j) {
        CHECK(b::block_bounds(split)[j].value == Approx(odd_rows[j].value).epsilon(1e-12));
    }
    odd.merge(whole);
    CHECK(odd.grids_differ);
    CHECK(b::block_bounds(odd).size() == 1);  // the direct estimate needs no blocks
    CHECK(b::resample_blocks(odd, 0, {}, {}).empty());
    b::evidence wrong;
    wrong.grid.lengths = {1, 4, 4};
    CHECK(wrong.add(b::trajectories<double>{}).code == trm::errc::bad_threshold);
}

TEST_CASE("a small block keeps its digits behind a large log-ratio", "[unit]") {
    // Differences of prefix sums of k3 would have lost everything after the first token: e^40 swallows 1e-8.
    const std::vector<double> x{40.0, 0.0, 1e-4, 2e-4};
    const std::vector<std::int64_t> offsets{0, 4};
    b::evidence e;
    e.grid.lengths = {2};
    REQUIRE(e.add(b::trajectories<double>{.layout = trm::packed{offsets}, .log_ratio = x}).ok());
    CHECK(e.groups[0].levels[0].at[1].excess == Approx(std::expm1(3e-4)).epsilon(1e-14));
    const b::block_level& level = e.groups[0].levels[0];
    const double pair = std::expm1(1e-4) * std::expm1(2e-4);  // P - 1 - S of the second block, the first has none
    CHECK(level.within == Approx(pair).epsilon(1e-6).margin(0));
}

TEST_CASE("w is chosen by health, and replicates keep it", "[unit]") {
    std::vector<b::block_row> rows(4);
    CHECK_FALSE(b::longest_good(rows).has_value());
    rows[0].good = rows[2].good = true;
    CHECK(b::longest_good(rows) == 2);
    CHECK_FALSE(b::longest_good({}).has_value());

    std::mt19937_64 rng(12);
    std::vector<std::int64_t> offsets{0}, groups;
    std::vector<double> x;
    for (std::size_t i = 0; i < 64; ++i) {
        for (int t = 0; t < 16; ++t) x.push_back(0.3 * (tabular::unit(rng) - 0.5));
        offsets.push_back(static_cast<std::int64_t>(x.size()));
        groups.push_back(static_cast<std::int64_t>(i / 4));
    }
    b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x};
    t.groups = groups;
    b::evidence e;
    REQUIRE(e.add(t).ok());
    CHECK(b::resample_blocks(e, 0, {}, {}) == b::resample(e, {}, {}).second_moment);
    // One replicate by hand: the evidence of the groups that were drawn, block bounds and all.
    const b::bootstrap_options one{1, 0.9, 99};
    std::vector<std::uint32_t> counts(16);
    b::detail::draw(counts, one.seed, 0);
    std::vector<double> weights;
    std::vector<double> drawn;
    std::vector<std::int64_t> drawn_offsets{0};
    for (std::size_t i = 0; i < 64; ++i) {
        if (counts[i / 4] == 0) continue;
        drawn.insert(drawn.end(), x.begin() + offsets[i], x.begin() + offsets[i + 1]);
        drawn_offsets.push_back(static_cast<std::int64_t>(drawn.size()));
        weights.push_back(counts[i / 4]);
    }
    b::evidence again;
    REQUIRE(
        again.add(b::trajectories<double>{.layout = trm::packed{drawn_offsets}, .log_ratio = drawn, .weights = weights})
            .ok());
    for (const std::size_t level : {0U, 1U, 2U, 3U}) {
        CAPTURE(level);
        CHECK(b::resample_blocks(e, level, {}, one)[0] == Approx(b::block_bounds(again)[level].value).epsilon(1e-12));
        CHECK(b::resample_blocks(e, level, {}, one, b::block_forms::refined)[0] ==
              Approx(b::block_bounds(again)[level].refined).epsilon(1e-12));
    }

    b::block_limits strict{0.0, 0.25};
    CHECK(b::block_bounds(e, {}, strict).back().good);
    strict.largest_tail_share = 1e-3;
    CHECK_FALSE(b::longest_good(b::block_bounds(e, {}, strict)).has_value());
    strict = {1.1, 1.0};
    CHECK_FALSE(b::longest_good(b::block_bounds(e, {}, strict)).has_value());
    x[5] = 1000.0;
    b::evidence wild;
    REQUIRE(wild.add(t).ok());
    CHECK_FALSE(b::longest_good(b::block_bounds(wild, {}, {0.0, 1.0})).has_value());
    CHECK(b::block_bounds({}).empty());
}
