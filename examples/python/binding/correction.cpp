// SPDX-License-Identifier: Apache-2.0
// verl's rollout correction: weights, mask and metrics from its own option strings.
#include "batch.hpp"
#include "module.hpp"

#include <nanobind/stl/string.h>
#include <algorithm>
#include <memory>
#include <trm/interop/c/diagnostics.hpp>
#include <trm/interop/metrics.hpp>
#include <trm/loss/spec.hpp>
#include <trm/loss/to_spec.hpp>

namespace trm_python {
namespace {

struct correction {
    trm::presets::verl_rejection rejection;
    trm::presets::verl_weight_bound bound;
    bool weights = false, per_token = false, normalise = false;
};

void must_be_read(trm::status const& s, std::string const& given) {
    if (!s.ok()) refuse(std::string(s.what) + ": \"" + given + "\" is not what verl reads");
}
trm::loss_spec spec_of(correction const& c) {
    trm::loss_spec spec;
    spec.mask = trm::presets::criteria_of(c.rejection);
    return spec;
}
/// Weights are those of verl with the mask from before rejection: a spec of their own.
trm::loss_spec weights_of(correction const& c) {
    using namespace trm;
    loss_spec spec;
    if (c.per_token && c.normalise) spec.weight = normalised{token_weight{c.bound.bound}};
    else if (c.per_token) spec.weight = token_weight{c.bound.bound};
    else if (c.normalise) spec.weight = normalised{sequence_weight{stat::sum, c.bound.bound}};
    else spec.weight = sequence_weight{stat::sum, c.bound.bound};
    return spec;
}

trm::diagnostics run(trm::loss_spec const& spec, trm_batch const& batch, trm_outputs const& out) {
    trm_diagnostics d = trm_diagnostics_init();
    trm_error error = trm_error_init();
    std::unique_ptr<trm_loss, void (*)(trm_loss*)> const loss(trm_loss_from_text(trm::print_spec(spec).c_str(), &error),
                                                              trm_loss_free);
    if (loss == nullptr) check(error.code, error);
    without_gil(
        [&](trm_error* e) { return trm_loss_call(loss.get(), &batch, &out, nullptr, scratch(), nullptr, &d, e); });
    return trm::c_api::from_c(d);
}

/// The padded batch in C++: what the metrics read.
template <class S>
trm::batch_view<S> cpp_view(trm_batch const& b) {
    auto const n = static_cast<std::size_t>(b.tokens);
    trm::batch_view<S> v;
    v.logp = trm::stream_view<S>(static_cast<S const*>(b.logp.data), n);
    v.rollout_logp = trm::stream_view<S>(static_cast<S const*>(b.rollout_logp.data), n);
    if (b.loss_mask.data != nullptr)
        v.loss_mask = trm::stream_view<std::uint8_t>(static_cast<std::uint8_t const*>(b.loss_mask.data), n);
    v.layout = trm::padded{b.sequences, b.max_tokens, b.row_stride};
    return v;
}
void add(nb::dict& to, trm::metrics const& from) {
    for (trm::metric const& m : from) to[m.name.c_str()] = m.value;
}
/// Sequences without a token.
double empty_rows(trm_batch const& b) {
    auto const* const mask = static_cast<std::uint8_t const*>(b.loss_mask.data);
    auto const is_empty = [&](std::int64_t i) {
        return std::all_of(mask + i * b.max_tokens, mask + (i + 1) * b.max_tokens, [](auto m) { return m == 0; });
    };
    double n = 0;
    for (std::int64_t i = 0; i < b.sequences; ++i) n += is_empty(i);
    return n;
}
template <class S>
void add_metrics(nb::dict& to, correction const& c, trm_batch const& b, double empty) {
    trm::batch_view<S> const view = cpp_view<S>(b);
    if (c.weights) add(to, trm::verl_weight_metrics(view, c.per_token, c.bound, c.normalise, empty));
    if (c.rejection.size > 0) add(to, trm::verl_rejection_metrics(view, c.rejection, empty));
}

nb::tuple rollout_correction(nb::object old_log_prob, nb::object rollout_log_prob, nb::object response_mask,
                             std::string const& rollout_is, std::string const& rollout_is_threshold, bool normalise,
                             std::string const& rollout_rs, std::string const& rollout_rs_threshold) {
    nb::object const none = nb::none();
    batch const b(old_log_prob, rollout_log_prob, none, response_mask, none, none, none, none, none, none, none, none,
                  none);
    correction c;
    c.weights = !rollout_is.empty();
    c.per_token = rollout_is == "token";
    c.normalise = normalise;
    if (c.weights && !c.per_token && rollout_is != "sequence")
        refuse("rollout_is must be \"token\", \"sequence\" or None, not \"" + rollout_is + "\"");
    if (c.weights)
        must_be_read((c.bound = trm::presets::verl_is_threshold(rollout_is_threshold)).status, rollout_is_threshold);
    if (!rollout_rs.empty()) {
        c.rejection = trm::presets::verl(rollout_rs, rollout_rs_threshold);
        must_be_read(c.rejection.status, rollout_rs + "\" with \"" + rollout_rs_threshold);
    }
    if (response_mask.is_none()) refuse("response_mask is missing");
    double const empty = empty_rows(b.view());
    if (empty == static_cast<double>(b.view().sequences))
        refuse("response_mask must contain at least one valid token (1)");

    std::vector<double> const no_advantages(static_cast<std::size_t>(b.view().sequences));  // 0 is 0 in float too
    trm_batch batch = b.view();
    batch.sequence_advantages = no_advantages.data();
    nb::handle const yes(Py_True);
    output weights;
    if (c.weights) {
        weights = b.is_double() ? make_output<double>(yes, b.shape(), "weights")
                                : make_output<float>(yes, b.shape(), "weights");
        trm_outputs out = trm_outputs_init();
        out.weights.data = weights.data;
        (void)run(weights_of(c), batch, out);
    }
    output const keep = make_output<std::uint8_t>(yes, b.shape(), "keep");
    trm_outputs out = trm_outputs_init();
    out.keep.data = keep.data;
    trm::diagnostics const d = run(spec_of(c), batch, out);

    nb::dict metrics;
    switch (batch.dtype) {
        case TRM_F32:
            add_metrics<float>(metrics, c, batch, empty);
            break;
        case TRM_F64:
            add_metrics<double>(metrics, c, batch, empty);
            break;
        case TRM_BF16:
            add_metrics<trm::bf16>(metrics, c, batch, empty);
            break;
        default:
            add_metrics<trm::f16>(metrics, c, batch, empty);
    }
    add(metrics, trm::verl_offpolicy_metrics(d, empty));
    return nb::make_tuple(weights.object, keep.object, metrics);
}

}  // namespace

void bind_correction(nb::module_& m) {
    m.def("rollout_correction", rollout_correction, nb::arg("old_log_prob"), nb::arg("rollout_log_prob"),
          nb::arg("response_mask"), nb::arg("rollout_is"), nb::arg("rollout_is_threshold"),
          nb::arg("rollout_is_batch_normalize"), nb::arg("rollout_rs"), nb::arg("rollout_rs_threshold"));
}

}  // namespace trm_python
