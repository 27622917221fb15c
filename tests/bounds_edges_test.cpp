// SPDX-License-Identifier: Apache-2.0
// Edges of the bounds and certificates that other tests step over, found by mutation.
#include <trm/bounds/batch_bounds.hpp>
#include <trm/bounds/certificate.hpp>
#include <trm/bounds/paper.hpp>
#include <trm/bounds/report.hpp>
#include <trm/bounds/tables.hpp>
#include <trm/bounds/wire.hpp>

#include "catch.hpp"

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

namespace b = trm::bounds;

namespace {

constexpr b::scale paper{{0.0, 1.0}, b::constants::paper};

/// Responses of four tokens in groups of four, log-ratios all x.
struct same_everywhere {
    std::vector<std::int64_t> offsets{0}, groups;
    std::vector<double> x, rewards;
    same_everywhere(std::size_t n, double log_ratio) {
        for (std::size_t i = 0; i < n; ++i) {
            x.insert(x.end(), 4, log_ratio);
            offsets.push_back(offsets.back() + 4);
            groups.push_back(static_cast<std::int64_t>(i / 4));
            rewards.push_back(i % 3 == 0 ? 1.0 : 0.0);
        }
    }
    [[nodiscard]] b::evidence evidence() const {
        b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .rewards = rewards};
        t.groups = groups;
        b::evidence e;
        REQUIRE(e.add(t).ok());
        return e;
    }
};

}  // namespace

TEST_CASE("the paper's constants follow the reward of largest magnitude, of either sign", "[unit]") {
    CHECK(b::lead({{-2.0, 1.0}, b::constants::paper}) == 4.0);
    CHECK(b::lead({{-1.0, 2.0}, b::constants::paper}) == 4.0);
    CHECK(b::lead({{-2.0, 1.0}, b::constants::centred}) == 3.0);
    CHECK(b::width({-2.0, 1.0}) == 3.0);
}

TEST_CASE("bounds of a single token", "[unit]") {
    CHECK(b::pinsker_marginal_closed(1, 0.03, paper) == Approx(4.0 / 3.0 * 0.03).epsilon(1e-15));
    CHECK(b::pinsker_marginal_closed(0, 0.03, paper) == 0.0);
    CHECK(b::mixed_kl(1, 0.02, 0.5, paper) == Approx(0.2).epsilon(1e-14));
    CHECK(b::mixed_tv(1, 0.1, 0.5, paper) == Approx(0.2).epsilon(1e-14));
    CHECK(b::classical(1, 0.03, paper) == 0.0);
    CHECK(b::classical(2, 0.03, paper) == Approx(4.0 * 0.5 * 0.03).epsilon(1e-15));
    CHECK(b::coupling(1, 0.3, paper) == 0.0);
}

TEST_CASE("a total variation of more than one counts as one, and so does one that is not known", "[unit]") {
    const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
    for (const double much : {1.0, 7.0, inf, nan, -1.0}) {
        CAPTURE(much);
        CHECK(b::mixed_tv(3, much, 0.5, paper) == Approx(4.0 * 3 * 0.5));
        CHECK(b::mixed_tv(3, 0.5, much, paper) == Approx(4.0 * 3 * 0.5));
        CHECK(b::coupling(3, much, paper) == Approx(4.0 * 2));
        CHECK(b::adaptive_uniform(much, 3, 0.25, {}, paper) == Approx(4.0 * (0.25 + 0.5)));
        CHECK(b::adaptive(std::vector<double>{much, 0.5, 0.5}, 0.25, {}, paper) == Approx(4.0 * (0.5 + 0.5 * 0.25)));
    }
    for (const double much : {2.0, 7.0, inf, nan, -1.0}) {
        CAPTURE(much);
        CHECK(b::mixed_kl(3, much, 0.5, paper) == Approx(4.0 * 3 * 0.5));
        CHECK(b::mixed_kl(3, 0.5, much, paper) == Approx(4.0 * 3 * 0.5));
        CHECK(b::pinsker_marginal(3, much, paper) == Approx(4.0 * 2));
    }
    CHECK(b::mixed_tv(3, 0.999, 0.5, paper) == Approx(4.0 * 3 * 0.999 * 0.5));
    CHECK(b::mixed_kl(3, 1.98, 0.5, paper) == Approx(4.0 * 3 * std::sqrt(0.99) * 0.5));
}

TEST_CASE("draws of the bootstrap are uniform where every other number is refused", "[unit]") {
    for (const std::uint32_t n : {1u, 2u, 3u, 1000u, 0x80000001u, 0xC0000000u, 0xFFFFFFFFu}) {
        CAPTURE(n);
        b::detail::splitmix random{12345}, same{12345};
        const std::uint64_t refused =
            (std::uint64_t{1} << 32) % n;  // Lemire: low halves below this come once too often
        for (int k = 0; k < 200; ++k) {
            std::uint64_t product = (same() >> 32) * n;
            while (product % (std::uint64_t{1} << 32) < refused) product = (same() >> 32) * n;
            CHECK(random.below(n) == product >> 32);
        }
    }
}

