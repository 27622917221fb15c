// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/reference/policy.hpp>

#include <concepts>

/// \file
/// Oracle of the weights. As reference/policy.hpp; not for production.

TRM_NAMESPACE_BEGIN
namespace reference {

inline double bounded(weight_bound const& b, double w, decisions& decide) {
    return decide.below(w, b.lower) ? b.below : decide.below(b.upper, w) ? b.above : w;
}
inline std::vector<double> weights(no_weight const&, sequence const& s, ratio_kind, decisions&) {
    return std::vector<double>(s.tokens.size(), 1.0);
}
inline std::vector<double> weights(constant_weight const& w, sequence const& s, ratio_kind, decisions&) {
    return std::vector<double>(s.tokens.size(), w.factor);
}
inline std::vector<double> weights(token_weight const& w, sequence const& s, ratio_kind over, decisions& decide) {
    std::vector<double> out;
    for (token const& t : s.tokens)
        out.push_back(bounded(w.bound, std::exp(pair_of(t, over, t.clamps.weight).x), decide));
    return out;
}
template <class Stat>
std::vector<double> weights(sequence_weight<Stat> const& w, sequence const& s, ratio_kind over, decisions& decide) {
    if (s.tokens.empty()) return {};
    std::vector<double> x;
    for (token const& t : s.tokens)
        if (t.passes || w.ratios == sees::all_tokens) x.push_back(pair_of(t, over, t.clamps.weight).x);
    double const of_all = x.empty() ? 0 : statistic(w.statistic, x).value;
    double const clamped = s.tokens[0].clamps.weight_sequence(of_all);
    return std::vector<double>(s.tokens.size(), bounded(w.bound, std::exp(clamped), decide));
}

/// What a normalised weight is divided by: the mean of the weight, or of the raw ratio, over tokens or over sequences; 1 if
/// that is next to nothing, and for other weights.
template <class W>
double batch_mean(W const&, std::vector<sequence> const&, ratio_kind, decisions&) {
    return 1;
}
template <class W>
double batch_mean(normalised<W> const& w, std::vector<sequence> const& batch, ratio_kind over, decisions& decide) {
    W averaged = w.weight;
    if (w.when == normalise::before_bound) averaged.bound = weight_bound{-infinity, infinity, 0, 0};
    double sum = 0, units = 0;
    bool const of_tokens = std::derived_from<W, token_weight>;
    for (sequence const& s : batch) {
        std::vector<double> const all = weights(averaged, s, over, decide);
        for (std::size_t t = 0; t < all.size(); ++t) {
            if (w.tokens == sees::kept_tokens && !s.tokens[t].keep) continue;
            sum += all[t];
            units += 1;
            if (!of_tokens) break;  // one of the sequence
        }
    }
    if (w.rows == averaged_rows::all && !of_tokens) units = static_cast<double>(batch.size());
    return units > 0 && sum / units > 1e-8 ? sum / units : 1;
}
template <class W>
std::vector<double> weights(W const& w, sequence const& s, ratio_kind over, double, decisions& decide) {
    return weights(w, s, over, decide);
}
template <class W>
std::vector<double> weights(normalised<W> const& w, sequence const& s, ratio_kind over, double mean,
                            decisions& decide) {
    bool const before = w.when == normalise::before_bound;
    W first = w.weight;
    if (before) first.bound = weight_bound{-infinity, infinity, 0, 0};
    std::vector<double> all = weights(first, s, over, decide);
    for (double& v : all) v = before ? bounded(w.weight.bound, v / mean, decide) : v / mean;
    return all;
}

}  // namespace reference
TRM_NAMESPACE_END
