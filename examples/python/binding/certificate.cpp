// SPDX-License-Identifier: Apache-2.0
// Evidence of a step, and the certificate of the surrogate's error.
#include "batch.hpp"
#include "module.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <memory>
#include <optional>

namespace trm_python {
namespace {

class evidence {
public:
    evidence() {
        if (p_ == nullptr) throw std::bad_alloc();
    }
    void add(batch& b, nb::object rewards, nb::object groups, nb::object horizons, nb::object weights, nb::object kl,
             nb::object tv) {
        trm_outcomes outcomes = trm_outcomes_init();
        outcomes.rewards = b.per_sequence<double>(rewards, "rewards");
        outcomes.groups = b.per_sequence<std::int64_t>(groups, "groups");
        outcomes.horizons = b.per_sequence<std::int64_t>(horizons, "horizons");
        outcomes.weights = b.per_sequence<double>(weights, "weights");
        outcomes.kl = b.real_stream(kl, "kl");
        outcomes.tv = b.real_stream(tv, "tv");
        without_gil([&](trm_error* e) { return trm_evidence_add(p_.get(), &b.view(), &outcomes, scratch(), e); });
    }
    void merge(evidence const& other) {
        without_gil([&](trm_error* e) { return trm_evidence_merge(p_.get(), other.p_.get(), e); });
    }
    [[nodiscard]] std::string certificate(double reward_min, double reward_max, double level, std::uint64_t seed,
                                          std::int64_t horizon, std::int32_t resamples,
                                          std::optional<double> surrogate_gain) const {
        trm_certificate_options o = trm_certificate_options_init();
        o.reward_min = reward_min;
        o.reward_max = reward_max;
        o.level = level;
        o.seed = seed;
        o.horizon = horizon;
        o.resamples = resamples;
        o.has_surrogate_gain = surrogate_gain.has_value();
        o.surrogate_gain = surrogate_gain.value_or(0);
        char* json = nullptr;
        without_gil([&](trm_error* e) {
            json = trm_evidence_certificate(p_.get(), &o, e);
            return json == nullptr ? e->code : static_cast<std::int32_t>(TRM_OK);
        });
        std::unique_ptr<char, void (*)(char*)> const owner(json, trm_string_free);
        return json;
    }

private:
    struct freed {
        void operator()(trm_evidence* p) const noexcept { trm_evidence_free(p); }
    };
    std::unique_ptr<trm_evidence, freed> p_{trm_evidence_new()};
};

}  // namespace

void bind_certificate(nb::module_& m) {
    nb::object const none = nb::none();
    nb::class_<evidence>(m, "Evidence")
        .def(nb::init<>())
        .def("add", &evidence::add, nb::arg("batch"), nb::arg("rewards").none() = none, nb::arg("groups").none() = none,
             nb::arg("horizons").none() = none, nb::arg("weights").none() = none, nb::arg("kl").none() = none,
             nb::arg("tv").none() = none)
        .def("merge", &evidence::merge, nb::arg("other"))
        .def("certificate", &evidence::certificate, nb::arg("reward_min"), nb::arg("reward_max"), nb::arg("level"),
             nb::arg("seed"), nb::arg("horizon"), nb::arg("resamples"), nb::arg("surrogate_gain").none());
}

}  // namespace trm_python
