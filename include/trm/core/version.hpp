// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(TRM_SINGLE_HEADER)
#error "the single header of trm is included already: it has what trm's separate headers have"
#endif

// The only place that states the version: CMake reads these three lines.
#define TRM_VERSION_MAJOR 0
#define TRM_VERSION_MINOR 1
#define TRM_VERSION_PATCH 0

#define TRM_VERSION (TRM_VERSION_MAJOR * 10000 + TRM_VERSION_MINOR * 100 + TRM_VERSION_PATCH)
