// SPDX-License-Identifier: Apache-2.0
#include "module.hpp"

#include <nanobind/stl/string.h>
#include <trm/interop/c.h>
#include <string>

NB_MODULE(_trm, m) {
    m.doc() = "The C interface of trm for Python; the package trm is what to import.";
    m.def("version", [] {
        int const v = trm_version();
        return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
    });
    trm_python::bind_losses(m);
    trm_python::bind_logits(m);
    trm_python::bind_correction(m);
    trm_python::bind_certificate(m);
    trm_python::bind_advantages(m);
}
