# Included by consumer.cmake: find_package(trm COMPONENTS ...) finds what is named, and says what is missing and what to do.

# try([COMPONENTS <name>...] [OPTIONAL <name>...] [WITH <configure argument>...]) sets `failed` and `output`, all on one line.
function(try)
  cmake_parse_arguments(arg "" "" "COMPONENTS;OPTIONAL;WITH" ${ARGN})
  file(REMOVE_RECURSE "${WORK_DIR}/components")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SOURCE_DIR}/tests/consumer/components_project" -B "${WORK_DIR}/components"
    -G "${GENERATOR}" -DCMAKE_CXX_COMPILER=${CXX} "-DCOMPONENTS=${arg_COMPONENTS}" "-DOPTIONAL=${arg_OPTIONAL}"
    -DCMAKE_PREFIX_PATH=${prefix} ${arg_WITH}
    RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  set(failed "${failed}" PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

# expect_targets(<names> <arguments of try>...): found, with these targets and no others.
function(expect_targets names)
  try(${ARGN})
  string(REGEX MATCHALL "target: trm::[a-z]+" found "${output}")
  list(TRANSFORM found REPLACE "target: trm::" "")
  if(NOT failed EQUAL 0 OR NOT "${found}" STREQUAL "${names}")
    message(FATAL_ERROR "${ARGN}: expected the targets '${names}', not '${found}':\n${output}")
  endif()
endfunction()

# expect_message(<sentence> <arguments of try>...): not found, and why is said.
function(expect_message sentence)
  try(${ARGN})
  string(FIND "${output}" "${sentence}" at)
  if(failed EQUAL 0 OR at EQUAL -1)
    message(FATAL_ERROR "${ARGN}: expected '${sentence}', not\n${output}")
  endif()
endfunction()

set(no_eigen -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
set(all trm)
if(HAS_EIGEN)
  list(APPEND all eigen)
endif()
if(HAS_C)
  list(APPEND all c)
  expect_targets("c" COMPONENTS c WITH ${no_eigen} -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON)
endif()
expect_targets("${all}")
if(HAS_EIGEN AND HAS_C)
  expect_targets("trm;eigen;c" COMPONENTS eigen c)
endif()

# Optional ones are looked for, and may be missing or unknown.
expect_targets("trm" OPTIONAL eigen cuda WITH ${no_eigen})

set(unknown "there is no component cuda, only eigen and c")
set(without_eigen "component eigen needs Eigen 3.4 or newer, which was not found: install it (on Debian and Ubuntu: apt-get install libeigen3-dev) or name its directory in CMAKE_PREFIX_PATH or Eigen3_DIR")
expect_message("trm: ${unknown}" COMPONENTS cuda)
expect_message("trm: ${without_eigen}; ${unknown}" COMPONENTS eigen cuda WITH ${no_eigen})
expect_message("trm: needs xsimd 8.1 or newer, which was not found: install it (on Debian and Ubuntu: apt-get install libxsimd-dev)"
  WITH -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON)

# An Eigen that is too old.
set(old "${WORK_DIR}/old_eigen")
file(WRITE "${old}/Eigen3Config.cmake" "add_library(Eigen3::Eigen INTERFACE IMPORTED)\n")
file(WRITE "${old}/Eigen3ConfigVersion.cmake" "set(PACKAGE_VERSION 3.3.9)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n")
set(rest ${all})
list(REMOVE_ITEM rest eigen)
expect_message("trm: component eigen needs Eigen 3.4 or newer, and 3.3.9 was found in ${old}" COMPONENTS eigen
  WITH -DEigen3_DIR=${old})
expect_targets("${rest}" WITH -DEigen3_DIR=${old})

# An installation without the shared library.
set(headers "${WORK_DIR}/headers_prefix")
file(REMOVE_RECURSE "${headers}")
file(COPY "${prefix}/share" "${prefix}/include" DESTINATION "${headers}")
file(GLOB c_targets "${headers}/share/cmake/trm/trmC[a-zA-Z]*argets*.cmake")
file(REMOVE ${c_targets})
set(prefix "${headers}")
expect_message("trm: component c, the shared library of the C interface, is not in this installation: configure trm with -DTRM_BUILD_C=ON"
  COMPONENTS c)
