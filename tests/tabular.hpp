// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

/// Tabular autoregressive policies small enough to enumerate: every response, in double, with nothing assumed.
namespace tabular {

struct shape {
    std::size_t vocabulary = 2;
    std::size_t length = 4;

    [[nodiscard]] std::size_t contexts(std::size_t depth) const {
        std::size_t n = 1;
        for (std::size_t i = 0; i < depth; ++i) n *= vocabulary;
        return n;
    }
    [[nodiscard]] std::size_t responses() const { return contexts(length); }
    /// Row of the context reached by the first `depth` tokens of response `id` (tokens are base-V digits, first first).
    [[nodiscard]] std::size_t row(std::size_t id, std::size_t depth) const {
        std::size_t before = 0;
        for (std::size_t i = 0; i < depth; ++i) before += contexts(i);
        return before + id / contexts(length - depth);
    }
    [[nodiscard]] std::size_t token(std::size_t id, std::size_t depth) const {
        return id / contexts(length - depth - 1) % vocabulary;
    }
    [[nodiscard]] std::size_t rows() const { return row(0, length); }
};

/// rows() distributions over the vocabulary.
using policy = std::vector<double>;

struct pair {
    shape s;
    policy mu, pi;
};

enum class mismatch { uniform, sparse, peaked };

inline double unit(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11) * 0x1p-53; }

inline void softmax(double* x, std::size_t n) {
    const double top = *std::max_element(x, x + n);
    double sum = 0.0;
    for (std::size_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - top);
    for (std::size_t i = 0; i < n; ++i) x[i] /= sum;
}

inline pair random_pair(shape s, mismatch kind, double size, std::mt19937_64& rng) {
    const std::size_t v = s.vocabulary;
    pair p{s, policy(s.rows() * v), policy(s.rows() * v)};
    const double sharpness = kind == mismatch::peaked ? 6.0 : 1.5;
    for (std::size_t r = 0; r < s.rows(); ++r) {
        const bool hit = kind != mismatch::sparse || rng() % 6 == 0;
        const double step = kind == mismatch::sparse ? 5.0 * size : size;
        for (std::size_t i = 0; i < v; ++i) {
            p.mu[r * v + i] = sharpness * (2.0 * unit(rng) - 1.0);
            p.pi[r * v + i] = p.mu[r * v + i] + (hit ? step * (2.0 * unit(rng) - 1.0) : 0.0);
        }
        softmax(&p.mu[r * v], v);
        softmax(&p.pi[r * v], v);
    }
    return p;
}

inline double tv(const double* a, const double* b, std::size_t n) {
    double s = 0.0;
    for (std::size_t i = 0; i < n; ++i) s += std::fabs(a[i] - b[i]);
    return 0.5 * s;
}

inline double kl(const double* a, const double* b, std::size_t n) {
    double s = 0.0;
    for (std::size_t i = 0; i < n; ++i) s += a[i] * std::log(a[i] / b[i]);
    return std::max(s, 0.0);
}

/// Every response with its probability under mu and, token by token, what a trainer would have recorded.
struct enumeration {
    shape s;
    std::vector<double> mu, pi;  // [responses]
    std::vector<double> log_ratio, kl, tv;  // [responses * length]
    std::vector<std::int64_t> offsets;  // [responses + 1]
    double eps = 0.0, delta = 0.0, seq_kl = 0.0, seq_tv = 0.0;
    std::vector<double> mean_tv;  // [length]
    std::vector<double> excess;  // S(y) from products, [responses]
    std::vector<double> first_order;  // sum_t (rho_t - 1)
};

