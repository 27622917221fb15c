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
