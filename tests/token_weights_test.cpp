// SPDX-License-Identifier: Apache-2.0
// Weights that tokens have by other tokens: values of the stated formulas on three small batches, worked out apart in python
// with plain loops, alone and in PPO's loss; layouts, threads, what is already there.
#include "catch.hpp"
#include "loss_batch.hpp"
#include "recent_batches.hpp"

#include <trm/loss/token_weights.hpp>

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

}  // namespace

TEST_CASE("token weights by published formulas", "[loss][parity]") {
    check(fipo(), of_suffix);
    check(segment_weight{{}, truncate_above(1.2), 0}, of_turns);
    check(segment_weight{{}, truncate_above(1.2), 2}, of_pairs);
    check(surprise_weight{0.3, 1.1, 0.9}, of_surprise);
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
    compare(segment_weight{{}, truncate_above(1.2), 0});
    compare(segment_weight{{}, unbounded, 5});
    compare(surprise_weight{0.2, 1.3, 0.8});
}

TEST_CASE("token weights: misuse", "[loss][unit]") {
    auto const view = recent::examples[0].view();
    doubles w(view.logp.size());
    workspace scratch;
    suffix_weight bad;
    bad.half_life = 0;
    CHECK(weigh_tokens(bad, view, std::span(w), scratch).code == errc::bad_threshold);
    CHECK(weigh_tokens(segment_weight{{}, unbounded, -1}, view, std::span(w), scratch).code == errc::bad_threshold);
    CHECK(weigh_tokens(surprise_weight{2}, view, std::span(w), scratch).code == errc::bad_threshold);
    CHECK(weigh_tokens(suffix_weight{}, view, std::span(w).first(3), scratch).code == errc::size_mismatch);
    auto without = view;
    without.advantages = {};
    CHECK(weigh_tokens(suffix_weight{}, without, std::span(w), scratch).code == errc::missing_stream);
    CHECK(weigh_tokens(segment_weight{}, without, std::span(w), scratch).ok());
}
