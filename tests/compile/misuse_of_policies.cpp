// SPDX-License-Identifier: Apache-2.0
// Wrong arguments of single policies.
// expect: trm: token_mask takes a divergence, then a band
// expect: trm: token_mask takes a divergence, then a band
// expect: trm: sequence_mask takes a divergence, a statistic and a band
// expect: trm: sequence_mask takes a divergence, a statistic and a band
// expect: trm: this mask takes a divergence first, then its numbers and its band
// expect: trm: this mask takes a divergence first, then its numbers and its band
// expect: trm: this mask takes a divergence first, then its numbers and its band
// expect: trm: advantage_signed takes a divergence, then the bands for A > 0 and A < 0
// expect: trm: likely_signed takes a divergence, then the bands for A > 0 and A < 0 and the two least probabilities
// expect: trm: one number is not a band
// expect: trm: one number is not a bound of a weight
// expect: trm: kl_penalty takes a divergence that has a slope
// expect: trm: reference_kl takes a divergence that has a slope
#include <trm/policy/catalogue.hpp>

using namespace trm;

#ifdef TRM_TEST_MISUSE
token_mask const token_mask_arguments{within(0.5, 2), ratio{}};
token_mask const token_mask_surrogate{importance_ratio{}, within(0.5, 2)};
sequence_mask const sequence_mask_arguments{k2{}, at_most(0.05), stat::max};
sequence_mask const sequence_mask_statistic{k2{}, at_most(0.05)};
prefix_mask const selection_divergence{ppo_clip{}, at_most(0.1)};
away_sequence_mask const away_divergence{importance_ratio{}, stat::mean, at_most(0.1)};
segment_mask const segment_divergence{gspo{}, stat::mean, at_most(0.1)};
advantage_signed const signed_divergence{token_weight{}, at_most(0.1), at_most(0.1)};
likely_signed const likely_divergence{token_weight{}, at_most(0.1), at_most(0.1), 0.5, 0.5};
token_mask const number_as_band{k3{}, 0.1};
token_weight const number_as_bound{2.0};
kl_penalty const penalty_estimator{binary_kl{}, 0.1};
reference_kl const reference_estimator{jensen_shannon{}, 0.1};
#else
token_mask const token_mask_arguments{ratio{}, within(0.5, 2)};
token_mask const token_mask_surrogate{ratio{}, within(0.5, 2)};
sequence_mask const sequence_mask_arguments{k2{}, stat::max, at_most(0.05)};
sequence_mask const sequence_mask_statistic{k2{}, stat::max, at_most(0.05)};
prefix_mask const selection_divergence{k3{}, at_most(0.1)};
away_sequence_mask const away_divergence{k3{}, stat::mean, at_most(0.1)};
segment_mask const segment_divergence{k3{}, stat::mean, at_most(0.1)};
advantage_signed const signed_divergence{k3{}, at_most(0.1), at_most(0.1)};
likely_signed const likely_divergence{ratio{}, at_most(1.2), at_least(0.8), 0.5, 0.5};
token_mask const number_as_band{k3{}, at_most(0.1)};
token_weight const number_as_bound{truncate_above(2)};
kl_penalty const penalty_estimator{k3{}, 0.1};
reference_kl const reference_estimator{k3{}, 0.1};
#endif
