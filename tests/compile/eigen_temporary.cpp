// SPDX-License-Identifier: Apache-2.0
// expect: this matrix is a temporary, gone before its view is read; give it a name
#include <trm/interop/eigen.hpp>

bool viewed(Eigen::MatrixXf const& logp, Eigen::MatrixXf const& rollout_logp) {
#ifdef TRM_TEST_MISUSE
    return trm::eigen::batch(logp, (rollout_logp * 2).eval()).status.ok();
#else
    return trm::eigen::batch(logp, rollout_logp.leftCols(2)).status.ok();
#endif
}