inline enumeration enumerate(const pair& p) {
    const shape s = p.s;
    const std::size_t v = s.vocabulary;
    const std::size_t n = s.responses();
    enumeration e;
    e.s = s;
    e.offsets.push_back(0);
    e.mean_tv.assign(s.length, 0.0);
    for (std::size_t r = 0; r < s.rows(); ++r) {
        e.eps = std::max(e.eps, tv(&p.mu[r * v], &p.pi[r * v], v));
        e.delta = std::max(e.delta, kl(&p.mu[r * v], &p.pi[r * v], v));
    }
    for (std::size_t id = 0; id < n; ++id) {
        double a = 1.0;
        double b = 1.0;
        double first = 0.0;
        double path_kl = 0.0;
        for (std::size_t t = 0; t < s.length; ++t) {
            const std::size_t r = s.row(id, t) * v;
            const std::size_t y = s.token(id, t);
            e.log_ratio.push_back(std::log(p.pi[r + y]) - std::log(p.mu[r + y]));
            e.kl.push_back(kl(&p.mu[r], &p.pi[r], v));
            e.tv.push_back(tv(&p.mu[r], &p.pi[r], v));
            a *= p.mu[r + y];
            b *= p.pi[r + y];
            first += p.pi[r + y] / p.mu[r + y] - 1.0;
            path_kl += e.kl.back();
        }
        for (std::size_t t = 0; t < s.length; ++t) e.mean_tv[t] += a * e.tv[id * s.length + t];
        e.mu.push_back(a);
        e.pi.push_back(b);
        e.seq_kl += a * path_kl;
        e.seq_tv += 0.5 * std::fabs(a - b);
        e.excess.push_back(b / a - 1.0 - first);
        e.first_order.push_back(first);
        e.offsets.push_back(e.offsets.back() + static_cast<std::int64_t>(s.length));
    }
    return e;
}

/// J(pi) - J(mu) and the surrogate L, from the definitions.
struct objective {
    double improvement = 0.0, surrogate = 0.0;
    [[nodiscard]] double error() const { return improvement - surrogate; }
};

inline objective evaluate(const enumeration& e, const std::vector<double>& reward) {
    objective o;
    for (std::size_t id = 0; id < e.mu.size(); ++id) {
        o.improvement += (e.pi[id] - e.mu[id]) * reward[id];
        o.surrogate += e.mu[id] * reward[id] * e.first_order[id];
    }
    return o;
}

/// sum_t E_mu[R (rho_t - 1)(prod_{j>t} rho_j - 1)]: the exact identity, by its own route.
inline double identity(const enumeration& e, const std::vector<double>& reward) {
    double sum = 0.0;
    const std::size_t t_max = e.s.length;
    for (std::size_t id = 0; id < e.mu.size(); ++id) {
        double future = 1.0;
        double inner = 0.0;
        for (std::size_t t = t_max; t-- > 0;) {
            const double rho = std::exp(e.log_ratio[id * t_max + t]);
            inner += (rho - 1.0) * (future - 1.0);
            future *= rho;
        }
        sum += e.mu[id] * reward[id] * inner;
    }
    return sum;
}

/// Rewards in [0, 1]: `adversarial` maximises |J(pi) - J(mu) - L|.
enum class rewards { random, binary, adversarial };

inline std::vector<double> make_rewards(const enumeration& e, rewards kind, std::mt19937_64& rng) {
    std::vector<double> r(e.mu.size());
    for (std::size_t id = 0; id < r.size(); ++id) {
        switch (kind) {
            case rewards::random:
                r[id] = unit(rng);
                break;
            case rewards::binary:
                r[id] = static_cast<double>(rng() & 1);
                break;
            case rewards::adversarial:
                r[id] = e.excess[id] > 0.0 ? 1.0 : 0.0;
                break;
        }
    }
    return r;
}

/// Shapes with at most 256 responses, in turn.
inline shape nth_shape(std::size_t i) {
    constexpr std::size_t table[][2] = {{2, 1}, {2, 2}, {2, 3}, {2, 4}, {2, 6}, {2, 8},
                                        {3, 2}, {3, 3}, {3, 5}, {4, 2}, {4, 4}};
    const auto& row = table[i % (sizeof table / sizeof *table)];
    return {row[0], row[1]};
}

}  // namespace tabular
