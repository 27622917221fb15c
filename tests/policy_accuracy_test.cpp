// SPDX-License-Identifier: Apache-2.0
// Values and slopes of every policy of one token against the oracle, over the whole domain: log-probabilities from 0 to -300,
// log-ratios far beyond the clamp, clamps from 0.5 to 80. The bounds are those of the policies' comments, in units of
// u = 2^-24 (float) or 2^-53 (double).
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/reference/policy_recent.hpp>

#include <functional>

using namespace trm;

namespace {

template <class T>
constexpr double u = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
constexpr double clamps[] = {0.5, 2, 5, 20, 80};

template <class T>
struct inputs {
    T logp, rollout, proximal, ref, advantage;
    bool marked;
};

/// Every pair of log-probabilities that are far apart, close, near 0 or tiny, as current and rollout and as reference and
/// current, and random ones.
template <class T>
std::vector<inputs<T>> domain() {
    double const levels[] = {-1e-7, -1e-5, -0.01, -0.4375, -0.6931, -1,  -2.3, -3,  -8,  -14.71,
                             -17,   -20.5, -24.5, -30,     -45,     -60, -86,  -95, -300};
    double const advantages[] = {1, -1, 0, 1.7, -0.03, 250, -1e-4};
    std::vector<inputs<T>> all;
    batches::random r(5);
    auto const add = [&](double logp, double rollout, double proximal, double ref) {
        auto const i = all.size();
        all.push_back({T(logp), T(rollout), T(proximal), T(ref), T(advantages[i % std::size(advantages)]), i % 3 == 0});
    };
    for (double a : levels)
        for (double b : levels) {
            add(a, b, (a + b) / 2, -3);
            add(a, a * (1 + 1e-3 * r.normal()), a, b);
            add(a, -1, b, a * (1 + 0.3 * r.uniform()));
        }
    for (int i = 0; i < 4000; ++i) {
        double const size = std::exp(6 * r.uniform() - 3), a = -size * r.uniform();
        auto const near = [&] { return -std::fabs(a + std::exp(8 * r.uniform() - 5) * r.normal()); };
        add(a, near(), near(), near());
    }
    while (all.size() % 16 != 0) add(-1, -2, -1.5, -1.25);
    return all;
}

template <class T>
reference::token oracle_token(inputs<T> const& in, double limit) {
    reference::token t;
    t.logp = double(in.logp);
    t.rollout = double(in.rollout);
    t.proximal = double(in.proximal);
    t.ref = double(in.ref);
    t.advantage = double(in.advantage);
    t.marked = in.marked;
    t.has_proximal = true;
    t.clamps = limit;
    return t;
}

/// The pair of policies that a policy looks at, with the one clamp of all stages.
template <class P>
reference::pair pair_of(P const& p, reference::token const& t) {
    return reference::pair_of(t, p.over, t.clamps.mask);
}
template <class P>
double size_of_x(P const& p, reference::token const& t) {
    return std::fabs(pair_of(p, t).x);
}

/// f(registers of tokens, the inputs of their lanes), with every log-ratio as the kernel sets it.
template <class V, class F>
void for_registers(std::vector<inputs<typename V::value_type>> const& all, double limit, F&& f) {
    using T = typename V::value_type;
    for (std::size_t at = 0; at < all.size(); at += V::size) {
        T lane[6][V::size];
        for (std::size_t i = 0; i < V::size; ++i) {
            auto const& in = all[at + i];
            T const values[] = {in.logp, in.rollout, in.proximal, in.ref, in.advantage, T(in.marked)};
            for (std::size_t k = 0; k < 6; ++k) lane[k][i] = values[k];
        }
        token<V, true> t{};
        t.active = t.keep = t.allowed = V::mask::everywhere();
        t.logp = simd::load<V>(lane[0]);
        V const rollout = simd::load<V>(lane[1]), proximal = simd::load<V>(lane[2]), limits = simd::broadcast<V>(limit);
        t.ref_logp = simd::load<V>(lane[3]);
        t.advantage = simd::load<V>(lane[4]);
        t.marked = simd::load<V>(lane[5]) > V(T(0));
        t.given = t.factor = t.weight = V(T(1));
        set_log_ratio(t.current_over_rollout, t.logp, rollout, t.active, -limits, limits);
        set_log_ratio(t.proximal_over_rollout, proximal, rollout, t.active, -limits, limits);
        set_log_ratio(t.current_over_proximal, t.logp, proximal, t.active, -limits, limits);
        f(t, &all[at]);
    }
}

/// Largest |got - want| in units of what `size` allows there, which must not exceed 1.
struct worst {
    double ratio = 0;
    std::string where;
    template <class T>
    void add(char const* what, double got, double want, double allowed, inputs<T> const& in) {
        double const e = got == want ? 0 : std::fabs(got - want) / allowed;
        if (e <= ratio) return;  // NaN goes on
        ratio = std::isnan(e) ? batches::inf : e;
        where = std::string(what) + " " + std::to_string(got) + ", expected " + std::to_string(want) + " (" +
                std::to_string(got - want) + "), at logp " + std::to_string(in.logp) + " rollout " +
                std::to_string(in.rollout) + " proximal " + std::to_string(in.proximal) + " ref " +
                std::to_string(in.ref) + " A " + std::to_string(in.advantage);
    }
};
void check(worst const& w, char const* name, double limit) {
    INFO(name << ", clamp " << limit << ": " << w.ratio << " times the bound: " << w.where);
    CHECK(w.ratio <= 1);
}

/// bound(|x|) in units of u, relative to the value; `absolute`: added to it, in units of u.
template <class V, class D, class Bound>
void check_divergence(char const* name, D const& d, Bound bound, double absolute = 0) {
    using T = typename V::value_type;
    auto const all = domain<T>();
    for (double limit : clamps) {
        worst w;
        for_registers<V>(all, limit, [&](token<V, true> const& t, inputs<T> const* in) {
            T got[V::size];
            simd::store(got, divergence_of(d, t));
            for (std::size_t i = 0; i < V::size; ++i) {
                auto const o = oracle_token(in[i], limit);
                double const want = reference::divergence_at(d, o), x = size_of_x(d, o);
                double const tiny = sizeof(T) == 4 ? 1e-35 : 1e-300;
                w.add("value", double(got[i]), want, (bound(x) * std::fabs(want) + absolute) * u<T> + tiny, in[i]);
            }
        });
        check(w, name, limit);
    }
}

template <class V>
void check_divergences() {
    using T = typename V::value_type;
    auto const constant = [](double c) { return [c](double) { return c; }; };
    auto const of_ratio = [](double c) { return [c](double x) { return c + x; }; };
    check_divergence<V>("k1", k1{}, constant(1));
    check_divergence<V>("k2", k2{}, constant(4));
    check_divergence<V>("k3", k3{}, [](double x) { return 30 + x; });
    check_divergence<V>("abs_log_ratio", abs_log_ratio{}, constant(1));
    check_divergence<V>("ratio", ratio{}, of_ratio(4));
    check_divergence<V>("ratio_change", ratio_change{}, of_ratio(30));
    check_divergence<V>("ratio_either_way", ratio_either_way{}, of_ratio(5));
    check_divergence<V>("k3_reversed", k3_reversed{}, [](double x) { return 30 + x; });
    check_divergence<V>("jensen_shannon", jensen_shannon{}, constant(10));
    check_divergence<V>("binary_tv", binary_tv{}, constant(0), 4);
    check_divergence<V>("probability_change", probability_change{}, constant(0), 4);
    double const kl = sizeof(T) == 4 ? 50 : 270;
    check_divergence<V>("binary_kl", binary_kl{}, constant(kl));
    check_divergence<V>("bidirectional_binary_kl", bidirectional_binary_kl{}, constant(kl));
    check_divergence<V>("binary_kl of the proximal policy", over<ratio_kind::proximal_over_rollout>(binary_kl{}),
                        constant(kl));
}

/// A slope against the oracle's, in units of what `bound` allows: (oracle token, |x|, oracle terms) -> absolute error / u.
template <class V, class Kernel, class Oracle, class Bound>
void check_slope(char const* name, Kernel kernel, Oracle oracle, Bound bound) {
    using T = typename V::value_type;
    auto const all = domain<T>();
    for (double limit : clamps) {
        worst w;
        for_registers<V>(all, limit, [&](token<V, true> const& t, inputs<T> const* in) {
            T value[V::size], slope[V::size];
            auto const got = kernel(t, limit);
            simd::store(value, got.value);
            simd::store(slope, got.slope);
            for (std::size_t i = 0; i < V::size; ++i) {
                auto const o = oracle_token(in[i], limit);
                reference::terms const want = oracle(o);
                double const allowed = bound(o, want.slope) * u<T> + (sizeof(T) == 4 ? 1e-35 : 1e-300);
                if (std::fabs(want.slope) > 0.1 * double(std::numeric_limits<T>::max())) {  // stops at the range's end
                    if (!(std::fabs(slope[i]) > T(0.01) * std::numeric_limits<T>::max())) FAIL(name << " is not large");
                    if (!is_finite(slope[i])) FAIL(name << " is infinite");
                    continue;
                }
                w.add("slope", double(slope[i]), want.slope, allowed, in[i]);
            }
        });
        check(w, name, limit);
    }
}
template <class V, class S, class Bound>
void check_surrogate(char const* name, S const& s, Bound bound) {
    check_slope<V>(
        name, [&](token<V, true> const& t, double) { return s(t, ratio_of(s, t)); },
        [&](reference::token const& t) {
            reference::decisions d;
            return reference::surrogate(s, t, pair_of(s, t), d);
        },
        bound);
}
/// The bound relative to the slope: c + |x|, the second for what rounding x costs e^x.
template <class V, class S>
void check_ratio_surrogate(char const* name, S const& s, double c) {
    check_surrogate<V>(
        name, s, [s, c](reference::token const& t, double slope) { return (c + size_of_x(s, t)) * std::fabs(slope); });
}

template <class V>
void check_surrogates() {
    auto const ratio_size = [](auto const& s, reference::token const& t) { return std::exp(pair_of(s, t).x); };
    check_ratio_surrogate<V>("importance_ratio", importance_ratio{}, 4);
    check_ratio_surrogate<V>("importance_ratio over rollout",
                             over<ratio_kind::current_over_rollout>(importance_ratio{}), 4);
    check_ratio_surrogate<V>("cispo", cispo{0.31, 4.7}, 4);
    check_ratio_surrogate<V>("cispo without bounds", cispo{0, batches::inf}, 4);
    check_ratio_surrogate<V>("dppo_score", dppo_score(), 4);
    check_ratio_surrogate<V>("reference_gap", reference_gap{}, 5);
    check_surrogate<V>("ppo_clip", ppo_clip{0.213, 0.317, 3.1}, [](reference::token const& t, double slope) {
        return (4 + size_of_x(ppo_clip{}, t)) * std::fabs(slope);
    });
    check_surrogate<V>("policy_gradient", policy_gradient{}, [](reference::token const&, double) { return 0.0; });
    for (double tau : {0.1, 1.0, 9.0, 80.0}) {
        sapo const s{tau, 1.05 * tau <= 80 ? 1.05 * tau : tau};
        check_surrogate<V>("sapo", s, [s, &ratio_size](reference::token const& t, double slope) {
            double const tau_t = t.advantage > 0 ? s.tau_positive : s.tau_negative;
            double const x = size_of_x(s, t), r = ratio_size(s, t), z = tau_t * std::fabs(std::expm1(pair_of(s, t).x));
            double const beyond = z >= 80 ? 1e-34 * std::fabs(t.advantage) * r / u<typename V::value_type> : 0;
            return (8 + x + 6 * z + tau_t * r * x) * std::fabs(slope) + beyond;
        });
    }
    dro const d{0.7};
    check_surrogate<V>("dro", d, [d](reference::token const& t, double) {
        return 3 * (std::fabs(t.advantage) + d.beta * size_of_x(d, t));
    });
    kl_cov const k{0.3};
    check_surrogate<V>("kl_cov", k, [k, &ratio_size](reference::token const& t, double) {
        return (4 + size_of_x(k, t)) * ratio_size(k, t) * std::fabs(t.advantage) + 2 * k.coefficient;
    });
    for (double width : {0.05, 0.2, 3.0}) {
        spo const q{width};
        check_surrogate<V>("spo", q, [q, &ratio_size](reference::token const& t, double) {
            double const r = ratio_size(q, t), away = std::fabs(r - 1) / q.eps;
            return (8 + 3 * size_of_x(q, t)) * r * std::fabs(t.advantage) * (1 + away);
        });
        drpo const p{width};
        check_surrogate<V>("drpo", p, [p, &ratio_size](reference::token const& t, double) {
            auto const l = pair_of(p, t);
            double const both = std::exp(std::fmin(l.target, 0)) + std::exp(std::fmin(l.behaviour, 0));
            return (8 + 3 * std::fabs(l.x)) * ratio_size(p, t) * std::fabs(t.advantage) * (1 + both / p.delta);
        });
    }
    check_ratio_surrogate<V>("up_grpo", up_grpo{0.213, 3.1}, 4);
    check_ratio_surrogate<V>("topr_token", topr_token{0.31, 4.7, 0.17, 1.3}, 4);
    for (double eta : {0.3, 1.0, 20.0}) {
        delight const g{eta};
        check_surrogate<V>("delight", g, [g](reference::token const& t, double slope) {
            double const z = std::fabs(t.advantage * t.logp) / g.eta;
            double const beyond = z >= 80 ? 1e-34 * std::fabs(t.advantage) / u<typename V::value_type> : 0;
            return (6 + 4 * z) * std::fabs(slope) + beyond;
        });
    }
}

/// x = log ref - log p as the penalty clamps it.
double reference_x(reference::token const& t, double input_clamp) {
    return reference::pair_of(t.ref, t.logp, std::fmin(t.clamps.penalty.upper, input_clamp)).x;
}

template <class V, class P, class Bound>
void check_penalty(char const* name, P const& p, Bound bound) {
    check_slope<V>(
        name, [&](token<V, true> const& t, double limit) { return p(t, penalty_clamp<V>(limit)); },
        [&](reference::token const& t) { return reference::penalty(p, t); }, bound);
}
/// Each estimator with each gradient; `terms`: D - D' as the size of what is subtracted, in |x|.
template <class V, class D, class Size>
void check_estimator(char const* name, D const& d, Size size) {
    INFO(name);
    double const b = 0.37;
    auto const relative = [](reference::token const& t, double slope) {
        return (5 + std::fabs(reference_x(t, 80))) * std::fabs(slope);
    };
    check_penalty<V>("kl_penalty", kl_penalty{d, b}, relative);
    for (double clamp : {3.0, 20.0, 80.0}) {
        using sees::all_tokens;
        check_penalty<V>("pathwise", reference_kl{d, b, kl_gradient::pathwise{}, all_tokens, clamp}, relative);
        check_penalty<V>("straight_through", reference_kl{d, b, kl_gradient::straight_through{}, all_tokens, clamp},
                         [](reference::token const&, double slope) { return 3 * std::fabs(slope); });
        check_penalty<V>("score_function", reference_kl{d, b, kl_gradient::score_function{}, all_tokens, clamp},
                         [=](reference::token const& t, double) { return b * size(std::fabs(reference_x(t, clamp))); });
        auto const by_ratio = [=](auto const& p, char const* kind) {
            check_penalty<V>(kind, p, [=](reference::token const& t, double slope) {
                double const x = std::fabs(reference_x(t, clamp)), y = size_of_x(p, t);
                double const r = std::exp(pair_of(p, t).x);
                return slope == 0 ? 0 : b * r * size(x) + (9 + x + y) * std::fabs(slope);
            });
        };
        by_ratio(reference_kl{d, b, kl_gradient::importance<>{}, all_tokens, clamp}, "importance");
        by_ratio(reference_kl{d, b, kl_gradient::importance<ratio_kind::current_over_rollout>{}, all_tokens, clamp},
                 "importance over rollout");
    }
}

template <class V>
void check_penalties() {
    check_estimator<V>("k1", k1{}, [](double x) { return 3 * (1 + x); });
    check_estimator<V>("k2", k2{}, [](double x) { return 4 * (x + x * x / 2); });
    check_estimator<V>("k3", k3{}, [](double x) { return 3 * x; });
    check_estimator<V>("abs_log_ratio", abs_log_ratio{}, [](double x) { return 3 * (1 + x); });
    check_penalty<V>("squared_log_ratio", squared_log_ratio{0.2},
                     [](reference::token const&, double slope) { return 4 * std::fabs(slope); });
}

}  // namespace

