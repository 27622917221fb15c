// SPDX-License-Identifier: Apache-2.0
// Nothing to learn from, and inputs that are not finite.
#include "early_rejection.hpp"
#include "loss_parity.hpp"

#include <algorithm>

using namespace trm;

namespace {

masked_loss const with_sequences{token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k2{}, stat::max, at_most(0.6)},
                                 ppo_clip{}, token_mean{}, token_weight{truncate_above(1.7)},
                                 kl_penalty{k3{}, 0.1, sees::kept_tokens}};
masked_loss const tokens_only{token_mask{k3{}, at_most(0.13)}, importance_ratio{}, token_mean{},
                              sequence_weight{stat::mean, truncate_above(1.1)}, kl_penalty{k2{}, 0.1}};

std::vector<aggregation> aggregations() {
    std::vector<aggregation> all{token_sum{}};
    for (denominator const d : {over_all, over_kept, over_count(0), over_count(9)})
        all.insert(all.end(), {token_mean{d}, seq_mean_token_sum{d}, seq_mean_token_mean{d},
                               seq_mean_token_sum_norm{10, d}, prompt_mean{d}});
    return all;
}

/// Loss, gradient and weights are exactly zero whatever the aggregation.
template <class Loss>
void check_nothing(Loss loss, batch_view<float> const& view, double tokens) {
    for (aggregation const& a : aggregations()) {
        INFO("aggregation " << int(a.which) << " denominator " << int(a.divide_by.which));
        loss.aggregate = a;
        auto const r = parity::run_of<float>(loss, view);
        CHECK(r.result.loss == 0);
        CHECK(r.result.diagnostics.tokens == tokens);
        CHECK(r.result.diagnostics.kept_tokens == 0);
        CHECK(r.result.diagnostics.ess_weight() == 0);
        CHECK(std::ranges::all_of(r.grad, [](float g) { return g == 0; }));
        CHECK(std::ranges::all_of(r.weights, [](float w) { return w == 0; }));
        CHECK(std::ranges::all_of(r.keep, [](int k) { return k == 0; }));
    }
}

}  // namespace

TEST_CASE("no sequences, empty sequences", "[loss][unit]") {
    std::vector<std::int64_t> const none, zero{0}, three{0, 0, 0, 0};
    std::vector<std::int32_t> const narrow{0, 0}, ids{1, 0, 1}, groups{0, 0, 1}, one_group{3};
    batch_view<float> v;
    auto const check = [&](layout_view layout, std::span<std::int32_t const> group_of) {
        v.layout = layout;
        v.group_of = group_of;
        check_nothing(with_sequences, v, 0);
        check_nothing(tokens_only, v, 0);
    };
    check(layout_view{}, {});
    check(packed{none}, {});
    check(packed{zero}, {});
    check(packed{three}, groups);
    check(packed{narrow}, one_group);
    check(padded{0, 100}, {});
    check(padded{3, 0}, groups);
    check(segments{none, {}, 0}, {});
    check(segments{none, {}, 3}, groups);
    check(segments{three, ids, 3}, groups);
}

TEST_CASE("all tokens masked out, all rejected", "[loss][unit]") {
    auto b = batches::make<float>({{3, 0, 1, 40, 17}, true, 0.3, 0.01}, 4);
    double const tokens = double(std::ranges::count_if(b.mask, [](int m) { return m != 0; }));
    SECTION("rejected by the token criterion") {
        auto loss = with_sequences;
        std::get<0>(loss.mask.criteria).keep = at_most(-1);
        check_nothing(loss, b.view(), tokens);
    }
    SECTION("rejected by the sequence criterion") {
        auto loss = with_sequences;
        std::get<1>(loss.mask.criteria).keep = at_most(-1);
        check_nothing(loss, b.view(), tokens);
    }
    SECTION("masked out, holding anything") {
        std::ranges::fill(b.mask, std::uint8_t{0});
        for (std::size_t i = 0; i < b.tokens(); ++i) b.logp[i] = float(batches::hostile(i));
        check_nothing(with_sequences, b.view(), 0);
        check_nothing(tokens_only, b.view(), 0);
    }
    SECTION("nothing finite") {
        std::ranges::fill(b.logp, float(batches::nan));
        check_nothing(with_sequences, b.view(), tokens);
        check_nothing(tokens_only, b.view(), tokens);
    }
}

