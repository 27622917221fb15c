// SPDX-License-Identifier: Apache-2.0
// Log-probabilities, exact divergences and the gradient in the logits.
#include "array.hpp"
#include "module.hpp"

namespace trm_python {
namespace {

/// Logits [..., V] as a trm_logits, and what it refers to.
struct rows {
    array held;
    std::vector<std::byte> copy, mask_copy, row_copy;
    array mask, which;
    std::vector<std::int64_t> shape;  ///< without V
    trm_logits view = trm_logits_init();

    rows(nb::object logits, char const* name, double temperature, nb::object vocab_mask, nb::object row_mask)
        : held(logits, name), mask(vocab_mask, "vocab_mask"), which(row_mask, "row_mask") {
        if (!held.given() || held.shape().empty()) refuse(std::string(name) + " must have the shape [..., vocab]");
        if (!held.is_floating()) refuse(std::string(name) + " must have floating-point numbers");
        shape.assign(held.shape().begin(), held.shape().end() - 1);
        view.vocab = held.shape().back();
        view.rows = 1;
        for (std::int64_t const n : shape) view.rows *= n;
        view.dtype = static_cast<std::int32_t>(held.type());
        view.data = held.as(held.type(), copy);
        view.temperature = temperature;
        if (mask.given()) {
            if (mask.size() != view.vocab && mask.shape() != held.shape())
                refuse("vocab_mask must have the shape [vocab] or that of the logits");
            view.vocab_mask = mask.as<std::uint8_t>(mask_copy);
            view.vocab_mask_stride = mask.shape() == held.shape() && shape.size() > 0 ? view.vocab : 0;
        }
        if (which.given()) {
            if (which.shape() != shape) refuse("row_mask must have the shape of the logits without the vocabulary");
            view.row_mask = which.as<std::uint8_t>(row_copy);
        }
    }
    [[nodiscard]] bool is_double() const { return view.dtype == TRM_F64; }
    [[nodiscard]] output real(nb::handle wanted, char const* name) const {
        return is_double() ? make_output<double>(wanted, shape, name) : make_output<float>(wanted, shape, name);
    }
};
std::int64_t const* ids_of(array const& targets, rows const& l, std::vector<std::byte>& memory) {
    if (!targets.given() || targets.shape() != l.shape)
        refuse("targets must have the shape of the logits without the vocabulary, " + text(l.shape));
    return targets.as<std::int64_t>(memory);
}

nb::tuple log_prob(nb::object logits, nb::object targets, double temperature, nb::object vocab_mask,
                   nb::object row_mask, bool entropy, bool logsumexp) {
    rows const l(logits, "logits", temperature, vocab_mask, row_mask);
    array const ids(targets, "targets");
    std::vector<std::byte> memory;
    std::int64_t const* const id = ids_of(ids, l, memory);
    output const logp = l.real(nb::handle(Py_True), "logp"), h = l.real(nb::bool_(entropy), "entropy"),
                 lse = make_output<double>(nb::bool_(logsumexp), l.shape, "logsumexp");
    without_gil([&](trm_error* e) {
        return trm_log_prob(&l.view, id, TRM_I64, logp.data, static_cast<double*>(lse.data), h.data, nullptr, e);
    });
    return nb::make_tuple(logp.object, h.object, lse.object);
}

nb::tuple exact_divergence(nb::object mu, nb::object pi, double temperature_mu, double temperature_pi,
                           nb::object vocab_mask, nb::object row_mask) {
    rows const from(mu, "mu", temperature_mu, vocab_mask, row_mask), to(pi, "pi", temperature_pi, vocab_mask, row_mask);
    if (from.held.shape() != to.held.shape()) refuse("mu and pi must have the same shape");
    nb::handle const yes(Py_True);
    output const forward = from.real(yes, "kl"), backward = from.real(yes, "kl"), tv = from.real(yes, "tv");
    without_gil([&](trm_error* e) {
        return trm_exact_divergence(&from.view, &to.view, forward.data, backward.data, tv.data, nullptr, e);
    });
    return nb::make_tuple(forward.object, backward.object, tv.object);
}

nb::object logits_gradient(nb::object logits, nb::object targets, nb::object logsumexp, nb::object d_logp,
                           nb::object d_entropy, nb::object entropy, double temperature, nb::object vocab_mask,
                           nb::object row_mask) {
    rows const l(logits, "logits", temperature, vocab_mask, row_mask);
    element const real = l.is_double() ? element::f64 : element::f32;
    array const ids(targets, "targets"), lse(logsumexp, "logsumexp"), up(d_logp, "d_logp"),
        up_h(d_entropy, "d_entropy"), h(entropy, "entropy");
    for (array const* a : {&lse, &up, &up_h, &h})
        if (a->given() && a->shape() != l.shape)
            refuse(std::string(a->name()) + " must have the shape of the logits without the vocabulary");
    std::vector<std::byte> memory[5];
    std::int64_t const* const id = ids_of(ids, l, memory[0]);
    auto const number = [&](array const& a, int i) { return a.given() ? a.as(real, memory[i]) : nullptr; };
    auto const* const at = lse.given() ? lse.as<double>(memory[1]) : nullptr;
    void const *const d = number(up, 2), *const dh = number(up_h, 3), *const value = number(h, 4);
    nb::handle const yes(Py_True);
    output const out = l.held.type() == element::f64   ? make_output<double>(yes, l.held.shape(), "gradient")
                       : l.held.type() == element::f32 ? make_output<float>(yes, l.held.shape(), "gradient")
                                                       : make_output<std::uint16_t>(yes, l.held.shape(), "gradient");
    without_gil([&](trm_error* e) {
        return trm_logits_gradient(&l.view, id, TRM_I64, at, d, dh, value, out.data, 0, TRM_OVERWRITE, nullptr, e);
    });
    if (l.held.type() == element::f16) return out.object.attr("view")("float16");
    if (l.held.type() == element::bf16)
        return out.object.attr("view")(nb::module_::import_("ml_dtypes").attr("bfloat16"));
    return out.object;
}

}  // namespace

void bind_logits(nb::module_& m) {
    nb::object const none = nb::none();
    m.def("log_prob", log_prob, nb::arg("logits"), nb::arg("targets"), nb::arg("temperature") = 1.0,
          nb::arg("vocab_mask").none() = none, nb::arg("row_mask").none() = none, nb::arg("entropy") = false,
          nb::arg("logsumexp") = false);
    m.def("exact_divergence", exact_divergence, nb::arg("mu"), nb::arg("pi"), nb::arg("temperature_mu") = 1.0,
          nb::arg("temperature_pi") = 1.0, nb::arg("vocab_mask").none() = none, nb::arg("row_mask").none() = none);
    m.def("logits_gradient", logits_gradient, nb::arg("logits"), nb::arg("targets"), nb::arg("logsumexp"),
          nb::arg("d_logp"), nb::arg("d_entropy").none() = none, nb::arg("entropy").none() = none,
          nb::arg("temperature") = 1.0, nb::arg("vocab_mask").none() = none, nb::arg("row_mask").none() = none);
}

}  // namespace trm_python
