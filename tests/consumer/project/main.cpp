// SPDX-License-Identifier: Apache-2.0
#include <trm/core/config.hpp>
#include <xsimd/xsimd.hpp>

int main() { return TRM_VERSION > 0 ? 0 : 1; }
