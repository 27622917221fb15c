cmake_minimum_required(VERSION 3.25)
# cmake -DPROGRAM=<inspect_rollouts> -DWORK=<scratch directory> [-DGZIP=<program>] -P foreign_files.cmake
# Logs as trainers and rollout engines write them, not for this program: names, masks, values that are not finite, arrays.
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
include("${CMAKE_CURRENT_LIST_DIR}/expect.cmake")

# accept(<file> <content> <words that stdout has> <argument>...): and nothing on stderr.
function(accept name content words)
  file(WRITE "${WORK}/${name}" "${content}")
  expect(0 "${words}" "" ${name} --no-plots ${ARGN})
endfunction()

set(all "2 sequences, 4 tokens, 3 of them sampled by the policy")

# Masks as true and false, or as floats.
accept(booleans.jsonl [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[true,false],"advantage":1}
{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[true,true],"advantage":-1}]] "${all}")
accept(floats.jsonl [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1.0,0.0],"advantage":1}
{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1.0,1.0],"advantage":-1}]] "${all}")

# Groups as strings, as hashes of any length, as numbers.
accept(groups.jsonl [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,0],"advantage":1,"group":"what is 1+1?"}
{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,1],"advantage":-1,"group":"what is 1+2?"}]]
  "2 sequences in 2 groups, 4 tokens")
accept(hashes.jsonl [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,0],"advantage":1,"group":340282366920938463463374607431768211455}
{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,1],"advantage":1,"group":340282366920938463463374607431768211454}
{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,1],"advantage":-1,"group":340282366920938463463374607431768211455}]]
  "3 sequences in 2 groups, 6 tokens")
accept(negative.jsonl [[{"logp":[-1],"rollout_logp":[-1.5],"advantage":1,"group":-7}
{"logp":[-1],"rollout_logp":[-1.5],"advantage":1,"group":-7}]] "2 sequences in 1 groups")

# An advantage for each token; the loss is that of the same advantage once.
accept(per_token.jsonl [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,0],"advantage":[1,NaN]}
{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,1],"advantage":[-1,-0.5]}]] "${all}|+0.166667")

# What is not finite at masked slots says nothing.
accept(masked.jsonl [[{"logp":[NaN,-1,null],"rollout_logp":[-Infinity,-1.5,Infinity],"loss_mask":[0,1,0],"advantage":1}
{"logp":[null,-1,1e5],"rollout_logp":["NaN",-1.5,-9999],"loss_mask":[0,1,0],"advantage":1}]]
  "masked.jsonl: 2 sequences, 6 tokens, 2 of them sampled")
execute_process(COMMAND "${PROGRAM}" masked.jsonl --no-plots --strict WORKING_DIRECTORY "${WORK}" OUTPUT_VARIABLE out)
if(NOT out MATCHES "^masked.jsonl: 2 sequences")
  message(SEND_ERROR "masked slots are warned of: ${out}")
endif()

# Elsewhere it is counted and named, and the rest is still computed.
set(not_finite [[{"logp":[-1,NaN,-1],"rollout_logp":[-1.5,-1,null],"loss_mask":[1,1,1],"advantage":1}
{"logp":[-1,-2,-Infinity],"rollout_logp":[-1.5,Infinity,null],"loss_mask":[1,1,1],"advantage":null}]])
accept(not_finite.jsonl "${not_finite}"
  "warning: 6 values are not finite|line 1 logp[1] is NaN, line 1 rollout_logp[2] is null, line 2 logp[2] is -Infinity, line 2 rollout_logp[1] is Infinity, line 2 rollout_logp[2] is null and 1 more|no mask ")
expect(1 "" "not_finite.jsonl:1: logp[1] is NaN, and the policy sampled the token (--strict)" not_finite.jsonl --strict)
accept(one.jsonl [[{"logp":[-1,-1,-1],"rollout_logp":[-1.5,-1,null],"advantage":1,"reward":null}
{"logp":[-1,-1],"rollout_logp":[-1.5,-1],"advantage":1,"reward":1}]]
  "warning: 2 values are not finite|line 1 rollout_logp[2] is null, line 1 reward is null\n|1 sequences left out (not finite)")
