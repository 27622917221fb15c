// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <trm/core/version.hpp>

#include <string>

TEST_CASE("the version that CMake read is the version in the header", "[unit]") {
    const std::string header = std::to_string(TRM_VERSION_MAJOR) + "." + std::to_string(TRM_VERSION_MINOR) + "." +
                               std::to_string(TRM_VERSION_PATCH);
    CHECK(header == TRM_TEST_CMAKE_VERSION);
    CHECK(TRM_VERSION == TRM_VERSION_MAJOR * 10000 + TRM_VERSION_MINOR * 100 + TRM_VERSION_PATCH);
}
