// SPDX-License-Identifier: Apache-2.0
// Everything is included from the command line.

// g++ 12 can lose what a concept asks for, and take every type for a policy.
static_assert(!trm::divergence_policy<int> && !trm::mask_policy<int> && !trm::surrogate_policy<int>);
static_assert(!trm::weight_policy<int> && !trm::penalty_policy<int> && !trm::estimator_policy<int>);
