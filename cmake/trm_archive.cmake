# The source archive trm-<version>.tar.gz: what git would know of, without git. In a build directory:
#   cpack --config CPackSourceConfig.cmake
set(CPACK_PACKAGE_NAME trm)
set(CPACK_PACKAGE_VENDOR trm)
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_GENERATOR TGZ)
set(CPACK_SOURCE_GENERATOR TGZ)
set(CPACK_SOURCE_PACKAGE_FILE_NAME "trm-${PROJECT_VERSION}")
set(CPACK_VERBATIM_VARIABLES ON)

# Left out: .git, what .gitignore names, and this build directory, wherever it is.
set(CPACK_SOURCE_IGNORE_FILES [[/\.git(/|$)]] [[/\.cache/]] [[/__pycache__/]] [[/compile_commands\.json$]])
foreach(path "${PROJECT_SOURCE_DIR}/build" "${PROJECT_SOURCE_DIR}/build-[^/]*" "${PROJECT_SOURCE_DIR}/plots"
    "${PROJECT_SOURCE_DIR}/CMakeUserPresets.json" "${PROJECT_BINARY_DIR}")
  string(REGEX REPLACE "([+.(){}$])" [[\\\1]] path "${path}")
  list(APPEND CPACK_SOURCE_IGNORE_FILES "^${path}(/|$)")
endforeach()
include(CPack)
