# Included by tests of inspect_rollouts, which set PROGRAM and WORK.

# expect(<exit code> <words that stdout has, or ""> <stderr has> <argument>...). Words are separated by |, all must be there.
function(expect code out err)
  execute_process(COMMAND "${PROGRAM}" ${ARGN} WORKING_DIRECTORY "${WORK}"
    RESULT_VARIABLE result OUTPUT_VARIABLE stdout ERROR_VARIABLE stderr)
  set(good TRUE)
  foreach(stream IN ITEMS out err)
    if("${${stream}}" STREQUAL "" AND NOT "${std${stream}}" STREQUAL "")
      set(good FALSE)
    endif()
    string(REPLACE "|" ";" all_words "${${stream}}")
    foreach(words IN LISTS all_words)
      string(FIND "${std${stream}}" "${words}" at)
      if(at EQUAL -1)
        set(good FALSE)
      endif()
    endforeach()
  endforeach()
  if(NOT result EQUAL code OR NOT good)
    message(SEND_ERROR "${ARGN}: expected exit ${code}, stdout '${out}', stderr '${err}'; "
      "got exit ${result}, stdout '${stdout}', stderr '${stderr}'")
  endif()
endfunction()