TEST_CASE("one token by hand", "[loss][unit]") {
    std::vector<double> const logp{-1.0}, mu{-1.25}, advantage{2.0};
    std::vector<std::int32_t> const cu{0, 1};
    batch_view<double> const v{.logp = logp, .rollout_logp = mu, .advantages = advantage, .layout = packed{cu}};
    std::vector<double> grad{7.0};
    masked_loss const loss{no_mask{}, importance_ratio{}, token_mean{}};
    auto const r = loss(v, grad);
    REQUIRE(r.status.ok());
    CHECK(r.loss == Approx(-2 * std::exp(0.25)).epsilon(1e-15));
    CHECK(grad[0] == Approx(-2 * std::exp(0.25)).epsilon(1e-15));
    CHECK(r.diagnostics.kl_k1() == Approx(-0.25));
    CHECK(r.diagnostics.kl_k3() == Approx(std::exp(0.25) - 1.25));
    CHECK(r.diagnostics.mean_ratio() == Approx(std::exp(0.25)));
    CHECK(r.diagnostics.max_ratio() == Approx(std::exp(0.25)));
    CHECK(r.diagnostics.max_k2() == Approx(0.03125));
    CHECK(r.diagnostics.log_ppl() == Approx(1.0));
    CHECK(r.diagnostics.rollout_log_ppl() == Approx(1.25));
    CHECK(r.diagnostics.ess() == Approx(1.0));
    CHECK(r.diagnostics.kept_fraction() == 1);
}

namespace {

/// Something that is not finite at loss_mask tokens of a stream that the loss reads: as the oracle has it, and nothing
/// but zero comes of these tokens.
template <class Loss, class Stream>
void check_nonfinite(Loss const& loss, Stream member, std::uint64_t seed) {
    using T = float;
    auto b = batches::make<T>({batches::edge_lengths(), true, 0.3, 0.0}, seed);
    auto const clean = parity::run_of<T>(loss, b.view());
    std::vector<std::size_t> planted;
    T const values[] = {T(batches::nan), T(batches::inf), T(-batches::inf)};
    batches::random r(seed);
    for (int k = 0; k < 40; ++k) {
        auto const at = static_cast<std::size_t>(r.below(static_cast<std::int64_t>(b.tokens())));
        (b.*member)[at] = values[k % 3];
        if (b.mask[at] != 0) planted.push_back(at);
    }
    auto const got = parity::run_of<T>(loss, b.view());
    auto const want = reference::evaluate(loss, b.view());
    parity::check(got, want, b.view(), parity::bounds_of<T>.term);
    REQUIRE(is_finite(got.result.loss));
    CHECK(std::ranges::all_of(got.grad, [](T g) { return is_finite(g); }));
    CHECK(std::ranges::all_of(got.weights, [](T w) { return is_finite(w); }));
    std::ranges::sort(planted);
    planted.erase(std::unique(planted.begin(), planted.end()), planted.end());
    REQUIRE(!planted.empty());
    CHECK(got.result.diagnostics.nonfinite_tokens == double(planted.size()));
    CHECK(got.result.diagnostics.kept_tokens < clean.result.diagnostics.kept_tokens);
    for (std::size_t at : planted) {
        CHECK(got.keep[at] == 0);
        CHECK((got.reasons[at] & reason_nonfinite) != 0);
        CHECK(got.grad[at] == 0);
        CHECK(got.weights[at] == 0);
    }

    // strict: the first of them is named and nothing is written
    auto strict = loss;
    strict.options.strict = true;
    parity::run<T> untouched(b.tokens());
    auto const before = untouched;
    auto const result = strict(b.view(), untouched.outputs());
    CHECK(result.status.code == errc::nonfinite_input);
    std::size_t sequence = 0;
    while (std::size_t(b.cu[sequence + 1]) <= planted[0]) ++sequence;
    CHECK(result.status.sequence == std::int64_t(sequence));
    CHECK(result.status.token == std::int64_t(planted[0]) - b.cu[sequence]);
    CHECK(result.loss == 0);
    CHECK(untouched.grad == before.grad);
    CHECK(untouched.keep == before.keep);
    CHECK(untouched.reasons == before.reasons);
    CHECK(untouched.weights == before.weights);
}
template <class Loss>
void check_nonfinite_streams(Loss const& loss) {
    using B = batches::ragged<float>;
    SECTION("logp") { check_nonfinite(loss, &B::logp, 1); }
    SECTION("rollout_logp") { check_nonfinite(loss, &B::rollout, 1); }
    SECTION("proximal_logp") { check_nonfinite(loss, &B::proximal, 1); }
    SECTION("ref_logp") { check_nonfinite(loss, &B::ref, 1); }
    SECTION("advantages") { check_nonfinite(loss, &B::advantages, 1); }
    SECTION("token_weights") { check_nonfinite(loss, &B::token_weights, 1); }
}

}  // namespace

