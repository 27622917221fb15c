// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <trm/policy/aggregation.hpp>
#include <trm/policy/penalty.hpp>

#include <cmath>
#include <limits>
#include <vector>

/// \file
/// Oracle of the policies: one overload each, scalar, double, the formula as written in papers. The thresholds come from
/// the same policy objects that the kernels run. A new policy adds one overload here. Not for production: it allocates.

TRM_NAMESPACE_BEGIN
namespace reference {

inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// One loss_mask token whose inputs are finite.
struct token {
    std::size_t at = 0;  ///< index into the batch's streams
    std::int64_t position = 0;  ///< in its sequence, slots outside loss_mask included
    double logp = 0, rollout = 0, proximal = 0, ref = 0, advantage = 0, given = 0, factor = 1;
    bool has_proximal = false;
    bool marked = false;
    log_ratio_clamps clamps{};  ///< of log-ratios
    bool passes = true;  ///< every token criterion
    bool keep = true;  ///< the whole mask: surrogates of whole sequences look at these tokens only
    double weight = 1;  ///< of its surrogate term, the batch's token_weights included
};

/// All tokens of a sequence in order, whatever runs they came in.
struct sequence {
    std::vector<token> tokens;
    std::vector<std::size_t> nonfinite;  ///< loss_mask tokens that are masked for what they hold
    std::vector<std::int64_t> nonfinite_position;
    std::int32_t group = 0;
    std::int64_t extent = 0;  ///< loss_mask or not
    double mean_epsilon = 0;  ///< added to the number of tokens in means of surrogates
    double mask_epsilon = 0;  ///< and in those of criteria
    [[nodiscard]] double size() const { return static_cast<double>(tokens.size() + nonfinite.size()); }
};

/// A log-ratio: target and behaviour log-probabilities, x clamped.
struct pair {
    double target, behaviour, x;
    bool clamped;
};
inline pair pair_of(double target, double behaviour, clamp_range clamp) {
    double const x = target - behaviour;
    return {target, behaviour, clamp(x), !clamp.contains(x)};
}
inline pair pair_of(token const& t, ratio_kind kind, clamp_range clamp) {
    bool const depends = kind == ratio_kind::surrogate || kind == ratio_kind::correction;
    if (kind == ratio_kind::current_over_rollout || (depends && !t.has_proximal))
        return pair_of(t.logp, t.rollout, clamp);
    if (kind == ratio_kind::proximal_over_rollout || kind == ratio_kind::correction)
        return pair_of(t.proximal, t.rollout, clamp);
    return pair_of(t.logp, t.proximal, clamp);
}

/// Decisions, and how near the nearest was to going the other way, relative to the size of what was compared. Rounding
/// may flip a decision that is nearer than the arithmetic is accurate.
struct decisions {
    double nearest = infinity;
    bool below(double a, double b, double size = 0) {
        size = std::fmax(size, std::fmax(std::fabs(a), std::fabs(b)));
        if (size > 0 && size < infinity) nearest = std::fmin(nearest, std::fabs(a - b) / size);
        return a < b;
    }
    bool inside(band b, double d, double size = 0) { return !below(d, b.lower, size) && !below(b.upper, d, size); }
};

// --- divergences: long double where terms cancel -------------------------------------------------------------------

/// e^x - 1 - x: its series where the difference would cancel.
inline long double k3_long(long double x) {
    if (std::fabs(x) > 1) return std::expm1(x) - x;
    long double sum = 0, term = x;
    for (int n = 2; n < 30; ++n) sum += term *= x / static_cast<long double>(n);
    return sum;
}
inline double k3_of(double x) { return static_cast<double>(k3_long(static_cast<long double>(x))); }
/// KL(Bernoulli(p) || Bernoulli(q)) = p k3(log(q / p)) + (1 - p) k3(log((1 - q) / (1 - p))), which is
/// p log(p / q) + (1 - p) log((1 - p) / (1 - q)) since both pairs sum to 1. Log-probabilities above 0 count as 0, and
/// complements are kept above the smallest normal number.
inline double bernoulli_kl(double log_p, double log_q) {
    constexpr long double tiny = static_cast<long double>((std::numeric_limits<double>::min)());
    auto const a = static_cast<long double>(std::fmin(log_p, 0.0)), b = static_cast<long double>(std::fmin(log_q, 0.0));
    long double const rest = std::fmax(-std::expm1(a), tiny), other = std::fmax(-std::expm1(b), tiny);
    long double const p = std::exp(a), q = std::exp(b), x = b - a;
    bool const is_close = std::fabs(x) < 1;  // farther apart nothing cancels, and q / p may overflow
    long double const gain = (is_close ? p * std::expm1(x) : q - p) / rest;  // (q - p) / (1 - p)
    long double const y = std::fabs(gain) < 0.5L ? std::log1p(-gain) : std::log(other / rest);
    return static_cast<double>((is_close ? p * k3_long(x) : q - p - p * x) + rest * k3_long(y));
}

inline double divergence(k1 const&, token const&, pair const& l) { return -l.x; }
inline double divergence(k2 const&, token const&, pair const& l) { return l.x * l.x / 2; }
inline double divergence(k3 const&, token const&, pair const& l) { return k3_of(l.x); }
inline double divergence(abs_log_ratio const&, token const&, pair const& l) { return std::fabs(l.x); }
inline double divergence(ratio const&, token const&, pair const& l) { return std::exp(l.x); }
inline double divergence(given const&, token const& t, pair const&) { return t.given; }
inline double divergence(binary_tv const&, token const&, pair const& l) {
    return std::fabs(std::exp(std::fmin(l.target, 0)) - std::exp(std::fmin(l.behaviour, 0)));
}
inline double divergence(binary_kl const&, token const&, pair const& l) { return bernoulli_kl(l.behaviour, l.target); }
inline double divergence(bidirectional_binary_kl const&, token const&, pair const& l) {
    return bernoulli_kl(l.behaviour, l.target) + bernoulli_kl(l.target, l.behaviour);
}
template <class D>
double divergence_at(D const& d, token const& t) {
    return divergence(d, t, pair_of(t, d.over, t.clamps.mask));
}

/// d divergence / d x, for those that serve as penalties.
inline double slope(k1 const&, double) { return -1; }
inline double slope(k2 const&, double x) { return x; }
inline double slope(k3 const&, double x) { return std::expm1(x); }
inline double slope(abs_log_ratio const&, double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

// --- mask criteria: which tokens does it reject? A flag per token of every sequence --------------------------------

using flags = std::vector<std::vector<char>>;

inline flags none(std::vector<sequence> const& batch) {
    flags f;
    for (sequence const& s : batch) f.emplace_back(s.tokens.size(), char{0});
    return f;
}

template <class D>
flags rejected(token_mask<D> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i)
        for (std::size_t t = 0; t < batch[i].tokens.size(); ++t)
            f[i][t] = !decide.inside(m.keep, divergence_at(m.divergence, batch[i].tokens[t]));
    return f;
}

/// The statistic over values, and the size of what was added up (for sums: without cancellation).
struct statistic_value {
    double value, size;
};
inline statistic_value statistic(stat::sum_t, std::vector<double> const& v, double = 0) {
    statistic_value s{0, 0};
    for (double d : v) s = {s.value + d, s.size + std::fabs(d)};
    return s;
}
inline statistic_value statistic(stat::mean_t, std::vector<double> const& v, double epsilon = 0) {
    statistic_value const s = reference::statistic(stat::sum, v);
    double const n = static_cast<double>(v.size()) + epsilon;
    return {s.value / n, s.size / n};
}
inline statistic_value statistic(stat::max_t, std::vector<double> const& v, double = 0) {
    double best = -infinity;
    for (double d : v) best = d > best ? d : best;
    return {best, std::fabs(best)};
}
inline statistic_value statistic(stat::min_t, std::vector<double> const& v, double = 0) {
    double best = infinity;
    for (double d : v) best = d < best ? d : best;
    return {best, std::fabs(best)};
}

template <class D, class Stat>
flags rejected(sequence_mask<D, Stat> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        std::vector<double> values;
        for (token const& t : batch[i].tokens) values.push_back(divergence_at(m.divergence, t));
        if (values.empty()) continue;
        auto const s = statistic(m.statistic, values, batch[i].mask_epsilon);
        f[i].assign(f[i].size(), !decide.inside(m.keep, s.value, s.size));
    }
    return f;
}

