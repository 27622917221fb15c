// SPDX-License-Identifier: Apache-2.0
// expect: a column is a sequence, so matrices must be column-major; pass the transpose of a row-major one
#include <trm/interop/eigen.hpp>

using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

bool viewed(rows const& logp, rows const& rollout_logp) {
#ifdef TRM_TEST_MISUSE
    return trm::eigen::batch(logp, rollout_logp).status.ok();
#else
    return trm::eigen::batch(logp.transpose(), rollout_logp.transpose()).status.ok();
#endif
}
