// SPDX-License-Identifier: Apache-2.0
// One loop over the lists of policy/catalogue.hpp: each policy, with random parameters, as text and back, against the oracle, against
// differences of the loss, padded and packed, permuted. A policy that is added to a list is in the loop.
#include "catch.hpp"
#include "random_spec.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/to_spec.hpp>
#include <trm/reference/loss.hpp>
#include <trm/reference/token_weights.hpp>

#include <string_view>

using namespace trm;

namespace {

/// What the oracle takes; kernels of it are never compiled.
template <class Mask, class Surrogate, class Weight, class Penalties>
struct parts {
    Mask mask;
    Surrogate surrogate;
    aggregation aggregate;
    Weight weight;
    Penalties penalties;
    loss_options options{};
};
template <class Mask, class S, class W = no_weight, class P = std::tuple<>>
parts<Mask, S, W, P> make(Mask m, S s, W w = {}, P p = {}) {
    return {m, s, token_mean{}, w, p};
}

/// Numbers of the size that thresholds and coefficients have.
void fill(auto& value, batches::random& r) {
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<T, double>) {
        double const u = r.uniform();
        double const sizes[] = {u, 1 + u, 0.1 * u, 0.0, 0.02 * u, 3 * u};
        value = sizes[r.below(6)];
    } else if constexpr (std::is_same_v<T, band>) {
        double edge = 0;
        fill(edge, r);
        value = r.below(2) == 0 ? at_most(edge) : within(-edge, 0.5 * edge);
    } else if constexpr (std::is_same_v<T, weight_bound>) {
        double const low = 0.7 + 0.3 * r.uniform(), high = 1 + 0.3 * r.uniform();
        weight_bound const bounds[] = {unbounded, truncate_above(high), clamp_to(low, high), zero_outside(low, high)};
        value = bounds[r.below(4)];
    } else if constexpr (detail::has_words<T>) {
        specs::fill(value, r);
    } else if constexpr (std::is_integral_v<T>) {
        value = static_cast<T>(1 + r.below(20));
    }
}
template <class P>
P any_policy(batches::random& r) {
    for (;;) {
        P p{};
        each_field<P>([&](char const*, auto where, bool = false) { fill(field_of(where, p), r); });
        if constexpr (requires { p.keep = band{}; }) fill(p.keep, r);
        if constexpr (requires { p.positive = band{}; }) fill(p.positive, r);
        if (p.validate().ok()) return p;
    }
}

struct evaluated {
    double loss = 0;
    std::vector<double> grad;
    std::vector<std::uint8_t> keep;
};
evaluated run(spec_loss const& loss, batch_view<double> const& view) {
    evaluated e;
    e.grad.assign(static_cast<std::size_t>(view.layout.extent()), 7.0);
    e.keep.assign(e.grad.size(), 7);
    outputs<double> out;
    out.grad = e.grad;
    out.keep = e.keep;
    result const r = loss(view, out);
    INFO(r.status.what);
    REQUIRE(r.status.ok());
    e.loss = r.loss;
    return e;
}
batches::ragged<double> sample(std::uint64_t seed) {
    return batches::make<double>({{5, 0, 13, 1, 9, 7, 16, 2, 11, 4, 3, 8}, true, 0.3, 0.0}, seed);
}

void survives_text(loss_spec const& spec) {
    std::string const text = print_spec(spec);
    INFO(text);
    spec_result const back = parse_spec(text);
    INFO(back.message);
    REQUIRE(back.ok());
    CHECK(specs::same(back.spec, spec));
    CHECK(print_spec(back.spec) == text);
}
void is_invariant(loss_spec const& spec, batches::ragged<double> const& b, evaluated const& want, bool in_any_order) {
    spec_loss const loss(spec);
    auto const rows = batches::padded(b, 3);
    evaluated const padded = run(loss, rows.view());
    CHECK(padded.loss == want.loss);
    for (std::size_t i = 0; i < rows.tokens(); ++i)
        if (rows.origin[i] >= 0) CHECK(padded.grad[i] == want.grad[static_cast<std::size_t>(rows.origin[i])]);
    std::vector<std::int64_t> order(static_cast<std::size_t>(b.sequences));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>((i * 5 + 3) % order.size());
    auto const permuted = batches::packed(b, order);
    evaluated const other = run(loss, permuted.view());
    if (!in_any_order) return;
    CHECK(other.loss == Approx(want.loss).epsilon(1e-11).margin(1e-14));
    for (std::size_t i = 0; i < permuted.tokens(); ++i)
        CHECK(other.grad[i] ==
              Approx(want.grad[static_cast<std::size_t>(permuted.origin[i])]).epsilon(1e-11).margin(1e-14));
}
/// The gradient is that of the loss, whose stopped parts do not depend on logp here. `size`: of the terms of the loss.
void has_its_gradient(loss_spec const& spec, batches::ragged<double> b, evaluated const& want, double size) {
    spec_loss const loss(spec);
    auto const view = b.view();
    for (std::size_t t = 0; t < b.tokens(); ++t) {
        if (b.mask[t] == 0) continue;
        double const h = 1e-6, at = b.logp[t];
        auto const value = [&](double shift) {
            b.logp[t] = at + shift;
            double const v = loss(view).loss;
            b.logp[t] = at;
            return v;
        };
        double const slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
        INFO("token " << t);
        CHECK(want.grad[t] == Approx(slope).margin(1e-8 * std::fmax(1, size)));
    }
}