TEST_CASE("policies that agree are in good health, and nothing saturates", "[unit]") {
    auto const c = b::certify(same_everywhere(24, 0.0).evidence());
    CHECK(c.health.good);  // the interval of the mean ratio's excess is [0, 0]
    CHECK(c.health.one_sided_good);
    CHECK_FALSE(c.health.saturated);
    CHECK(c.health.ess == Approx(1.0));
}

TEST_CASE("one saturated sequence among many is said", "[unit]") {
    same_everywhere s(24, 0.01);
    s.x[5] = 400.0;
    CHECK(b::certify(s.evidence()).health.saturated);
    s.x[5] = 0.01;
    s.x.front() = -400.0;  // the first sequence, and none after it
    CHECK(b::certify(s.evidence()).health.saturated);
}

TEST_CASE("what a batch does not say stays unknown where prompts have horizons of their own", "[unit]") {
    b::evidence e = same_everywhere(8, 0.05).evidence();
    for (std::size_t i = 0; i < e.sequences.size(); ++i) e.sequences[i].horizon = 10 + static_cast<std::int64_t>(i);
    b::batch_divergences d = b::measure(e);
    CHECK(d.horizons_differ);
    CHECK(d.from_sampled_tokens);
    CHECK_FALSE(b::batch_divergences{}.from_sampled_tokens);
    d.eps.reset();
    b::bound_table const t = b::batch_bounds(e, d, paper);
    CHECK_FALSE(t[b::bound_name::coupling]);
    REQUIRE(t[b::bound_name::classical]);
    double mean = 0;
    for (auto const& r : e.sequences) mean += b::classical(r.horizon, d.delta, paper) / 8;
    CHECK(*t[b::bound_name::classical] == Approx(mean).epsilon(1e-12));
    REQUIRE(t.binding);
    REQUIRE(t[*t.binding]);
    for (std::size_t i = 0; i < b::bound_count; ++i)
        if (t.value[i]) CHECK(t.unified() <= *t.value[i]);
}

TEST_CASE("of exact and estimated bounds the exact ones are binding, whichever are smaller", "[unit]") {
    b::evidence const e = same_everywhere(24, 0.001).evidence();
    b::certificate_options o;
    o.exact = b::divergences{.horizon = 4, .eps = 0.3, .delta = 0.2, .mean_tv = {}};
    auto const c = b::certify(e, o);
    REQUIRE(c.binding);
    REQUIRE(c.guarantee);
    CHECK(*c.binding == *c.guarantee);
    CHECK(c.ladder[*c.binding].kind == b::claim::exact);
}

TEST_CASE("the binding bound of a mean over prompts is the smallest, wherever it stands in the table", "[unit]") {
    b::evidence e = same_everywhere(8, 0.05).evidence();
    for (std::size_t i = 0; i < e.sequences.size(); ++i) e.sequences[i].horizon = 10 + static_cast<std::int64_t>(i);
    b::batch_divergences const measured = b::measure(e);
    std::vector<b::bound_name> binding;
    for (double const seq : {1e-6, 0.5}) {
        b::batch_divergences d = measured;
        d.seq_kl = seq;
        d.seq_tv = seq;
        b::bound_table const t = b::batch_bounds(e, d, paper);
        REQUIRE(t.binding);
        REQUIRE(t[*t.binding]);
        for (auto const& v : t.value)
            if (v) CHECK(t.unified() <= *v);
        binding.push_back(*t.binding);
    }
    CHECK(binding[0] != binding[1]);
}

TEST_CASE("evidence of nothing is packed and unpacked: a header and no word after it", "[unit]") {
    std::vector<std::uint64_t> words = b::pack(b::evidence{});
    b::evidence back;
    CHECK(b::unpack(words, back).ok());
    words.pop_back();
    CHECK_FALSE(b::unpack(words, back).ok());
}

