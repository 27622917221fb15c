// SPDX-License-Identifier: Apache-2.0
// expect: this container is a temporary, gone before its view is read; give it a name
#include <trm/logits/gradient.hpp>

#include <vector>

trm::logits_gradient_in<float> input(std::vector<double> const& logsumexp, std::vector<float> const& d_logp) {
#ifdef TRM_TEST_MISUSE
    return {.logsumexp = logsumexp, .d_logp = std::vector<float>(d_logp.size())};
#else
    return {.logsumexp = logsumexp, .d_logp = d_logp};
#endif
}
