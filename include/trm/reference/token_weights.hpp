// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/token_weight.hpp>
#include <trm/reference/weights.hpp>

/// \file
/// Oracle of the factors of token weights, straight from their formulas: one number for each token of each sequence.

TRM_NAMESPACE_BEGIN
namespace reference {

using token_factors = std::vector<std::vector<double>>;

inline token_factors factors(suffix_weight const& w, std::vector<sequence> const& batch, ratio_kind over) {
    token_factors all;
    for (sequence const& s : batch) {
        all.emplace_back();
        for (token const& t : s.tokens) {
            double sum = 0;
            for (token const& k : s.tokens) {
                double const x = pair_of(k, over, k.clamps.weight).x;
                if (k.position >= t.position && !(std::exp(x) > w.most_ratio))
                    sum += std::exp2(-static_cast<double>(k.position - t.position) / w.half_life) * x;
            }
            double f = std::fmin(std::fmax(std::exp(sum), w.lower), w.upper);
            if (t.advantage < 0 && std::exp(pair_of(t, over, t.clamps.weight).x) > w.safe_ratio)
                f = std::fmin(std::fmax(f, w.safe_lower), 1.0);
            all.back().push_back(f);
        }
    }
    return all;
}

inline token_factors factors(segment_weight const& w, std::vector<sequence> const& batch, ratio_kind over) {
    token_factors all;
    for (sequence const& s : batch) {
        std::vector<int> selected(static_cast<std::size_t>(s.extent)), segment(selected.size());
        for (token const& t : s.tokens) selected[static_cast<std::size_t>(t.position)] = 1;
        for (std::int64_t p : s.nonfinite_position) selected[static_cast<std::size_t>(p)] = 1;
        std::int64_t size = 0;
        for (std::size_t i = 0, id = 0; i < selected.size(); ++i) {
            bool const follows = i > 0 && selected[i - 1] != 0 && !(w.length > 0 && size == w.length);
            size = follows ? size + 1 : 1;
            id += !follows;
            segment[i] = static_cast<int>(id);
        }
        auto const of = [&](token const& t) { return segment[static_cast<std::size_t>(t.position)]; };
        all.emplace_back();
        for (token const& t : s.tokens) {
            double sum = 0, n = 0;
            for (token const& k : s.tokens) {
                if (of(k) != of(t)) continue;
                sum += pair_of(k, over, k.clamps.weight).x;
                n += 1;
            }
            decisions ignored;
            all.back().push_back(bounded(w.bound, std::exp(sum / n), ignored));
        }
    }
    return all;
}

inline token_factors factors(surprise_weight const& w, std::vector<sequence> const& batch, ratio_kind) {
    auto const least = [&](double sign) {
        std::vector<double> d;
        for (sequence const& s : batch)
            for (token const& t : s.tokens)
                if (sign * t.advantage > 0) d.push_back(-t.logp);
        if (d.empty()) return infinity;
        std::sort(d.begin(), d.end());
        double place = (1 - w.share) * static_cast<double>(d.size() - 1);
        if (std::fabs(place - std::round(place)) < 1e-9) place = std::round(place);
        auto const i = static_cast<std::size_t>(place);
        double const rest = place - static_cast<double>(i);
        return rest > 0 ? d[i] + rest * (d[i + 1] - d[i]) : d[i];
    };
    double const positive = least(1), negative = least(-1);
    token_factors all;
    for (sequence const& s : batch) {
        all.emplace_back();
        for (token const& t : s.tokens)
            all.back().push_back(t.advantage > 0 && -t.logp >= positive   ? w.positive
                                 : t.advantage < 0 && -t.logp >= negative ? w.negative
                                                                          : 1.0);
    }
    return all;
}

}  // namespace reference
TRM_NAMESPACE_END
