// SPDX-License-Identifier: Apache-2.0
// The half of loss_fast_math_test that is built with -ffast-math.
#include "loss_fast_math.hpp"

#ifndef __FAST_MATH__
#error "this file must be built with -ffast-math"
#endif

int run_fast_math(fast_math_call& c) {
    trm::batch_view<float> v;
    v.logp = {c.logp, c.tokens};
    v.rollout_logp = {c.rollout, c.tokens};
    v.advantages = {c.advantages, c.tokens};
    v.given = {c.given, c.tokens};
    v.loss_mask = {c.mask, c.tokens};
    v.layout = trm::packed{std::span<std::int64_t const>(c.cu, c.sequences + 1)};
    trm::outputs<float> out;
    out.grad = {c.grad, c.tokens};
    out.keep = {c.keep, c.tokens};
    out.reasons = {c.reasons, c.tokens};
    trm::result const r = fast_math_loss()(v, out);
    c.loss = r.loss;
    c.nonfinite = r.diagnostics.nonfinite_tokens;
    return static_cast<int>(r.status.code);
}