template <class Loss>
reference::evaluation oracle(Loss const& loss, std::uint64_t seed) {
    auto const b = sample(seed);
    return reference::evaluate(loss, b.view());
}
/// All checks of one policy in a loss, for which the oracle has `want`. Returns the share of tokens kept.
double check(reference::evaluation const& want, loss_spec const& spec, std::uint64_t seed, bool differentiable,
             bool in_any_order) {
    survives_text(spec);
    auto const b = sample(seed);
    auto view = b.view();
    INFO(print_spec(spec));
    if (!(want.nearest_decision > 1e-3)) return -1;  // too close to a tie for differences
    evaluated const got = run(spec_loss(spec), view);
    CHECK(got.keep == want.keep);
    CHECK(std::fabs(got.loss - want.loss) <= 1e-11 * std::fmax(want.loss_size, 1e-3));
    for (std::size_t t = 0; t < got.grad.size(); ++t) {
        INFO("token " << t);
        CHECK(std::fabs(got.grad[t] - want.grad[t]) <= 1e-11 * std::fmax(want.grad_size[t], 1e-3));
    }
    is_invariant(spec, b, got, in_any_order);
    if (differentiable) has_its_gradient(spec, b, got, want.loss_size);
    double kept = 0, all = 0;
    for (std::size_t t = 0; t < b.tokens(); ++t) {
        all += b.mask[t] != 0;
        kept += got.keep[t];
    }
    return kept / all;
}

/// Draws parameters until the policy could be checked `wanted` times; `counts` says whether a draw was informative.
template <class Draw>
void often(char const* name, int wanted, Draw const& draw) {
    INFO(name);
    int good = 0;
    for (std::uint64_t seed = 1; seed <= 400 && good < wanted; ++seed) good += draw(seed);
    CHECK(good == wanted);
}

using frozen_k2 = over_ratio<ratio_kind::proximal_over_rollout, k2>;

}  // namespace

TEST_CASE("every divergence as a criterion", "[loss][parity][property]") {
    any_type(catalogue::divergences{}, [&]<class D>(std::type_identity<D>) {
        often(D::name, 2, [&](std::uint64_t seed) {
            batches::random r(seed);
            token_mask<D> m{D{}, {}};
            fill(m.keep, r);
            auto const loss = make(all_of<token_mask<D>>{{m}}, importance_ratio{});
            loss_spec spec;
            spec.mask.push_back(detail::as_any_criterion(m));
            double const kept = check(oracle(loss, seed), spec, seed, true, true);
            return kept > 0.02 && kept < 0.98;
        });
        return false;
    });
}

TEST_CASE("every criterion", "[loss][parity][property]") {
    any_type(catalogue::criteria<frozen_k2>{}, [&]<class M>(std::type_identity<M>) {
        std::string_view const name = [] {
            if constexpr (requires { M::name; }) return M::name;
            return "measured";
        }();
        often(name.data(), 2, [&](std::uint64_t seed) {
            batches::random r(seed);
            M const m = any_policy<M>(r);
            auto const loss = make(all_of<M>{{m}}, importance_ratio{});
            loss_spec spec;
            spec.mask.push_back(detail::as_any_criterion(m));
            // a random choice among tokens goes by their order
            double const kept = check(oracle(loss, seed), spec, seed, true, !std::is_same_v<M, clip_cov>);
            return kept > 0.02 && kept < 0.98;
        });
        return false;
    });
}

