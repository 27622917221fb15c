// SPDX-License-Identifier: Apache-2.0
// Weights that tokens have by other tokens: values of the stated formulas on three small batches, worked out apart in python
// with plain loops, alone and in PPO's loss; the oracle for every storage type; losses whose text names them; layouts, threads, what is
// already there.
#include "catch.hpp"
#include "loss_batch.hpp"
#include "recent_batches.hpp"
#include "spec_loss.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/token_weights.hpp>
#include <trm/reference/loss.hpp>
#include <trm/reference/token_weights.hpp>

using namespace trm;

using recent::doubles;

namespace {

struct expected {
    doubles weights;
    double loss;  ///< mean over loss_mask of w max(-r A, -clip(r, 0.8, 1.2) A)
};
suffix_weight fipo() {
    suffix_weight w;
    w.half_life = 4;
    w.lower = 0.8;
    w.most_ratio = 1.5;
    w.safe_ratio = 1.1;
    w.safe_lower = 0.9;
    return w;
}
/// clamp(exp(sum_{k >= t} 2^(-(k - t) / 4) x_k), 0.8, 1.2), x_k = 0 where masked or r_k > 1.5; A < 0 and r > 1.1: to [0.9, 1] too.
expected const of_suffix[] = {
    {{1.1352340848278788, 1, 1.0292834964504582, 0.9647953977031765, 0.8754650921087711, 0.9762590523434298,
      0.9200962731254165, 0.8205850188782817, 0.8408749049297964, 0.8812380955063227, 0.9935664418845597,
      0.9841273200552851, 0.9, 0.8, 0.8, 0.8},
     0.2450714770793732},
    {{0.8, 1.2, 1.1026887228602398, 0.9133142436997098, 0.8, 0.8, 1.0, 1.0491706553244706, 1.0, 0.8, 0.8, 0.8, 1.0, 1.0,
      1.2, 1.0555238175061394, 1.2, 1.1096004549155825},
     -0.8875803481427198},
    {{0.8,
      1.0,
      0.8,
      0.8,
      0.8,
      0.8,
      0.8,
      0.8,
      0.8,
      1.1948253212348008,
      1.0,
      1.0,
      1.0,
      0.8,
      0.8,
      0.8,
      0.8,
      0.9,
      0.8,
      1.1722295922932153,
      1.1274968515793757},
     -0.5029599181301088},
};
/// min(exp(mean x over the run of loss_mask), 1.2), and over pairs of tokens within runs.
expected const of_turns[] = {
    {{1.0273678027634894, 1.0273678027634894, 1.0273678027634894, 1.0273678027634894, 1.0273678027634894,
      0.9830032455687053, 0.9830032455687053, 0.9830032455687053, 0.9830032455687053, 0.9830032455687053,
      0.9830032455687053, 0.9830032455687053, 0.9100552199941727, 0.9100552199941727, 0.9100552199941727,
      0.9100552199941727},
     0.26090727875866004},
    {{0.9218863447747506, 0.9218863447747506, 0.9218863447747506, 0.9218863447747506, 0.9218863447747506,
      0.9218863447747506, 1.0, 1.2, 1.2, 0.8154623711872926, 0.8154623711872926, 0.8154623711872926, 1.0, 1.0,
      1.0873570205709446, 1.0873570205709446, 1.0873570205709446, 1.0873570205709446},
     -0.8624608310909689},
    {{0.6583622284248272,
      1.0,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      0.9455391358903962,
      1.2,
      0.7055695005978943,
      0.7055695005978943,
      0.7055695005978943,
      0.7055695005978943,
      0.7055695005978943,
      0.7055695005978943,
      0.7055695005978943,
      0.7055695005978943},
     -0.41668656260174686},
};
expected const of_pairs[] = {
    {{1.0687609640751734, 1.0687609640751734, 1.0698302595979021, 1.0698302595979021, 0.8754650921087711,
      1.0666255782446488, 1.0666255782446488, 0.94223553359123, 0.94223553359123, 0.9445940693665233,
      0.9445940693665233, 0.9841273200552851, 1.060775240740159, 1.060775240740159, 0.7807502208109257,
      0.7807502208109257},
     0.26751188243161245},
    {{0.8315199398994041, 0.8315199398994041, 1.2, 1.2, 0.7741419687922484, 0.7741419687922484, 1.0, 1.2, 1.2,
      0.8620000071704986, 0.8620000071704986, 0.7297888742690568, 1.0, 1.0, 1.039250728357984, 1.039250728357984,
      1.1376901241657316, 1.1376901241657316},
     -0.9076751289769337},
    {{0.6583622284248272,
      1.0,
      1.1589332848297509,
      1.1589332848297509,
      0.48894757687925716,
      0.48894757687925716,
      0.9093729344682314,
      0.9093729344682314,
      0.6910797841588567,
      0.6910797841588567,
      1.2,
      1.2,
      1.2,
      0.7319815282283126,
      0.7319815282283126,
      0.6187833918061408,
      0.6187833918061408,
      0.5005739194116278,
      0.5005739194116278,
      1.0930806563263302,
      1.0930806563263302},
     -0.48868397528522156},
};
/// 1.1 for A > 0 and 0.9 for A < 0 where -logp >= the 0.7-quantile among tokens of that sign.
expected const of_surprise[] = {
    {{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.0, 1.1, 1.0, 0.9, 1.0, 0.9, 1.0, 0.9}, 0.25917183753357265},
    {{0.9, 1.0, 1.0, 1.0, 1.0, 1.1, 1.0, 1.0, 1.1, 1.1, 1.0, 1.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}, -0.8637466099196397},
    {{1.0, 1.0, 1.0, 1.0, 1.1, 1.0, 1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0, 1.1, 1.0, 1.1, 1.1, 1.0, 1.1, 1.0, 1.0},
     -0.5583151781804409},
};

template <class W>
void check(W const& weight, expected const (&want)[3]) {
    for (std::size_t i = 0; i < 3; ++i) {
        INFO("batch " << i);
        auto view = recent::examples[i].view();
        doubles w(view.logp.size(), 7.0), twice(view.logp.size(), 2.0);
        workspace scratch;
        REQUIRE(weigh_tokens(weight, view, std::span(w), scratch).ok());
        for (std::size_t t = 0; t < w.size(); ++t) {
            INFO("token " << t);
            CHECK(w[t] == Approx(want[i].weights[t]).epsilon(1e-12));
        }
        view.token_weights = twice;  // in place, times what is there
        REQUIRE(weigh_tokens(weight, view, std::span(twice), scratch).ok());
        for (std::size_t t = 0; t < w.size(); ++t) CHECK(twice[t] == 2 * w[t]);
        view.token_weights = w;
        CHECK(masked_loss{no_mask{}, ppo_clip{}, token_mean{}}(view).loss == Approx(want[i].loss).epsilon(1e-10));
    }
}
/// The loss of a text whose weight has these factors.
void check_text(std::string const& factors, expected const (&want)[3]) {
    spec_result const parsed = parse_spec("weight: " + factors + "; surrogate: ppo_clip");
    INFO(parsed.message);
    REQUIRE(parsed.ok());
    for (std::size_t i = 0; i < 3; ++i) {
        INFO("batch " << i);
        CHECK(spec_loss(parsed.spec)(recent::examples[i].view()).loss == Approx(want[i].loss).epsilon(1e-10));
    }
}

}  // namespace

