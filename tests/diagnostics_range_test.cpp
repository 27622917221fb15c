// SPDX-License-Identifier: Apache-2.0
// Every diagnostic stays in the range of what it estimates, whatever the rounding: random batches, and batches that are made
// to round badly, whole, in parts that are merged, and as one sequence among ranks.
#include "catch.hpp"
#include "early_rejection.hpp"
#include "loss_batch.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>

using namespace trm;

namespace {

void check_ranges(diagnostics const& d) {
    auto const inside = [](char const* name, double v, double lower, double upper) {
        if (!(lower <= v && v <= upper)) {
            INFO(name << " = " << v << ", not in [" << lower << ", " << upper << "]");
            CHECK(false);
        }
    };
#define TRM_INSIDE(expression, lower, upper) inside(#expression, d.expression, lower, upper)
    double const big = 1e300, n = d.finite_tokens(), tiny = n > 0 ? 1 / n : 0,
                 least = d.measured_sequences > 0 ? 1e-300 : 0;
    TRM_INSIDE(kept_fraction(), 0, 1);
    TRM_INSIDE(kept_sequence_fraction(), 0, 1);
    TRM_INSIDE(clip_fraction(), 0, 1);
    TRM_INSIDE(clip_fraction_positive(), 0, 1);
    TRM_INSIDE(clip_fraction_negative(), 0, 1);
    for (int i = 0; i < max_criteria; ++i) {
        TRM_INSIDE(rejected_token_fraction(i), 0, 1);
        TRM_INSIDE(rejected_sequence_fraction(i), 0, 1);
    }
    TRM_INSIDE(sum_k3, 0, big);
    TRM_INSIDE(kept_k3, 0, big);
    TRM_INSIDE(sum_r_squared, 0, big);
    TRM_INSIDE(kl_k3(), 0, big);
    TRM_INSIDE(kl_k3_kept(), 0, big);
    TRM_INSIDE(kl_k3_masked(), 0, big);
    TRM_INSIDE(max_k2(), 0, big);
    TRM_INSIDE(max_k3(), 0, big);
    TRM_INSIDE(kl_k1(), -big, big);
    TRM_INSIDE(kl_k1_masked(), -big, big);
    TRM_INSIDE(chi2_token(), 0, big);
    TRM_INSIDE(chi2_sequence(), 0, big);
    TRM_INSIDE(mean_ratio(), d.min_ratio() * (1 - 1e-15), d.max_ratio() * (1 + 1e-15));
    TRM_INSIDE(ess(), tiny, n > 0 ? 1 : 0);
    TRM_INSIDE(ess_sequence(), least, 1);
    TRM_INSIDE(ess_weight(), d.sum_weight > 0 ? 1e-300 : 0, 1);
    TRM_INSIDE(sum_weight_squared, 0, big);
    TRM_INSIDE(ppl(), 0, big);
    TRM_INSIDE(rollout_ppl(), 0, big);
    TRM_INSIDE(log_ppl_abs_diff(), 0, big);
#undef TRM_INSIDE
}

/// How x = log current - log rollout of token i is chosen.
template <class F>
void fill(auto& b, std::uint64_t seed, F&& x) {
    using T = typename std::remove_cvref_t<decltype(b.logp)>::value_type;
    batches::random r(seed);
    for (std::size_t i = 0; i < b.tokens(); ++i) {
        if (b.mask[i] == 0) continue;
        double const rollout = -0.5 - 3 * r.uniform();
        b.rollout[i] = T(rollout);
        b.logp[i] = T(double(b.rollout[i]) + x(i, r));
    }
}

spec_loss loss_of(char const* text, double clamp) {
    loss_spec spec = parse_spec(text).spec;
    spec.log_ratio_clamp = clamp;
    return spec_loss(spec);
}

/// The batch whole, in three parts merged, and cut into runs.
template <class T>
void check_batch(batches::ragged<T> const& b, spec_loss const& loss) {
    auto const run = [&](batches::ragged<T> const& part) {
        auto view = part.view();
        view.proximal_logp = {};
        auto const r = loss(view);
        REQUIRE(r.status.ok());
        check_ranges(r.diagnostics);
        return r.diagnostics;
    };
    diagnostics const whole = run(b);
    diagnostics merged;
    for (std::int64_t part = 0; part < 3; ++part) {
        std::vector<std::int64_t> ids;
        for (std::int64_t s = 0; s < b.sequences; ++s)
            if (s % 3 == part) ids.push_back(s);
        merged.merge(run(batches::packed(b, ids)));
        check_ranges(merged);
    }
    CHECK(merged.tokens == whole.tokens);
    CHECK(merged.kept_tokens == whole.kept_tokens);
    batches::random r(3);
    run(batches::segmented(b, batches::cut(b.cu, 3, r)));
}

char const* const losses[] = {
    "mask: k2 <= 0.1",
    "mask: k3 <= 1e-13 && seq_mean_k3 <= 0.3; surrogate: ppo_clip; weight: token",
    "mask: seq_max_k2 <= 1e-9; weight: normalised_token(truncate_above=2)",
    "surrogate: cispo; weight: product",
    "mask: passing(seq_mean_k1 in [-0.2, 0.2]) && ratio in [0.5, 2]; weight: geometric(clamp=[0.5, 2])",
    "mask: prefix(k2 <= 1.5); weight: geometric",
};

template <class T>
void check_everything() {
    using random = batches::random;
    auto b = batches::make<T>({{0, 1, 16, 17, 2, 33, 1, 300, 5, 2100}, true, 0.3, 0.0}, 1);
    for (auto& w : b.token_weights) w = is_finite(w) ? T(1) : w;
    double const u = sizeof(T) == 4 ? 0x1p-22 : 0x1p-51;
    std::pair<char const*, double (*)(std::size_t, random&, double)> const kinds[] = {
        {"ordinary", [](std::size_t, random& r, double) { return 0.3 * r.normal(); }},
        {"equal", [](std::size_t, random&, double) { return 0.0; }},
        {"a rounding apart", [](std::size_t i, random&, double e) { return i % 2 == 0 ? e : -e; }},
        {"a rounding below", [](std::size_t, random&, double e) { return -e; }},
        {"all the same", [](std::size_t, random&, double) { return -0.1; }},
        {"tiny ratios", [](std::size_t, random&, double) { return -19.0; }},
        {"large ratios", [](std::size_t, random&, double) { return 17.0; }},
        {"below the clamp", [](std::size_t, random& r, double) { return -200 * r.uniform(); }},
        {"above the clamp", [](std::size_t, random& r, double) { return 200 * r.uniform(); }},
        {"far apart", [](std::size_t, random& r, double) { return 100 * r.normal(); }},
        {"one far token", [](std::size_t i, random&, double e) { return i == 5 ? 90.0 : e; }},
        {"all tiny but one", [](std::size_t i, random&, double) { return i == 5 ? 0.0 : -60.0; }},
        {"half of them tiny", [](std::size_t i, random& r, double) { return i % 2 == 0 ? -14 - r.uniform() : -1e-4; }},
    };
    for (auto const& [name, x] : kinds) {
        auto const draw = x;
        fill(b, 7, [&](std::size_t i, random& r) { return draw(i, r, u); });
        for (char const* text : losses)
            for (double clamp : {0.5, 20.0, 80.0}) {
                INFO(name << ", clamp " << clamp << ", " << text);
                check_batch(b, loss_of(text, clamp));
            }
    }
}

}  // namespace

