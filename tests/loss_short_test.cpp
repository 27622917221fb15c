// SPDX-License-Identifier: Apache-2.0
// Short sequences go through the kernel several at a time. They get the bits that each gets alone.
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/surrogates.hpp>
#include <trm/simd/reduce_rows.hpp>

#include <cstring>

using namespace trm;

namespace {

template <class S>
struct run {
    result r;
    std::vector<default_arithmetic_t<S>> grad;
};
/// With diagnostics every sequence is processed alone.
template <class S, class Loss>
run<S> evaluate(Loss loss, batch_view<S> const& view, bool alone, bool accumulate = false) {
    using T = default_arithmetic_t<S>;
    loss.options.diagnose = alone;
    run<S> got{{}, std::vector<T>(static_cast<std::size_t>(view.layout.extent()), T(0.5))};
    outputs<T> out;
    out.grad = got.grad;
    out.accumulate = accumulate;
    workspace scratch;
    got.r = loss(view, out, scratch);
    INFO(got.r.status.what);
    REQUIRE(got.r.status.ok());
    return got;
}
template <class T>
bool same(std::vector<T> const& a, std::vector<T> const& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <class S, class Loss>
void together_as_alone(Loss const& loss, batch_view<S> const& view) {
    for (bool const accumulate : {false, true}) {
        auto const alone = evaluate(loss, view, true, accumulate), together = evaluate(loss, view, false, accumulate);
        CHECK(together.r.loss == alone.r.loss);
        CHECK(same(together.grad, alone.grad));
    }
}
masked_loss const sequences{
    sequence_mask{k2{}, stat::max, at_most(0.25)} && sequence_mask{k3{}, stat::mean, at_most(0.045)},
    ppo_clip{0.2, 0.28, 3.0}, token_mean{}};
masked_loss const tokens{token_mask{ratio{}, within(0.6, 1.7)} && sequence_mask{k1{}, stat::min, at_least(-0.7)} &&
                             token_mask{abs_log_ratio{}, at_most(0.45)},
                         importance_ratio{},
                         seq_mean_token_mean{},
                         token_weight{truncate_above(1.2)},
                         kl_penalty{k3{}, 0.1},
                         squared_log_ratio{0.01}};

template <class S>
batches::ragged<S> sample(double outliers, std::uint64_t seed) {
    auto lengths = batches::short_lengths(700, seed);
    lengths[40] = 1500;  // one that is processed alone among others
    return batches::make<S>({lengths, false, 0.3, outliers}, seed + 1);
}
template <class S>
batch_view<S> plain(batches::ragged<S> const& b) {
    batch_view<S> v = b.view();
    v.proximal_logp = {};
    v.token_weights = {};
    v.loss_mask = {};
    v.group_of = {};
    return v;
}

}  // namespace

TEMPLATE_TEST_CASE("short sequences get the same bits together and alone", "[loss]", float, double, bf16) {
    for (double const outliers : {0.0, 0.0005}) {  // none; in some of the strips
        auto const b = sample<TestType>(outliers, 5);
        batch_view<TestType> const v = plain(b);
        together_as_alone(sequences, v);
        if constexpr (std::is_same_v<TestType, bf16>) continue;
        together_as_alone(tokens, v);
        batch_view<TestType> three = v;
        three.proximal_logp = b.proximal;
        together_as_alone(sequences, three);
        batch_view<TestType> one = v;
        one.advantages = {};
        auto per_sequence = b.sequence_advantages;
        one.sequence_advantages = per_sequence;
        together_as_alone(sequences, one);
        per_sequence[100] = static_cast<default_arithmetic_t<TestType>>(batches::nan);
        together_as_alone(sequences, one);
        std::vector<std::uint8_t> mask(b.tokens(), std::uint8_t{1});
        batch_view<TestType> masked = v;
        masked.loss_mask = mask;
        together_as_alone(sequences, masked);
        mask[700] = mask[2000] = 0;
        together_as_alone(sequences, masked);
        together_as_alone(tokens, masked);
    }
}

TEST_CASE("short sequences of one length, packed and as rows of a matrix", "[loss]") {
    auto const b = batches::make<float>({std::vector<std::int64_t>(300, 16), false, 0.3, 0.0}, 3);
    batch_view<float> const packed_rows = plain(b);
    batch_view<float> matrix = packed_rows;
    matrix.layout = padded{300, 16, 16};
    auto const one = evaluate(sequences, packed_rows, false), other = evaluate(sequences, matrix, false);
    CHECK(one.r.loss == other.r.loss);
    CHECK(same(one.grad, other.grad));
}

TEMPLATE_TEST_CASE("the gradient of short sequences may take the place of an input", "[loss]", float, double) {
    auto b = sample<TestType>(0.0005, 8);
    batch_view<TestType> const v = plain(b);
    auto const want = evaluate(sequences, v, false);
    masked_loss quiet = sequences;
    quiet.options.diagnose = false;
    workspace scratch;
    outputs<TestType> out;
    out.grad = b.advantages;
    auto const got = quiet(v, out, scratch);
    REQUIRE(got.status.ok());
    CHECK(got.loss == want.r.loss);
    CHECK(same(b.advantages, want.grad));
}

TEMPLATE_TEST_CASE("registers reduced together and one by one", "[simd]", float, double) {
    using V = simd::vec<TestType>;
    if constexpr (V::size >= 4) {
        constexpr std::size_t n = simd::rows_together<V>;
        batches::random r(1);
        alignas(64) TestType values[n * V::size];
        for (auto& v : values) v = static_cast<TestType>(r.normal() * std::exp2(static_cast<double>(r.below(60) - 30)));
        double sums[n];
        TestType largest[n];
        simd::sums<V>(values, sums);
        simd::maxima<V>(values, largest);
        for (std::size_t i = 0; i < n; ++i) {
            V const row = simd::load<V>(values + i * V::size);
            CHECK(sums[i] == simd::sum(row));
            CHECK(largest[i] == simd::reduce_max(row));
        }
    }
}
