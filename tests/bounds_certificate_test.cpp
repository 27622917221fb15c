// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/report.hpp>
#include <trm/bounds/wire.hpp>

#include "../examples/rollouts.hpp"
#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace b = trm::bounds;

namespace {

const rollouts::batch& shipped(int updates_behind) {
    static const std::array<rollouts::batch, 3> batches{rollouts::read(TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl", 0),
                                                        rollouts::read(TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl", 2),
                                                        rollouts::read(TRM_EXAMPLES_DATA_DIR "/rollouts.jsonl", 4)};
    return batches[static_cast<std::size_t>(updates_behind / 2)];
}

b::evidence evidence_of(const rollouts::batch& r, bool divergences = true) {
    b::evidence e;
    REQUIRE(e.add(divergences ? r.view() : r.sampled_view()).ok());
    return e;
}

/// `part` of `parts` ranks, sequences dealt round robin, so that every group is split.
rollouts::batch deal(const rollouts::batch& all, std::size_t part, std::size_t parts) {
    rollouts::batch out;
    for (std::size_t i = part; i < all.size(); i += parts) {
        const auto first = all.offsets[i];
        const auto last = all.offsets[i + 1];
        for (const auto& [from, to] : {std::pair{&all.logp, &out.logp},
                                       {&all.rollout_logp, &out.rollout_logp},
                                       {&all.kl, &out.kl},
                                       {&all.tv, &out.tv}}) {
            to->insert(to->end(), from->begin() + first, from->begin() + last);
        }
        out.loss_mask.insert(out.loss_mask.end(), all.loss_mask.begin() + first, all.loss_mask.begin() + last);
        out.offsets.push_back(static_cast<std::int64_t>(out.logp.size()));
        out.rewards.push_back(all.rewards[i]);
        out.groups.push_back(all.groups[i]);
    }
    return out;
}

/// Two tokens a sequence, mild ratios, `n` groups of four.
struct synthetic {
    std::vector<std::int64_t> offsets{0}, groups;
    std::vector<double> x, rewards;

    synthetic(std::size_t n, double size, std::uint64_t seed) {
        std::mt19937_64 rng(seed);
        for (std::size_t i = 0; i < 4 * n; ++i) {
            // Ratios 1 + s and 1 - s with equal chance: their mean is 1.
            for (int t = 0; t < 2; ++t) x.push_back(std::log1p(rng() % 2 == 0 ? size : -size));
            offsets.push_back(offsets.back() + 2);
            groups.push_back(static_cast<std::int64_t>(i / 4));
            rewards.push_back(x[x.size() - 2] > 0 ? 1.0 : 0.0);
        }
    }
    [[nodiscard]] b::trajectories<double> view() const {
        b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .rewards = rewards};
        t.groups = groups;
        return t;
    }
};

}  // namespace

TEST_CASE("the shipped rollouts are what their README says", "[unit]") {
    struct row {
        int updates_behind;
        std::size_t sequences;
        double kl, k3, tv, half, ratio;
    };
    for (const row& r :
         {row{0, 112, 0.00107, 0.00100, 0.0095, 0.0095, 1.0008}, row{2, 96, 0.00864, 0.00815, 0.0333, 0.0328, 1.0005},
          row{4, 96, 0.07118, 0.07121, 0.1070, 0.1067, 1.0030}}) {
        const rollouts::batch& batch = shipped(r.updates_behind);
        CHECK(batch.size() == r.sequences);
        const b::evidence exact = evidence_of(batch);
        const b::evidence sampled = evidence_of(batch, false);
        const auto n = static_cast<double>(exact.tokens);
        double kl = 0.0, k3 = 0.0, ratio = 0.0, tv = 0.0, half = 0.0;
        for (const auto& s : exact.sequences) kl += s.kl / n;
        for (const auto& s : sampled.sequences) k3 += s.kl / n;
        for (const auto& s : exact.sequences) ratio += s.first_order / n;
        for (const auto& p : exact.totals()) tv += p.tv / n;
        for (const auto& p : exact.totals()) half += 0.5 * p.magnitude / n;
        CHECK(kl == Approx(r.kl).margin(5.1e-6));
        CHECK(k3 == Approx(r.k3).margin(5.1e-6));
        CHECK(1.0 + ratio == Approx(r.ratio).margin(5.1e-5));
        CHECK(tv == Approx(r.tv).margin(5.1e-5));
        CHECK(half == Approx(r.half).margin(5.1e-5));
        const auto [low, high] = std::minmax_element(exact.sequences.begin(), exact.sequences.end(),
                                                     [](const auto& p, const auto& q) { return p.length < q.length; });
        CHECK(low->length >= 17);
        CHECK(high->length == 160);
    }
}

TEST_CASE("the certificate of the shipped rollouts has the published figures", "[unit]") {
    struct row {
        int updates_behind;
        double classical, pinsker_marginal, adaptive, second_moment, direct, low, high, ess;
        bool healthy;
        b::rung_name head;
        std::int64_t block;
    };
    for (const row& r :
         {row{0, 14105, 236, 2.39, 0.99, 0.067, 0.036, 0.116, 0.59, true, b::rung_name::direct, 160},
          row{2, 16470.4, 255.6, 8.98, 7.63, 0.42, 0.35, 0.49, 0.25, false, b::rung_name::blocks, 64},
          row{4, 32824.3, 318, 27.3, 26.6, 1.96, 1.6, 2.3, 0.04, false, b::rung_name::second_moment, 0}}) {
        CAPTURE(r.updates_behind);
        const b::certificate c = b::certify(evidence_of(shipped(r.updates_behind)));
        const auto value = [&](b::rung_name n) { return c.find(n)->value; };
        CHECK(value(b::rung_name::classical) == Approx(r.classical).margin(0.5));
        CHECK(value(b::rung_name::pinsker_marginal) == Approx(r.pinsker_marginal).margin(0.5));
        CHECK(value(b::rung_name::adaptive) == Approx(r.adaptive).epsilon(0.003));
        CHECK(value(b::rung_name::second_moment) == Approx(r.second_moment).epsilon(0.003));
        const b::rung* direct = c.find(b::rung_name::direct);
        CHECK(direct->value == Approx(r.direct).epsilon(0.012));
        CHECK(direct->range->low == Approx(r.low).epsilon(0.04));
        CHECK(direct->range->high == Approx(r.high).epsilon(0.04));
        CHECK(c.health.ess == Approx(r.ess).margin(0.006));
        CHECK(c.health.good == r.healthy);
        CHECK(c.head()->name == r.head);
        REQUIRE((c.find(b::rung_name::blocks) != nullptr) == (r.block > 0));
        if (r.block > 0) CHECK(c.find(b::rung_name::blocks)->block == r.block);
        CHECK(c.find(b::rung_name::one_sided) == nullptr);
        CHECK(c.head()->kind == b::claim::estimated);
        CHECK(c.ladder[*c.binding].name == b::rung_name::adaptive);
        CHECK_FALSE(c.guarantee.has_value());
        CHECK_FALSE(c.certified);
        CHECK(c.head()->vacuous == !r.healthy);
        // Tightest first, down the whole ladder.
        for (std::size_t i = 1; i < c.rungs; ++i) CHECK(c.ladder[i - 1].value <= c.ladder[i].value);

        const b::certificate s = b::certify(evidence_of(shipped(r.updates_behind), false));
        CHECK(s.inputs.from_sampled_tokens);
        CHECK(s.find(b::rung_name::pinsker_marginal)->state == b::rung_status::detector);
        CHECK(c.find(b::rung_name::pinsker_marginal)->state == b::rung_status::batch_max);
        CHECK(s.find(b::rung_name::coupling) == nullptr);
        CHECK(s.find(b::rung_name::second_moment)->value == Approx(r.second_moment).epsilon(0.02));
        CHECK(s.find(b::rung_name::direct)->value == direct->value);
    }
}

TEST_CASE("block bounds of the shipped rollouts have the published figures", "[unit]") {
    constexpr std::array<std::int64_t, 7> lengths{1, 4, 8, 16, 40, 80, 160};
    struct row {
        int updates_behind;
        std::array<double, 7> bound, ess;
    };
    for (const row& r :
         {row{0, {0.991, 0.588, 0.473, 0.428, 0.288, 0.139, 0.0666}, {0.98, 0.87, 0.80, 0.50, 0.55, 0.58, 0.59}},
          row{2, {7.63, 4.30, 3.31, 2.52, 1.67, 0.957, 0.416}, {0.95, 0.87, 0.71, 0.59, 0.48, 0.37, 0.25}},
          row{4, {26.6, 17.3, 12.9, 8.99, 6.18, 3.21, 1.96}, {0.39, 0.20, 0.12, 0.17, 0.06, 0.05, 0.04}}}) {
        b::evidence e;
        e.grid.lengths = {1, 4, 8, 16, 40, 80};
        REQUIRE(e.add(shipped(r.updates_behind).view()).ok());
        const auto rows = b::block_bounds(e);
        REQUIRE(rows.size() == lengths.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
            CAPTURE(r.updates_behind, rows[i].length);
            CHECK(rows[i].length == lengths[i]);
            const double digit = std::pow(10.0, std::floor(std::log10(r.bound[i])) - 2.0);  // three are published
            CHECK(std::fabs(rows[i].value - r.bound[i]) < 0.55 * digit);
            CHECK(std::fabs(rows[i].ess - r.ess[i]) < 0.0055);
            CHECK(rows[i].refined <= rows[i].value + 1.5e-3);
        }
        // The grid and the limits that led to a choice are part of the certificate.
        b::certificate_options o;
        o.least_block_ess = 0.45;
        const b::certificate c = b::certify(e, o);
        CHECK(c.blocks.size() == lengths.size());
        CHECK(c.options.least_block_ess == 0.45);
        if (r.updates_behind == 2) CHECK(c.find(b::rung_name::blocks)->block == 40);
    }
    // With sampled tokens alone, two updates behind: k3 for the KL, no TV.
    const b::certificate s = b::certify(evidence_of(shipped(2), false));
    CHECK(s.head()->name == b::rung_name::blocks);
    CHECK(s.head()->block == 64);
    CHECK(s.head()->value == Approx(1.045).epsilon(0.001));
}

TEST_CASE("ranks merge to the certificate of the whole batch", "[property]") {
    const rollouts::batch& all = shipped(2);
    const b::certificate whole = b::certify(evidence_of(all));
    for (std::size_t parts : {2U, 3U, 8U}) {
        b::evidence merged, wired;
        for (std::size_t i = parts; i-- > 0;) {
            const b::evidence part = evidence_of(deal(all, i, parts));
            merged.merge(part);
            std::vector<std::uint64_t> words = b::pack(part);
            words.resize(words.size() + 7, 0);  // padding of an all-gather
            REQUIRE(b::unpack(words, wired).ok());
        }
        for (const b::evidence& e : {merged, wired}) {
            const b::certificate c = b::certify(e);
            REQUIRE(c.rungs == whole.rungs);
            CHECK(c.headline == whole.headline);
            CHECK(c.tokens == whole.tokens);
            CHECK(c.groups == whole.groups);
            CHECK(c.sequences == whole.sequences);
            for (std::size_t i = 0; i < c.rungs; ++i) {
                CHECK(c.ladder[i].name == whole.ladder[i].name);
                CHECK(c.ladder[i].value == Approx(whole.ladder[i].value).epsilon(1e-12));
                CHECK(c.ladder[i].upper() == Approx(whole.ladder[i].upper()).epsilon(1e-10));
            }
            REQUIRE(c.blocks.size() == whole.blocks.size());
            CHECK(c.block_used == whole.block_used);
            for (std::size_t j = 0; j < c.blocks.size(); ++j) {
                CHECK(c.blocks[j].value == Approx(whole.blocks[j].value).epsilon(1e-12));
                CHECK(c.blocks[j].refined == Approx(whole.blocks[j].refined).epsilon(1e-12));
                CHECK(c.blocks[j].ess == Approx(whole.blocks[j].ess).epsilon(1e-12));
            }
            CHECK(c.health.tail_share == Approx(whole.health.tail_share).epsilon(1e-12));
        }
    }
    // Whole groups on each rank: not one bit differs, whatever the order of merging.
    b::evidence low, high, ordered, reversed;
    const std::size_t half = all.size() / 2 / 8 * 8;  // groups of 8, in order
    for (std::size_t i = 0; i < all.size(); ++i) {
        const rollouts::batch one = deal(all, i, all.size());
        REQUIRE((i < half ? low : high).add(one.view()).ok());
    }
    ordered.merge(low);
    ordered.merge(high);
    reversed.merge(high);
    reversed.merge(low);
    CHECK(b::second_moment(ordered) == b::second_moment(reversed));
    CHECK(b::second_moment(ordered) == whole.find(b::rung_name::second_moment)->value);
    CHECK(b::certify(ordered).find(b::rung_name::second_moment)->upper() ==
          b::certify(reversed).find(b::rung_name::second_moment)->upper());

    std::vector<std::uint64_t> words = b::pack(low);
    b::evidence untouched;
    for (std::size_t cut : {std::size_t{0}, std::size_t{5}, std::size_t{40}, words.size() - 1}) {
        CHECK(b::unpack(std::span(words).first(cut), untouched).code == trm::errc::bad_layout);
    }
    words[0] ^= 1;
    CHECK(b::unpack(words, untouched).code == trm::errc::bad_layout);
    CHECK(untouched.sequences.empty());
    CHECK(untouched.groups.empty());
}

TEST_CASE("intervals are seeded, and resamples are a fixed sequence of integers", "[unit]") {
    const b::evidence e = evidence_of(shipped(0));
    b::certificate_options o;
    const b::certificate one = b::certify(e, o);
    const b::certificate again = b::certify(e, o);
    o.bootstrap.seed = 5;
    const b::certificate other = b::certify(e, o);
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(one.ladder[i].range->low == again.ladder[i].range->low);
        CHECK(one.ladder[i].range->high == again.ladder[i].range->high);
        CHECK(one.ladder[i].range->high != other.ladder[i].range->high);
        CHECK(one.ladder[i].range->high == Approx(other.ladder[i].range->high).epsilon(0.1));
    }
    o.bootstrap.level = 0.5;
    const b::certificate narrow = b::certify(e, o);
    CHECK(narrow.head()->range->high < other.head()->range->high);
    CHECK(narrow.head()->range->low > other.head()->range->low);

