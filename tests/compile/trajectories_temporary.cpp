// SPDX-License-Identifier: Apache-2.0
// expect: this container is a temporary, gone before its view is read; give it a name
#include <trm/bounds/trajectories.hpp>

#include <vector>

void reward(trm::bounds::trajectories<float>& batch, std::vector<double> const& rewards) {
#ifdef TRM_TEST_MISUSE
    batch.rewards = std::vector<double>(rewards.size(), 1.0);
#else
    batch.rewards = rewards;
#endif
}
