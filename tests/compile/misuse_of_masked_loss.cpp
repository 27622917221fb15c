// SPDX-License-Identifier: Apache-2.0
// Policies in the wrong place of masked_loss: every line of the second half is refused by its own sentence.
// expect: trm: the surrogate is the second argument of masked_loss; the mask comes first
// expect: trm: a divergence alone is not a mask; give it a band
// expect: trm: the first argument of masked_loss is the mask
// expect: trm: the second argument of masked_loss is the surrogate; criteria of one mask are joined by &&
// expect: trm: the second argument of masked_loss is the surrogate, for example ppo_clip{}
// expect: trm: the third argument of masked_loss is the aggregation
// expect: trm: masked_loss takes a mask, a surrogate and an aggregation
// expect: trm: the fourth argument of masked_loss is the weight, and penalties follow it
// expect: trm: the fourth argument of masked_loss is the weight, for example
// expect: trm: a loss has one weight, the fourth argument; penalties follow it
// expect: trm: a divergence alone is not a penalty; give it a coefficient
// expect: trm: from the fifth argument on masked_loss takes penalties
// expect: trm: the template arguments of masked_loss are all_of<Criteria...>, the surrogate, the weight
#include <trm/loss/masked_loss.hpp>
#include <trm/policy/surrogates.hpp>

using namespace trm;

#ifdef TRM_TEST_MISUSE
masked_loss const surrogate_first{ppo_clip{}, token_mask{k3{}, at_most(0.1)}, token_mean{}};
masked_loss const divergence_as_mask{k3{}, ppo_clip{}, token_mean{}};
masked_loss const no_mask_first{at_most(0.1), ppo_clip{}, token_mean{}};
masked_loss const masks_apart{token_mask{k3{}, at_most(0.1)}, token_mask{k3{}, at_most(0.1)}, ppo_clip{}, token_mean{}};
masked_loss const no_surrogate{no_mask{}, token_mean{}, ppo_clip{}};
masked_loss const no_aggregation{no_mask{}, ppo_clip{}, token_weight{}, token_mean{}};
masked_loss const too_few{no_mask{}, ppo_clip{}};
masked_loss const penalty_as_weight{no_mask{}, ppo_clip{}, token_mean{}, kl_penalty{k3{}, 0.1}};
masked_loss const surrogate_as_weight{no_mask{}, ppo_clip{}, seq_mean_token_mean{}, gspo{}};
masked_loss const two_weights{no_mask{}, ppo_clip{}, token_mean{}, token_weight{}, normalised{token_weight{}}};
masked_loss const divergence_as_penalty{no_mask{}, ppo_clip{}, token_mean{}, no_weight{}, k3{}};
masked_loss const no_penalty{no_mask{}, ppo_clip{}, token_mean{}, no_weight{}, 0.1};
using spelled_loss = masked_loss<token_mask<k3>, ppo_clip>;
int const spelled_size = sizeof(spelled_loss);
#else
masked_loss const surrogate_first{token_mask{k3{}, at_most(0.1)}, ppo_clip{}, token_mean{}};
masked_loss const divergence_as_mask{token_mask{k3{}, at_most(0.1)}, ppo_clip{}, token_mean{}};
masked_loss const no_mask_first{no_mask{}, ppo_clip{}, token_mean{}};
masked_loss const masks_apart{token_mask{k3{}, at_most(0.1)} && token_mask{k3{}, at_most(0.1)}, ppo_clip{},
                              token_mean{}};
masked_loss const no_surrogate{no_mask{}, ppo_clip{}, token_mean{}};
masked_loss const no_aggregation{no_mask{}, ppo_clip{}, token_mean{}, token_weight{}};
masked_loss const too_few{no_mask{}, ppo_clip{}, token_mean{}};
masked_loss const penalty_as_weight{no_mask{}, ppo_clip{}, token_mean{}, no_weight{}, kl_penalty{k3{}, 0.1}};
masked_loss const surrogate_as_weight{no_mask{}, gspo{}, seq_mean_token_mean{}, token_weight{}};
masked_loss const two_weights{no_mask{}, ppo_clip{}, token_mean{}, token_weight{}};
masked_loss const divergence_as_penalty{no_mask{}, ppo_clip{}, token_mean{}, no_weight{}, kl_penalty{k3{}, 0.1}};
masked_loss const no_penalty{no_mask{}, ppo_clip{}, token_mean{}, no_weight{}, squared_log_ratio{0.1}};
using spelled_loss = masked_loss<all_of<token_mask<k3>>, ppo_clip>;
int const spelled_size = sizeof(spelled_loss);
#endif