    b::detail::splitmix rng{1234567};  // the published first outputs of splitmix64 for this seed
    CHECK(rng() == 6457827717110365317ULL);
    CHECK(rng() == 3203168211198807973ULL);
    std::array<std::uint32_t, 7> counts;
    std::array<std::uint64_t, 7> totals{};
    for (std::uint64_t r = 0; r < 20000; ++r) {
        b::detail::draw(counts, 1, r);
        std::uint32_t sum = 0;
        for (std::size_t i = 0; i < counts.size(); ++i) {
            sum += counts[i];
            totals[i] += counts[i];
        }
        REQUIRE(sum == counts.size());
    }
    for (auto t : totals) CHECK(static_cast<double>(t) == Approx(20000.0).epsilon(0.03));

    std::vector<double> sample{5, 1, 4, 2, 3};
    const b::interval p = b::interval_of(sample, 3.5, 0.5, b::interval_method::percentile);
    CHECK(p.low == 2.0);
    CHECK(p.high == 4.0);
    const b::interval basic = b::interval_of(sample, 3.5, 0.5, b::interval_method::basic);
    CHECK(basic.low == 3.0);
    CHECK(basic.high == 5.0);
    for (double odd :
         {1.0, 7.0, -1.0, -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        const b::interval all = b::interval_of(sample, 3.5, odd, b::interval_method::percentile);
        CHECK(all.low == 1.0);
        CHECK(all.high == 5.0);
    }
}

TEST_CASE("the headline follows its rule", "[unit]") {
    const synthetic mild(32, 0.01, 3);
    b::evidence e;
    REQUIRE(e.add(mild.view()).ok());

    const b::certificate plain = b::certify(e);
    CHECK(plain.head()->name == b::rung_name::direct);
    CHECK(plain.health.good);
    CHECK(plain.has_rewards);

    // An exact bound below the estimate's upper limit takes over; one above does not.
    b::certificate_options o;
    o.exact = b::divergences{.horizon = 2, .eps = 1e-4};
    const b::certificate tight = b::certify(e, o);
    REQUIRE(tight.guarantee.has_value());
    CHECK(tight.headline == tight.guarantee);
    CHECK(tight.head()->kind == b::claim::exact);
    o.exact = b::divergences{.horizon = 2, .eps = 0.4};
    const b::certificate loose = b::certify(e, o);
    CHECK(loose.guarantee.has_value());
    CHECK(loose.head()->name == b::rung_name::direct);

    // Health fails: fall back on blocks, then on the second moment, and say so. Blocks of T tokens are the direct
    // estimate and may not stand in for it when it is unhealthy.
    b::certificate_options strict;
    strict.least_ess = 0.99999;
    const b::certificate poor = b::certify(e, strict);
    CHECK(poor.find(b::rung_name::direct)->state == b::rung_status::unhealthy);
    CHECK(poor.blocks.back().ess > 0.5);
    CHECK(poor.head()->name == b::rung_name::blocks);
    CHECK(poor.head()->block == 1);
    CHECK(poor.head()->value == poor.find(b::rung_name::second_moment)->value);
    strict.least_block_ess = 0.999999;
    CHECK(b::certify(e, strict).head()->name == b::rung_name::second_moment);
    CHECK(b::certify(e, strict).find(b::rung_name::blocks) == nullptr);
    strict = {};
    strict.largest_tail_share = 1e-6;
    CHECK(b::certify(e, strict).head()->name == b::rung_name::second_moment);

    // The one-sided estimate joins the ladder if asked, and is checked by what it rests on.
    strict = {};
    strict.least_ess = 0.99999;
    strict.refined = true;
    CHECK(b::certify(e, strict).head()->name == b::rung_name::one_sided);
    strict.largest_tail_share = 1e-6;
    CHECK(b::certify(e, strict).find(b::rung_name::one_sided)->state == b::rung_status::unhealthy);

    // E[prod rho] - 1 far from 0: these are not samples of mu.
    b::trajectories<double> t = mild.view();
    for (double shift : {0.05, -0.05}) {
        const std::vector<double> shifted(mild.x.size(), shift);
        t.log_ratio = shifted;
        b::evidence off;
        REQUIRE(off.add(t).ok());
        CHECK_FALSE(b::certify(off).health.good);
        CHECK_FALSE(b::certify(off).health.one_sided_good);
    }

    // One group: nothing to resample. The estimate stands without an interval, and is not called ok.
    const std::vector<std::int64_t> one_group(mild.groups.size(), 4);
    t = mild.view();
    t.groups = one_group;
    b::evidence single;
    REQUIRE(single.add(t).ok());
    const b::certificate no = b::certify(single);
    CHECK(no.groups == 1);
    CHECK(no.find(b::rung_name::direct)->state == b::rung_status::no_interval);
    CHECK_FALSE(no.find(b::rung_name::direct)->range.has_value());

    // Without ids every sequence is a group.
    t.groups = {};
    b::evidence own;
    REQUIRE(own.add(t).ok());
    CHECK(b::certify(own).groups == static_cast<std::int64_t>(mild.groups.size()));
    CHECK(b::certify(own).find(b::rung_name::second_moment)->value ==
          Approx(plain.find(b::rung_name::second_moment)->value));

    std::vector<std::int64_t> distinct(mild.groups.size());
    std::iota(distinct.begin(), distinct.end(), 7);
    t.groups = distinct;
    b::evidence numbered;
    REQUIRE(numbered.add(t).ok());
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(b::certify(own).ladder[i].range->low == Approx(b::certify(numbered).ladder[i].range->low).epsilon(1e-12));
        CHECK(b::certify(own).ladder[i].range->high ==
              Approx(b::certify(numbered).ladder[i].range->high).epsilon(1e-12));
    }