TEST_CASE("direct estimates of two sequences by hand, of agreement, of vanished ratios and of nothing", "[unit]") {
    const auto record = [](double weight, double first_order, double excess, double reward) {
        b::sequence_record r;
        r.weight = weight;
        r.first_order = first_order;
        r.excess = excess;
        r.reward = reward;
        return r;
    };
    const b::sequence_record two[] = {record(1.0, 0.5, -0.25, 1.0), record(2.0, -0.5, -0.25, 0.0)};
    const b::direct_estimate d = b::direct(two, {0.0, 1.0});
    CHECK(d.worst_case == Approx(0.5 * 0.75 / 3));
    CHECK(d.one_sided == Approx(0.75 / 3));
    CHECK(d.one_sided_share == Approx(0.5 / 0.75));
    CHECK(d.observed == Approx((0.5 * -0.25 - 2 * 0.5 * -0.25) / 3));
    CHECK(d.improvement == Approx((0.5 * 0.25 - 2 * 0.5 * -0.75) / 3));
    CHECK(d.surrogate == Approx((0.5 * 0.5 - 2 * 0.5 * -0.5) / 3));
    CHECK(d.ratio_excess == Approx((0.25 - 2 * 0.75) / 3));
    CHECK(d.ess == Approx(1.75 / 3 * 1.75 / (1.25 * 1.25 + 2 * 0.25 * 0.25)));
    CHECK(d.tail_share == Approx(1.25 / 1.75));
    CHECK(d.first_order == Approx(-0.5 / 3));

    const b::sequence_record same[] = {record(1.0, 0.0, 0.0, 1.0)}, vanished[] = {record(1.0, -1.0, 0.0, 1.0)};
    CHECK(b::direct(same).one_sided_share == 0.0);
    CHECK(b::direct(same).ess == 1.0);
    CHECK(b::direct(vanished).ess == 0.0);
    CHECK(b::direct(vanished).tail_share == 1.0);

    const b::direct_estimate n = b::direct_of({});
    for (const double v : {n.worst_case, n.one_sided, n.observed, n.improvement, n.surrogate, n.ratio_excess, n.ess,
                           n.tail_share, n.one_sided_share, n.first_order})
        CHECK(v == 0.0);
}

TEST_CASE("every claim, status, bound and statistic has a name of its own", "[unit]") {
    const auto names = [](auto... values) {
        std::set<std::string> all;
        for (const char* n : {b::to_string(values)...}) {
            CHECK(std::string(n) != "?");
            all.insert(n);
        }
        return all.size();
    };
    using b::claim, b::rung_status, b::mask_statistic, b::bound_name, b::rung_name;
    CHECK(names(claim::exact, claim::estimated, claim::plug_in) == 3);
    CHECK(names(rung_status::ok, rung_status::unhealthy, rung_status::no_interval, rung_status::batch_max,
                rung_status::detector) == 5);
    CHECK(names(mask_statistic::max_kl, mask_statistic::mean_kl, mask_statistic::max_k2, mask_statistic::max_tv,
                mask_statistic::mean_k3, mask_statistic::geometric) == 6);
    CHECK(names(bound_name::classical, bound_name::pinsker_marginal, bound_name::mixed_kl, bound_name::mixed_tv,
                bound_name::coupling, bound_name::adaptive) == 6);
    CHECK(names(rung_name::direct, rung_name::one_sided, rung_name::blocks, rung_name::second_moment,
                rung_name::classical, rung_name::adaptive) == 6);
}

TEST_CASE("statistics of a mask by hand", "[unit]") {
    b::sequence_record r;
    r.tokens = 4;
    r.max_kl = 0.5;
    r.max_k2 = 0.25;
    r.max_tv = 0.125;
    r.log_ratio = -2.0;
    r.first_order = 1.0;
    CHECK(b::statistic_of(r, b::mask_statistic::max_kl) == 0.5);
    CHECK(b::statistic_of(r, b::mask_statistic::max_k2) == 0.25);
    CHECK(b::statistic_of(r, b::mask_statistic::max_tv) == 0.125);
    CHECK(b::statistic_of(r, b::mask_statistic::mean_k3) == 0.75);
    CHECK(b::statistic_of(r, b::mask_statistic::geometric) == 0.5);
    r.tokens = 0;
    CHECK(b::statistic_of(r, b::mask_statistic::mean_k3) == 0.0);
    CHECK(b::statistic_of(r, b::mask_statistic::geometric) == 0.0);
}

TEST_CASE("of nothing, or of what is not finite, the adaptive bound says nothing", "[unit]") {
    const double largest = std::numeric_limits<double>::max();
    const std::vector<std::int64_t> none{0}, one{0, 2};
    const std::vector<double> broken{std::numeric_limits<double>::quiet_NaN(), 0.0}, good{0.0, 0.0};
    CHECK(b::adaptive_of(b::trajectories<double>{.layout = trm::packed{none}}, 0.1, 0.1) == largest);
    CHECK(b::adaptive_of(b::trajectories<double>{.layout = trm::packed{one}, .log_ratio = broken}, 0.1, 0.1) ==
          largest);
    CHECK(b::adaptive_of(b::trajectories<double>{.layout = trm::packed{one}, .log_ratio = good}, 0.1, 0.1) == 0.0);
}

TEST_CASE("a headline that is no more than an indication says so", "[unit]") {
    b::certificate c;
    c.ladder[0] = {
        .name = b::rung_name::classical, .kind = b::claim::plug_in, .state = b::rung_status::detector, .value = 0.5};
    c.rungs = 1;
    c.headline = 0;
    CHECK(b::to_text(c).find("an indication: contexts outside this batch may be worse") != std::string::npos);
    c.ladder[0].kind = b::claim::exact;
    CHECK(b::to_text(c).find("a bound, given that the divergences are those over all contexts") != std::string::npos);
}
