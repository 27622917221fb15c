// SPDX-License-Identifier: Apache-2.0
// Every surrogate and penalty against its published formula: the loss as a plain function of the log-probabilities, with
// stopped gradients as a second argument, differentiated numerically. Nothing is shared with kernels or oracle.
#include "catch.hpp"
#include "loss_batch.hpp"
#include "spec_loss.hpp"

#include <array>
#include <set>
#include <span>

using namespace trm;

namespace {

constexpr int n = 6;
using vector = std::array<double, n>;

/// One sequence; some ratios clipped, A of either sign, one A = 0.
struct example {
    vector rollout{-1.2, -0.4, -2.0, -0.7, -3.1, -0.9}, ref{-1.1, -0.6, -1.7, -1.4, -2.2, -0.8};
    vector A{0.7, -1.1, 0.4, -0.3, 0.0, 1.3};
    vector logp{-0.8, -0.75, -1.9, -0.2, -3.4, -0.95};
    std::array<std::uint8_t, n> marks{1, 0, 0, 1, 1, 0};
};
example const e;

double x(vector const& l, std::size_t t) { return l[t] - e.rollout[t]; }
double r(vector const& l, std::size_t t) { return std::exp(x(l, t)); }
double mean(auto&& f) {
    double s = 0;
    for (std::size_t t = 0; t < n; ++t) s += f(t);
    return s / n;
}
double clip(double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; }

/// mean_t f(l, sg, t) is the loss; f(l, l, .) its value, and the derivative in the first argument its gradient.
template <class F>
void check(spec_loss const& loss, F&& f, std::span<double const> weights = {}) {
    std::array<std::int32_t, 2> const cu{0, n};
    batch_view<double> view{
        .logp = e.logp, .rollout_logp = e.rollout, .ref_logp = e.ref, .advantages = e.A, .layout = packed{cu}};
    view.token_weights = weights;
    vector grad;
    outputs<double> out;
    out.grad = grad;
    auto const got = loss(view, {.marks = e.marks}, out);
    REQUIRE(got.status.ok());
    auto const value = [&](vector const& l) { return mean([&](std::size_t t) { return f(l, e.logp, t); }); };
    CHECK(got.loss == Approx(value(e.logp)).epsilon(1e-13));
    double size = 0;
    for (std::size_t k = 0; k < n; ++k) {
        auto const at = [&](double h) {
            vector l = e.logp;
            l[k] += h;
            return value(l);
        };
        constexpr double h = 1e-3;  // fourth order: error below 1e-11
        double const want = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        INFO("token " << k);
        CHECK(grad[k] == Approx(want).margin(2e-10));
        size += std::fabs(want);
    }
    CHECK(size > 0.01);
}
/// Which surrogates, and with them penalties, have been checked.
std::set<std::size_t> seen_surrogates, seen_penalties;
spec_loss plain(any_surrogate s) {
    seen_surrogates.insert(s.policy.index());
    loss_spec spec;
    spec.surrogate = s;
    return spec_loss(spec);
}
/// The penalty alone: the surrogate's weight is 0.
spec_loss penalty_only(any_penalty p) {
    seen_penalties.insert(p.index());
    loss_spec spec;
    spec.weight = token_weight{zero_outside(1e9, 1e10)};
    spec.penalties.push_back(p);
    return spec_loss(spec);
}
template <class G = kl_gradient::pathwise>
spec_loss kl(any_estimator which, double beta, G g = {}, double input = 20, double output = INFINITY) {
    return penalty_only(reference_kl<any_estimator, G>{which, beta, g, sees::all_tokens, input, output});
}
double ppo(double s, double A, double lo, double hi, double dual) {
    double const l = std::fmax(-A * s, -A * clip(s, 1 - lo, 1 + hi));
    return A < 0 && dual > 0 ? std::fmin(l, -dual * A) : l;
}

void surrogates_of_one_token() {
    check(plain(importance_ratio{}), [](vector const& l, vector const&, std::size_t t) { return -e.A[t] * r(l, t); });
    check(plain(ppo_clip{0.2, 0.3, 1.5}),
          [](vector const& l, vector const&, std::size_t t) { return ppo(r(l, t), e.A[t], 0.2, 0.3, 1.5); });
    check(plain(policy_gradient{}), [](vector const& l, vector const&, std::size_t t) { return -e.A[t] * l[t]; });
    check(plain(cispo{0.8, 1.3}),
          [](vector const& l, vector const& sg, std::size_t t) { return -clip(r(sg, t), 0.8, 1.3) * e.A[t] * l[t]; });
    check(plain(dppo_score(1.2)),
          [](vector const& l, vector const& sg, std::size_t t) { return -std::fmin(r(sg, t), 1.2) * e.A[t] * l[t]; });
    check(plain(reference_gap{}),
          [](vector const& l, vector const& sg, std::size_t t) { return -(e.ref[t] - sg[t]) * r(l, t); });
    check(plain(sapo{1.5, 2.5}), [](vector const& l, vector const&, std::size_t t) {
        double const tau = e.A[t] > 0 ? 1.5 : 2.5;
        return -e.A[t] * (4 / tau) / (1 + std::exp(-tau * (r(l, t) - 1)));
    });
    check(plain(dro{0.7}),
          [](vector const& l, vector const&, std::size_t t) { return -(e.A[t] * l[t] - 0.35 * x(l, t) * x(l, t)); });
    check(plain(kl_cov{0.6}), [](vector const& l, vector const&, std::size_t t) {
        return -e.A[t] * r(l, t) + (e.marks[t] != 0 ? 0.6 * std::fabs(x(l, t)) : 0.0);
    });
    check(plain(spo{0.3}), [](vector const& l, vector const&, std::size_t t) {
        return -e.A[t] * r(l, t) + std::fabs(e.A[t]) * std::pow(r(l, t) - 1, 2) / 0.6;
    });
    check(plain(drpo{0.1}), [](vector const& l, vector const&, std::size_t t) {
        double const p = std::exp(l[t]), mu = std::exp(e.rollout[t]);
        return -e.A[t] * r(l, t) + std::fabs(e.A[t]) * (p - mu) * (p - mu) / (0.2 * mu);
    });
    check(plain(up_grpo{0.2, 1.5}), [](vector const& l, vector const& sg, std::size_t t) {
        return e.A[t] > 0 ? -e.A[t] * std::exp(l[t] - sg[t]) : ppo(r(l, t), e.A[t], 0.2, 0.2, 1.5);
    });
    check(plain(delight{0.8}), [](vector const& l, vector const& sg, std::size_t t) {
        return -e.A[t] * l[t] / (1 + std::exp(e.A[t] * sg[t] / 0.8));
    });
    check(plain(topr_token{0.5, 1.1, 0.2, 0.8}), [](vector const& l, vector const& sg, std::size_t t) {
        return -(e.A[t] < 0 ? clip(r(sg, t), 0.2, 0.8) : clip(r(sg, t), 0.5, 1.1)) * e.A[t] * l[t];
    });
}

void surrogates_of_whole_sequences() {
    auto const s = [](vector const& l) { return std::exp(mean([&](std::size_t t) { return x(l, t); })); };
    double const now = s(e.logp);
    INFO("sequence ratio " << now);
    for (auto const& eps : {std::pair{0.5, 0.5}, std::pair{0.5, now - 1 - 0.01}, std::pair{0.5, 0.0}}) {
        auto const low = eps.first, high = eps.second;  // clang 14 captures no structured bindings
        check(plain(gspo{low, high}),
              [&](vector const& l, vector const&, std::size_t t) { return ppo(s(l), e.A[t], low, high, 0); });
        check(plain(gspo_token{low, high}), [&](vector const& l, vector const& sg, std::size_t t) {
            return ppo(s(sg) * std::exp(l[t] - sg[t]), e.A[t], low, high, 0);
        });
    }
    check(plain(gspo{0.5, 0.5, 1.01}),
          [&](vector const& l, vector const&, std::size_t t) { return ppo(s(l), e.A[t], 0.5, 0.5, 1.01); });
    check(plain(sapo_sequence{1.5, 2.5}), [&](vector const& l, vector const&, std::size_t t) {
        double const tau = e.A[t] > 0 ? 1.5 : 2.5;
        return -e.A[t] * (4 / tau) / (1 + std::exp(-tau * (s(l) - 1)));
    });
    for (double const upper : {5.0, now - 0.05})
        check(plain(cispo_sequence{0, upper}), [&](vector const& l, vector const& sg, std::size_t t) {
            return -std::fmin(s(sg), upper) * e.A[t] * l[t];
        });
    for (double const delta : {0.96, 1.04, 1.15, 1.4, 3.0}) {  // TRL: min(r, delta) in the unclipped term
        auto const two_sided = [=](double ratio, double A) {
            return -std::fmin(std::fmin(ratio, delta) * A, clip(ratio, 0.8, 1.2) * A);
        };
        check(plain(clip_with_delta(0.2, 0.2, delta)),
              [&](vector const& l, vector const&, std::size_t t) { return two_sided(r(l, t), e.A[t]); });
        check(plain(clip_with_delta<gspo>(0.2, 0.2, delta)),
              [&](vector const& l, vector const&, std::size_t t) { return two_sided(s(l), e.A[t]); });
    }
    check(plain(gmpo{0.1, 0.25}), [](vector const& l, vector const&, std::size_t) {
        auto const z = [&](std::size_t t) {
            double const sign = (e.A[t] > 0) - (e.A[t] < 0);
            return sign * std::fmin(sign * x(l, t), sign * clip(x(l, t), -0.1, 0.25));
        };
        return -mean([](std::size_t t) { return e.A[t]; }) * std::exp(mean(z));
    });
    check(plain(vespo{}), [](vector const& l, vector const& sg, std::size_t t) {
        double const log_w = n * mean([&](std::size_t u) { return x(sg, u); });
        double const k = e.A[t] >= 0 ? 2 : 3, lambda = e.A[t] >= 0 ? 3 : 2;
        return -std::exp(lambda + k * log_w - lambda * std::exp(log_w)) * e.A[t] * l[t];
    });
    check(plain(topr{}), [](vector const& l, vector const& sg, std::size_t t) {
        double const w = std::exp(n * mean([&](std::size_t u) { return x(sg, u); }));
        return -(e.A[t] < 0 ? clip(w, 0, 1) : 1.0) * e.A[t] * l[t];
    });
    check(plain(topr{0.2, 5, 0.1, 4}), [](vector const& l, vector const& sg, std::size_t t) {
        double const w = std::exp(n * mean([&](std::size_t u) { return x(sg, u); }));
        return -(e.A[t] < 0 ? clip(w, 0.1, 4) : clip(w, 0.2, 5)) * e.A[t] * l[t];
    });
    for (double const upper : {0.9, 5.0})
        check(plain(topr_geometric{0.2, upper, 0.1, 0.95}), [&](vector const& l, vector const& sg, std::size_t t) {
            return -(e.A[t] < 0 ? clip(s(sg), 0.1, 0.95) : clip(s(sg), 0.2, upper)) * e.A[t] * l[t];
        });
}

void weights_in_shared_gradients() {
    vector const w{0.3, 2.0, 0.0, 1.4, 0.8, -0.5};
    auto const tis = [](vector const& sg, std::size_t t) { return std::fmin(r(sg, t), 1.2); };
    auto const s = [](vector const& l) { return std::exp(mean([&](std::size_t t) { return x(l, t); })); };
    auto const z = [](vector const& l, std::size_t t) {
        double const sign = (e.A[t] > 0) - (e.A[t] < 0);
        return sign * std::fmin(sign * x(l, t), sign * clip(x(l, t), -0.1, 0.25));
    };
    auto const geometric = [&](vector const& l) { return std::exp(mean([&](std::size_t t) { return z(l, t); })); };
    double const now = s(e.logp);
    INFO("sequence ratio " << now);
    for (double const high : {0.5, 0.0}) {  // both signs of A in the gradient, only A < 0
        auto const term = [&](vector const& l, std::size_t t) { return ppo(s(l), e.A[t], 0.5, high, 0); };
        auto loss = plain(gspo{0.5, high});
        check(loss, [&](vector const& l, vector const&, std::size_t t) { return w[t] * term(l, t); }, w);
        loss.spec.weight = token_weight{truncate_above(1.2)};
        check(loss, [&](vector const& l, vector const& sg, std::size_t t) { return tis(sg, t) * term(l, t); });
        check(
            loss, [&](vector const& l, vector const& sg, std::size_t t) { return w[t] * tis(sg, t) * term(l, t); }, w);
        loss.spec.weight = normalised{token_weight{truncate_above(1.2)}};
        auto const average = [&](vector const& sg) { return mean([&](std::size_t t) { return tis(sg, t); }); };
        check(
            loss,
            [&](vector const& l, vector const& sg, std::size_t t) {
                return w[t] * tis(sg, t) / average(sg) * term(l, t);
            },
            w);
        loss.spec.weight = sequence_weight{stat::mean, truncate_above(1.02)};
        check(
            loss,
            [&](vector const& l, vector const& sg, std::size_t t) {
                return w[t] * std::fmin(s(sg), 1.02) * term(l, t);
            },
            w);
    }
    auto loss = plain(gmpo{0.1, 0.25});
    check(loss, [&](vector const& l, vector const&, std::size_t t) { return -w[t] * e.A[t] * geometric(l); }, w);
    loss.spec.weight = token_weight{truncate_above(1.2)};
    check(
        loss,
        [&](vector const& l, vector const& sg, std::size_t t) { return -w[t] * tis(sg, t) * e.A[t] * geometric(l); },
        w);
    auto const soft = [&](vector const& l, std::size_t t) {
        double const tau = e.A[t] > 0 ? 1.5 : 2.5;
        return -e.A[t] * (4 / tau) / (1 + std::exp(-tau * (s(l) - 1)));
    };
    loss = plain(sapo_sequence{1.5, 2.5});
    loss.spec.weight = token_weight{truncate_above(1.2)};
    check(loss, [&](vector const& l, vector const& sg, std::size_t t) { return w[t] * tis(sg, t) * soft(l, t); }, w);
    // Tokens that a criterion rejects move the mean over all of them: those with x > 0.3, which are 0 and 3.
    loss = plain(gspo{0.5, 0.5, 0.0, sees::all_tokens});
    loss.spec.mask.push_back(token_mask<any_divergence>{k1{}, at_least(-0.3)});
    auto const kept = [](std::size_t t) { return x(e.logp, t) > 0.3 ? 0.0 : 1.0; };
    check(
        loss,
        [&](vector const& l, vector const&, std::size_t t) { return kept(t) * w[t] * ppo(s(l), e.A[t], 0.5, 0.5, 0); },
        w);
    // The weight is inside phi.
    loss = plain(vespo_folded{});
    loss.spec.weight = token_weight{truncate_above(1.2)};
    vector const positive{0.3, 2.0, 1.0, 1.4, 0.8, 0.5};
    check(
        loss,
        [&](vector const& l, vector const& sg, std::size_t t) {
            double const log_w = n * mean([&](std::size_t u) { return x(sg, u) + std::log(positive[u] * tis(sg, u)); });
            double const k = e.A[t] >= 0 ? 2 : 3, lambda = e.A[t] >= 0 ? 3 : 2;
            return -std::exp(lambda + k * log_w - lambda * std::exp(log_w)) * e.A[t] * l[t];
        },
        positive);
    // Each token has its own gradient: its weight multiplies it.
    check(
        plain(gspo_token{0.5, 0.5}),
        [&](vector const& l, vector const& sg, std::size_t t) {
            return w[t] * ppo(s(sg) * std::exp(l[t] - sg[t]), e.A[t], 0.5, 0.5, 0);
        },
        w);
    check(
        plain(topr{0.2, 5, 0.1, 4}),
        [&](vector const& l, vector const& sg, std::size_t t) {
            double const v = std::exp(n * mean([&](std::size_t u) { return x(sg, u); }));
            return -w[t] * (e.A[t] < 0 ? clip(v, 0.1, 4) : clip(v, 0.2, 5)) * e.A[t] * l[t];
        },
        w);
}

}  // namespace

