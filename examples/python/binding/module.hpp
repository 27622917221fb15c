// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace trm_python {

// Each adds its part to the module trm._trm.
void bind_losses(nanobind::module_& m);
void bind_logits(nanobind::module_& m);
void bind_correction(nanobind::module_& m);
void bind_advantages(nanobind::module_& m);
void bind_certificate(nanobind::module_& m);

}  // namespace trm_python
