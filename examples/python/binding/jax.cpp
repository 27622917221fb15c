// SPDX-License-Identifier: Apache-2.0
// The custom call behind trm.jax.
#include <trm/interop/xla_ffi.hpp>

#define TRM_PUBLIC __attribute__((visibility("default")))
extern "C" TRM_PUBLIC XLA_FFI_Error* trm_masked_loss(XLA_FFI_CallFrame* call_frame);
TRM_XLA_DEFINE(trm_masked_loss);
