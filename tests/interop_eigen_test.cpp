// SPDX-License-Identifier: Apache-2.0
#include <trm/interop/eigen.hpp>
#include <trm/trm.hpp>

#include "catch.hpp"

#include <cstdint>
#include <string>
#include <vector>

// What Eigen holds gives the bits that the same numbers in vectors give, and nothing is copied.

namespace {

using matrix = Eigen::MatrixXf;
using mask_array = Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic>;
using dynamic_stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

trm::masked_loss const loss{trm::sequence_mask{trm::k2{}, trm::stat::max, trm::at_most(0.5)} &&
                                trm::token_mask{trm::ratio{}, trm::within(0.7, 1.5)},
                            trm::importance_ratio{}, trm::token_mean{}};

/// 7 tokens, 5 sequences, the second of which a token takes far out.
struct data {
    matrix logp =
        matrix::NullaryExpr(7, 5, [](Eigen::Index t, Eigen::Index s) { return -0.1f - 0.2f * float((3 * t + s) % 8); });
    matrix rollout = matrix::NullaryExpr(
        7, 5, [](Eigen::Index t, Eigen::Index s) { return -0.1f - 0.21f * float((3 * t + s) % 8); });
    matrix advantages = matrix::NullaryExpr(7, 5, [](Eigen::Index t, Eigen::Index s) { return float(t - s) / 3; });
    mask_array mask = mask_array::NullaryExpr(7, 5, [](Eigen::Index t, Eigen::Index s) { return t < 7 - s; });
    data() { rollout(2, 1) -= 3; }
};

/// The same through std::vector, one sequence after another.
struct expected {
    std::vector<float> grad;
    double loss_value = 0;
    explicit expected(data const& d) {
        auto const n = static_cast<std::size_t>(d.logp.size());
        std::vector<float> const logp(d.logp.data(), d.logp.data() + n), mu(d.rollout.data(), d.rollout.data() + n);
        std::vector<float> const advantages(d.advantages.data(), d.advantages.data() + n);
        std::vector<std::uint8_t> const mask(d.mask.data(), d.mask.data() + n);
        grad.resize(n);
        trm::batch_view<float> const batch{.logp = logp,
                                           .rollout_logp = mu,
                                           .advantages = advantages,
                                           .loss_mask = mask,
                                           .layout = trm::padded{5, 7, 7}};
        loss_value = trm::checked(loss)(batch, grad).loss;
    }
};

bool same(matrix const& a, std::vector<float> const& b) {
    return std::vector<float>(a.data(), a.data() + a.size()) == b;
}

}  // namespace

TEST_CASE("matrices are padded batches", "[unit][eigen]") {
    data const d;
    expected const e(d);
    matrix grad = matrix::Constant(7, 5, 99);
    Eigen::Array<std::uint8_t, -1, -1> keep(7, 5);
    trm::eigen::batch in(d.logp, d.rollout);
    in.advantages(d.advantages).loss_mask(d.mask);
    trm::eigen::results out(in);
    out.grad(grad).keep(keep);
    REQUIRE(in.view.logp.data() == d.logp.data());
    REQUIRE(out.view.grad.data() == grad.data());
    trm::result const r = trm::eigen::run(loss, in, out);
    REQUIRE(r.status.ok());
    CHECK(r.loss == e.loss_value);
    CHECK(same(grad, e.grad));
    CHECK(r.diagnostics.kept_sequences == 4);
    CHECK(keep.cast<int>().sum() == static_cast<int>(r.diagnostics.kept_tokens));
}

TEST_CASE("blocks, Maps and Refs keep their outer stride", "[unit][eigen]") {
    data const d;
    expected const e(d);
    matrix big = matrix::Constant(16, 9, 5), big_mu = big, big_advantages = big, big_grad = big;
    big.block(3, 2, 7, 5) = d.logp;
    big_mu.block(3, 2, 7, 5) = d.rollout;
    big_advantages.block(3, 2, 7, 5) = d.advantages;
    mask_array big_mask = mask_array::Constant(16, 9, true);
    big_mask.block(3, 2, 7, 5) = d.mask;
    Eigen::Ref<matrix const> const logp = big.block(3, 2, 7, 5);
    Eigen::Map<matrix const, 0, dynamic_stride> const mu(&big_mu(3, 2), 7, 5, dynamic_stride(16, 1));

    trm::eigen::batch in(logp, mu);
    in.advantages(big_advantages.block(3, 2, 7, 5)).loss_mask(big_mask.block(3, 2, 7, 5));
    trm::eigen::results out(in);
    out.grad(big_grad.block(3, 2, 7, 5));
    REQUIRE(in.view.logp.data() == &big(3, 2));
    trm::result const r = trm::eigen::run(loss, in, out);
    REQUIRE(r.status.ok());
    CHECK(r.loss == e.loss_value);
    matrix const inside = big_grad.block(3, 2, 7, 5);
    CHECK(same(inside, e.grad));
    big_grad.block(3, 2, 7, 5).setConstant(5);
    CHECK((big_grad.array() == 5).all());  // nothing outside was written
}