    const b::certificate nothing = b::certify({});
    CHECK(nothing.rungs == 0);
    CHECK(nothing.head() == nullptr);
    CHECK_FALSE(nothing.certified);
}

TEST_CASE("improvement is certified only against the upper limit", "[unit]") {
    // R = 1 when the first ratio is above 1: L = E[(R - 1/2)(rho_1 - 1)] = s/2; the error is of order s^2.
    const synthetic mild(64, 0.01, 8);
    b::evidence e;
    REQUIRE(e.add(mild.view()).ok());
    const b::certificate c = b::certify(e);
    CHECK(c.surrogate.value == Approx(0.005).epsilon(0.2));
    CHECK(c.head()->upper() < 1e-3);
    CHECK(*c.gain == c.surrogate.range->low);
    CHECK(c.certified);
    CHECK_FALSE(c.head()->vacuous);

    b::certificate_options o;
    o.surrogate_gain = c.head()->upper();
    CHECK_FALSE(b::certify(e, o).certified);
    o.surrogate_gain = std::nextafter(c.head()->upper(), 1.0);
    CHECK(b::certify(e, o).certified);
    o.surrogate_gain = std::numeric_limits<double>::quiet_NaN();
    CHECK_FALSE(b::certify(e, o).certified);
    o.surrogate_gain = std::numeric_limits<double>::infinity();
    CHECK_FALSE(b::certify(e, o).certified);

    // A reward outside the declared range voids every bound.
    o = {};
    o.reward = {0.0, 0.5};
    const b::certificate outside = b::certify(e, o);
    CHECK(outside.rewards_outside > 0);
    CHECK_FALSE(outside.certified);
    CHECK(b::to_text(outside).find("outside that range") != std::string::npos);

    o = {};
    o.exact = b::divergences{.horizon = 128, .delta = 1e-4, .seq_kl = 1e-3};
    o.surrogate_gain = 0.05;
    const b::certificate known = b::certify({}, o);
    CHECK(known.certified);
    CHECK(known.head()->kind == b::claim::exact);
    CHECK(known.head()->value == Approx(0.0809543 / 2).epsilon(1e-5));
    CHECK(known.ladder[*known.binding].name == b::rung_name::mixed_kl);
}

