# Settings for work on trm itself. A project that uses trm never includes this file.
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

get_property(trm_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT CMAKE_BUILD_TYPE AND NOT trm_multi_config)
  set_property(CACHE CMAKE_BUILD_TYPE PROPERTY VALUE Release)
endif()

# Every header compiles on its own: build the target all_verify_interface_header_sets.
set_target_properties(trm PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
if(TARGET trm_eigen)
  set(trm_eigen_headers ${trm_interop_headers})
  list(FILTER trm_eigen_headers INCLUDE REGEX "/include/trm/(interop/eigen|logits/linear)")
  target_sources(trm_eigen INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${trm_eigen_headers})
  set_target_properties(trm_eigen PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
endif()

# The target single_header: all that needs no other library, in one file, <build>/single_header/trm/trm.hpp.
set(trm_single_header "${PROJECT_BINARY_DIR}/single_header/trm/trm.hpp")
set(trm_single_header_of trm/trm.hpp trm/loss/presets.hpp trm/loss/to_spec.hpp trm/interop/metrics.hpp)
add_custom_command(OUTPUT "${trm_single_header}"
  COMMAND "${CMAKE_COMMAND}" "-DINCLUDE_DIR=${PROJECT_SOURCE_DIR}/include" "-DOUTPUT=${trm_single_header}"
    "-DVERSION=${PROJECT_VERSION}" "-DHEADERS=${trm_single_header_of}" -P "${CMAKE_CURRENT_LIST_DIR}/trm_single_header.cmake"
  DEPENDS "${CMAKE_CURRENT_LIST_DIR}/trm_single_header.cmake" ${trm_headers} VERBATIM)
add_custom_target(single_header DEPENDS "${trm_single_header}")

include(trm_docs)
