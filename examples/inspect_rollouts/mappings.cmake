cmake_minimum_required(VERSION 3.25)
# cmake -DPROGRAM=<inspect_rollouts> -DWORK=<scratch directory> -P mappings.cmake
# Files in the layouts that the named mappings are for; two files joined by id; what is said about a field that is missing.
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
include("${CMAKE_CURRENT_LIST_DIR}/expect.cmake")

# NeMo-RL: batches of one sequence, with prompt and padding.
file(WRITE "${WORK}/train_data_step3.jsonl" [=[
{"content": ["What is 1+1? 2"], "rewards": [1.0], "input_lengths": [4], "token_ids": [[7, 8, 9, 2, 0]], "token_loss_mask": [[0, 0, 1, 1, 0]], "sample_loss_mask": [1.0], "advantages": [[0.5, 0.5, 0.5, 0.5, 0.5]], "generation_logprobs": [[0.0, 0.0, -1.5, -0.25, 0.0]], "prev_logprobs": [[0.0, -3.25, -1.25, -0.5, NaN]], "idx": 0}
{"content": ["What is 1+2? 4"], "rewards": [0.0], "input_lengths": [5], "token_ids": [[7, 8, 9, 4, 2]], "token_loss_mask": [[0, 0, 1, 1, 1]], "sample_loss_mask": [1.0], "advantages": [[-0.5, -0.5, -0.5, -0.5, -0.5]], "generation_logprobs": [[0.0, 0.0, -1.75, -0.5, -0.125]], "prev_logprobs": [[0.0, -3.25, -1.5, -0.25, -0.125]], "idx": 1}
{"content": ["What is 1+3? 9"], "rewards": [0.0], "input_lengths": [5], "token_ids": [[7, 8, 9, 4, 2]], "token_loss_mask": [[0, 0, 1, 1, 1]], "sample_loss_mask": [0.0], "advantages": [[-0.5, -0.5, -0.5, -0.5, -0.5]], "generation_logprobs": [[0.0, 0.0, -1.75, -0.5, -0.125]], "prev_logprobs": [[0.0, -3.25, -1.5, -0.25, -0.125]], "idx": 2}
]=])
expect(0 "3 sequences, 15 tokens, 5 of them sampled" "" train_data_step3.jsonl --mapping nemo-rl --no-plots)
expect(0 "3 sequences, 15 tokens, 5 of them sampled" "" train_data_step3.jsonl --no-plots --fields
  "logp=prev_logprobs,rollout_logp=generation_logprobs,loss_mask=token_loss_mask[0],sample_mask=sample_loss_mask,advantage=advantages[]")