TEST_CASE("the text says what each number is worth", "[unit]") {
    const std::string healthy = b::to_text(b::certify(evidence_of(shipped(0))));
    CHECK(healthy.find("an estimate from this batch, not a guarantee") != std::string::npos);
    CHECK(healthy.find("maximum over the batch only") != std::string::npos);
    CHECK(healthy.find("90% intervals") != std::string::npos);
    CHECK(healthy.find("112 sequences in 14 groups") != std::string::npos);
    CHECK(healthy.find("not certified") != std::string::npos);
    const std::string poor = b::to_text(b::certify(evidence_of(shipped(4))));
    CHECK(poor.find("unreliable") != std::string::npos);
    CHECK(poor.find("headline: second moment") != std::string::npos);
    const std::string sampled = b::to_text(b::certify(evidence_of(shipped(0), false)));
    CHECK(sampled.find("a detector, not a bound") != std::string::npos);
    b::certificate_options o;
    o.exact = b::divergences{.horizon = 128, .delta = 1e-4};
    CHECK(b::to_text(b::certify({}, o)).find("over all contexts") != std::string::npos);
}

TEST_CASE("the curve ends where the certificate is", "[unit]") {
    const rollouts::batch& batch = shipped(0);
    const std::array<std::int64_t, 4> horizons{1, 40, 100, 160};
    const auto points = b::curve(batch.view(), horizons);
    REQUIRE(points.size() == 4);
    const b::certificate c = b::certify(evidence_of(batch));
    CHECK(points[3].second_moment == Approx(c.find(b::rung_name::second_moment)->value).epsilon(1e-12));
    CHECK(points[3].blocks == Approx(c.find(b::rung_name::blocks)->value).epsilon(1e-12));
    CHECK(points[3].block_length == 160);
    const auto older = b::curve(shipped(2).view(), horizons);
    CHECK(older[3].block_length == 64);
    CHECK(older[3].blocks == Approx(1.079).epsilon(0.001));
    CHECK(points[3].direct == Approx(c.find(b::rung_name::direct)->value).epsilon(1e-12));
    CHECK(*points[3].paper[b::bound_name::adaptive] == Approx(c.find(b::rung_name::adaptive)->value).epsilon(1e-12));
    CHECK(points[0].direct == Approx(0.0).margin(1e-15));  // re-association leaves an ulp
    CHECK(points[0].second_moment == 0.0);
    for (std::size_t i = 1; i < points.size(); ++i) CHECK(points[i].second_moment >= points[i - 1].second_moment);
    const std::array<std::int64_t, 1> bad{0};
    CHECK(b::curve(batch.view(), bad).empty());
}

