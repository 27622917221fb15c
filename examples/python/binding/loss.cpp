// SPDX-License-Identifier: Apache-2.0
// Losses: made from text, JSON and names; the call, and its phases for ranks and micro-batches.
#include "batch.hpp"
#include "diagnostics.hpp"
#include "module.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <cstddef>
#include <memory>

namespace trm_python {
namespace {

template <class T, void (*release)(T*)>
struct freed {
    void operator()(T* p) const noexcept { release(p); }
};
template <class T>
T* made(T* p) {
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

struct totals {
    std::unique_ptr<trm_totals, freed<trm_totals, trm_totals_free>> p{made(trm_totals_new())};
};
struct counts {
    std::unique_ptr<trm_counts, freed<trm_counts, trm_counts_free>> p{made(trm_counts_new())};
};
using numbers = nb::ndarray<nb::numpy, double, nb::ndim<1>>;

numbers view(nb::handle owner, double* data, std::int64_t n) {
    std::size_t const size = static_cast<std::size_t>(n);
    return {data, {size}, owner};
}

/// What a call writes, as the caller wants it.
struct results {
    output grad, keep, reasons, weights;
    trm_outputs out = trm_outputs_init();

    results(batch const& b, nb::handle grad_to, nb::handle keep_to, nb::handle reasons_to, nb::handle weights_to,
            double scale, bool accumulate) {
        auto const real = [&](nb::handle to, char const* name) {
            return b.is_double() ? make_output<double>(to, b.shape(), name) : make_output<float>(to, b.shape(), name);
        };
        grad = real(grad_to, "grad");
        keep = make_output<std::uint8_t>(keep_to, b.shape(), "keep");
        reasons = make_output<std::uint16_t>(reasons_to, b.shape(), "reasons");
        weights = real(weights_to, "weights");
        if (accumulate && grad_to.is(nb::handle(Py_True))) refuse("to accumulate, give the array as grad");
        out.grad.data = grad.data;
        out.keep.data = keep.data;
        out.reasons.data = reasons.data;
        out.weights.data = weights.data;
        out.loss_scale = scale;
        out.accumulate = accumulate;
    }
};

class loss {
public:
    explicit loss(trm_loss* p) : p_(p) {}
    template <class Make>
    [[nodiscard]] static loss from(Make const& make, std::string const& text) {
        trm_error error = trm_error_init();
        trm_loss* const p = make(text.c_str(), &error);
        if (p == nullptr) check(error.code, error);
        return loss(made(p));
    }
    [[nodiscard]] trm_loss const* get() const noexcept { return p_.get(); }

    nb::tuple call(batch const& b, nb::handle grad, nb::handle keep, nb::handle reasons, nb::handle weights,
                   bool diagnose, double scale, bool accumulate) const {
        return run(b, grad, keep, reasons, weights, diagnose, scale, accumulate,
                   [&](trm_outputs const& out, double* value, trm_diagnostics* d, trm_error* e) {
                       return trm_loss_call(get(), &b.view(), &out, nullptr, scratch(), value, d, e);
                   });
    }
    nb::tuple apply(batch const& b, totals const& t, counts const& n, nb::handle grad, nb::handle keep,
                    nb::handle reasons, nb::handle weights, bool diagnose, double scale, bool accumulate) const {
        return run(b, grad, keep, reasons, weights, diagnose, scale, accumulate,
                   [&](trm_outputs const& out, double* value, trm_diagnostics* d, trm_error* e) {
                       return trm_loss_apply(get(), &b.view(), t.p.get(), n.p.get(), &out, nullptr, scratch(), value, d,
                                             e);
                   });
    }
    totals measure(batch const& b) const {
        totals t;
        without_gil([&](trm_error* e) { return trm_loss_measure(get(), &b.view(), nullptr, scratch(), t.p.get(), e); });
        return t;
    }
    counts count(batch const& b, totals const& t) const {
        counts n;
        without_gil([&](trm_error* e) { return trm_loss_count(get(), &b.view(), scratch(), t.p.get(), n.p.get(), e); });
        return n;
    }

private:
    std::unique_ptr<trm_loss, freed<trm_loss, trm_loss_free>> p_;

    template <class F>
    static nb::tuple run(batch const& b, nb::handle grad, nb::handle keep, nb::handle reasons, nb::handle weights,
                         bool diagnose, double scale, bool accumulate, F const& f) {
        results const to(b, grad, keep, reasons, weights, scale, accumulate);
        double value = 0;
        auto diagnostics = diagnose ? std::make_unique<trm_diagnostics>(trm_diagnostics_init()) : nullptr;
        without_gil([&](trm_error* e) { return f(to.out, &value, diagnostics.get(), e); });
        nb::object shown = diagnose ? nb::cast(*diagnostics) : nb::none();
        return nb::make_tuple(value, to.grad.object, to.keep.object, to.reasons.object, to.weights.object, shown);
    }
};

void bind_diagnostics(nb::module_& m) {
    nb::class_<trm_diagnostics> cls(m, "Diagnostics",
                                    "What a batch looked like to a loss: counts, sums and extrema, which merge() adds, "
                                    "and what follows from them.\n"
                                    "Each number is explained in trm/loss/diagnostics.hpp.");
    for (auto const& [name, member] : diagnostic_numbers) cls.def_ro(name, member);
    auto const per_criterion = [&](char const* name, double(trm_diagnostics::* member)[TRM_MAX_CRITERIA],
                                   char const* doc) {
        cls.def_prop_ro(
            name,
            [member](trm_diagnostics const& d) { return std::vector<double>(d.*member, d.*member + TRM_MAX_CRITERIA); },
            doc);
    };
    per_criterion("rejected_tokens", &trm_diagnostics::rejected_tokens, "Tokens that criterion i rejects.");
    per_criterion("rejected_sequences", &trm_diagnostics::rejected_sequences,
                  "Sequences that criterion i rejects or of which it rejects a token.");
    cls.def(
        "merge",
        [](trm_diagnostics& into, trm_diagnostics const& from) {
            without_gil([&](trm_error* e) { return trm_diagnostics_merge(&into, &from, e); });
        },
        nb::arg("other"), "Adds the diagnostics of another part of the batch.");
    cls.def(
        "as_dict",
        [](trm_diagnostics const& self) {
            nb::dict d;
            for (auto const& [name, member] : diagnostic_numbers) d[name] = self.*member;
            return d;
        },
        nb::sig("def as_dict(self) -> dict[str, float]"), "All numbers by name, for a logger.");
}

}  // namespace

void bind_losses(nb::module_& m) {
    bind_diagnostics(m);

    nb::object const none = nb::none();
    nb::class_<batch>(m, "Batch")
        .def(nb::init<nb::object, nb::object, nb::object, nb::object, nb::object, nb::object, nb::object, nb::object,
                      nb::object, nb::object, nb::object, nb::object, nb::object>(),
             nb::arg("logp"), nb::arg("rollout_logp").none() = none, nb::arg("advantages").none() = none,
             nb::arg("loss_mask").none() = none, nb::arg("cu_seqlens").none() = none,
             nb::arg("proximal_logp").none() = none, nb::arg("ref_logp").none() = none, nb::arg("given").none() = none,
             nb::arg("token_weights").none() = none, nb::arg("sequence_advantages").none() = none,
             nb::arg("group_of").none() = none, nb::arg("sequence_of").none() = none,
             nb::arg("sequences").none() = none)
        .def_prop_ro("tokens", [](batch const& b) { return b.view().tokens; })
        .def_prop_ro("sequences", [](batch const& b) { return b.view().sequences; });

    nb::class_<totals>(m, "Totals",
                       "Statistics of each sequence. Between ranks that share sequences, add `sums` and take the\n"
                       "maximum of `maxima`, in place.")
        .def_prop_ro("sums",
                     [](nb::handle self) {
                         std::int64_t n = 0;
                         double* const p = trm_totals_sums(nb::cast<totals&>(self).p.get(), &n);
                         return view(self, p, n);
                     })
        .def_prop_ro("maxima",
                     [](nb::handle self) {
                         std::int64_t n = 0;
                         double* const p = trm_totals_maxima(nb::cast<totals&>(self).p.get(), &n);
                         return view(self, p, n);
                     })
        .def(
            "merge",
            [](totals& into, totals const& from) {
                without_gil([&](trm_error* e) { return trm_totals_merge(into.p.get(), from.p.get(), e); });
            },
            nb::arg("other"), "Adds the same sequences' statistics of other tokens.");

    nb::class_<counts>(
        m, "Counts",
        "What denominators are made of: six numbers, and for prompt_mean the tokens of each prompt. They\n"
        "add over ranks and micro-batches.")
        .def(nb::init<>())
        .def_prop_ro(
            "numbers",
            [](counts const& n) {
                std::vector<double> values(TRM_COUNTS);
                without_gil([&](trm_error* e) { return trm_counts_get(n.p.get(), values.data(), e); });
                return values;
            },
            "Tokens, kept tokens, sequences, kept sequences, sum of weights, what that is a sum over.")
        .def_prop_ro(
            "prompts",
            [](counts const& n) {
                std::vector<trm_prompt_tokens> all(static_cast<std::size_t>(trm_counts_prompts(n.p.get(), nullptr, 0)));
                trm_counts_prompts(n.p.get(), all.data(), static_cast<std::int64_t>(all.size()));
                nb::dict d;
                for (auto const& [id, tokens] : all) d[nb::cast(id)] = nb::cast(tokens);
                return d;
            },
            nb::sig("def prompts(self) -> dict[int, float]"), "Tokens by prompt id.")
        .def(
            "add",
            [](counts& n, std::vector<double> const& values, nb::dict prompts) {
                if (values.size() != TRM_COUNTS) refuse("counts have six numbers");
                std::vector<trm_prompt_tokens> all;
                for (auto const& [id, tokens] : prompts)
                    all.push_back({nb::cast<std::int64_t>(id), nb::cast<double>(tokens)});
                without_gil([&](trm_error* e) {
                    return trm_counts_add(n.p.get(), values.data(), all.data(), static_cast<std::int64_t>(all.size()),
                                          e);
                });
            },
            nb::arg("numbers"), nb::arg("prompts") = nb::dict(), "Adds numbers and prompts of another part.")
        .def(
            "merge",
            [](counts& into, counts const& from) {
                without_gil([&](trm_error* e) { return trm_counts_merge(into.p.get(), from.p.get(), e); });
            },
            nb::arg("other"), "Adds the counts of another part.");

    auto const to = [](nb::class_<loss>& cls, char const* name, auto f, auto... leading) {
        cls.def(name, f, leading..., nb::arg("grad") = true, nb::arg("keep") = true, nb::arg("reasons") = true,
                nb::arg("weights") = true, nb::arg("diagnostics") = true, nb::arg("loss_scale") = 1.0,
                nb::arg("accumulate") = false);
    };
    nb::class_<loss> cls(m, "Loss");
    cls.def_static("from_text", [](std::string const& text) { return loss::from(trm_loss_from_text, text); })
        .def_static("from_json", [](std::string const& text) { return loss::from(trm_loss_from_json, text); })
        .def_static("from_preset", [](std::string const& text) { return loss::from(trm_loss_from_preset, text); })
        .def_prop_ro("text", [](loss const& l) { return trm_loss_text(l.get()); })
        .def(
            "select", [](loss const& l, batch& b) { b.select(l.get()); }, nb::arg("batch"))
        .def("measure", &loss::measure, nb::arg("batch"))
        .def("count", &loss::count, nb::arg("batch"), nb::arg("totals"));
    to(cls, "call", &loss::call, nb::arg("batch"));
    to(cls, "apply", &loss::apply, nb::arg("batch"), nb::arg("totals"), nb::arg("counts"));

    m.def(
        "diagnostic_names",
        [] {
            // the numbers per criterion lie between the sums and what follows from them
            constexpr std::ptrdiff_t before =
                (offsetof(trm_diagnostics, rejected_tokens) - offsetof(trm_diagnostics, tokens)) / sizeof(double);
            std::vector<std::string> names;
            for (auto const& [name, member] : diagnostic_numbers) names.emplace_back(name);
            names.insert(names.begin() + before, 2 * TRM_MAX_CRITERIA, "");
            return names;
        },
        "Names of the numbers of a diagnostics tensor in order; empty for numbers per criterion.");
    m.def("preset_names", [] {
        std::vector<std::string> names;
        for (int i = 0; i < trm_preset_count(); ++i) names.emplace_back(trm_preset_name(i));
        return names;
    });
}

}  // namespace trm_python
