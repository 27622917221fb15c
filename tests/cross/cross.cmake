# cmake -DCXX=<compiler> -DFILES=<file>... -DOPTIONS=<flag>... -DEMULATOR=<command>... -DWORK_DIR=<dir> -P cross.cmake
file(MAKE_DIRECTORY "${WORK_DIR}")
set(objects "")
foreach(file IN LISTS FILES)
  cmake_path(GET file STEM LAST_ONLY name)
  set(object "${WORK_DIR}/${name}.o")
  execute_process(COMMAND "${CXX}" -std=c++20 -O1 ${OPTIONS} -c "${file}" -o "${object}" COMMAND_ERROR_IS_FATAL ANY)
  list(APPEND objects "${object}")
endforeach()
# Static: the emulator then needs no libraries of that architecture.
execute_process(COMMAND "${CXX}" ${OPTIONS} -static ${objects} -o "${WORK_DIR}/tests" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${EMULATOR} "${WORK_DIR}/tests" COMMAND_ERROR_IS_FATAL ANY)
