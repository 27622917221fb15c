// SPDX-License-Identifier: Apache-2.0
// Log-probabilities above 0 are counted in every stream that the batch has, also where no policy looks at it, and whatever else stands
// there.
#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/any_loss_extern.hpp>
#include <trm/loss/masked_loss.hpp>
#include <trm/loss/to_spec.hpp>
#include <trm/policy/surrogates.hpp>
#include <trm/reference/loss.hpp>

using namespace trm;

namespace {

/// Rows with whole tiles, whole registers, and neither; above 0 here and there in each stream, in lanes that loss_mask leaves out too.
/// What stands in proximal_logp is not always a number.
template <class T>
batches::ragged<T> some_above_zero(bool masked) {
    auto b = batches::make<T>({{0, 1, 5, 16, 47, 300, 1100, 2600}, false, masked ? 0.3 : 0.0, 0.0}, 8);
    b.token_weights.clear();
    for (std::size_t t = 0; t < b.tokens(); ++t) {
        if (masked) b.mask[t] = t % 5 != 2;
        if (t % 97 == 13) b.logp[t] = T(0.25);
        if (t % 101 == 20) b.rollout[t] = T(0.25);
        if (t % 89 == 40) b.proximal[t] = T(0.25);
        if (t % 211 == 7) b.proximal[t] = t % 2 == 0 ? T(batches::nan) : T(batches::inf);
        if (t % 422 == 218) b.logp[t] = T(0.25);  // and proximal_logp is not a number
    }
    return b;
}
template <class Loss, class T>
void check_count(Loss const& loss, batch_view<T> const& view) {
    double const want = reference::evaluate(loss, view).diagnostics.positive_logp_tokens;
    CHECK(want > 10);
    any_loss const at_run_time{to_spec(loss)};
    for (bool const all_outputs : {false, true}) {
        INFO((all_outputs ? "all outputs" : "the gradient alone"));
        auto const n = static_cast<std::size_t>(view.layout.extent());
        std::vector<T> grad(n);
        std::vector<std::uint16_t> reasons(n);
        outputs<T> out;
        out.grad = grad;
        if (all_outputs) out.reasons = reasons;
        CHECK(loss(view, out).diagnostics.positive_logp_tokens == want);
        CHECK(at_run_time(view, out).diagnostics.positive_logp_tokens == want);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("log-probabilities above 0 are counted, whether policies look at them or not", "[loss][unit]", float,
                   double) {
    for (bool const masked : {false, true})
        for (bool const with_proximal : {true, false}) {
            INFO((masked ? "masked " : "") << (with_proximal ? "proximal" : ""));
            auto const b = some_above_zero<TestType>(masked);
            auto view = b.view();
            if (!masked) view.loss_mask = {};
            if (!with_proximal) view.proximal_logp = {};
            auto const current = over<ratio_kind::current_over_rollout>(importance_ratio{});
            check_count(masked_loss{sequence_mask{k2{}, stat::max, at_most(50.0)}, current, token_mean{}}, view);
            check_count(masked_loss{token_mask{jensen_shannon{}, at_most(50.0)}, current, token_mean{}}, view);
            check_count(masked_loss{no_mask{}, ppo_clip{}, token_mean{}, token_weight{truncate_above(2)}}, view);
            check_count(masked_loss{no_mask{}, gspo{}, token_mean{}}, view);
        }
}
