// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/report.hpp>

#include "bounds_chain.hpp"
#include "catch.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

namespace b = trm::bounds;

namespace {

b::evidence sample(std::uint64_t seed, std::size_t n = 256, std::size_t groups = 32) {
    std::mt19937_64 rng(seed);
    const chains::chain c = chains::random_chain(chains::mismatch::sparse, rng);
    return chains::draw(c, 48, n, true, rng, groups);
}

}  // namespace

TEST_CASE("the halves of a split share no group and lose nothing", "[unit]") {
    const b::evidence e = sample(3, 256, 31);
    const auto [first, second] = b::split_groups(e, 7);
    CHECK(first.groups.size() == 15);
    CHECK(second.groups.size() == 16);
    std::set<std::int64_t> ids;
    for (const b::evidence* half : {&first, &second}) {
        CHECK(half->has_exact_kl());
        CHECK(half->has_exact_tv());
        double weight = 0.0;
        for (const auto& g : half->groups) CHECK(ids.insert(g.group).second);
        for (const auto& g : half->groups) weight += g.sequences;
        CHECK(weight == static_cast<double>(half->sequences.size()));
        for (const auto& s : half->sequences) {
            CHECK(std::any_of(half->groups.begin(), half->groups.end(), [&](auto& g) { return g.group == s.group; }));
        }
    }
    CHECK(ids.size() == 31);
    b::evidence both = first;
    both.merge(second);
    CHECK(both.tokens == e.tokens);
    CHECK(b::second_moment(both) == Approx(b::second_moment(e)).epsilon(1e-12));
    CHECK(b::block_bounds(both)[3].value == Approx(b::block_bounds(e)[3].value).epsilon(1e-12));
    // Fixed by the seed.
    CHECK(b::split_groups(e, 7).first.groups[0].group == first.groups[0].group);
    bool differs = false;
    for (std::uint64_t seed = 8; seed < 12; ++seed) {
        differs = differs || b::split_groups(e, seed).first.groups[0].group != first.groups[0].group;
    }
    CHECK(differs);
    // Sequences without a prompt id are groups of their own.
    std::vector<double> x(20, 0.01);
    std::vector<std::int64_t> offsets(21);
    for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<std::int64_t>(i);
    b::evidence own;
    REQUIRE(own.add(b::trajectories<double>{.layout = trm::packed{offsets}, .log_ratio = x}).ok());
    const auto halves = b::split_groups(own, 1);
    CHECK(halves.first.sequences.size() == 10);
    CHECK(halves.second.groups.size() == 10);
}

TEST_CASE("a threshold meets its target where it was chosen, and no larger one does", "[property]") {
    const b::evidence e = sample(11);
    const auto [choose, check] = b::split_groups(e, 7);
    for (const auto m : {b::mask_statistic::max_k2, b::mask_statistic::mean_k3, b::mask_statistic::geometric,
                         b::mask_statistic::max_kl, b::mask_statistic::mean_kl}) {
        double before = -1.0;
        for (const double target : {0.003, 0.01, 0.03, 0.1}) {
            const b::threshold_choice c = b::choose_threshold(choose, check, m, target);
            CAPTURE(b::to_string(m), target, c.chosen.threshold);
            if (!c.found) continue;
            CHECK(c.chosen.kept_error.range->high <= target);
            CHECK(c.chosen.kept_ess >= 0.3);
            CHECK(c.chosen.kept_ess * c.chosen.kept_sequences * 128.0 >= 16.0);
            CHECK(c.chosen.threshold >= before);
            before = c.chosen.threshold;
            CHECK(c.checked.threshold == c.chosen.threshold);
            const b::sweep_row again = b::sweep(check, m, std::span(&c.chosen.threshold, 1)).front();
            CHECK(again.kept_error.range->high == c.checked.kept_error.range->high);
            CHECK(c.holds ==
                  (again.kept_error.range->high <= target && again.kept_ess >= 0.3 && again.kept_sequences > 0.0));
            for (const b::sequence_record& r : choose.sequences) {
                const double larger = b::statistic_of(r, m);
                if (larger <= c.chosen.threshold) continue;
                const b::sweep_row row = b::sweep(choose, m, std::span(&larger, 1)).front();
                if (row.kept_sequences < c.chosen.kept_sequences + 0.02) continue;  // between two candidates
                CHECK((row.kept_error.range->high > target || row.kept_ess < 0.3 ||
                       row.kept_ess * row.kept_sequences * 128.0 < 16.0));
            }
        }
        CHECK(before > 0.0);
    }
    CHECK_FALSE(b::choose_threshold(choose, check, b::mask_statistic::max_k2, -1.0).found);
    CHECK_FALSE(b::choose_threshold({}, check, b::mask_statistic::max_k2, 0.1).found);
    const std::vector<b::threshold_choice> none{b::choose_threshold({}, check, b::mask_statistic::max_k2, 0.1)};
    CHECK(b::to_text(std::span<const b::threshold_choice>(none)).find("no threshold") != std::string::npos);
}

