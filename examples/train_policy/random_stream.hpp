// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>

/// Random numbers that are the same with every standard library, and one independent stream for each (seed, update,
/// sequence), so that they do not depend on which thread draws them. splitmix64: Steele, Lea, Flood, OOPSLA 2014.
class random_stream {
public:
    explicit random_stream(std::uint64_t seed, std::uint64_t purpose = 0, std::uint64_t a = 0, std::uint64_t b = 0) {
        for (std::uint64_t const part : {seed, purpose, a, b}) state = mixed(state + part) + 0x9e3779b97f4a7c15ULL;
    }
    std::uint64_t bits() { return mixed(state += 0x9e3779b97f4a7c15ULL); }
    /// In [0, 1).
    double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
    int below(int n) { return static_cast<int>(uniform() * n); }
    /// Standard normal, by Box and Muller's transform.
    double normal() {
        double const radius = std::sqrt(-2 * std::log(1 - uniform()));
        return radius * std::cos(2 * std::numbers::pi * uniform());
    }

private:
    static std::uint64_t mixed(std::uint64_t z) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }
    std::uint64_t state = 0;
};

/// What a stream is for: streams of different purposes are independent.
enum purpose : std::uint64_t {
    for_weights = 1,
    for_problems,
    for_sampling,
    for_noise,
    for_evaluation,
    for_demonstrations,
    for_bootstrap
};
