// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/bounds/evidence.hpp>

#include "tabular.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

/// Markov chains as policies: long responses whose divergences are known exactly.
namespace chains {

/// Policies whose next token depends on the last one only: long responses with exact values by dynamic programming.
struct chain {
    std::size_t states = 5;
    std::vector<double> mu, pi;  // [states * states]
};

/// `dense`: every state differs a little. `sparse`: one state of five differs a lot. `rare`: that state is, on top of
/// it, entered only once in about twenty tokens.
enum class mismatch { dense, sparse, rare };

inline chain random_chain(mismatch kind, std::mt19937_64& rng) {
    chain c;
    const std::size_t v = c.states;
    for (std::size_t s = 0; s < v; ++s) {
        const bool hit = kind == mismatch::dense || s == 0;
        const double size = kind == mismatch::dense ? 0.15 : 0.8;
        for (std::size_t y = 0; y < v; ++y) {
            const double rare = kind == mismatch::rare && y == 0 ? -2.0 : 0.0;
            c.mu.push_back(1.5 * (2.0 * tabular::unit(rng) - 1.0) + rare);
            c.pi.push_back(c.mu.back() + (hit ? size * (2.0 * tabular::unit(rng) - 1.0) : 0.0));
        }
        tabular::softmax(&c.mu[s * v], v);
        tabular::softmax(&c.pi[s * v], v);
    }
    return c;
}

/// Appends the sampled tokens of one response to the three streams: log-ratio, exact KL, exact TV.
class sampler {
public:
    explicit sampler(const chain& of) : c(of), kl(c.states), tv(c.states), ratio(c.states * c.states) {
        const std::size_t v = c.states;
        for (std::size_t s = 0; s < v; ++s) {
            kl[s] = tabular::kl(&c.mu[s * v], &c.pi[s * v], v);
            tv[s] = tabular::tv(&c.mu[s * v], &c.pi[s * v], v);
            for (std::size_t y = 0; y < v; ++y) ratio[s * v + y] = std::log(c.pi[s * v + y] / c.mu[s * v + y]);
        }
    }
    void respond(std::size_t horizon, std::mt19937_64& rng, std::vector<double>& x, std::vector<double>& k,
                 std::vector<double>& d) const {
        const std::size_t v = c.states;
        std::size_t s = 0;
        for (std::size_t t = 0; t < horizon; ++t) {
            double u = tabular::unit(rng);
            std::size_t y = 0;
            while (y + 1 < v && u >= c.mu[s * v + y]) u -= c.mu[s * v + y++];
            x.push_back(ratio[s * v + y]);
            k.push_back(kl[s]);
            d.push_back(tv[s]);
            s = y;
        }
    }

private:
    chain c;
    std::vector<double> kl, tv, ratio;
};

/// n responses, dealt to `groups` groups.
inline trm::bounds::evidence draw(const chain& c, std::size_t horizon, std::size_t n, bool divergences,
                                  std::mt19937_64& rng, std::size_t groups = 64) {
    const sampler from(c);
    trm::bounds::evidence e;
    std::vector<double> x, k, d;
    std::vector<std::int64_t> offsets, ids;
    for (std::size_t first = 0; first < n; first += 256) {  // a batch at a time, for the memory
        x.clear();
        k.clear();
        d.clear();
        ids.clear();
        offsets.assign(1, 0);
        for (std::size_t i = first; i < n && i < first + 256; ++i) {
            from.respond(horizon, rng, x, k, d);
            offsets.push_back(static_cast<std::int64_t>(x.size()));
            ids.push_back(static_cast<std::int64_t>(i % groups));
        }
        trm::bounds::trajectories<double> batch{.layout = trm::packed{offsets}, .log_ratio = x};
        if (divergences) {
            batch.kl = k;
            batch.tv = d;
        }
        batch.groups = ids;
        if (!e.add(batch).ok()) throw std::logic_error("the batch is not one");
    }
    return e;
}

}  // namespace chains
