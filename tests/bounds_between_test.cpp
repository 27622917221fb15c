// SPDX-License-Identifier: Apache-2.0

// What else is true between the second-moment bound and the direct estimate, and what is not: include/trm/bounds/between.md
// says it, this enumerates it.
#include "catch.hpp"
#include "tabular.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace {

using cuts = std::vector<std::size_t>;  // 0 = cuts[0] < ... < cuts[K] = T: block k is [cuts[k], cuts[k + 1])

/// Everything a bound may use of one response, block by block.
struct blocked {
    std::vector<double> step, future_kl, future_tv;  // P_k - 1; sums over the positions after block k
    double within = 0.0;  // sum_k (P_k - 1 - S_k)
};

blocked block(const tabular::enumeration& e, std::size_t id, const cuts& at) {
    blocked out;
    const std::size_t length = e.s.length;
    for (std::size_t k = 0; k + 1 < at.size(); ++k) {
        double product = 1.0;
        for (std::size_t t = at[k]; t < at[k + 1]; ++t) {
            const double rho = std::exp(e.log_ratio[id * length + t]);
            product *= rho;
            out.within -= rho - 1.0;
        }
        out.within += product - 1.0;
        out.step.push_back(product - 1.0);
        double kl = 0.0, tv = 0.0;
        for (std::size_t t = at[k + 1]; t < length; ++t) {
            kl += e.kl[id * length + t];
            tv += e.tv[id * length + t];
        }
        out.future_kl.push_back(kl);
        out.future_tv.push_back(tv);
    }
    return out;
}

/// The bound of order m: monomials of up to m blocks are averaged as they are, the rest is bounded by what precedes its m-th
/// block times the TV of what follows. Order 1 is the block bound with its fourth form.
double series_bound(const tabular::enumeration& e, const cuts& at, std::size_t order) {
    const std::size_t blocks = at.size() - 1;
    double direct = 0.0;
    std::vector<double> first(blocks, 0.0), square(first), kl(first), third(first), fourth(first);
    for (std::size_t id = 0; id < e.mu.size(); ++id) {
        const blocked b = block(e, id, at);
        std::vector<double> last = b.step;  // sum of the monomials of m blocks whose last block is k
        double sum = b.within;
        for (std::size_t m = 2; m <= order; ++m) {
            double before = 0.0;
            for (std::size_t k = 0; k < blocks; ++k) {
                const double own = last[k];
                last[k] = before * b.step[k];
                before += own;
                sum += last[k];
            }
        }
        direct += 0.5 * e.mu[id] * std::fabs(sum);
        double later = 0.0;
        for (std::size_t k = blocks; k-- > 0;) {
            first[k] += e.mu[id] * std::fabs(last[k]);
            square[k] += e.mu[id] * last[k] * last[k];
            kl[k] += e.mu[id] * b.future_kl[k];
            third[k] += e.mu[id] * std::fabs(last[k]) * b.future_tv[k];
            fourth[k] += 0.5 * e.mu[id] * std::fabs(last[k]) * later;
            later += std::fabs(b.step[k]);
        }
    }
    double rest = 0.0;
    for (std::size_t k = 0; k < blocks; ++k) {
        rest += std::min({first[k], std::sqrt(0.5 * square[k] * kl[k]), third[k], fourth[k]});
    }
    return direct + rest;
}

cuts random_cuts(std::size_t length, std::mt19937_64& rng) {
    cuts at{0};
    for (std::size_t t = 1; t < length; ++t) {
        if (rng() % 2 == 0) at.push_back(t);
    }
    at.push_back(length);
    return at;
}

struct drawn {
    tabular::enumeration e;
    double worst = 0.0;  // error under the worst reward
};
drawn draw(std::size_t i, std::mt19937_64& rng) {
    const tabular::shape s{2 + i % 2, 2 + i / 2 % 5};
    const auto kind = static_cast<tabular::mismatch>(i / 10 % 3);
    drawn d{tabular::enumerate(tabular::random_pair(s, kind, 1.5 * std::exp(-4.0 * tabular::unit(rng)), rng)), 0.0};
    d.worst = tabular::evaluate(d.e, tabular::make_rewards(d.e, tabular::rewards::adversarial, rng)).error();
    return d;
}

}  // namespace

TEST_CASE("holds: blocks of unequal length, and series of any order", "[property]") {
    std::mt19937_64 rng(271);
    double looser = 0.0, tighter = 1e300;
    for (std::size_t i = 0; i < 900; ++i) {
        const auto [e, worst] = draw(i, rng);
        const cuts at = random_cuts(e.s.length, rng);
        const double one = series_bound(e, at, 1);
        for (std::size_t order = 1; order <= 4; ++order) {
            CAPTURE(i, e.s.vocabulary, e.s.length, at.size(), order);
            const double bound = series_bound(e, at, order);
            REQUIRE(worst <= bound + 1e-12);
            if (order >= at.size() - 1) REQUIRE(bound == Approx(worst).margin(1e-12));  // nothing is left to bound
            if (one > 1e-6) looser = std::max(looser, bound / one), tighter = std::min(tighter, bound / one);
        }
    }
    CAPTURE(looser, tighter);
    CHECK(tighter < 0.5);
    CHECK(looser > 1.0);  // a higher order is no improvement in itself
}

