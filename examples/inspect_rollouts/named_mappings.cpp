// SPDX-License-Identifier: Apache-2.0

// Names and layouts as of 2026: NeMo-RL nemo_rl/algorithms/grpo.py (7ea279a), slime slime/observability/train_data_utils.py
// (624b824), AReaL areal/trainer/ppo/actor.py and areal/infra/workflow_executor.py (4aef98d), verl
// verl/trainer/ppo/ray_trainer.py (b178a3c), TRL GRPOTrainer, OpenRLHF Experience, vLLM's OpenAI-compatible server,
// SGLang's /generate.
#include "mapping.hpp"

std::vector<named_mapping> const& named_mappings() {
    static std::vector<named_mapping> const all{
        {"native", "trm's own names, as in examples/data/rollouts.jsonl",
         "logp=logp,rollout_logp=rollout_logp,proximal_logp=proximal_logp,kl=kl,tv=tv,loss_mask=loss_mask,"
         "sample_mask=sample_mask,advantage=advantage,reward=reward,group=group,updates_behind=updates_behind,id=id,"
         "token_ids=token_ids",
         ""},
        {"nemo-rl", "NeMo-RL's train_data_step*.jsonl (GRPO writes one a step, one sequence a line)",
         "logp=prev_logprobs,rollout_logp=generation_logprobs,loss_mask=token_loss_mask,sample_mask=sample_loss_mask,"
         "advantage=advantages,reward=rewards,token_ids=token_ids,id=idx",
         ""},
        {"slime", "slime's --save-debug-train-data, a file of torch.save; as JSON lines:",
         "logp=log_probs,rollout_logp=rollout_log_probs,loss_mask=loss_masks,advantage=advantages,reward=rewards,"
         "id=sample_index",
         "import json, torch\n"
         "for s in torch.load('train_data/0.pt', weights_only=False)['samples']:\n"
         "    print(json.dumps({k: torch.as_tensor(s[k]).tolist() for k in ('sample_index', 'log_probs',\n"
         "        'rollout_log_probs', 'loss_masks', 'advantages', 'rewards')}))"},
        {"areal",
         "AReaL's rollout dumps hold text only; after compute_advantages has aligned both policies' log-probabilities, "
         "per "
         "trajectory:",
         "logp=prox_logp,rollout_logp=logprobs,loss_mask=loss_mask,advantage=advantages,reward=rewards",
         "keys = ('prox_logp', 'logprobs', 'loss_mask', 'advantages', 'rewards')\n"
         "with open('rollouts.jsonl', 'a') as f:  # data: what compute_advantages returns\n"
         "    for row in zip(*(data[k].tolist() for k in keys)): f.write(json.dumps(dict(zip(keys, row))) + '\\n')"},
        {"verl",
         "verl's rollout_data_dir holds text and scores only; after the advantages are computed, in the trainer's fit:",
         "logp=old_log_probs,rollout_logp=rollout_log_probs,loss_mask=response_mask,advantage=advantages,group=uid,"
         "reward=score",
         "keys = ('old_log_probs', 'rollout_log_probs', 'response_mask', 'advantages')\n"
         "with open('rollouts.jsonl', 'a') as f:  # batch: the DataProto\n"
         "    for u, *row in zip(batch.non_tensor_batch['uid'], *(batch.batch[k].tolist() for k in keys)):\n"
         "        f.write(json.dumps({'uid': u, **dict(zip(keys, row))}) + '\\n')"},
        {"trl", "TRL's GRPOTrainer writes no such file; in a subclass's _generate_and_score_completions:",
         "logp=old_per_token_logps,rollout_logp=sampling_per_token_logps,loss_mask=completion_mask,advantage="
         "advantages",
         "keys = ('old_per_token_logps', 'sampling_per_token_logps', 'completion_mask', 'advantages')\n"
         "with open('rollouts.jsonl', 'a') as f:  # out: what super()._generate_and_score_completions(inputs) "
         "returned\n"
         "    for row in zip(*(out[k].tolist() for k in keys)): f.write(json.dumps(dict(zip(keys, row))) + '\\n')"},
        {"openrlhf", "OpenRLHF writes no such file; where the advantages of an Experience have been computed:",
         "logp=action_log_probs,rollout_logp=rollout_log_probs,loss_mask=action_mask,advantage=advantages",
         "keys = ('action_log_probs', 'rollout_log_probs', 'action_mask', 'advantages')\n"
         "with open('rollouts.jsonl', 'a') as f:  # e: the Experience\n"
         "    for row in zip(*(getattr(e, k).tolist() for k in keys)): f.write(json.dumps(dict(zip(keys, row))) + "
         "'\\n')"},
        {"vllm", "responses of an OpenAI-compatible server (vLLM, SGLang) to chat requests with logprobs=true",
         "each=choices[],rollout_logp=choices[].logprobs.content[].logprob,token_ids=choices[].token_ids,id=id", ""},
        {"vllm-completions", "the same to completion requests with logprobs=1 (vLLM, SGLang)",
         "each=choices[],rollout_logp=choices[].logprobs.token_logprobs,token_ids=choices[].token_ids,id=id", ""},
        {"vllm-batch", "the output file of an OpenAI batch (vLLM run-batch) of chat requests with logprobs=true",
         "each=response.body.choices[],rollout_logp=response.body.choices[].logprobs.content[].logprob,"
         "token_ids=response.body.choices[].token_ids,id=custom_id",
         ""},
        {"sglang", "responses of SGLang's /generate with return_logprob=true",
         "rollout_logp=meta_info.output_token_logprobs[][0],token_ids=meta_info.output_token_logprobs[][1],"
         "id=meta_info.id",
         ""},
    };
    return all;
}