TEST_CASE("surrogates of one token", "[loss][property]") { surrogates_of_one_token(); }
TEST_CASE("surrogates of whole sequences", "[loss][property]") { surrogates_of_whole_sequences(); }
TEST_CASE("weights that differ inside a sequence are in the gradient of a shared ratio", "[loss][property]") {
    weights_in_shared_gradients();
}

TEST_CASE("the formulas above are those of all surrogates there are", "[unit]") {
    seen_surrogates.clear();
    surrogates_of_one_token();
    surrogates_of_whole_sequences();
    weights_in_shared_gradients();
    any_type(catalogue::surrogates{}, [&]<class S>(std::type_identity<S>) {
        INFO(S::name);
        CHECK(seen_surrogates.count(any_surrogate{S{}}.policy.index()) == 1);
        return false;
    });
}

TEST_CASE("a shared gradient and bounds after a division by the mean have no common measure", "[loss][unit]") {
    std::array<std::int32_t, 2> const cu{0, n};
    batch_view<double> const view{.logp = e.logp, .rollout_logp = e.rollout, .advantages = e.A, .layout = packed{cu}};
    for (any_surrogate const& s : {any_surrogate{gspo{}}, any_surrogate{gmpo{}}}) {
        auto loss = plain(s);
        loss.spec.weight = normalised{token_weight{truncate_above(2)}, normalise::before_bound};
        CHECK(loss(view).status.code == errc::unsupported);
        loss.spec.weight = normalised{sequence_weight{stat::sum, truncate_above(2)}, normalise::before_bound};
        CHECK(loss(view).status.ok());
        loss.spec.weight = normalised{token_weight{truncate_above(2)}};
        CHECK(loss(view).status.ok());
    }
}

