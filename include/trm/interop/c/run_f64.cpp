// SPDX-License-Identifier: Apache-2.0
// Losses in double arithmetic.
#include <trm/interop/c/typed_calls.hpp>

TRM_NAMESPACE_BEGIN
namespace c_api {
template struct typed_calls<double>;
}  // namespace c_api
TRM_NAMESPACE_END
