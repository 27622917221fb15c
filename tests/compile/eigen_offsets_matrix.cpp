// SPDX-License-Identifier: Apache-2.0
// expect: this matrix is a temporary, gone before its view is read; give it a name
#include <trm/interop/eigen.hpp>

bool viewed(Eigen::VectorXf const& logp, Eigen::VectorXf const& rollout_logp, Eigen::VectorXi const& cu_seqlens) {
#ifdef TRM_TEST_MISUSE
    return trm::eigen::batch(logp, rollout_logp, Eigen::VectorXi(cu_seqlens)).status.ok();
#else
    return trm::eigen::batch(logp, rollout_logp, cu_seqlens).status.ok();
#endif
}
