// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../larger.hpp"
#include "../loss_batch.hpp"

#include <trm/policy/catalogue.hpp>
#include <trm/reference/policy_methods.hpp>

#include <string>
#include <vector>

/// Errors of every divergence of the catalogue and of the slope of every surrogate that looks at one token, with default
/// parameters, over random tokens: log-probabilities from -1e-7 to -300, log-ratios within and beyond the clamp.
namespace accuracy {

/// In units of u = 2^-24 (float) or 2^-53 (double), relative to the value; and the same over 1 + |x|, since rounding a
/// log-ratio x costs e^x a relative |x| u.
struct policy_worst {
    double relative = 0, by_x = 0;
    std::uint64_t tokens = 0;
    void add(double got, double want, double x, double u, double floor) {
        ++tokens;
        double const e = std::fabs(got - want) / (std::fmax(std::fabs(want), floor) * u);
        relative = larger(relative, e);
        by_x = larger(by_x, e / (1 + std::fabs(x)));
    }
};

template <class T>
trm::reference::token random_token(batches::random& r) {
    trm::reference::token t;
    double const level = -std::exp(22 * r.uniform() - 16.2);  // -1e-7 ... -330
    auto const near = [&] { return double(T(-std::fabs(level * (1 + std::exp(9 * r.uniform() - 8) * r.normal())))); };
    t.logp = double(T(level));
    t.rollout = near();
    t.proximal = near();
    t.ref = near();
    t.advantage = double(T(r.normal()));
    t.has_proximal = true;
    t.marked = r.below(2) == 0;
    return t;
}

template <class V, class F>
void for_random_tokens(std::uint64_t n, F&& f) {
    using T = typename V::value_type;
    batches::random r(3);
    std::vector<trm::reference::token> lane(V::size);
    T in[5][V::size];
    for (std::uint64_t at = 0; at < n; at += V::size) {
        for (std::size_t i = 0; i < V::size; ++i) {
            lane[i] = random_token<T>(r);
            double const values[] = {lane[i].logp, lane[i].rollout, lane[i].proximal, lane[i].ref, lane[i].advantage};
            for (std::size_t k = 0; k < 5; ++k) in[k][i] = static_cast<T>(values[k]);
        }
        trm::token<V, true> t{};
        t.active = t.keep = t.allowed = V::mask::everywhere();
        T marks[V::size];
        for (std::size_t i = 0; i < V::size; ++i) marks[i] = T(lane[i].marked);
        t.marked = trm::simd::load<V>(marks) > V(T(0));
        t.logp = trm::simd::load<V>(in[0]);
        t.ref_logp = trm::simd::load<V>(in[3]);
        t.advantage = trm::simd::load<V>(in[4]);
        t.given = t.factor = t.weight = V(T(1));
        V const rollout = trm::simd::load<V>(in[1]), proximal = trm::simd::load<V>(in[2]), limit(T(20));
        set_log_ratio(t.current_over_rollout, t.logp, rollout, t.active, -limit, limit);
        set_log_ratio(t.proximal_over_rollout, proximal, rollout, t.active, -limit, limit);
        set_log_ratio(t.current_over_proximal, t.logp, proximal, t.active, -limit, limit);
        f(t, lane);
    }
}

template <class V, class D>
policy_worst divergence_error(D const& d, std::uint64_t n) {
    using T = typename V::value_type;
    double const u = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
    // |p - mu| and p - mu have absolute bounds: they are differences of two probabilities
    bool const absolute = std::is_same_v<D, trm::binary_tv> || std::is_same_v<D, trm::probability_change>;
    // Probabilities stop at the end of exp's range, e^-87 or e^-700: what is computed from them may lose 1e-35 or 1e-300.
    bool const binary = std::is_same_v<D, trm::binary_kl> || std::is_same_v<D, trm::bidirectional_binary_kl> ||
                        std::is_same_v<D, trm::target_probability> || std::is_same_v<D, trm::behaviour_probability>;
    double const floor = absolute ? 1.0 : sizeof(T) == 4 ? (binary ? 1e-26 : 1e-30) : (binary ? 1e-282 : 1e-290);
    policy_worst w;
    for_random_tokens<V>(n, [&](trm::token<V, true> const& t, std::vector<trm::reference::token> const& lane) {
        T got[V::size];
        trm::simd::store(got, divergence_of(d, t));
        for (std::size_t i = 0; i < V::size; ++i)
            w.add(double(got[i]), trm::reference::divergence_at(d, lane[i]),
                  trm::reference::pair_of(lane[i], d.over, lane[i].clamps.mask).x, u, floor);
    });
    return w;
}
template <class V, class S>
policy_worst slope_error(S const& s, std::uint64_t n) {
    using T = typename V::value_type;
    double const u = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
    policy_worst w;
    for_random_tokens<V>(n, [&](trm::token<V, true> const& t, std::vector<trm::reference::token> const& lane) {
        T got[V::size];
        trm::simd::store(got, s(t, ratio_of(s, t)).slope);
        for (std::size_t i = 0; i < V::size; ++i) {
            trm::reference::decisions decide;
            auto const l = trm::reference::pair_of(lane[i], s.over, lane[i].clamps.surrogate);
            double const want = trm::reference::surrogate(s, lane[i], l, decide).slope;
            if (!(decide.nearest > 1e-5)) continue;  // rounding may decide the clip otherwise
            // Slopes of dro and kl_cov are differences; that of sapo is 0 where its sigmoid is beyond the float range.
            double const terms = std::fabs(lane[i].advantage) * std::exp(l.x);
            bool const differs = std::is_same_v<S, trm::dro> || std::is_same_v<S, trm::kl_cov>;
            w.add(double(got[i]), want, l.x, u, std::fmax(differs ? 1 + terms : 1e-18 * terms, 1e-28));
        }
    });
    return w;
}

/// A surrogate whose terms follow from its token alone.
template <class S, class V>
concept of_one_token = requires(S s, trm::token<V, true> t, trm::log_ratio<V> l, trm::reference::token o,
                                trm::reference::pair p, trm::reference::decisions d) {
    { s(t, l) } -> std::same_as<trm::surrogate_terms<V>>;
    trm::reference::surrogate(s, o, p, d);
};

/// print(name, worst) for every divergence and every such surrogate.
template <class T, class A, class Print>
void policy_rows(std::uint64_t n, Print print) {
    using V = trm::simd::vec<T, A>;
    trm::any_type(trm::catalogue::divergences{}, [&](auto type) {
        using D = typename decltype(type)::type;
        if constexpr (!std::is_same_v<D, trm::given>) print(D::name, divergence_error<V>(D{}, n));
        return false;
    });
    trm::any_type(trm::catalogue::surrogates{}, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (of_one_token<S, V>) {
            std::string const name = std::string("slope of ") + S::name;
            print(name.c_str(), slope_error<V>(S{}, n));
        }
        return false;
    });
}

}  // namespace accuracy
