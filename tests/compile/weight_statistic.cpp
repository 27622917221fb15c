// SPDX-License-Identifier: Apache-2.0
// expect: trm: a sequence weight is a product (stat::sum) or a geometric mean (stat::mean)
#include <trm/policy/weight.hpp>

#if defined(TRM_TEST_MISUSE)
trm::sequence_weight<trm::stat::max_t> const weight{trm::stat::max};
#else
trm::sequence_weight<trm::stat::mean_t> const weight{trm::stat::mean};
#endif
