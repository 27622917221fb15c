// SPDX-License-Identifier: Apache-2.0
#include <trm/core/config.hpp>

TRM_NAMESPACE_BEGIN
inline int twice(int x) { return 2 * x; }
TRM_NAMESPACE_END

int TRM_TEST_UNIT(int x);
int TRM_TEST_UNIT(int x) { return trm::twice(x); }
