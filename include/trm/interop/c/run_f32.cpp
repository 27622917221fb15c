// SPDX-License-Identifier: Apache-2.0
// Losses in float arithmetic.
#include <trm/interop/c/typed_calls.hpp>

TRM_NAMESPACE_BEGIN
namespace c_api {
template struct typed_calls<float>;
template struct typed_calls<bf16>;
template struct typed_calls<f16>;
}  // namespace c_api
TRM_NAMESPACE_END