TEST_CASE("not finite at a loss_mask token: masked with its sequence under a sequence mask", "[loss][unit]") {
    check_nonfinite_streams(with_sequences);
}
TEST_CASE("not finite at a loss_mask token: masked alone under token masks", "[loss][unit]") {
    check_nonfinite_streams(tokens_only);
}

TEST_CASE("a sequence advantage that is not finite masks the sequence", "[loss][unit]") {
    auto b = batches::make<float>({{20, 30, 40}, false, 0.1, 0.0}, 4);
    b.sequence_advantages[1] = float(batches::nan);
    auto view = b.view();
    view.advantages = {};
    view.sequence_advantages = b.sequence_advantages;
    auto const r = parity::compare<float>(tokens_only, view);
    CHECK(r.diagnostics.nonfinite_tokens == 30);
    auto strict = tokens_only;
    strict.options.strict = true;
    auto const s = strict(view).status;
    CHECK(s.code == errc::nonfinite_input);
    CHECK(s.sequence == 1);
}

TEST_CASE("strict mode does not look at masked slots", "[loss][unit]") {
    auto const b = batches::make<float>({batches::edge_lengths()}, 2);  // hostile content in every hole
    auto strict = with_sequences;
    strict.options.strict = true;
    auto const r = parity::run_of<float>(strict, b.view()), loose = parity::run_of<float>(with_sequences, b.view());
    CHECK(r.grad == loose.grad);
    CHECK(r.result.loss == loose.result.loss);
}

TEST_CASE("where the clamp of the log-ratio acts the gradient is zero and the value stays", "[loss][unit]") {
    std::vector<double> const mu{-30, -1, -3, -3}, logp{-1, -30, -0.5, -5.5}, advantage{2, 2, -1, -1};
    std::vector<std::int32_t> const cu{0, 4};
    batch_view<double> const v{.logp = logp, .rollout_logp = mu, .advantages = advantage, .layout = packed{cu}};
    masked_loss loss{no_mask{}, importance_ratio{}, token_sum{}};
    std::vector<double> grad(4, 7.0);
    double const far = -2 * (std::exp(20.0) + std::exp(-20.0)), near = std::exp(2.5) + std::exp(-2.5);
    CHECK(loss(v, grad).loss == Approx(far + near).epsilon(1e-14));
    CHECK(grad[0] == 0);
    CHECK(grad[1] == 0);
    CHECK(grad[2] == Approx(std::exp(2.5)).epsilon(1e-14));
    CHECK(grad[3] == Approx(std::exp(-2.5)).epsilon(1e-14));
    loss.options.log_ratio_clamp = 2;
    CHECK(loss(v, grad).loss == Approx(-std::exp(2.0) - std::exp(-2.0)).epsilon(1e-14));
    CHECK(std::ranges::all_of(grad, [](double g) { return g == 0; }));
}

