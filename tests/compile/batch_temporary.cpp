// SPDX-License-Identifier: Apache-2.0
// expect: this container is a temporary, gone before its view is read; give it a name
#include <trm/core/batch_view.hpp>

#include <vector>

trm::batch_view<float> batch(std::vector<float> const& logp, std::vector<float>& rollout_logp) {
#ifdef TRM_TEST_MISUSE
    return {.logp = logp, .rollout_logp = std::move(rollout_logp)};
#else
    return {.logp = logp, .rollout_logp = rollout_logp};
#endif
}
