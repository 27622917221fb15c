// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/core/batch_view.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

/// Batches and cases of tests/golden (see its README).
namespace golden {

using json = nlohmann::json;

inline json load(char const* file) {
    std::ifstream in(std::string(TRM_TEST_GOLDEN_DIR) + "/" + file);
    return json::parse(in);
}
/// Numbers, and the words for what JSON cannot write.
inline double number(json const& j) {
    if (!j.is_string()) return j.get<double>();
    auto const s = j.get<std::string>();
    return s == "nan" ? std::nan("") : s == "inf" ? INFINITY : s == "-inf" ? -INFINITY : std::stod(s);
}
/// [B][T] as one array.
inline std::vector<double> matrix(json const& j) {
    std::vector<double> flat;
    for (json const& row : j)
        for (json const& v : row) flat.push_back(number(v));
    return flat;
}

/// A padded batch, in the storage type of the arithmetic.
template <class T>
struct batch {
    std::int64_t rows = 0, columns = 0;
    std::vector<T> rollout, old, current, ref, advantages;
    std::vector<std::uint8_t> mask;

    explicit batch(json const& j) {
        auto const read = [&](char const* key) {
            auto const m = matrix(j.at(key));
            return std::vector<T>(m.begin(), m.end());
        };
        rollout = read("rollout_logp");
        old = j.contains("old_logp") ? read("old_logp") : rollout;
        current = read("current_logp");
        ref = j.contains("ref_logp") ? read("ref_logp") : rollout;
        advantages = read("advantages");
        for (double m : matrix(j.at(j.contains("response_mask") ? "response_mask" : "loss_mask")))
            mask.push_back(m != 0);
        auto const& any = j.at("rollout_logp");
        rows = static_cast<std::int64_t>(any.size());
        columns = rows > 0 ? static_cast<std::int64_t>(any[0].size()) : 0;
    }
    [[nodiscard]] std::size_t tokens() const { return mask.size(); }
    [[nodiscard]] std::int64_t count(std::int64_t row) const {
        std::int64_t n = 0;
        for (std::int64_t t = 0; t < columns; ++t) n += mask[static_cast<std::size_t>(row * columns + t)];
        return n;
    }
    [[nodiscard]] std::int64_t non_empty() const {
        std::int64_t n = 0;
        for (std::int64_t i = 0; i < rows; ++i) n += count(i) > 0;
        return n;
    }
    /// `behaviour` against `target`; no proximal policy.
    [[nodiscard]] trm::batch_view<T> view(std::vector<T> const& target, std::vector<T> const& behaviour) const {
        trm::batch_view<T> v;
        v.logp = target;
        v.rollout_logp = behaviour;
        v.ref_logp = ref;
        v.advantages = advantages;
        v.loss_mask = mask;
        v.layout = trm::padded{rows, columns};
        return v;
    }
    /// Current, rollout and proximal policy.
    [[nodiscard]] trm::batch_view<T> decoupled() const {
        auto v = view(current, rollout);
        v.proximal_logp = old;
        return v;
    }
};

inline bool near(double value, double want, double bound, double size = 0) {
    return std::fabs(value - want) <= bound * std::fmax(std::fabs(want), size);
}

}  // namespace golden