TEST_CASE("a sequence that its first tokens reject leaves nothing, with and without diagnostics", "[loss][unit]") {
    early_rejection const b(
        GENERATE(std::size_t{0}, std::size_t{2500}, early_rejection::length - 1, early_rejection::length));
    masked_loss const loss{sequence_mask{k2{}, stat::max, at_most(0.6)} && sequence_mask{k1{}, stat::min, at_least(-2)},
                           importance_ratio{}, token_mean{}};
    for (bool const diagnose : {true, false}) {
        std::vector<float> grad(b.tokens, 7.0f);
        result const r = loss.with({.diagnose = diagnose})(b.view(), grad);
        b.check(r, grad, diagnose);
    }
}

TEST_CASE("the same bits whether exceptions are met one by one or not at all", "[loss][unit]") {
    // With the gradient alone as output, pairs of registers without an exception take a shorter way; with reasons too, all
    // tokens take the general one.
    std::size_t const tokens = GENERATE(std::size_t{6000}, std::size_t{300000});  // streams this long are prefetched
    std::vector<float> logp(tokens), rollout(tokens, -1.5f), advantage(tokens), plain(tokens, 7.0f), general(tokens);
    std::vector<std::uint8_t> mask(tokens, 1);
    std::vector<std::uint16_t> reasons(tokens, 9);
    float const far[] = {0.33f, 0.345f, -0.36f, 0.7f, -3.0f, 1.4f, 25.0f, -30.0f};
    for (std::size_t t = 0; t < tokens; ++t) {
        logp[t] = -1.5f + 0.002f * static_cast<float>(t % 71) - 0.07f;
        advantage[t] = t % 5 < 2 ? -0.7f : 1.0f;
        if (t % 157 == 0) logp[t] = -1.5f + far[t / 157 % std::size(far)];
        if (t % 1031 == 7)
            advantage[t] = t % 2 == 0 ? static_cast<float>(batches::nan) : static_cast<float>(batches::inf);
        if (t % 1201 == 9) logp[t] = static_cast<float>(t % 2 == 0 ? batches::nan : -batches::inf);
        if (t % 619 == 3 || t % 911 < 130) mask[t] = 0, rollout[t] = static_cast<float>(batches::nan);
    }
    std::vector<std::int64_t> const cu{0, 17, 3000, 3033, static_cast<std::int64_t>(tokens)};
    masked_loss const loss{token_mask{k3{}, at_most(2)}, ppo_clip{}, token_mean{}};
    batch_view<float> const batch{
        .logp = logp, .rollout_logp = rollout, .advantages = advantage, .loss_mask = mask, .layout = packed{cu}};
    std::vector<std::uint8_t> kept(tokens, 3), keep(tokens);
    result const a = loss(batch, outputs<float>{.grad = plain, .keep = kept});
    result const b = loss(batch, outputs<float>{.grad = general, .keep = keep, .reasons = reasons});
    CHECK(plain == general);
    CHECK(kept == keep);
    bool quiet = true;
    for (std::size_t t = 0; t < tokens; ++t) quiet = quiet && (mask[t] != 0 || reasons[t] == 0);
    CHECK(quiet);
    auto const same = [](double x, double y) {  // -ffast-math adds up in any order
        return TRM_FAST_MATH ? x == Approx(y).epsilon(1e-6) : x == y;
    };
    CHECK(same(a.loss, b.loss));
    CHECK(same(a.diagnostics.sum_k3, b.diagnostics.sum_k3));
    CHECK(a.diagnostics.clipped_positive == b.diagnostics.clipped_positive);
    CHECK(a.diagnostics.nonfinite_tokens == b.diagnostics.nonfinite_tokens);
    CHECK(a.diagnostics.nonfinite_tokens > 4);
}

