# The truth and a tiny study, with their plots where gnuplot is there.
file(REMOVE_RECURSE "${WORK}")
execute_process(COMMAND "${PROGRAM}" --truth --seeds 1 --engines int8 --stalenesses 0 16 --methods none ratio seq-is trm-max
  --out "${WORK}" RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
if(code OR NOT out MATCHES "int8, 16 updates behind: largest KL.*\n  seq-is +0\\.0000 ")
  message(SEND_ERROR "truth: ${code}\n${out}${err}")
endif()
execute_process(COMMAND "${PROGRAM}" --study smoke --out "${WORK}" RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
if(code)
  message(SEND_ERROR "study: ${code}\n${out}${err}")
endif()
foreach(plot IN ITEMS truth_gradients_int8 truth_bounds final_reward collapse kept learning_branch-T16-bf16-k4-adam0.01)
  if(GNUPLOT AND NOT EXISTS "${WORK}/plots/${plot}.png")
    message(SEND_ERROR "no ${plot}.png")
  endif()
endforeach()

# Several horizons, optimisers and noises: a plot over the horizon for each setting, and every two methods compared by seed.
execute_process(COMMAND "${PROGRAM}" --study custom --horizons 8 16 --optimisers adam sgd --noises 0 0.5 --methods none dppo ppo
  --seeds 2 --first-seed 3 --updates 3 --warm-start 2 --prompts 2 --out "${WORK}/custom"
  RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
if(code)
  message(SEND_ERROR "custom study: ${code}\n${out}${err}")
endif()
foreach(setting IN ITEMS bf16-k0-adam0.01 bf16-k0-sgd0.01 bf16-noise0.5-k0-adam0.01 bf16-noise0.5-k0-sgd0.01)
  if(GNUPLOT AND NOT EXISTS "${WORK}/custom/plots/horizons_branch-${setting}.png")
    message(SEND_ERROR "no plot over horizons of ${setting}")
  endif()
endforeach()
file(STRINGS "${WORK}/custom/pairs.csv" pairs)
list(LENGTH pairs number)
if(NOT number EQUAL 25 OR NOT pairs MATCHES "branch-T8-bf16-noise0.5-k0-sgd0.01,\"ppo\",\"dppo\",2,")
  message(SEND_ERROR "${number} lines in pairs.csv")  # a header and three pairs of eight scenarios
endif()
if(NOT EXISTS "${WORK}/custom/runs/branch-T16-bf16-k0-sgd0.01-ppo-seed4.csv")
  message(SEND_ERROR "--first-seed 3: no seed 4")
endif()
