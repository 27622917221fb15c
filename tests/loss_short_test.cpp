// SPDX-License-Identifier: Apache-2.0
// Many short sequences, in groups: without diagnostics they get the bits that they get with them.
#include "loss_short.hpp"

using namespace trm;
using namespace short_sequences;

namespace {

template <class S, class Loss>
void same_bits(Loss const& loss, batch_view<S> const& view) {
    for (bool const accumulate : {false, true}) {
        auto const with = evaluate(loss, view, true, accumulate), without = evaluate(loss, view, false, accumulate);
        CHECK(without.r.loss == with.r.loss);
        CHECK(same(without.grad, with.grad));
    }
}

}  // namespace

TEMPLATE_TEST_CASE("short sequences get the same bits with and without diagnostics", "[loss]", float, double, bf16) {
    each_view<TestType>([](batch_view<TestType> const& v) {
        same_bits(sequences, v);
        if constexpr (!std::is_same_v<TestType, bf16>) same_bits(tokens, v);
        if constexpr (std::is_same_v<TestType, float>)
            same_bits(masked_loss{sequences.mask, kl_cov{0.3, 0.05}, token_mean{}}, v);
    });
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

TEST_CASE("a loss writes the same whichever outputs are wanted", "[loss]") {
    each_view<float>([](batch_view<float> const& v) {
        same_outputs(sequences, v);
        same_outputs(tokens, v);
        same_outputs(in_two_passes, v);
    });
}