TEST_CASE("the READMEs quote what the library says today", "[unit]") {
    const auto read = [](const char* path) {
        std::ifstream in(path);
        REQUIRE(in.good());
        return std::string{std::istreambuf_iterator<char>(in), {}};
    };
    const std::string readme = read(TRM_EXAMPLES_DATA_DIR "/../../include/trm/bounds/README.md");
    const auto quotes = [&](const std::string& text) {
        CAPTURE(text);
        CHECK(readme.find("```\n" + text + "```") != std::string::npos);
    };
    const std::string current = b::to_text(b::certify(evidence_of(shipped(0))));
    quotes(current);
    const b::certificate older = b::certify(evidence_of(shipped(2)));
    quotes(b::to_text(older));
    quotes(b::to_text(std::span<const b::block_row>(older.blocks)));
    quotes(b::to_text(b::certify(evidence_of(shipped(4)))));

    // practice.md quotes single lines.
    const std::string all = current + b::to_text(older) + b::to_text(b::certify(evidence_of(shipped(4))));
    std::istringstream practice(read(TRM_EXAMPLES_DATA_DIR "/../../include/trm/bounds/practice.md"));
    int quoted = 0;
    bool inside = false;
    for (std::string line; std::getline(practice, line);) {
        if (line == "```") {
            inside = !inside;
        } else if (inside) {
            CAPTURE(line);
            CHECK(("\n" + all).find("\n" + line + "\n") != std::string::npos);
            ++quoted;
        }
    }
    CHECK(quoted == 9);

    // Thresholds from two targets: ten rows.
    const auto [choose, check] = b::split_groups(evidence_of(shipped(0)), b::threshold_options{}.seed);
    for (const double target : {0.02, 0.05}) {
        std::vector<b::threshold_choice> choices;
        for (const auto m : {b::mask_statistic::max_k2, b::mask_statistic::mean_k3, b::mask_statistic::geometric,
                             b::mask_statistic::max_kl, b::mask_statistic::mean_kl}) {
            choices.push_back(b::choose_threshold(choose, check, m, target));
        }
        quotes(b::to_text(std::span<const b::threshold_choice>(choices)));
    }

    const b::evidence seen = evidence_of(shipped(0));
    constexpr std::array<double, 6> fractions{0.25, 0.5, 0.75, 0.9, 0.97, 1.0};
    const auto thresholds = b::thresholds_for(seen, b::mask_statistic::max_kl, fractions);
    quotes(b::to_text(b::sweep(seen, b::mask_statistic::max_kl, thresholds)));
    constexpr std::array<std::int64_t, 5> cuts{10, 20, 40, 80, 160};
    quotes(b::to_text(b::curve(shipped(0).view(), cuts)));
    quotes(b::to_text(b::curve(shipped(2).view(), cuts)));

    constexpr std::array<std::int64_t, 3> horizons{128, 4096, 32768};
    std::array<b::calibration_row, 3> rows;
    b::calibrate(horizons, 0.1, rows);
    quotes(b::to_text(std::span<const b::calibration_row>(rows)));
    for (const std::int64_t t : horizons) {
        b::certificate_options known;
        known.exact = b::divergences{.horizon = t, .eps = 5e-4, .delta = 1e-6, .seq_kl = 2e-8 * static_cast<double>(t)};
        known.surrogate_gain = 0.02;
        quotes(b::to_text(b::certify({}, known)));
    }
}
