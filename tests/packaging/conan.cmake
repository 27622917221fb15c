# cmake -DCONAN=<conan> ... -P conan.cmake: the recipe in cmake/packaging/conan with Conan's own test, in a cache of its own.
# Conan Center is not asked: what the recipe requires is packaged from the system's headers under the same names.
cmake_minimum_required(VERSION 3.25)
set(home "${WORK_DIR}/conan_home")
file(REMOVE_RECURSE "${home}")
set(ENV{CONAN_HOME} "${home}")
set(ENV{CXX} "${CXX}")

function(conan)
  execute_process(COMMAND "${CONAN}" ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

conan(profile detect)
conan(remote disable "*")
foreach(package "xsimd;8.1.0;${XSIMD}" "eigen;3.4.0;${EIGEN}" "nlohmann_json;3.11.2;${JSON}")
  list(GET package 0 name)
  list(GET package 1 version)
  list(GET package 2 headers)
  conan(create "${SOURCE_DIR}/tests/packaging/system_headers" --name ${name} --version ${version} -c user.trm:headers=${headers})
endforeach()

set(recipe "${SOURCE_DIR}/cmake/packaging/conan")
set(common -s compiler.cppstd=20 -c "tools.cmake.cmake_layout:test_folder=${WORK_DIR}/test_package")
# The test package builds and runs programs against what was packaged.
conan(create "${recipe}" ${common} -o &:eigen=True)
if(WITH_C)
  conan(create "${recipe}" ${common} -o &:c=True)
endif()

# One package of headers for all compilers and build types; libraries differ.
function(package_id variable)
  execute_process(COMMAND "${CONAN}" graph info "${recipe}" --format json ${common} ${ARGN}
    OUTPUT_VARIABLE json ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
  string(JSON id GET "${json}" graph nodes 0 package_id)
  set(${variable} "${id}" PARENT_SCOPE)
endfunction()
foreach(kind headers library)
  set(option False)
  if(kind STREQUAL "library")
    set(option True)
  endif()
  package_id(release -s build_type=Release -o &:c=${option})
  package_id(debug -s build_type=Debug -o &:c=${option})
  if(kind STREQUAL "headers" AND NOT release STREQUAL debug)
    message(FATAL_ERROR "headers are packaged once per build type: ${release}, ${debug}")
  elseif(kind STREQUAL "library" AND release STREQUAL debug)
    message(FATAL_ERROR "a library of one build type stands for another: ${release}")
  endif()
endforeach()

# C++17 is refused with a sentence.
execute_process(COMMAND "${CONAN}" create "${recipe}" -s compiler.cppstd=17 RESULT_VARIABLE result ERROR_VARIABLE output)
if(result EQUAL 0 OR NOT output MATCHES "Current cppstd \\(17\\) is lower than the required C\\+\\+ standard \\(20\\)")
  message(FATAL_ERROR "C++17: ${output}")
endif()
execute_process(COMMAND "${CONAN}" list "trm/*" OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
if(NOT output MATCHES "trm/${VERSION}")
  message(FATAL_ERROR "the recipe has another version than trm: ${output}")
endif()
