// SPDX-License-Identifier: Apache-2.0
#include <trm/core/config.hpp>

int first();
int first() { return TRM_VERSION; }
