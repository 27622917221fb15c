// SPDX-License-Identifier: Apache-2.0
#include <trm/core/config.hpp>

int second();
int second() { return TRM_VERSION; }