TEST_CASE("divergences of one token over the whole domain", "[loss][parity]") {
    SECTION("f32") { check_divergences<simd::vec<float>>(); }
    SECTION("f64") { check_divergences<simd::vec<double>>(); }
    SECTION("f32 in scalars") { check_divergences<simd::vec<float, simd::scalar>>(); }
}

TEST_CASE("slopes of surrogates over the whole domain", "[loss][parity]") {
    SECTION("f32") { check_surrogates<simd::vec<float>>(); }
    SECTION("f64") { check_surrogates<simd::vec<double>>(); }
}

TEST_CASE("slopes of penalties over the whole domain", "[loss][parity]") {
    SECTION("f32") { check_penalties<simd::vec<float>>(); }
    SECTION("f64") { check_penalties<simd::vec<double>>(); }
}

namespace {

/// One value of a divergence of e^target and e^behaviour.
template <class D, class T>
double value(D const& d, T target, T behaviour, double clamp = 20) {
    using V = simd::vec<T, simd::scalar>;
    log_ratio<V> l;
    set_log_ratio(l, V(target), V(behaviour), V::mask::everywhere(), V(T(-clamp)), V(T(clamp)));
    T out[1];
    simd::store(out, d(l));
    return double(out[0]);
}

template <class T>
void check_binary_by_hand() {
    double const e = sizeof(T) == 4 ? 3e-6 : 1e-13;
    auto const kl = [](double p, double q) { return p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q)); };
    for (double clamp : clamps) {
        CHECK(value(binary_kl{}, T(-0.4375), T(-24.5), clamp) == Approx(1.0375).epsilon(1e-4));
        CHECK(value(binary_kl{}, T(-0.01), T(-30), clamp) == Approx(4.610).epsilon(1e-4));
        CHECK(value(bidirectional_binary_kl{}, T(-0.4375), T(-24.5), clamp) == Approx(16.205).epsilon(1e-3));
        double const mu = std::exp(double(T(-24.5))), p = std::exp(-0.4375);
        CHECK(value(binary_kl{}, T(-0.4375), T(-24.5), clamp) == Approx(kl(mu, p)).epsilon(e));
        CHECK(value(binary_kl{}, T(-24.5), T(-0.4375), clamp) == Approx(kl(p, mu)).epsilon(e));
        CHECK(value(bidirectional_binary_kl{}, T(-24.5), T(-0.4375), clamp) ==
              Approx(kl(p, mu) + kl(mu, p)).epsilon(e));
        // probabilities of 1: the complement of one is at its floor, of both the divergence is 0
        double const floor = -std::log(double(std::numeric_limits<T>::min()));
        CHECK(value(binary_kl{}, T(0), T(-1), clamp) ==
              Approx((1 - std::exp(-1)) * (floor + std::log(1 - std::exp(-1))) - std::exp(-1)).epsilon(e));
        CHECK(value(binary_kl{}, T(-1), T(0), clamp) == Approx(1).epsilon(e));
        CHECK(value(binary_kl{}, T(-30), T(0), clamp) == Approx(30).epsilon(e));
        CHECK(value(binary_kl{}, T(0), T(0), clamp) == 0);
        // above 0, as bf16 rounds them, counts as 0
        CHECK(value(binary_kl{}, T(0.125), T(-1), clamp) == value(binary_kl{}, T(0), T(-1), clamp));
        CHECK(value(binary_kl{}, T(-1), T(0.125), clamp) == value(binary_kl{}, T(-1), T(0), clamp));
        CHECK(value(bidirectional_binary_kl{}, T(0.125), T(0.5), clamp) == 0);
    }
}

}  // namespace