# A positive log-probability too, beyond rounding.
set(positive [[{"logp":[-1,0.5],"rollout_logp":[-1.5,0.001],"loss_mask":[1,1],"advantage":1}]])
accept(positive.jsonl "${positive}" "warning: 1 log-probability is positive at tokens that the policy sampled: line 1 logp[1] is positive")
expect(1 "" "positive.jsonl:1: logp[1] is positive, and the policy sampled the token (--strict)" positive.jsonl --strict)

# An array instead of lines, on one line or many; objects over several lines; a byte order mark; lines that hold arrays.
set(a [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,0],"advantage":1}]])
set(b [[{"logp":[-1,-2],"rollout_logp":[-1.5,-2],"loss_mask":[1,1],"advantage":-1}]])
accept(array.json "[${a},${b}]" "${all}")
accept(pretty.json "[\n  ${a},\n  ${b}\n]\n" "${all}")
accept(arrays.jsonl "[${a}]\n[]\n[${b}]\n" "${all}")
accept(objects.json "{\n  \"logp\": [\n    -1,\n    -2\n  ],\n  \"rollout_logp\": [-1.5, -2],\n  \"loss_mask\": [1, 0], \"advantage\": 1\n}\n${b}" "${all}")
string(ASCII 239 187 191 mark)
accept(mark.jsonl "${mark}${a}\n${b}" "${all}")

# gzip, also cut short; other formats are named.
if(GZIP)
  execute_process(COMMAND "${GZIP}" -kf array.json COMMAND_ERROR_IS_FATAL ANY WORKING_DIRECTORY "${WORK}")
  expect(0 "${all}" "" array.json.gz --no-plots)
  execute_process(COMMAND head -c 60 array.json.gz COMMAND_ERROR_IS_FATAL ANY WORKING_DIRECTORY "${WORK}" OUTPUT_FILE cut.gz)
  expect(1 "" "inspect_rollouts: cut.gz: the gzip file is cut short" cut.gz)
  execute_process(COMMAND "${GZIP}" -dc array.json.gz COMMAND "${PROGRAM}" - --no-plots WORKING_DIRECTORY "${WORK}"
    OUTPUT_VARIABLE out)
  if(NOT out MATCHES "${all}")
    message(SEND_ERROR "standard input: ${out}")
  endif()
endif()
string(ASCII 3 4 zip)
file(WRITE "${WORK}/0.pt" "PK${zip}")
expect(1 "" "0.pt: this is a zip archive, as torch.save|--mappings" 0.pt)
file(WRITE "${WORK}/0.parquet" "PAR1....PAR1")
expect(1 "" "0.parquet: this is a Parquet file" 0.parquet)

# Field names, dotted and indexed.
accept(names.jsonl [=[{"train":{"new.lp":1,"lp":[-1,-2]},"engine":{"content":[{"logprob":-1.5,"token":"a"},{"logprob":-2}]},"adv":[0,[1]],"m":[1,0]}
{"train":{"lp":[-1,-2]},"engine":{"content":[{"logprob":-1.5},{"logprob":-2}]},"adv":[0,[-1]],"m":[1,1]}]=] "${all}"
  --fields "logp=train.lp,rollout_logp=engine.content[].logprob,advantage=adv[1],loss_mask=m")
# Turns: one list after another.
accept(turns.jsonl [[{"turns":[{"lp":[-1],"mu":[-1.5]},{"lp":[-2],"mu":[-2]}],"advantage":1}
{"turns":[{"lp":[-1,-2],"mu":[-1,-2]}],"advantage":1}]] "2 sequences, 4 tokens, 4 of them sampled"
  --fields "logp=turns[].lp,rollout_logp=turns[].mu")
# Many sequences in an object.
accept(each.json [[{"step":3,"prompt":"x","samples":[{"lp":[-1,-2],"mu":[-1,-2],"a":1},{"lp":[-1,-2],"mu":[-1,-2],"a":0}]}]]
  "2 sequences in 1 groups, 4 tokens" --fields "each=samples[],logp=samples[].lp,rollout_logp=samples[].mu,advantage=samples[].a,group=prompt")
expect(1 "" "--fields: there is no field 'logprob', fields are logp," names.jsonl --fields logprob=x)
expect(1 "" "'a[' is not a path of names: a [ without ]" names.jsonl --fields "logp=a[")
expect(1 "" "there is no mapping 'nemo', mappings are native, nemo-rl," names.jsonl --mapping nemo)