TEST_CASE("token weights by published formulas", "[loss][parity]") {
    check(fipo(), of_suffix);
    check(segment_weight{truncate_above(1.2), 0}, of_turns);
    check(segment_weight{truncate_above(1.2), 2}, of_pairs);
    check(surprise_weight{0.3, 1.1, 0.9}, of_surprise);
}

TEST_CASE("texts with token weights have the values of published formulas", "[loss][parity][spec]") {
    check_text("suffix(half_life=4, lower=0.8, most_ratio=1.5, safe_ratio=1.1, safe_lower=0.9)", of_suffix);
    check_text("segment(truncate_above=1.2)", of_turns);
    check_text("segment(length=2, truncate_above=1.2)", of_pairs);
    check_text("surprise(share=0.3, negative=0.9)", of_surprise);
}

namespace {

template <class S, class W>
void compare_with_oracle(W const& weight, double bound) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
        INFO(W::name << ", batch " << seed);
        auto const b = batches::make<S>({batches::short_lengths(30, seed), true, 0.3, 0.01}, seed);
        auto view = b.view();
        view.token_weights = {};
        if (seed % 2 == 1) view.proximal_logp = {};
        loss_options options;
        options.log_ratio_clamp.weight = clamp_range(0.5);
        std::vector<typename batch_view<S>::real> w(b.tokens());
        workspace scratch;
        REQUIRE(weigh_tokens(weight, view, std::span(w), scratch, options).ok());
        auto const all = reference::gather(view, detail::factor_needs(weight, weight.over), options.log_ratio_clamp);
        auto const want = reference::factors(weight, all, weight.over);
        double spread = 0;
        for (std::size_t i = 0; i < all.size(); ++i)
            for (std::size_t k = 0; k < all[i].tokens.size(); ++k) {
                INFO("sequence " << i << ", token " << k);
                CHECK(double(w[all[i].tokens[k].at]) == Approx(want[i][k]).epsilon(bound));
                spread += std::fabs(want[i][k] - 1);
            }
        CHECK(spread > 1);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("token weights are those of the oracle", "[loss][parity]", float, double, bf16) {
    double const bound = std::is_same_v<TestType, double> ? 1e-12 : 1e-5;
    compare_with_oracle<TestType>(fipo(), bound);
    compare_with_oracle<TestType>(suffix_weight{}, bound);
    compare_with_oracle<TestType>(segment_weight{truncate_above(1.05), 0}, bound);
    compare_with_oracle<TestType>(segment_weight{clamp_to(0.9, 1.1), 3}, bound);
    compare_with_oracle<TestType>(surprise_weight{0.2, 1.3, 0.8}, bound);
}

TEST_CASE("a text with token weights is the same bits as weights worked out before the loss",
          "[loss][property][spec]") {
    auto const b = batches::make<double>({batches::short_lengths(50, 8), true, 0.3, 0.0}, 8);
    auto const run = [&](std::string const& text, batch_view<double> const& view, std::vector<double>& grad) {
        spec_result const parsed = parse_spec(text);
        INFO(text << parsed.message);
        REQUIRE(parsed.ok());
        grad.assign(b.tokens(), 9.0);
        result const r = spec_loss(parsed.spec)(view, grad);
        REQUIRE(r.status.ok());
        return r.loss;
    };
    auto view = b.view();
    std::vector<double> w(b.tokens()), grad, want;
    workspace scratch;
    loss_options options;
    options.log_ratio_clamp.weight = 3;
    REQUIRE(weigh_tokens(segment_weight{unbounded, 4}, view, std::span(w), scratch, options).ok());
    auto weighed = view;
    weighed.token_weights = w;
    REQUIRE(weigh_tokens(suffix_weight{}, weighed, std::span(w), scratch, options).ok());
    for (std::string const surrogate : {"ppo_clip", "gspo", "vespo_folded"}) {
        std::string const rest = "; mask: prefix(k2 <= 0.5); weight_clamp: 3; penalty: kl(k3, 0.1); surrogate: " +
                                 surrogate,
                          token = "weight: token(truncate_above=1.5)";
        double const loss = run(token + " * segment(length=4) * suffix" + rest, view, grad);
        CHECK(loss == run(token + rest, weighed, want));
        CHECK(grad == want);
        CHECK(loss != run(token + rest, view, want));
    }
}

TEST_CASE("token weights in phases", "[loss][unit][spec]") {
    auto const b = batches::make<double>({batches::short_lengths(20, 5), true, 0.3, 0.0}, 5);
    auto view = b.view();
    view.token_weights = {};
    spec_loss const loss(parse_spec("weight: token * surprise(0.3) * suffix; surrogate: ppo_clip; divide_by: kept"));
    std::vector<double> w(b.tokens()), whole(b.tokens()), parts(b.tokens());
    result const want = loss(view, whole);
    sequence_totals totals;
    status const forgotten = loss.measure(view, {}, totals);
    CHECK(forgotten.code == errc::missing_stream);
    CHECK(std::string(forgotten.what) == "token_weights: call weigh first and pass what it gives");
    REQUIRE(loss.weigh(view, w).ok());
    CHECK(loss.weigh(view, std::span(w).first(3)).code == errc::size_mismatch);
    view.token_weights = w;
    counts n;
    REQUIRE(loss.measure(view, {}, totals).ok());
    REQUIRE(loss.count(view, {}, totals, n).ok());
    outputs<double> out;
    out.grad = parts;
    result const r = loss.apply(view, {}, totals, n, out);
    REQUIRE(r.status.ok());
    CHECK(r.loss == Approx(want.loss).epsilon(1e-13));
    for (std::size_t t = 0; t < whole.size(); ++t) CHECK(parts[t] == Approx(whole[t]).epsilon(1e-13));
}

TEST_CASE("token weights: padded, packed and segments agree; not finite tokens are left alone", "[loss][property]") {
    auto b = batches::make<double>({batches::short_lengths(80, 3), true, 0.3, 0.01}, 3);
    batches::random r(4);
    auto const padded = batches::padded(b, 3), cut = batches::segmented(b, batches::cut(b.cu, 3, r));
    auto const run = [&](auto const& weight, auto const& of) {
        std::vector<double> w(of.tokens());
        workspace scratch;
        auto view = of.view();
        view.token_weights = {};
        REQUIRE(weigh_tokens(weight, view, std::span(w), scratch).ok());
        return batches::at_origin(w, of, b.tokens());
    };
    auto const compare = [&](auto const& weight) {
        auto const whole = run(weight, b);
        double spread = 0;
        for (std::size_t t = 0; t < whole.size(); ++t) {
            CHECK(is_finite(whole[t]));
            if (b.mask[t] == 0 || !is_finite(b.logp[t])) CHECK(whole[t] == 1);
            spread += std::fabs(whole[t] - 1);
        }
        CHECK(spread > 1);
        auto const p = run(weight, padded), c = run(weight, cut);
        for (std::size_t t = 0; t < whole.size(); ++t) {
            CHECK(p[t] == whole[t]);
            CHECK(c[t] == whole[t]);
        }
    };
    compare(fipo());
    compare(segment_weight{truncate_above(1.2), 0});
    compare(segment_weight{unbounded, 5});
    compare(surprise_weight{0.2, 1.3, 0.8});
}

TEST_CASE("token weights: misuse", "[loss][unit]") {
    auto const view = recent::examples[0].view();
    doubles w(view.logp.size());
    workspace scratch;
    suffix_weight bad;
    bad.half_life = 0;
    CHECK(weigh_tokens(bad, view, std::span(w), scratch).code == errc::bad_threshold);
    CHECK(weigh_tokens(segment_weight{unbounded, -1}, view, std::span(w), scratch).code == errc::bad_threshold);
    CHECK(weigh_tokens(surprise_weight{2}, view, std::span(w), scratch).code == errc::bad_threshold);
    CHECK(weigh_tokens(suffix_weight{}, view, std::span(w).first(3), scratch).code == errc::size_mismatch);
    auto without = view;
    without.advantages = {};
    CHECK(weigh_tokens(suffix_weight{}, without, std::span(w), scratch).code == errc::missing_stream);
    CHECK(weigh_tokens(segment_weight{}, without, std::span(w), scratch).ok());
}

TEST_CASE("no tokens: nothing to weigh, select, average or normalise", "[loss][unit][spec]") {
    std::vector<std::int64_t> const zero{0}, three{0, 0, 0, 0};
    std::vector<std::int32_t> const groups{0, 0, 1};
    layout_view const layouts[] = {layout_view{}, packed{zero}, packed{three}, padded{0, 7}, padded{3, 0}};
    char const* const texts[] = {
        "weight: token * surprise(0.3) * suffix * segment(4); surrogate: ppo_clip",
        "weight: normalised_product; surrogate: gspo; aggregate: seq_mean_token_mean",
        "mask: budget(k2, limit=0.01) && prefix(k3 <= 0.1); surrogate: kl_cov; divide_by: kept",
        "mask: group(seq_mean_k3 <= 0.1); surrogate: ppo_clip; aggregate: prompt_mean"};
    for (char const* text : texts) {
        spec_result const spec = parse_spec(text);
        INFO(text << ' ' << spec.message);
        REQUIRE(spec.ok());
        for (layout_view const& layout : layouts) {
            batch_view<double> view;
            view.layout = layout;
            if (layout.sequences() > 0) view.group_of = groups;
            result const r = spec_loss(spec.spec)(view);
            INFO(r.status.what);
            CHECK(r.status.ok());
            CHECK(r.loss == 0);
        }
    }
}

TEST_CASE("suffix weights: ratios at their limits are neither left out nor unsafe", "[loss][unit]") {
    double const x = std::log(2.0);
    std::vector<double> const logp{-1, 0}, rollout{-1, -x}, advantages{-1, -1};
    std::vector<std::int32_t> const cu{0, 2};
    batch_view<double> const view{
        .logp = logp, .rollout_logp = rollout, .advantages = advantages, .layout = packed{cu}};
    auto const run = [&](suffix_weight w) {
        w.half_life = 1;
        w.upper = 4;
        std::vector<double> out(2);
        workspace scratch;
        REQUIRE(weigh_tokens(over<ratio_kind::current_over_rollout>(w), view, std::span(out), scratch).ok());
        return out;
    };
    suffix_weight w;
    w.most_ratio = 2;
    CHECK(run(w)[1] == Approx(2));  // counted: the ratio is not above most_ratio
    CHECK(run(w)[0] == Approx(std::sqrt(2.0)));
    w.most_ratio = 1.999;
    CHECK(run(w)[1] == 1);
    w.most_ratio = 9;
    w.safe_ratio = 2;
    CHECK(run(w)[1] == Approx(2));  // safe: not above safe_ratio
    w.safe_ratio = 1.999;
    CHECK(run(w)[1] == 1);
    w.safe_ratio = 1;
    CHECK(run(w)[0] == Approx(std::sqrt(2.0)));
}