TEST_CASE("the other half's limit holds where enough is kept, and does not where little is", "[property][slow]") {
    // How often is the error that a threshold truly leaves above the 95% limit of the half that did not choose it?
    std::array<int, 2> runs{}, above{};
    std::mt19937_64 rng(31);
    for (int p = 0; p < 6; ++p) {
        const chains::chain c = chains::random_chain(chains::mismatch::dense, rng);
        const b::evidence many = chains::draw(c, 48, 8192, true, rng, 1);
        for (int i = 0; i < 40; ++i) {
            const auto [choose, check] = b::split_groups(chains::draw(c, 48, i % 2 == 0 ? 512 : 128, true, rng, 32), 7);
            b::threshold_options o;
            o.sweep.bootstrap.resamples = 200;
            for (const bool guarded : {false, true}) {
                if (!guarded) o.least_kept = 0.0;
                const auto t = b::choose_threshold(choose, check, b::mask_statistic::max_k2, guarded ? 0.05 : 0.02, o);
                o.least_kept = b::threshold_options{}.least_kept;
                if (!t.found) continue;
                const auto truth = b::sweep(many, b::mask_statistic::max_k2, std::span(&t.chosen.threshold, 1));
                runs[guarded ? 1 : 0] += 1;
                above[guarded ? 1 : 0] += truth.front().kept_error.value > t.checked.kept_error.range->high ? 1 : 0;
            }
        }
    }
    CAPTURE(runs[0], above[0], runs[1], above[1]);
    CHECK(runs[0] > 150);
    CHECK(runs[1] > 100);
    CHECK(above[1] < 0.20 * runs[1]);
    CHECK(above[0] > 0.20 * runs[0]);  // the guard is needed
}

TEST_CASE("mean k3 and the geometric ratio are what a trainer's masks compute", "[unit]") {
    const std::vector<double> x{0.1, -0.3, 0.02, 0.0};
    const std::vector<double> kl{0.5, 0.5, 0.5, 0.5};
    const std::vector<std::int64_t> offsets{0, 3, 3, 4};
    b::trajectories<double> t{.layout = trm::packed{offsets}, .log_ratio = x, .kl = kl};
    b::evidence e;
    REQUIRE(e.add(t).ok());
    double k3 = 0.0;
    for (int i = 0; i < 3; ++i) k3 += (std::expm1(x[i]) - x[i]) / 3.0;
    CHECK(b::statistic_of(e.sequences[0], b::mask_statistic::mean_k3) == Approx(k3));
    CHECK(b::statistic_of(e.sequences[0], b::mask_statistic::mean_kl) == Approx(0.5));
    CHECK(b::statistic_of(e.sequences[0], b::mask_statistic::geometric) == Approx(0.06));
    CHECK(b::statistic_of(e.sequences[1], b::mask_statistic::mean_k3) == 0.0);
    CHECK(b::statistic_of(e.sequences[2], b::mask_statistic::geometric) == 0.0);
}