TEST_CASE("every weight", "[loss][parity][property]") {
    any_type(catalogue::weights{}, [&]<class W>(std::type_identity<W>) {
        often(W::name, 4, [&](std::uint64_t seed) {
            batches::random r(seed);
            auto const w = any_policy<W>(r);
            auto const loss = make(all_of<>{}, importance_ratio{}, w);
            loss_spec spec;
            spec.weight = w;  // over proximal and rollout: frozen
            return check(oracle(loss, seed), spec, seed, true, true) >= 0;
        });
        return false;
    });
}

TEST_CASE("every factor of weights", "[loss][parity][property]") {
    any_type(catalogue::weight_factors{}, [&]<class W>(std::type_identity<W>) {
        often(W::name, 4, [&](std::uint64_t seed) {
            batches::random r(seed);
            loss_spec spec;
            spec.weight_factors.emplace_back(any_policy<W>(r), ratio_kind::proximal_over_rollout);
            survives_text(spec);
            auto b = sample(seed);
            evaluated const got = run(spec_loss(spec), b.view());
            is_invariant(spec, b, got, true);
            has_its_gradient(spec, b, got, 1);
            auto const all = reference::gather(
                b.view(), need::advantage | need::ratio(ratio_kind::proximal_over_rollout), log_ratio_clamps{});
            auto const f =
                reference::factors(std::get<W>(spec.weight_factors[0].policy), all, ratio_kind::proximal_over_rollout);
            double moved = 0;
            for (std::size_t i = 0; i < all.size(); ++i)
                for (std::size_t k = 0; k < f[i].size(); ++k) {
                    double& w = b.token_weights[all[i].tokens[k].at];
                    moved += std::fabs(f[i][k] - 1);
                    w *= f[i][k];
                }
            evaluated const want = run(spec_loss(loss_spec{}), b.view());
            CHECK(got.loss == Approx(want.loss).epsilon(1e-11));
            for (std::size_t t = 0; t < b.tokens(); ++t) CHECK(got.grad[t] == Approx(want.grad[t]).epsilon(1e-11));
            return moved > 0.1;
        });
        return false;
    });
}

TEST_CASE("every surrogate", "[loss][parity][property]") {
    any_type(catalogue::surrogates{}, [&]<class S>(std::type_identity<S>) {
        // Those with stopped ratios or gates, whose two-argument form is in loss_stop_gradient_test.
        constexpr bool stops =
            index_in<S>(type_list<cispo, gspo_token, vespo, vespo_folded, topr, topr_token, topr_geometric, up_grpo,
                                  delight, cispo_sequence, reference_gap>{}) < 11;
        often(S::name, 3, [&](std::uint64_t seed) {
            batches::random r(seed);
            auto const s = any_policy<S>(r);
            frozen_k2 const d{};
            auto const m = token_mask<frozen_k2>{d, at_most(0.08)};
            auto const loss = make(all_of<token_mask<frozen_k2>>{{m}}, s, token_weight{clamp_to(0.8, 1.2)});
            loss_spec spec;
            spec.mask.push_back(detail::as_any_criterion(m));
            spec.weight = token_weight{clamp_to(0.8, 1.2)};
            spec.surrogate = s;
            return check(oracle(loss, seed), spec, seed, !stops, true) >= 0;
        });
        return false;
    });
}

namespace {

template <class P>
void check_penalty(bool differentiable) {
    often(P::name, 2, [&](std::uint64_t seed) {
        batches::random r(seed);
        P p = any_policy<P>(r);
        if constexpr (requires { p.output_clamp; }) {
            p.input_clamp = 20;  // decisions of clamps are not counted by the oracle
            p.output_clamp = 50;
        }
        auto const m = token_mask<frozen_k2>{frozen_k2{}, at_most(0.08)};
        auto const loss = make(all_of<token_mask<frozen_k2>>{{m}}, importance_ratio{}, no_weight{}, std::tuple<P>{p});
        loss_spec spec;
        spec.mask.push_back(detail::as_any_criterion(m));
        spec.penalties.push_back(detail::as_any_penalty(p));
        return check(oracle(loss, seed), spec, seed, differentiable, true) >= 0;
    });
}

}  // namespace

TEST_CASE("every penalty, every estimator", "[loss][parity][property]") {
    any_type(catalogue::penalties<k3>{}, [&]<class P>(std::type_identity<P>) {
        constexpr bool repaired =  // a gradient that is not the value's
            std::is_same_v<P, reference_kl<k3, kl_gradient::straight_through>> ||
            std::is_same_v<P, reference_kl<k3, kl_gradient::score_function>>;
        check_penalty<P>(!repaired);
        return false;
    });
    any_type(catalogue::estimators{}, [&]<class E>(std::type_identity<E>) {
        check_penalty<kl_penalty<E>>(true);
        return false;
    });
}
