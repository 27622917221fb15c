// SPDX-License-Identifier: Apache-2.0
// Many short sequences, in groups: without diagnostics they get the bits that they get with them.
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/policy/penalty_kl.hpp>
#include <trm/policy/surrogates.hpp>

#include <cstring>

using namespace trm;

namespace {

template <class S>
struct run {
    result r;
    std::vector<default_arithmetic_t<S>> grad;
};
template <class S, class Loss>
run<S> evaluate(Loss loss, batch_view<S> const& view, bool diagnose, bool accumulate = false) {
    using T = default_arithmetic_t<S>;
    loss.options.diagnose = diagnose;
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
void same_bits(Loss const& loss, batch_view<S> const& view) {
    for (bool const accumulate : {false, true}) {
        auto const with = evaluate(loss, view, true, accumulate), without = evaluate(loss, view, false, accumulate);
        CHECK(without.r.loss == with.r.loss);
        CHECK(same(without.grad, with.grad));
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
    lengths[40] = 1500;  // one that is far longer than the others
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

TEMPLATE_TEST_CASE("short sequences get the same bits with and without diagnostics", "[loss]", float, double, bf16) {
    for (double const outliers : {0.0, 0.0005}) {  // none; in some of the groups
        auto const b = sample<TestType>(outliers, 5);
        batch_view<TestType> const v = plain(b);
        same_bits(sequences, v);
        if constexpr (std::is_same_v<TestType, bf16>) continue;
        same_bits(tokens, v);
        batch_view<TestType> three = v;
        three.proximal_logp = b.proximal;
        same_bits(sequences, three);
        batch_view<TestType> one = v;
        one.advantages = {};
        auto per_sequence = b.sequence_advantages;
        one.sequence_advantages = per_sequence;
        same_bits(sequences, one);
        per_sequence[100] = static_cast<default_arithmetic_t<TestType>>(batches::nan);
        same_bits(sequences, one);
        std::vector<std::uint8_t> mask(b.tokens(), std::uint8_t{1});
        batch_view<TestType> masked = v;
        masked.loss_mask = mask;
        same_bits(sequences, masked);
        mask[700] = mask[2000] = 0;
        same_bits(sequences, masked);
        same_bits(tokens, masked);
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
