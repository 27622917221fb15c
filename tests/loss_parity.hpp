// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "catch.hpp"
#include "loss_batch.hpp"

#include <trm/loss/masked_loss.hpp>
#include <trm/reference/loss.hpp>

#include <string>

/// Comparison of a loss with the oracle, and of two runs with each other.
namespace parity {

/// All outputs of one call.
template <class T>
struct run {
    std::vector<T> grad, weights;
    std::vector<std::uint8_t> keep;
    std::vector<std::uint16_t> reasons;
    trm::result result;

    explicit run(std::size_t n) : grad(n, T(7)), weights(n, T(7)), keep(n, 7), reasons(n, 7) {}
    trm::outputs<T> outputs() { return {grad, keep, reasons, weights, false, 1.0}; }
};
template <class T, class Loss, class S>
run<T> run_of(Loss const& loss, trm::batch_view<S> const& view, double loss_scale = 1,
              trm::selection_view const& chosen = {}) {
    run<T> r(static_cast<std::size_t>(view.layout.extent()));
    auto out = r.outputs();
    out.loss_scale = loss_scale;
    r.result = loss(view, chosen, out);
    REQUIRE(r.result.status.ok());
    return r;
}

/// Relative bounds: of single terms, of long sums of log-ratios inside an exponential, of mask decisions.
struct bounds {
    double term, product, decision;
    double tiny = 0;  ///< absolute, of gradients
};
template <class T>
constexpr bounds bounds_of = sizeof(T) == 8 ? bounds{1e-12, 1e-10, 1e-10} : bounds{2e-6, 1e-4, 1e-5};

inline bool near(double value, double want, double size, double bound) {
    return std::fabs(value - want) <= bound * std::fmax(std::fabs(want), size);  // false for NaN
}

/// First index at which `bad(i)` holds, or n.
template <class F>
std::size_t first(std::size_t n, F&& bad) {
    for (std::size_t i = 0; i < n; ++i)
        if (bad(i)) return i;
    return n;
}

/// `split`: sequences come in several runs, of which a token criterion counts those in which it rejects.
inline void check_diagnostics(trm::diagnostics const& d, trm::diagnostics const& want, bounds b, bool split = false) {
    using D = trm::diagnostics;
    double const n = want.tokens;
    auto const member = [&](char const* name, double D::* m, double size, double bound) {
        INFO("diagnostics." << name << " = " << d.*m << ", expected " << want.*m);
        CHECK(near(d.*m, want.*m, size, bound));
    };
#define TRM_MEMBER(name, size, bound) member(#name, &D::name, size, bound)
    for (auto m : {&D::tokens, &D::nonfinite_tokens, &D::positive_logp_tokens, &D::kept_tokens, &D::positive_tokens,
                   &D::negative_tokens, &D::clipped_positive, &D::clipped_negative})
        CHECK(d.*m == want.*m);
    TRM_MEMBER(sequences, 0, 1e-12);  // shares of runs
    TRM_MEMBER(kept_sequences, 0, 1e-12);
    TRM_MEMBER(measured_sequences, 0, 1e-12);
    TRM_MEMBER(sum_x, n, b.term);
    TRM_MEMBER(sum_k3, 0, 2 * b.term);
    TRM_MEMBER(sum_r_squared, 0, 3 * b.term);
    TRM_MEMBER(sum_logp, 0, b.term);
    TRM_MEMBER(kept_x, n, b.term);
    TRM_MEMBER(kept_k3, 0, 2 * b.term);
    TRM_MEMBER(max_x, 0, b.term);
    TRM_MEMBER(min_x, 0, b.term);
    TRM_MEMBER(sum_weight, 0, b.product);
    TRM_MEMBER(sum_weight_squared, 0, 2 * b.product);
    TRM_MEMBER(max_weight, 0, b.product);
    TRM_MEMBER(sum_log_ppl, 0, b.term);
    TRM_MEMBER(sum_rollout_log_ppl, 0, b.term);
    TRM_MEMBER(sum_ppl, 0, 10 * b.term);
    TRM_MEMBER(sum_rollout_ppl, 0, 10 * b.term);
    TRM_MEMBER(sum_ppl_ratio, 0, 10 * b.term);
    TRM_MEMBER(sum_log_ppl_abs_diff, 1, b.term);
    TRM_MEMBER(max_log_ppl_diff, 1, b.term);
    TRM_MEMBER(min_log_ppl_diff, 1, b.term);
    TRM_MEMBER(sum_seq_ratio, 0, b.product);
    TRM_MEMBER(sum_seq_ratio_squared, 0, 2 * b.product);
#undef TRM_MEMBER
    for (int i = 0; i < trm::max_criteria; ++i) {
        INFO("criterion " << i);
        CHECK(d.rejected_tokens[i] == want.rejected_tokens[i]);
        if (split) CHECK(d.rejected_sequences[i] <= want.rejected_sequences[i] * (1 + 1e-12));
        else CHECK(near(d.rejected_sequences[i], want.rejected_sequences[i], 0, 1e-12));
    }
}

/// Everything that a call yields against the oracle. `bound`: of gradient, weights and loss.
template <class T, class S>
void check(run<T> const& r, trm::reference::evaluation const& want, trm::batch_view<S> const& view, double bound,
           bounds b = bounds_of<T>) {
    auto const n = want.grad.size();
    INFO("nearest decision " << want.nearest_decision);
    REQUIRE(want.nearest_decision > b.decision);  // otherwise the batch is no fair test: choose another seed
    std::size_t at =
        first(n, [&](std::size_t i) { return r.keep[i] != want.keep[i] || r.reasons[i] != want.reasons[i]; });
    if (at < n) {
        INFO("token " << at << ": keep " << int(r.keep[at]) << " reasons " << r.reasons[at] << ", expected "
                      << int(want.keep[at]) << " " << want.reasons[at] << "; logp " << trm::to_float(view.logp[at])
                      << " rollout " << trm::to_float(view.rollout_logp[at]));
        CHECK(at == n);
    }
    at = first(n, [&](std::size_t i) {
        return !near(double(r.grad[i]), want.grad[i], want.grad_size[i] + b.tiny / bound, bound);
    });
    if (at < n) {
        INFO("token " << at << ": grad " << r.grad[at] << ", expected " << want.grad[at] << " size "
                      << want.grad_size[at] << "; logp " << trm::to_float(view.logp[at]) << " rollout "
                      << trm::to_float(view.rollout_logp[at]));
        CHECK(at == n);
    }
    at = first(n, [&](std::size_t i) { return !near(double(r.weights[i]), want.weights[i], 0, bound); });
    if (at < n) {
        INFO("token " << at << ": weight " << r.weights[at] << ", expected " << want.weights[at]);
        CHECK(at == n);
    }
    INFO("loss " << r.result.loss << ", expected " << want.loss << " size " << want.loss_size);
    CHECK(near(r.result.loss, want.loss, want.loss_size, bound));
    check_diagnostics(r.result.diagnostics, want.diagnostics, b, view.layout.is_segments());
}

template <class T, class Loss, class S>
trm::reference::evaluation compare(Loss const& loss, trm::batch_view<S> const& view, double bound = bounds_of<T>.term,
                                   double loss_scale = 1, trm::selection_view const& chosen = {}) {
    auto want = trm::reference::evaluate(loss, view, loss_scale, chosen);
    check(run_of<T>(loss, view, loss_scale, chosen), want, view, bound);
    return want;
}

}  // namespace parity
