// SPDX-License-Identifier: Apache-2.0
#include <trm/bounds/certificate.hpp>

#include "bounds_chain.hpp"
#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace b = trm::bounds;
using chains::chain;
using chains::draw;
using chains::mismatch;
using chains::random_chain;

namespace {

struct exact_bounds {
    double with_tv = 0.0;  // sum_t min(a, b, c)
    double sampled = 0.0;  // sum_t min(a, b)
};

exact_bounds solve(const chain& c, std::size_t horizon) {
    const std::size_t v = c.states;
    std::vector<double> kl(v), tv(v), magnitude(v, 0.0), square(v, 0.0);
    for (std::size_t s = 0; s < v; ++s) {
        kl[s] = tabular::kl(&c.mu[s * v], &c.pi[s * v], v);
        tv[s] = tabular::tv(&c.mu[s * v], &c.pi[s * v], v);
        for (std::size_t y = 0; y < v; ++y) {
            const double m = c.mu[s * v + y];
            const double d = c.pi[s * v + y] - m;
            magnitude[s] += std::fabs(d);
            square[s] += d * d / m;
        }
    }
    std::vector<std::vector<double>> at(horizon, std::vector<double>(v, 0.0));  // state before token t
    std::vector<std::vector<double>> tv_left(horizon + 1, std::vector<double>(v, 0.0));
    at[0][0] = 1.0;
    for (std::size_t t = 0; t + 1 < horizon; ++t) {
        for (std::size_t s = 0; s < v; ++s) {
            for (std::size_t y = 0; y < v; ++y) at[t + 1][y] += at[t][s] * c.mu[s * v + y];
        }
    }
    std::vector<double> kl_left(horizon + 1, 0.0);
    for (std::size_t t = horizon; t-- > 0;) {
        kl_left[t] = kl_left[t + 1];
        for (std::size_t s = 0; s < v; ++s) {
            kl_left[t] += at[t][s] * kl[s];
            tv_left[t][s] = tv[s];
            for (std::size_t y = 0; y < v; ++y) tv_left[t][s] += c.mu[s * v + y] * tv_left[t + 1][y];
        }
    }
    exact_bounds out;
    for (std::size_t t = 0; t < horizon; ++t) {
        double a = 0.0;
        double sq = 0.0;
        double cc = 0.0;
        for (std::size_t s = 0; s < v; ++s) {
            a += at[t][s] * magnitude[s];
            sq += at[t][s] * square[s];
            for (std::size_t y = 0; y < v; ++y) {
                cc += at[t][s] * std::fabs(c.pi[s * v + y] - c.mu[s * v + y]) * tv_left[t + 1][y];
            }
        }
        const double ab = std::min(a, std::sqrt(sq * 0.5 * kl_left[t + 1]));
        out.sampled += ab;
        out.with_tv += std::min(ab, cc);
    }
    return out;
}

struct score {
    double bias = 0.0;       // mean of estimate / exact - 1
    double noise = 0.0;      // standard error of that mean
    double covered = 0.0;    // how often the 95% upper limit is at or above the exact bound
    double looseness = 0.0;  // exact bound used / exact bound with TV
};

score trial(mismatch kind, std::size_t horizon, std::size_t n, bool divergences, int runs, std::mt19937_64& rng) {
    score s;
    const b::bootstrap_options o{200, 0.90, 11};
    for (int i = 0; i < runs; ++i) {
        const chain c = random_chain(kind, rng);
        const exact_bounds exact = solve(c, horizon);
        const double target = divergences ? exact.with_tv : exact.sampled;
        const b::evidence e = draw(c, horizon, n, divergences, rng);
        const double value = b::second_moment(e);
        auto again = b::resample(e, {}, o);
        const b::interval in = b::interval_of(again.second_moment, value, o.level, b::interval_method::basic);
        const double off = value / target - 1.0;
        s.bias += off / runs;
        s.noise += off * off / runs;
        s.covered += (in.high >= target ? 1.0 : 0.0) / runs;
        s.looseness += (exact.sampled / exact.with_tv - 1.0) / runs;
    }
    s.noise = std::sqrt(std::max(s.noise - s.bias * s.bias, 0.0) / runs);
    return s;
}

}  // namespace

TEST_CASE("the second-moment bound's upper limit covers the exact bound", "[property][slow]") {
    std::mt19937_64 rng(4242);
    for (const mismatch kind : {mismatch::dense, mismatch::sparse, mismatch::rare}) {
        const bool dense = kind == mismatch::dense;
        double covered = 0.0;
        int cells = 0;
        for (const std::size_t horizon : {std::size_t{32}, std::size_t{128}}) {
            for (const std::size_t n : {std::size_t{64}, std::size_t{256}, std::size_t{1024}}) {
                const score s = trial(kind, horizon, n, true, 100, rng);
                CAPTURE(static_cast<int>(kind), horizon, n, s.bias, s.covered);
                CHECK(std::fabs(s.bias) < 0.02 + 2.0 * s.noise);
                CHECK(s.noise < 0.03);
                CHECK(s.covered > (dense ? 0.88 : 0.75));
                covered += s.covered;
                ++cells;
            }
        }
        CHECK(covered / cells > (dense ? 0.92 : 0.85));
        CHECK(covered / cells < 0.99);  // a limit that always covers has the wrong width
    }
}

TEST_CASE("sampled tokens alone estimate their own bound, a little looser", "[property][slow]") {
    std::mt19937_64 rng(777);
    for (const mismatch kind : {mismatch::dense, mismatch::sparse, mismatch::rare}) {
        for (const std::size_t horizon : {std::size_t{32}, std::size_t{128}}) {
            const score s = trial(kind, horizon, 1024, false, 60, rng);
            CAPTURE(static_cast<int>(kind), horizon, s.bias, s.looseness);
            CHECK(std::fabs(s.bias) < 0.02 + 2.0 * s.noise);
            CHECK(s.looseness >= 0.0);
            // Without exact TV there is no c_t, the tightest term where mismatch is rare.
            CHECK(s.looseness < (kind == mismatch::dense ? 0.1 : kind == mismatch::sparse ? 1.0 : 6.0));
            CHECK(s.covered > 0.75);
        }
    }
}