namespace {

/// A long sequence whose largest (smallest) divergence sits early, exactly at the end of the band, where the kernel may stop
/// as soon as an extremum is outside: kept, and rejected if the end moves by one unit in the last place.
template <class T, class D, class Stat>
void check_end_of_band(D const& d, Stat statistic, bool upper) {
    std::vector<T> logp(20000, T(-1)), rollout(20000, T(-1.125)), grad(logp.size()), advantage(logp.size(), T(1));
    rollout[3] = T(-1.75);  // x = 0.75, the others 0.125: exact in every type
    logp[7] = T(-1.5);  // x = -0.375
    std::vector<std::int64_t> const cu{0, static_cast<std::int64_t>(logp.size())};
    batch_view<T> const view{.logp = logp, .rollout_logp = rollout, .advantages = advantage, .layout = packed{cu}};
    double const end = std::is_same_v<D, k2> ? 0.28125 : std::is_same_v<Stat, stat::max_t> ? 0.375 : -0.75;
    auto const kept = [&](double at) {
        masked_loss loss{sequence_mask{d, statistic, upper ? at_most(at) : at_least(at)}, importance_ratio{},
                         token_mean{}};
        std::size_t total = 0;
        for (bool const diagnose : {true, false}) {
            loss.options.diagnose = diagnose;
            std::ranges::fill(grad, T(7));
            auto const r = loss(view, grad);
            REQUIRE(r.status.ok());
            if (diagnose)
                CHECK(r.diagnostics.kept_sequences == reference::evaluate(loss, view).diagnostics.kept_sequences);
            total += static_cast<std::size_t>(std::ranges::count_if(grad, [](T g) { return g < 0; }));
        }
        return total;
    };
    double const inf = batches::inf;
    CHECK(kept(end) == 2 * logp.size());
    CHECK(kept(std::nextafter(end, upper ? -inf : inf)) == 0);
    CHECK(kept(std::nextafter(end, upper ? inf : -inf)) == 2 * logp.size());
}

}  // namespace

TEST_CASE("both ends of a band belong to it, for long sequences too", "[loss][unit]") {
    SECTION("f32") {
        check_end_of_band<float>(k2{}, stat::max, true);
        check_end_of_band<float>(k1{}, stat::max, true);
        check_end_of_band<float>(k1{}, stat::min, false);
    }
    SECTION("f64") {
        check_end_of_band<double>(k2{}, stat::max, true);
        check_end_of_band<double>(k1{}, stat::max, true);
        check_end_of_band<double>(k1{}, stat::min, false);
    }
}

TEST_CASE("what is added to denominators, by hand", "[loss][unit]") {
    std::vector<double> const logp{-1, -2, -3, -4}, advantages{1, 2, 3, 4};
    std::vector<std::int32_t> const cu{0, 3, 4}, groups{0, 1};
    batch_view<double> const batch{
        .logp = logp, .rollout_logp = logp, .advantages = advantages, .group_of = groups, .layout = packed{cu}};
    masked_loss loss{no_mask{}, importance_ratio{}, token_mean{}};
    loss.options.mean_epsilon.total = 0.5;
    loss.options.mean_epsilon.sequence = 0.25;
    auto const with = [&](aggregation a) {
        loss.aggregate = a;
        result const r = loss(batch);
        REQUIRE(r.status.ok());
        return r.loss;
    };
    for (auto const divide : {over_all, over_kept}) {
        CHECK(with(token_mean{divide}) == Approx(-10 / 4.5));
        CHECK(with(seq_mean_token_sum{divide}) == Approx(-10 / 2.5));
        CHECK(with(seq_mean_token_mean{divide}) == Approx(-(6 / 3.25 + 4 / 1.25) / 2.5));
    }
    CHECK(with(token_sum{}) == Approx(-10));
    CHECK(with(prompt_mean{}) == Approx(-(6.0 / 3 + 4) / 2));
}