template <class D, class Stat>
flags rejected(passing_sequence_mask<D, Stat> const& m, std::vector<sequence> const& batch, decisions& decide) {
    flags f = reference::none(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        std::vector<double> values;
        for (token const& t : batch[i].tokens)
            if (t.passes) values.push_back(divergence_at(m.divergence, t));
        if (values.empty()) continue;
        auto const s = statistic(m.statistic, values, batch[i].mask_epsilon);
        f[i].assign(f[i].size(), !decide.inside(m.keep, s.value, s.size));
    }
    return f;
}

// --- surrogates: value, d value / d logp, does a clip act? ----------------------------------------------------------

struct terms {
    double value = 0, slope = 0;
    bool clipped = false;
};
inline terms surrogate(importance_ratio const&, token const& t, pair const& l, decisions&) {
    double const r = std::exp(l.x);
    return {-r * t.advantage, l.clamped ? 0 : -r * t.advantage, l.clamped};
}
inline terms surrogate(ppo_clip const& c, token const& t, pair const& l, decisions& decide) {
    double const r = std::exp(l.x), A = t.advantage;
    bool const low = A < 0 && decide.below(r, 1 - c.eps_low), high = A > 0 && decide.below(1 + c.eps_high, r);
    bool const dual = c.dual_clip > 0 && A < 0 && decide.below(c.dual_clip, r);
    double const used = dual ? c.dual_clip : low ? 1 - c.eps_low : high ? 1 + c.eps_high : r;
    return {-used * A, low || high || dual || l.clamped ? 0 : -r * A, low || high};
}
inline terms surrogate(policy_gradient const&, token const& t, pair const&, decisions&) {
    return {-t.advantage * t.logp, -t.advantage, false};
}
/// All tokens of a sequence. A surrogate that couples them overloads this one instead.
template <class S>
    requires requires(S const& s, token const& t, pair const& l, decisions& d) { surrogate(s, t, l, d); }
std::vector<terms> surrogates(S const& policy, sequence const& s, decisions& decide) {
    std::vector<terms> out;
    for (token const& t : s.tokens)
        out.push_back(surrogate(policy, t, pair_of(t, policy.over, t.clamps.surrogate), decide));
    return out;
}

// --- penalties -------------------------------------------------------------------------------------------------------

template <class D>
terms penalty(kl_penalty<D> const& p, token const& t) {
    pair const l = pair_of(t.ref, t.logp, t.clamps.penalty);
    return {p.beta * divergence(p.estimator, t, l), l.clamped ? 0 : -p.beta * slope(p.estimator, l.x)};
}
inline terms penalty(squared_log_ratio const& p, token const& t) {
    pair const l = pair_of(t, p.over, t.clamps.penalty);
    return {p.coefficient * l.x * l.x, l.clamped ? 0 : 2 * p.coefficient * l.x};
}

}  // namespace reference
TRM_NAMESPACE_END