TEST_CASE("holds: a truncated product, if what it cuts off is added", "[property]") {
    std::mt19937_64 rng(828);
    bool fails_without = false;
    for (std::size_t i = 0; i < 600; ++i) {
        const auto [e, worst] = draw(i, rng);
        for (const double limit : {0.5, 1.0, 1.5, 3.0}) {
            double truncated = 0.0, kept = 0.0;
            for (std::size_t id = 0; id < e.mu.size(); ++id) {
                const double product = std::min(e.pi[id] / e.mu[id], limit);
                truncated += 0.5 * e.mu[id] * std::fabs(product - 1.0 - e.first_order[id]);
                kept += e.mu[id] * product;
            }
            REQUIRE(worst <= truncated + 0.5 * (1.0 - kept) + 1e-12);
            fails_without = fails_without || worst > 1.05 * truncated + 1e-6;
        }
    }
    CHECK(fails_without);
}

TEST_CASE("holds: the mean of the other rewards of the prompt as baseline; with its own it is biased", "[property]") {
    std::mt19937_64 rng(99);
    for (std::size_t i = 0; i < 60; ++i) {
        const auto [e, worst] = draw(i, rng);
        const auto r = tabular::make_rewards(e, tabular::rewards::random, rng);
        const double error = tabular::evaluate(e, r).error();
        double others = 0.0, own = 0.0;  // every pair of independent responses: a group of two
        for (std::size_t y = 0; y < e.mu.size(); ++y) {
            for (std::size_t z = 0; z < e.mu.size(); ++z) {
                const double p = e.mu[y] * e.mu[z];
                others += p * (r[y] - r[z]) * e.excess[y];
                own += p * (r[y] - 0.5 * (r[y] + r[z])) * e.excess[y];
            }
        }
        REQUIRE(others == Approx(error).margin(1e-12));
        REQUIRE(own == Approx(0.5 * error).margin(1e-12));  // 1 - 1/n of it
    }
}

TEST_CASE("does not hold: the spread of the rewards in the place of their range", "[property]") {
    // With V = E[R], E|R - V| <= (max R - min R)/2, and a bound with the former would be tighter. It is none: pi may prefer
    // what mu hardly ever samples. Cauchy-Schwarz gives what is true, and needs E[S^2], the tail that blocks avoid.
    std::mt19937_64 rng(3);
    double worst_ratio = 0.0, cauchy = 0.0;
    for (std::size_t i = 0; i < 600; ++i) {
        const auto [e, worst] = draw(i, rng);
        std::vector<double> r(e.mu.size(), 0.0);  // 1 for the response that gains most
        r[static_cast<std::size_t>(std::max_element(e.excess.begin(), e.excess.end()) - e.excess.begin())] = 1.0;
        const double error = std::fabs(tabular::evaluate(e, r).error());
        double mean = 0.0, spread = 0.0, variance = 0.0, absolute = 0.0, square = 0.0;
        for (std::size_t id = 0; id < r.size(); ++id) mean += e.mu[id] * r[id];
        for (std::size_t id = 0; id < r.size(); ++id) {
            spread += e.mu[id] * std::fabs(r[id] - mean);
            variance += e.mu[id] * (r[id] - mean) * (r[id] - mean);
            absolute += e.mu[id] * std::fabs(e.excess[id]);
            square += e.mu[id] * e.excess[id] * e.excess[id];
        }
        if (error < 1e-9) continue;
        worst_ratio = std::max(worst_ratio, error / (spread * absolute));
        cauchy = std::max(cauchy, error / std::sqrt(variance * square));
        REQUIRE(error <= 0.5 * absolute + 1e-12);
    }
    CAPTURE(worst_ratio, cauchy);
    CHECK(worst_ratio > 3.0);
    CHECK(cauchy <= 1.0 + 1e-9);
}

TEST_CASE("gains nothing: a block's own share by second moments instead of directly", "[property]") {
    // Inside a block (P_k - 1 - S_k) is the identity again, so second moments bound it; they are never below its mean.
    std::mt19937_64 rng(64);
    for (std::size_t i = 0; i < 300; ++i) {
        const auto [e, worst] = draw(i, rng);
        const std::size_t length = e.s.length;
        for (std::size_t w = 2; w <= length; ++w) {
            double direct = 0.0;
            std::vector<double> first(w, 0.0), square(first), kl(first), third(first);
            for (std::size_t id = 0; id < e.mu.size(); ++id) {
                double product = 1.0, sum = 0.0, future_kl = 0.0, future_tv = 0.0;
                for (std::size_t t = w; t-- > 0;) {  // the first block
                    const double step = std::exp(e.log_ratio[id * length + t]) - 1.0;
                    first[t] += e.mu[id] * std::fabs(step);
                    square[t] += e.mu[id] * step * step;
                    kl[t] += e.mu[id] * future_kl;
                    third[t] += e.mu[id] * std::fabs(step) * future_tv;
                    future_kl += e.kl[id * length + t];
                    future_tv += e.tv[id * length + t];
                    product *= 1.0 + step;
                    sum += step;
                }
                direct += 0.5 * e.mu[id] * std::fabs(product - 1.0 - sum);
            }
            double moments = 0.0;
            for (std::size_t t = 0; t < w; ++t) {
                moments += std::min({first[t], std::sqrt(0.5 * square[t] * kl[t]), third[t]});
            }
            REQUIRE(direct <= moments + 1e-12);
        }
    }
}
