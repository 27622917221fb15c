// SPDX-License-Identifier: Apache-2.0
// expect: trm needs C++20: add -std=c++20
#include <trm/core/config.hpp>