TEST_CASE("binary divergences are functions of the probabilities, whatever the clamp", "[loss][unit]") {
    SECTION("f32") { check_binary_by_hand<float>(); }
    SECTION("f64") { check_binary_by_hand<double>(); }
}

TEST_CASE("the oracle's binary KL where q / p overflows: -log(1 - q) is left", "[loss][unit]") {
    double const log_q = -0.33446876671195686, want = -std::log(-std::expm1(log_q));
    for (double const log_p : {-30000.0, -11400.0, -1e300})
        CHECK(std::fabs(reference::bernoulli_kl(log_p, log_q) - want) < 1e-14);
    double const p = std::exp(log_q), back = p * (log_q + 30000) + (1 - p) * std::log(1 - p);
    CHECK(reference::bernoulli_kl(log_q, -30000.0) == Approx(back).epsilon(1e-13));
}
TEST_CASE("unbiased gradients of k3 are exactly x times beta and the ratio", "[loss][unit]") {
    using V = simd::vec<float, simd::scalar>;
    for (float x : {16.93f, 14.71f, -16.93f, 0.001f, 19.9f, -1e-6f}) {
        std::vector<inputs<float>> const all{{-20.0f, -20.0f, -20.0f, -20.0f + x, 1.0f, false}};
        float const exact = all[0].ref - all[0].logp;
        for_registers<V>(all, 20, [&](token<V, true> const& t, inputs<float> const*) {
            float got[1];
            simd::store(got, reference_kl{k3{}, 1.0, kl_gradient::score_function{}}(t, penalty_clamp<V>(20)).slope);
            CHECK(got[0] == -exact);
            simd::store(got, reference_kl{k3{}, 1.0, kl_gradient::importance<>{}}(t, penalty_clamp<V>(20)).slope);
            CHECK(got[0] == -exact);
        });
    }
}

TEST_CASE("a penalty with beta 0 is 0 where its exponentials overflow", "[loss][unit]") {
    using V = simd::vec<float>;
    for_registers<V>(domain<float>(), 80, [&](token<V, true> const& t, inputs<float> const*) {
        float value[V::size], slope[V::size];
        auto const got =
            reference_kl{k3{}, 0.0, kl_gradient::importance<>{}, sees::all_tokens, 80.0}(t, penalty_clamp<V>(80));
        simd::store(value, got.value);
        simd::store(slope, got.slope);
        for (std::size_t i = 0; i < V::size; ++i)
            if (value[i] != 0 || slope[i] != 0) FAIL("not 0");
    });
}
