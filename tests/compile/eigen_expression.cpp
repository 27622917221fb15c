// SPDX-License-Identifier: Apache-2.0
// expect: this Eigen expression has no memory of its own; evaluate it into an array or matrix first
#include <trm/interop/eigen.hpp>

bool viewed(Eigen::MatrixXf const& logp, Eigen::MatrixXf const& rollout_logp) {
#ifdef TRM_TEST_MISUSE
    return trm::eigen::batch(logp, rollout_logp * 2).status.ok();
#else
    Eigen::MatrixXf const twice = rollout_logp * 2;
    return trm::eigen::batch(logp, twice).status.ok();
#endif
}