TEST_CASE("a row-major matrix is viewed through its transpose", "[unit][eigen]") {
    data const d;
    expected const e(d);
    using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    rows const logp = d.logp.transpose(), mu = d.rollout.transpose(), advantages = d.advantages.transpose();
    Eigen::Array<bool, -1, -1, Eigen::RowMajor> const mask = d.mask.transpose();
    rows grad(5, 7);
    trm::eigen::batch in(logp.transpose(), mu.transpose());
    in.advantages(advantages.transpose()).loss_mask(mask.transpose());
    trm::eigen::results out(in);
    out.grad(grad.transpose());
    REQUIRE(trm::eigen::run(loss, in, out).loss == e.loss_value);
    CHECK(same(grad.transpose(), e.grad));
}

TEST_CASE("vectors are packed, or one sequence", "[unit][eigen]") {
    data const d;
    expected const e(d);
    Eigen::VectorXf const logp = d.logp.reshaped(), mu = d.rollout.reshaped(), advantages = d.advantages.reshaped();
    Eigen::Array<std::uint8_t, Eigen::Dynamic, 1> const mask = d.mask.reshaped().cast<std::uint8_t>();
    Eigen::VectorXi const cu = Eigen::VectorXi::LinSpaced(6, 0, 35);
    Eigen::RowVectorXf grad(35);
    trm::eigen::batch in(logp, mu, cu);
    in.advantages(advantages).loss_mask(mask);
    trm::eigen::results out(in);
    out.grad(grad);
    CHECK(trm::eigen::run(loss, in, out).loss == e.loss_value);
    CHECK(std::vector<float>(grad.data(), grad.data() + 35) == e.grad);

    std::vector<std::int64_t> const offsets{0, 7, 14, 21, 28, 35};
    trm::eigen::batch again(logp, mu, offsets);
    again.sequence_advantages(advantages.head(5));
    CHECK(again.status.ok());

    trm::eigen::batch one(logp, mu);
    CHECK(one.view.layout.sequences() == 1);
    CHECK(one.view.layout.extent() == 35);
}

TEST_CASE("half and bfloat16", "[unit][eigen]") {
    data const d;
    auto const check = [&](auto scalar) {
        using S = decltype(scalar);
        using stored = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;
        stored const logp = d.logp.cast<S>(), mu = d.rollout.cast<S>();
        matrix const wide_logp = logp.template cast<float>(), wide_mu = mu.template cast<float>();
        matrix grad(7, 5), wide_grad(7, 5);
        trm::eigen::batch in(logp, mu);
        in.advantages(d.advantages).loss_mask(d.mask);
        trm::eigen::batch wide(wide_logp, wide_mu);
        wide.advantages(d.advantages).loss_mask(d.mask);
        trm::eigen::results out(in), wide_out(wide);
        out.grad(grad);
        wide_out.grad(wide_grad);
        double const value = trm::eigen::run(loss, in, out).loss;
        CHECK(value == trm::eigen::run(loss, wide, wide_out).loss);
        CHECK(grad == wide_grad);
        CHECK(value != 0);
    };
    check(Eigen::half{});
    check(Eigen::bfloat16{});
}

TEST_CASE("what cannot be viewed says so, and no loss runs", "[unit][eigen]") {
    data d;
    auto const refused = [&](trm::eigen::batch<float>& in, std::string const& words, trm::errc code) {
        matrix grad = matrix::Constant(7, 5, 42);
        trm::eigen::results out(in);
        out.grad(grad);
        CHECK(in.status.code == code);
        CHECK(std::string(in.status.what) == words);
        CHECK(trm::eigen::run(loss, in, out).status == in.status);
        CHECK_FALSE(loss(in.view, out.view).status.ok());  // also for those who do not look
        CHECK((grad.array() == 42).all());
    };
    matrix wide(14, 5);
    wide.setConstant(-1);
    Eigen::Map<matrix const, 0, dynamic_stride> const every_other(wide.data(), 7, 5, dynamic_stride(14, 2));
    trm::eigen::batch inner(every_other, d.rollout);
    refused(inner, "logp: elements of a column are not adjacent (inner stride is not 1)", trm::errc::unsupported);

    trm::eigen::batch outer(d.logp, wide.topRows(7));
    refused(outer, "rollout_logp: columns are not as far apart as those of logp (outer stride)",
            trm::errc::unsupported);

    matrix const narrow = d.advantages.leftCols(4);
    trm::eigen::batch shape(d.logp, d.rollout);
    shape.advantages(narrow).loss_mask(d.mask);
    refused(shape, "advantages: shape differs from that of logp", trm::errc::size_mismatch);

    Eigen::Map<matrix const, 0, dynamic_stride> const overlapping(wide.data(), 7, 5, dynamic_stride(3, 1));
    trm::eigen::batch overlap(overlapping, overlapping);
    refused(overlap, "logp: columns overlap (outer stride)", trm::errc::bad_layout);

    trm::eigen::batch in(d.logp, d.rollout);
    in.advantages(d.advantages);
    trm::eigen::results out(in);
    out.grad(wide.topRows(7));
    CHECK(std::string(out.status.what) == "grad: columns are not as far apart as those of logp (outer stride)");
    CHECK(trm::eigen::run(loss, in, out).status == out.status);
    CHECK_FALSE(loss(in.view, out.view).status.ok());
    CHECK((wide.array() == -1).all());
}

TEST_CASE("empty matrices", "[unit][eigen]") {
    matrix const none(0, 3);
    matrix grad(0, 3);
    trm::eigen::batch in(none, none);
    in.advantages(none);
    trm::eigen::results out(in);
    out.grad(grad);
    trm::result const r = trm::eigen::run(loss, in, out);
    CHECK(r.status.ok());
    CHECK(r.loss == 0);
}
