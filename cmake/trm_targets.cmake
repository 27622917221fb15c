# Helpers for trm's own executables. Nothing here touches trm::trm.
set(TRM_MARCH "" CACHE STRING "-march for tests, examples and benchmarks (native, x86-64-v3, ...); empty: the default")
option(TRM_WERROR "Treat warnings in trm's own targets as errors" OFF)

include(trm_warnings)
include(trm_cpu)

# trm_add_executable(<name> SOURCES <file>... [LINK <target>...] [MARCH <march>] [NO_DISPATCH])
# MARCH: a -march value, BASELINE for none; default: TRM_MARCH. NO_DISPATCH: kernels for the flags alone.
function(trm_add_executable name)
  cmake_parse_arguments(arg "NO_DISPATCH" "MARCH" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE trm::trm ${arg_LINK})
  trm_warnings(${name})
  if(NOT arg_MARCH)
    set(arg_MARCH "${TRM_MARCH}")
  endif()
  if(arg_MARCH AND NOT arg_MARCH STREQUAL "BASELINE")
    target_compile_options(${name} PRIVATE -march=${arg_MARCH})
  endif()
  if(arg_NO_DISPATCH)
    target_compile_definitions(${name} PRIVATE TRM_DISPATCH=0)
  endif()
endfunction()

# trm_add_example(<name> [LINK <target>...] [SOURCES <file>...] [TEST_ARGS <argument>...] [DISPATCH]): <name>.cpp, and a test
# that runs it when TEST_ARGS is given (NONE: without arguments). Kernels are compiled for the flags alone, in a third of the
# time, unless DISPATCH asks for all vector units.
function(trm_add_example name)
  cmake_parse_arguments(arg "DISPATCH" "" "SOURCES;LINK;TEST_ARGS" ${ARGN})
  set(dispatch NO_DISPATCH)
  if(arg_DISPATCH)
    set(dispatch "")
  endif()
  if(NOT arg_SOURCES)
    set(arg_SOURCES ${name}.cpp)
  endif()
  trm_add_executable(${name} SOURCES ${arg_SOURCES} ${dispatch} LINK ${arg_LINK})
  if(arg_TEST_ARGS)
    list(REMOVE_ITEM arg_TEST_ARGS NONE)
    add_test(NAME example.${name} COMMAND ${name} ${arg_TEST_ARGS})
    set_tests_properties(example.${name} PROPERTIES LABELS example)
  endif()
endfunction()

# trm_add_bench(<name> [LINK <target>...]): bench/<name>.cpp with Google Benchmark.
function(trm_add_bench name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  trm_add_executable(${name} SOURCES ${name}.cpp LINK ${arg_LINK} benchmark::benchmark)
endfunction()

# trm_add_emulated_test(<target> <cpu>): <target>.on-<cpu> runs the target on a CPU that this machine need not be, with
# qemu's user mode. Not under sanitizers, whose memory map does not fit the emulator's.
find_program(TRM_QEMU qemu-x86_64 DOC "Emulates x86-64 CPUs for tests")
function(trm_add_emulated_test target cpu)
  if(TRM_QEMU AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    add_test(NAME ${target}.on-${cpu} COMMAND ${TRM_QEMU} -cpu ${cpu} $<TARGET_FILE:${target}>)
    set_tests_properties(${target}.on-${cpu} PROPERTIES LABELS emulated TIMEOUT 600)
  endif()
endfunction()
