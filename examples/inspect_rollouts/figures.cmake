cmake_minimum_required(VERSION 3.25)
# cmake -DPROGRAM=<inspect_rollouts> -DROOT=<repository> -DWORK=<scratch directory> [-DGNUPLOT=<program>] -P figures.cmake
# The numbers that examples/data/README.md and the library's bounds promise for the shipped rollouts, the output that
# the pages show, and the plots.
file(REMOVE_RECURSE "${WORK}")
execute_process(COMMAND "${PROGRAM}" examples/data/rollouts.jsonl --plots "${WORK}/plots" WORKING_DIRECTORY "${ROOT}"
  RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE err)
if(NOT result EQUAL 0 OR NOT err STREQUAL "")
  message(FATAL_ERROR "exit ${result}, stderr '${err}'")
endif()

set(mark "<!-- output: inspect_rollouts -->\n```\n")
string(LENGTH "${mark}" mark_length)
foreach(page IN ITEMS README.md examples/README.md)
file(READ "${ROOT}/${page}" rest)
string(FIND "${rest}" "${mark}" at)
if(at EQUAL -1)
  message(SEND_ERROR "${page} shows no output")
endif()
while(NOT at EQUAL -1)
  math(EXPR at "${at} + ${mark_length}")
  string(SUBSTRING "${rest}" ${at} -1 rest)
  string(FIND "${rest}" "\n```\n" end)
  string(SUBSTRING "${rest}" 0 ${end} shown)
  string(FIND "${out}" "${shown}" at)
  if(at EQUAL -1)
    message(SEND_ERROR "${page} shows\n${shown}\nand the output is\n${out}")
  endif()
  string(FIND "${rest}" "${mark}" at)
endwhile()
endforeach()

string(REGEX REPLACE " +" " " out "${out}")
foreach(line IN ITEMS
    "304 sequences in 38 groups, 40880 tokens, 39693 of them sampled by the policy"
    # behind, sequences, tokens, mean kl, mean k3, mean tv, |r-1|/2, mean r, max kl
    "\n0 112 14343 0.00107 0.00100 0.0095 0.0095 1.0008 1.109 "
    "\n2 96 13027 0.00864 0.00815 0.0333 0.0328 1.0005 1.295 "
    "\n4 96 12323 0.07118 0.07121 0.1070 0.1067 1.0030 2.581 "
    "\nno mask 100.0% 100.0% "
    "\nmax exact KL <= 0.101 keeps 90% <= 0.0272 keeps 70% <= 0.0137 keeps 50%\n"
    "\ndirect, worst reward estimated 0.06664 ["
    "\nblocks of 160 estimated 0.06664 ["
    "\nblocks of 64 estimated 1.079 ["
    "\nsecond moment estimated 0.9908 ["
    "\nsecond moment estimated 7.626 ["
    "\nsecond moment estimated 26.63 [")
  string(REPLACE "\n " "\n" out "${out}")
  string(FIND "${out}" "${line}" at)
  if(at EQUAL -1)
    message(SEND_ERROR "not in the output: ${line}")
  endif()
endforeach()
foreach(plot IN ITEMS divergence_by_position kept_by_threshold kept_by_ratio_band sampled_against_exact bounds_by_horizon
    bounds_by_block kept_by_error)
  if(GNUPLOT AND NOT EXISTS "${WORK}/plots/${plot}.png")
    message(SEND_ERROR "no ${plot}.png")
  endif()
endforeach()
file(GLOB left "${WORK}/plots/.*")
if(left)
  message(SEND_ERROR "left behind: ${left}")
endif()