TEST_CASE("luspo is gspo with seq_mean_token_sum: each sequence's mean times its length", "[loss][property]") {
    vector grad;
    std::array<std::int32_t, 2> const cu{0, n};
    batch_view<double> const view{.logp = e.logp, .rollout_logp = e.rollout, .advantages = e.A, .layout = packed{cu}};
    auto loss = plain(gspo{});
    loss.spec.aggregate = seq_mean_token_mean{};
    double const mean_form = loss(view, grad).loss;
    loss.spec.aggregate = seq_mean_token_sum{};
    CHECK(loss(view, grad).loss == Approx(n * mean_form).epsilon(1e-14));
}

TEST_CASE("KL to the reference", "[loss][property]") {
    seen_penalties.clear();
    using namespace kl_gradient;
    auto const y = [](vector const& l, std::size_t t) { return e.ref[t] - l[t]; };
    auto const k3_of = [](double v) { return std::exp(v) - 1 - v; };
    check(kl(k1{}, 0.3), [&](vector const& l, vector const&, std::size_t t) { return -0.3 * y(l, t); });
    check(kl(abs_log_ratio{}, 0.3),
          [&](vector const& l, vector const&, std::size_t t) { return 0.3 * std::fabs(y(l, t)); });
    check(kl(k3{}, 0.3, pathwise{}, 0.5, 0.1), [&](vector const& l, vector const&, std::size_t t) {
        return 0.3 * clip(k3_of(clip(y(l, t), -0.5, 0.5)), -0.1, 0.1);
    });
    check(kl(k3{}, 0.3, straight_through{}, 0.5, 0.1), [&](vector const& l, vector const& sg, std::size_t t) {
        double const value = clip(k3_of(clip(y(sg, t), -0.5, 0.5)), -0.1, 0.1);
        return 0.3 * (value + (y(l, t) * y(l, t) - y(sg, t) * y(sg, t)) / 2);
    });
    check(kl(k3{}, 0.3, score_function{}, 20, 0.1), [&](vector const& l, vector const& sg, std::size_t t) {
        return 0.3 * clip(std::exp(l[t] - sg[t]) * k3_of(y(l, t)), -0.1, 0.1);
    });
    check(kl(k1{}, 0.3, score_function{}),
          [&](vector const& l, vector const& sg, std::size_t t) { return -0.3 * std::exp(l[t] - sg[t]) * y(l, t); });
    auto const s = [](vector const& l) { return std::exp(mean([&](std::size_t t) { return x(l, t); })); };
    check(kl(k3{}, 0.3, importance_of_sequence{}),
          [&](vector const& l, vector const&, std::size_t t) { return 0.3 * s(l) * k3_of(y(l, t)); });
    check(kl(k2{}, 0.3, importance_of_sequence{}, 20, 0.15), [&](vector const& l, vector const&, std::size_t t) {
        return 0.3 * s(l) * clip(y(l, t) * y(l, t) / 2, -0.15, 0.15);
    });
    check(kl(k3{}, 0.3, importance<>{}, 20, 0.15), [&](vector const& l, vector const&, std::size_t t) {
        return 0.3 * clip(r(l, t) * k3_of(y(l, t)), -0.15, 0.15);
    });
    check(kl(k2{}, 0.3, importance<ratio_kind::current_over_rollout>{}),
          [&](vector const& l, vector const&, std::size_t t) { return 0.3 * r(l, t) * y(l, t) * y(l, t) / 2; });
    check(penalty_only(kl_penalty<any_estimator>{k3{}, 0.3}),
          [&](vector const& l, vector const&, std::size_t t) { return 0.3 * k3_of(y(l, t)); });
    check(penalty_only(squared_log_ratio{0.3}),
          [&](vector const& l, vector const&, std::size_t t) { return 0.3 * x(l, t) * x(l, t); });
    CHECK(seen_penalties.size() == std::variant_size_v<any_penalty>);  // all there are
}

TEST_CASE("the three unbiased gradients agree on policy: log p - log f", "[loss][property]") {
    std::array<std::int32_t, 2> const cu{0, n};
    batch_view<double> const view{
        .logp = e.rollout, .rollout_logp = e.rollout, .ref_logp = e.ref, .advantages = e.A, .layout = packed{cu}};
    auto const gradient = [&](auto g) {
        vector grad;
        REQUIRE(kl(k3{}, 1.0, g)(view, grad).status.ok());
        return grad;
    };
    auto const a = gradient(kl_gradient::straight_through{}), b = gradient(kl_gradient::score_function{}),
               c = gradient(kl_gradient::importance<>{}), biased = gradient(kl_gradient::pathwise{});
    for (std::size_t t = 0; t < n; ++t) {
        double const want = (e.rollout[t] - e.ref[t]) / n;
        CHECK(a[t] == Approx(want).epsilon(1e-13));
        CHECK(b[t] == Approx(want).epsilon(1e-13));
        CHECK(c[t] == Approx(want).epsilon(1e-13));
        CHECK(std::fabs(biased[t] - want) > 1e-4);
    }
}
