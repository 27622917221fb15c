// SPDX-License-Identifier: Apache-2.0
// Losses that couple the sequences of a prompt: values of the stated formulas on three small batches, worked out apart in python
// with plain loops; gradients through policy_gradient against differences; what is left out; misuse.
#include "catch.hpp"
#include "recent_batches.hpp"

#include <trm/loss/group_losses.hpp>
#include <trm/loss/masked_loss.hpp>

#include <array>
#include <cmath>

using namespace trm;
using recent::doubles;

namespace {

doubles const scores[] = {{1.0, -0.5, 0.25}, {0.3, 0.8, -1.2}, {0.0, 2.0, 1.0}};
std::vector<std::int32_t> const groups[] = {{4, 4, 4}, {9, 2, 9}, {1, 1, 1}};

batch_view<double> view_of(std::size_t i) {
    auto v = recent::examples[i].view();
    v.advantages = {};
    v.sequence_advantages = scores[i];
    v.group_of = groups[i];
    return v;
}

template <class Loss>
void check(Loss const& loss, std::array<double, 3> const& want) {
    for (std::size_t i = 0; i < 3; ++i) {
        INFO("batch " << i);
        auto view = view_of(i);
        doubles out(3, 7.0), unused(3), grad(view.logp.size());
        auto const r = group_coupled(loss, view, std::span(out));
        REQUIRE(r.status.ok());
        CHECK(r.loss == Approx(want[i]).epsilon(1e-10));
        CHECK(r.groups == 1);
        CHECK(r.nonfinite == 0);
        auto with = view;
        with.sequence_advantages = out;
        REQUIRE(masked_loss{no_mask{}, policy_gradient{}, token_sum{}}(with, grad).status.ok());
        doubles logp(view.logp.begin(), view.logp.end());
        view.logp = logp;
        for (std::size_t t = 0; t < logp.size(); ++t) {
            double const h = 1e-4, at = logp[t];
            logp[t] = at + h;
            double const up = group_coupled(loss, view, std::span(unused)).loss;
            logp[t] = at - h;
            double const down = group_coupled(loss, view, std::span(unused)).loss;
            logp[t] = at;
            CHECK((up - down) / (2 * h) == Approx(grad[t]).margin(1e-8));
        }
    }
}

}  // namespace

/// s_i = mean over loss_mask of x; log(1 + sum_{score <= 0} e^(s / tau)) + log(1 + sum_{score > 0} e^(-s / tau)), over groups with both
/// signs.
TEST_CASE("REAL", "[loss][parity]") {
    check(real_loss{}, {1.8250982887948997, 1.476426433072596, 1.802770798558322});
    check(real_loss{2.0}, {1.7990305900208459, 1.4081700428609745, 1.7449810669937325});
}
/// -sum_i softmax(sum log mu + score / T)_i log softmax(sum log p)_i, over groups of two and more.
TEST_CASE("TPO", "[loss][parity]") {
    check(tpo_loss{}, {0.29418867049392794, 0.11720250766853421, 0.017089122124566442});
    check(tpo_loss{0.3}, {0.1405143424936044, 2.31193797832329, 0.0018202737227395642});
}

TEST_CASE("group losses: what does not count", "[loss][unit]") {
    auto view = view_of(0);
    doubles out(3, 7.0);
    doubles const same{1, 2, 3};
    view.sequence_advantages = same;  // one sign
    auto r = group_coupled(real_loss{}, view, std::span(out));
    CHECK(r.groups == 0);
    CHECK(r.loss == 0);
    CHECK(out == doubles(3));
    view = view_of(0);
    doubles logp(view.logp.begin(), view.logp.end());
    logp[1] = std::nan("");
    view.logp = logp;
    r = group_coupled(tpo_loss{}, view, std::span(out));
    CHECK(r.nonfinite == 1);
    CHECK(r.groups == 1);
    CHECK(out[0] == 0);
    CHECK(out[1] != 0);
    CHECK(out[1] == Approx(-out[2]));
    std::vector<std::uint8_t> mask(logp.size(), 1);  // the same without its tokens
    for (std::size_t t = 0; t < 5; ++t) mask[t] = 0;
    view.loss_mask = mask;
    auto const want = out;
    r = group_coupled(tpo_loss{}, view, std::span(out));
    CHECK(r.nonfinite == 0);
    CHECK(out == want);
    doubles far(logp.size(), -700.0);  // no overflow
    for (std::size_t t = 5; t < 12; ++t) far[t] = -1e-3;
    view.logp = far;
    for (double tau : {1e-3, 1.0}) {
        r = group_coupled(real_loss{tau}, view, std::span(out));
        CHECK(is_finite(r.loss));
        for (double a : out) CHECK(is_finite(a));
    }
}

TEST_CASE("group losses: layouts, floats, misuse", "[loss][unit]") {
    auto view = view_of(0);
    doubles whole(3), cut(3);
    REQUIRE(group_coupled(real_loss{}, view, std::span(whole)).status.ok());
    std::vector<std::int32_t> const cu{0, 2, 5, 12, 16}, of{0, 0, 1, 2};
    view.layout = segments{cu, of, 3};
    REQUIRE(group_coupled(real_loss{}, view, std::span(cut)).status.ok());
    for (std::size_t i = 0; i < 3; ++i) CHECK(cut[i] == Approx(whole[i]).epsilon(1e-13));
    CHECK(group_coupled(real_loss{0}, view, std::span(cut)).status.code == errc::bad_threshold);
    CHECK(group_coupled(tpo_loss{-1}, view, std::span(cut)).status.code == errc::bad_threshold);
    CHECK(group_coupled(tpo_loss{}, view, std::span(cut).first(2)).status.code == errc::size_mismatch);
    auto without = view;
    without.group_of = {};
    CHECK(group_coupled(tpo_loss{}, without, std::span(cut)).status.code == errc::size_mismatch);
    without = view;
    without.sequence_advantages = {};
    CHECK(group_coupled(tpo_loss{}, without, std::span(cut)).status.code == errc::size_mismatch);
    without = view;
    without.rollout_logp = {};
    CHECK(group_coupled(tpo_loss{}, without, std::span(cut)).status.code == errc::size_mismatch);
    without.proximal_logp = view.rollout_logp;
    REQUIRE(group_coupled(real_loss{}, without, std::span(cut)).status.ok());
    CHECK(cut[0] == Approx(whole[0]).epsilon(1e-13));
}
