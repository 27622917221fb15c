# trm::c, the shared library libtrm_c: trm/interop/c.h for C. Compiled with the flags of this build; users of it need neither
# C++ nor xsimd.
add_library(trm_c SHARED
  include/trm/interop/c/certificate.cpp
  include/trm/interop/c/create.cpp
  include/trm/interop/c/logits.cpp
  include/trm/interop/c/run.cpp
  include/trm/interop/c/run_f32.cpp
  include/trm/interop/c/run_f64.cpp
  include/trm/interop/c/slice.cpp)
add_library(trm::c ALIAS trm_c)
# What a minor version may break while the major version is 0 is in the name that programs record.
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(trm_c_soversion "${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
else()
  set(trm_c_soversion "${PROJECT_VERSION_MAJOR}")
endif()
set_target_properties(trm_c PROPERTIES EXPORT_NAME c VERSION "${PROJECT_VERSION}" SOVERSION "${trm_c_soversion}"
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON)
target_link_libraries(trm_c PRIVATE $<BUILD_INTERFACE:trm>)
if(NOT TRM_C_DISPATCH)
  target_compile_definitions(trm_c PRIVATE TRM_DISPATCH=0)
endif()
target_sources(trm_c PUBLIC FILE_SET HEADERS BASE_DIRS include FILES include/trm/interop/c.h)

trm_find_dependency(nlohmann_json TARGETS nlohmann_json::nlohmann_json DEBIAN nlohmann-json3-dev OPTIONAL)
if(TARGET nlohmann_json::nlohmann_json)
  target_link_libraries(trm_c PRIVATE $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
  target_compile_definitions(trm_c PRIVATE TRM_C_JSON=1)
else()
  target_compile_definitions(trm_c PRIVATE TRM_C_JSON=0)
endif()

# Every function carries the version node TRM_<soversion>; nothing else is visible, not even what templates of the standard
# library leave behind.
if(NOT APPLE AND NOT WIN32)
  set(trm_c_map "${PROJECT_BINARY_DIR}/trm_c.map")
  file(CONFIGURE OUTPUT "${trm_c_map}" CONTENT "TRM_${trm_c_soversion} {\n  global: trm_*;\n  local: *;\n};\n")
  target_link_options(trm_c PRIVATE "LINKER:--version-script=${trm_c_map}")
  set_property(TARGET trm_c APPEND PROPERTY LINK_DEPENDS "${trm_c_map}")
endif()