# The newcomer's first try, and what it is answered.
expect(1 "" "inspect_rollouts: train_data_step3.jsonl:1: logp is missing
  the line has: advantages[], content, generation_logprobs[], idx, input_lengths, prev_logprobs[], rewards, sample_loss_mask, token_ids[], token_loss_mask[]
  8 of these are names of nemo-rl: try --mapping nemo-rl
  if it is there under another name: --fields logp=NAME
  if not, log the trainer's log-probability of every sampled token under the current policy" train_data_step3.jsonl)
# One name that is wrong: the mapping is the nearest already.
expect(1 "" "logp (prev) is missing|names of nemo-rl: try --mapping nemo-rl" train_data_step3.jsonl --mapping nemo-rl --fields logp=prev)

# What the snippets of --mappings write.
function(one mapping line words)
  file(WRITE "${WORK}/${mapping}.jsonl" "${line}\n${line}\n")
  expect(0 "2 sequences${words}" "" ${mapping}.jsonl --mapping ${mapping} --no-plots)
  expect(1 "" "is missing|try --mapping ${mapping}" ${mapping}.jsonl)
endfunction()
one(slime [[{"sample_index": 5, "log_probs": [-1.0, -0.5], "rollout_log_probs": [-1.25, -0.5], "loss_masks": [1, 0], "advantages": [1.0, 1.0], "rewards": 1.0}]]
  ", 4 tokens, 2 of")
one(areal [[{"prox_logp": [0.0, -1.0, -0.5], "logprobs": [0.0, -1.25, -0.5], "loss_mask": [false, true, true], "advantages": [0.0, 1.0, 1.0], "rewards": 1.0}]]
  ", 6 tokens, 4 of")
one(verl [[{"uid": "c0ffee-1", "old_log_probs": [-1.0, -0.5], "rollout_log_probs": [-1.25, -0.5], "response_mask": [1, 1], "advantages": [1.0, 1.0]}]]
  " in 1 groups, 4 tokens, 4 of")
one(trl [[{"old_per_token_logps": [-1.0, -0.5], "sampling_per_token_logps": [-1.25, NaN], "completion_mask": [1, 0], "advantages": -0.5}]]
  ", 4 tokens, 2 of")
one(openrlhf [[{"action_log_probs": [-1.0, -0.5], "rollout_log_probs": [-1.25, -0.5], "action_mask": [true, true], "advantages": [1.0, 1.0]}]]
  ", 4 tokens, 4 of")
# Dumps without log-probabilities: what to log.
file(WRITE "${WORK}/verl_dump.jsonl" [[{"input": "q", "output": "a", "gts": "a", "score": 1.0, "step": 3}]])
expect(1 "" "logp is missing|the line has: gts, input, output, score, step|if not, log the trainer's log-probability" verl_dump.jsonl)

# A trainer's file and an engine's.
file(WRITE "${WORK}/masked_trainer.jsonl" [[
{"id": "a", "logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
{"id": "b", "logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
{"id": "c", "logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
{"id": "d", "logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
{"id": "e", "logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "loss_mask": [0, 1, 0, 1, 0], "token_ids": [1, 2, 3, 4, 5], "advantage": -1}
{"id": "f", "logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
]])
set(head "{\"object\": \"chat.completion\", \"choices\": [{\"index\": 0, \"message\": {\"content\": \"x\"}, \"logprobs\": {\"content\": [")
file(WRITE "${WORK}/chat.jsonl" "${head}{\"token\": \"x\", \"logprob\": -1.25, \"top_logprobs\": [{\"token\": \"x\", \"logprob\": -1.25}]}, {\"token\": \"y\", \"logprob\": -2.5, \"top_logprobs\": []}]}}], \"id\": \"a\"}
${head}{\"logprob\": -1.25}, {\"logprob\": -9.0}, {\"logprob\": -2.5}]}}], \"id\": \"b\"}
${head}{\"logprob\": -9.0}, {\"logprob\": -1.25}, {\"logprob\": -9.0}, {\"logprob\": -2.5}, {\"logprob\": null}]}}], \"id\": \"c\"}
${head}{\"logprob\": -1.25}]}}], \"id\": \"d\"}
${head}{\"logprob\": -1.25}, {\"logprob\": -2.5}]}, \"token_ids\": [2, 7]}], \"id\": \"e\"}
${head}{\"logprob\": -1.25}]}}], \"id\": \"g\"}
")
set(report "joined by id: 3 sequences, of 6 in masked_trainer.jsonl and 6 in chat.jsonl
  only in masked_trainer.jsonl: 1, f (line 6)
  only in chat.jsonl: 1, g (line 6)
  different numbers of tokens: 1, d: 5 tokens (2 with loss_mask 1) against 1
  different tokens: 1, e: token 1 is 4 against 7
")
expect(0 "${report}|3 sequences, 15 tokens, 6 of them sampled" "" --trainer masked_trainer.jsonl --rollout chat.jsonl --no-plots)
expect(1 "" "${report}  not everything matches (--strict)" --trainer masked_trainer.jsonl --rollout chat.jsonl --strict)
# The values are where they belong: the same as in one file.
file(WRITE "${WORK}/same.jsonl" [[{"logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "rollout_logp": [NaN, -1.25, NaN, -2.5, NaN], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
{"logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "rollout_logp": [NaN, -1.25, NaN, -2.5, NaN], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
{"logp": [-3.0, -1.0, -0.5, -2.0, -0.25], "rollout_logp": [NaN, -1.25, NaN, -2.5, NaN], "loss_mask": [0, 1, 0, 1, 0], "advantage": -1}
]])
execute_process(COMMAND "${PROGRAM}" same.jsonl --no-plots WORKING_DIRECTORY "${WORK}" OUTPUT_VARIABLE same)
execute_process(COMMAND "${PROGRAM}" --trainer masked_trainer.jsonl --rollout chat.jsonl --no-plots WORKING_DIRECTORY "${WORK}"
  OUTPUT_VARIABLE joined)
string(REGEX REPLACE ".*: 3 sequences, 15" "" same "${same}")
string(REGEX REPLACE ".*: 3 sequences, 15" "" joined "${joined}")
if(NOT same STREQUAL joined OR same STREQUAL "")
  message(SEND_ERROR "joined\n${joined}\nin one file\n${same}")
endif()

# The engines' other layouts.
function(join mapping line)
  file(WRITE "${WORK}/${mapping}.jsonl" "${line}\n")
  expect(0 "joined by id: 1 sequences, of 1 in two.jsonl and 1 in ${mapping}.jsonl\n\n|1 sequences, 2 tokens" "" two.jsonl
    --rollout ${mapping}.jsonl --rollout-mapping ${mapping} --no-plots)
endfunction()
file(WRITE "${WORK}/two.jsonl" [[{"id": "r-1", "logp": [-1.0, -0.5], "token_ids": [11, 12], "advantage": 1}]])
join(vllm-completions [[{"id": "r-1", "object": "text_completion", "choices": [{"index": 0, "text": "ab", "logprobs": {"text_offset": [0, 1], "token_logprobs": [-1.25, -0.5], "tokens": ["a", "b"], "top_logprobs": [{"a": -1.25}, {"b": -0.5}]}, "token_ids": [11, 12], "finish_reason": "stop"}]}]])
join(vllm-batch [[{"id": "vllm-77", "custom_id": "r-1", "response": {"status_code": 200, "request_id": "q", "body": {"id": "chatcmpl-1", "choices": [{"index": 0, "logprobs": {"content": [{"token": "a", "logprob": -1.25}, {"token": "b", "logprob": -0.5}]}}]}}, "error": null}]])
join(sglang [=[[{"text": "ab", "meta_info": {"id": "r-1", "output_token_logprobs": [[-1.25, 11, "a"], [-0.5, 12, null]], "completion_tokens": 2}}]]=])
expect(1 "" "sglang.jsonl:1: rollout_logp is missing|meta_info.output_token_logprobs[]|try --rollout-mapping sglang|--rollout-fields rollout_logp=NAME" two.jsonl --rollout sglang.jsonl)
# Ids of several names; ids that are not different; nothing that matches.
file(WRITE "${WORK}/n.jsonl" [[{"id": "r", "choices": [{"index": 0, "logprobs": {"content": [{"logprob": -1.0}]}}, {"index": 1, "logprobs": {"content": [{"logprob": -2.0}]}}]}]])
file(WRITE "${WORK}/n_trainer.jsonl" "{\"q\": \"r\", \"k\": 1, \"logp\": [-1], \"advantage\": 1}\n{\"q\": \"r\", \"k\": 0, \"logp\": [-1], \"advantage\": 1}\n")
expect(0 "joined by id: 2 sequences, of 2 in n_trainer.jsonl and 2 in n.jsonl\n\n" "" n_trainer.jsonl --fields id=q+k --rollout n.jsonl
  --rollout-fields "id=id+choices[].index" --no-plots)
expect(1 "" "n.jsonl:1: the id r is also in line 1; ids must be different (several names make one: --rollout-fields id=NAME+NAME)"
  n_trainer.jsonl --fields id=q+k --rollout n.jsonl)
expect(1 "" "joined by id: 0 sequences|nothing matches: name the ids with --fields id=NAME" n_trainer.jsonl --fields id=k --rollout chat.jsonl)
expect(1 "" "n_trainer.jsonl:1: id is missing|the line has: advantage, k, logp, q" n_trainer.jsonl --rollout chat.jsonl)
expect(0 "nemo-rl: NeMo-RL's train_data_step|torch.load|sampling_per_token_logps|e: the Experience|each" "" --mappings)
expect(1 "" "inspect_rollouts: which file?")