TEST_CASE("diagnostics stay in their ranges", "[loss][property]") {
    SECTION("f32") { check_everything<float>(); }
    SECTION("f64") { check_everything<double>(); }
}

TEST_CASE("no tokens, nothing finite, nothing kept", "[loss][unit]") {
    check_ranges({});
    diagnostics d;
    d.tokens = d.nonfinite_tokens = 4;
    d.sequences = 1;
    check_ranges(d);
    CHECK(d.ess() == 0);
    CHECK(d.mean_ratio() == 0);
}

TEST_CASE("the effective sample size of equal ratios is 1, however small they are", "[loss][unit]") {
    auto b = batches::make<float>({{300, 40}, false, 0.3, 0.0}, 2);
    for (double x : {-19.0, -0.3, 0.0, 16.0, -55.0, 70.0}) {
        fill(b, 9, [&](std::size_t, batches::random&) { return x; });
        for (std::size_t i = 0; i < b.tokens(); ++i) b.logp[i] = float(double(b.rollout[i] = -1.0f) + x);
        auto view = b.view();
        view.proximal_logp = {};
        auto const d = loss_of("mask: k2 <= 1e9", 80)(view).diagnostics;
        INFO("x = " << x);
        CHECK(d.ess() == Approx(1).epsilon(1e-4));
        CHECK(d.mean_ratio() == Approx(std::exp(x)).epsilon(1e-4));
    }
}

TEST_CASE("one token that dominates: the effective sample size is one token", "[loss][unit]") {
    auto b = batches::make<float>({{400}, false, 0.3, 0.0}, 2);
    for (std::size_t i = 0; i < b.tokens(); ++i) {  // no log-probability above 0, which would be an exception
        b.rollout[i] = i == 77 ? -72.0f : -2.0f;
        b.logp[i] = -2;
    }
    auto view = b.view();
    view.proximal_logp = {};
    view.token_weights = {};
    // In the fused loop of frequent policies, and through tiles.
    std::string const text = GENERATE("surrogate: policy_gradient; weight: token",
                                      "surrogate: policy_gradient; weight: token; mask: jensen_shannon <= 1000");
    auto const d = loss_of(text.c_str(), 80)(view).diagnostics;
    CHECK(d.ess() == Approx(1.0 / 400).epsilon(1e-6));
    CHECK(d.ess_weight() == Approx(1.0 / 400).epsilon(1e-6));
    CHECK(d.chi2_token() == Approx(std::exp(140.0) / 400).epsilon(1e-4));
}

TEST_CASE("chosen at run time: a long sequence that its first tokens reject leaves nothing, whatever is asked for",
          "[loss][unit]") {
    early_rejection const b(
        GENERATE(std::size_t{0}, std::size_t{2500}, early_rejection::length - 1, early_rejection::length));
    for (bool const diagnose : {true, false}) {
        any_loss loss{parse_spec("mask: seq_max_k2 <= 0.6 && seq_min_k1 >= -2; surrogate: importance_ratio").spec};
        loss.diagnose = diagnose;
        std::vector<float> grad(b.tokens, 7.0f);
        result const r = loss(b.view(), grad);
        b.check(r, grad, diagnose);
    }
}
