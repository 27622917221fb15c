// SPDX-License-Identifier: Apache-2.0
#include "one_loss.hpp"

double TRM_TEST_UNIT();
double TRM_TEST_UNIT() { return one_loss(); }
