// SPDX-License-Identifier: Apache-2.0
#include "one_loss.hpp"

double instantiate();
double instantiate() { return one_loss() + one_loss<trm::simd::scalar>(); }
