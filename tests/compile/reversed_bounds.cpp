// SPDX-License-Identifier: Apache-2.0
// Bounds whose order the compiler can see to be wrong.
// expect: trm: the lower bound is above the upper bound; the lower one comes first
// expect: trm: the lower bound is above the upper bound; the lower one comes first
// expect: trm: the lower bound is above the upper bound; the lower one comes first
// expect: trm: the lower bound is above the upper bound; the lower one comes first
// expect: trm: the lower bound is above the upper bound; the lower one comes first
// expect: trm: the lower bound is above the upper bound; the lower one comes first
#include <trm/policy/catalogue.hpp>

using namespace trm;

#ifdef TRM_TEST_MISUSE
auto bounds_of_within() { return within(2, 0.5); }
auto bounds_of_clamp_to() { return clamp_to(2, 0.5); }
auto bounds_of_zero_outside() { return zero_outside(2, 0.5); }
auto bounds_of_geometric_ratio_within() { return geometric_ratio_within(2, 0.5); }
auto bounds_of_product_ratio_within() { return product_ratio_within(2, 0.5); }
auto bounds_of_veto() { return veto(2, 0.5); }
#else
auto bounds_of_within() { return within(0.5, 2); }
auto bounds_of_clamp_to() { return clamp_to(0.5, 2); }
auto bounds_of_zero_outside() { return zero_outside(0.5, 2); }
auto bounds_of_geometric_ratio_within() { return geometric_ratio_within(0.5, 2); }
auto bounds_of_product_ratio_within() { return product_ratio_within(0.5, 2); }
auto bounds_of_veto() { return veto(0.5, 2); }
#endif
