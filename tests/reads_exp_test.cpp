// SPDX-License-Identifier: Apache-2.0
// `reads_exp`: a policy says false exactly if nothing of it depends on e^x, e^x - 1 or k3 of a log-ratio. Passes do not work these out
// where no policy of a loss reads them, so a wrong answer would make the loss read rows that nobody has written.
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/any_policies.hpp>
#include <trm/loss/policy_steps.hpp>

#include <cstring>

using namespace trm;

namespace {

using V = simd::vec<double>;
using tokens = token<V, true>;

log_ratio<V> random_ratio(batches::random& r, tokens const& t) {
    double target[V::size], behaviour[V::size];
    for (std::size_t i = 0; i < V::size; ++i) {
        target[i] = -2 * r.uniform();
        behaviour[i] = target[i] - 0.6 * r.normal();
        if (behaviour[i] > 0) behaviour[i] = -0.01;
    }
    log_ratio<V> l;
    V const limit(2.0);
    set_log_ratio(l, simd::load<V>(target), simd::load<V>(behaviour), t.active, -limit, limit);
    return l;
}
tokens random_tokens(batches::random& r) {
    double lanes[5][V::size];
    for (auto& row : lanes)
        for (double& v : row) v = r.normal();
    tokens t{};
    t.active = t.keep = t.allowed = V::mask::everywhere();
    t.advantage = simd::load<V>(lanes[0]);
    t.logp = -abs(simd::load<V>(lanes[1]));
    t.ref_logp = -abs(simd::load<V>(lanes[2]));
    t.given = simd::load<V>(lanes[3]);
    t.marked = simd::load<V>(lanes[4]) > V(0.0);
    t.factor = t.weight = V(1.5);
    for (auto* l : {&t.current_over_rollout, &t.proximal_over_rollout, &t.current_over_proximal})
        *l = random_ratio(r, t);
    return t;
}
tokens without_exp(tokens t) {
    for (auto* l : {&t.current_over_rollout, &t.proximal_over_rollout, &t.current_over_proximal})
        l->exp = l->expm1 = l->k3 = V(std::numeric_limits<double>::quiet_NaN());
    return t;
}

/// Everything that `f` says about tokens, a vector of registers.
template <class F>
bool depends_on_exp(F const& f) {
    batches::random r(3);
    for (int i = 0; i < 200; ++i) {
        tokens const t = random_tokens(r);
        auto const with = f(t), without = f(without_exp(t));
        REQUIRE(with.size() == without.size());
        for (std::size_t k = 0; k < with.size(); ++k) {
            double a[V::size], b[V::size];
            simd::store(a, with[k]);
            simd::store(b, without[k]);
            if (std::memcmp(a, b, sizeof a) != 0) return true;
        }
    }
    return false;
}
using registers = std::vector<V>;
V as_number(V::mask m) { return zero_unless(m, V(1.0)); }

template <class P>
void check(P const&, char const* name, bool depends) {
    INFO(name << " must say that reads_exp is " << depends);
    CHECK(depends == reads_exp<P>);
}

constexpr sequence_constants constants{{0.9, 1.1, -0.3, 1.0}};

}  // namespace

TEST_CASE("Divergences", "[policy]") {
    any_type(catalogue::divergences{}, [&]<class D>(std::type_identity<D>) {
        if constexpr (!std::is_same_v<D, given>)
            check(D{}, D::name, depends_on_exp([](tokens const& t) { return registers{D{}(t.current_over_rollout)}; }));
        return false;
    });
}
TEST_CASE("Weights", "[policy]") {
    any_type(catalogue::weights{}, [&]<class W>(std::type_identity<W>) {
        W w{};
        if constexpr (requires { w.bound; }) w.bound = clamp_to(0.5, 2);
        check(w, W::name, depends_on_exp([&](tokens const& t) {
                  auto const& l = t.proximal_over_rollout;
                  registers all{detail::weight_of(w, l, 1.3, 0.7), detail::token_part(w, l)};
                  if constexpr (detail::weight_sums<W> > 0) all.push_back(detail::measured_weight(w, t, l));
                  return all;
              }));
        return false;
    });
}
TEST_CASE("Surrogates, whose sums never depend on e^x", "[policy]") {
    any_type(catalogue::surrogates{}, [&]<class S>(std::type_identity<S>) {
        S s{};
        if constexpr (requires { s.beta; }) s.beta = 0.5;
        auto const terms = [&](tokens const& t) {
            auto const k = [&] {
                if constexpr (detail::sequence_sums_of<S> > 0) return s(t, t.current_over_proximal, constants);
                else return s(t, t.current_over_proximal);
            }();
            return registers{k.value, k.slope, as_number(k.clipped)};
        };
        check(s, S::name, depends_on_exp(terms));
        if constexpr (detail::sequence_sums_of<S> > 0) {
            INFO(S::name);
            CHECK_FALSE(depends_on_exp([&](tokens const& t) {
                registers sums(static_cast<std::size_t>(S::sums), V(0.0));
                s.measure(t, t.current_over_proximal, sums.data());
                return sums;
            }));
        }
        return false;
    });
}
TEST_CASE("Penalties", "[policy]") {
    any_type(catalogue::penalties<any_estimator>{}, [&]<class P>(std::type_identity<P>) {
        P p{};
        each_field<P>([&](char const*, auto where, bool = false) {
            auto& value = field_of(where, p);
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, double>) value = 0.5;
        });
        penalty_clamp<V> const clamp(clamp_range(2.0));
        bool const depends = depends_on_exp([&](tokens const& t) {
            auto const terms = detail::penalty_of(p, t, clamp, constants);
            registers all{terms.value, terms.slope};
            if constexpr (detail::sequence_sums_of<P> > 0) {
                registers sums(static_cast<std::size_t>(P::sums), V(0.0));
                p.measure(t, t[p.over], clamp, sums.data());
                all.insert(all.end(), sums.begin(), sums.end());
            }
            return all;
        });
        check(p, P::name, depends);
        return false;
    });
}
