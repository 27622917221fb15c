// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/dtype.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

/// Rows of logits that tests of the logits layer share: ordinary ones and hostile ones.
namespace rows {

inline constexpr double inf = std::numeric_limits<double>::infinity();

enum class kind { normal, wide, ascending, equal, one_hot, huge, holes, lowest, count };

inline char const* name(kind k) {
    constexpr char const* names[] = {"normal", "wide", "ascending", "equal", "one_hot", "huge", "holes", "lowest"};
    return names[static_cast<int>(k)];
}

/// One row. `holes` has -inf at two thirds of the entries, `lowest` the lowest float there; entry `alive` is finite.
inline std::vector<double> make(kind k, std::size_t n, std::size_t alive, std::mt19937_64& rng) {
    std::normal_distribution<double> normal(0, 1);
    std::vector<double> x(n);
    for (std::size_t i = 0; i < n; ++i) {
        switch (k) {
            case kind::wide:
                x[i] = 12 * normal(rng);
                break;
            case kind::ascending:
                x[i] = -50 + 100 * double(i) / double(n) + 0.1 * normal(rng);
                break;
            case kind::equal:
                x[i] = 3.25;
                break;
            case kind::one_hot:
                x[i] = i == alive ? 1e4 : -1e4;
                break;
            case kind::huge:
                x[i] = 1e4 + 3 * normal(rng) - (rng() % 3 == 0 ? 2e4 : 0);
                break;
            case kind::holes:
                x[i] = rng() % 3 != 0 && i != alive ? -inf : 2.5 * normal(rng);
                break;
            case kind::lowest:
                x[i] = rng() % 3 != 0 && i != alive ? double(std::numeric_limits<float>::lowest()) : 2.5 * normal(rng);
                break;
            default:
                x[i] = 2.5 * normal(rng);
        }
    }
    return x;
}

template <class S>
S round_to(double v) {
    using U = trm::storage_t<S>;
    if constexpr (std::is_same_v<U, trm::bf16>) return trm::to_bf16(static_cast<float>(v));
    else if constexpr (std::is_same_v<U, trm::f16>) return trm::to_f16(static_cast<float>(v));
    else return static_cast<S>(v);
}

/// Storage copy of a row; `x` becomes what the storage type really holds.
template <class S>
std::vector<S> store(std::vector<double>& x) {
    std::vector<S> s(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        s[i] = round_to<S>(x[i]);
        x[i] = static_cast<double>(trm::to_float(s[i]));
    }
    return s;
}

/// What the library must see: temperature applied, entries at or below -2^100 impossible.
inline std::vector<double> scaled(std::vector<double> x, double temperature) {
    for (double& v : x) v = v <= -0x1p100 ? -inf : v / temperature;
    return x;
}

inline std::vector<std::size_t> const& sizes() {
    static std::vector<std::size_t> const s{1,   2,   3,   7,   15,   16,   17,    63,    127,
                                            128, 129, 255, 257, 1000, 4096, 16383, 33001, 151936};
    return s;
}

}  // namespace rows
