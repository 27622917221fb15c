# trm_find_dependency(<package> TARGETS <target>... [OPTIONAL] [DEBIAN <package>])
#
# The system's copy first. When there is none and TRM_FETCH_DEPENDENCIES is on, the pinned release below. A source tree
# given with FETCHCONTENT_SOURCE_DIR_<PACKAGE> wins over both. No version is asked of xsimd: its version file refuses
# ranges and other major versions, although 8.1 to 14 all work; simd/arch.hpp checks.
include(FetchContent)

FetchContent_Declare(xsimd SYSTEM
  URL https://github.com/xtensor-stack/xsimd/archive/refs/tags/14.1.0.tar.gz
  URL_HASH SHA256=8da77b66214e73565f6111ba494322c853552b7b40cff69779b42e2100eed16f
  FIND_PACKAGE_ARGS)
FetchContent_Declare(Eigen3 SYSTEM
  URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.bz2
  URL_HASH SHA256=b4c198460eba6f28d34894e3a5710998818515104d6e74e5cc331ce31e46e626
  FIND_PACKAGE_ARGS 3.4)
FetchContent_Declare(Catch2 SYSTEM
  URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.6.0.tar.gz
  URL_HASH SHA256=485932259a75c7c6b72d4b874242c489ea5155d17efa345eb8cc72159f49f356
  FIND_PACKAGE_ARGS)
FetchContent_Declare(benchmark SYSTEM
  URL https://github.com/google/benchmark/archive/refs/tags/v1.8.2.tar.gz
  URL_HASH SHA256=2aab2980d0376137f969d92848fbb68216abb07633034534fc8c65cc4e7a0e93
  FIND_PACKAGE_ARGS)
FetchContent_Declare(CLI11 SYSTEM
  GIT_REPOSITORY https://github.com/CLIUtils/CLI11
  GIT_TAG cbd58a3696887b34c70949aef21a71735a0c2ad5
  FIND_PACKAGE_ARGS)

FetchContent_Declare(nlohmann_json SYSTEM
  URL https://github.com/nlohmann/json/releases/download/v3.11.2/json.tar.xz
  URL_HASH SHA256=8c4b26bf4b422252e13f332bc5e388ec0ab5c3443d24399acb675e68278d341f
  FIND_PACKAGE_ARGS)

FetchContent_Declare(RapidJSON SYSTEM
  URL https://github.com/Tencent/rapidjson/archive/refs/tags/v1.1.0.tar.gz
  URL_HASH SHA256=bf7ced29704a1e696fbccf2a2b4ea068e7774fa37f6d7dd4039d0787f8bed98e
  SOURCE_SUBDIR headers-only)  # no CMakeLists.txt there: only the files are wanted

# trm_find_rapidjson(): the target trm_rapidjson. RapidJSON is headers, and its own package has no target in releases.
function(trm_find_rapidjson)
  if(TARGET trm_rapidjson)
    return()
  endif()
  if(FETCHCONTENT_SOURCE_DIR_RAPIDJSON OR TRM_FETCH_DEPENDENCIES)
    FetchContent_MakeAvailable(RapidJSON)
    set(include "${rapidjson_SOURCE_DIR}/include")
  else()
    find_path(TRM_RAPIDJSON_INCLUDE_DIR rapidjson/reader.h DOC "Where rapidjson/reader.h is")
    set(include "${TRM_RAPIDJSON_INCLUDE_DIR}")
  endif()
  if(NOT EXISTS "${include}/rapidjson/reader.h")
    message(FATAL_ERROR "trm needs RapidJSON, which was not found. Install it (on Debian and Ubuntu: apt-get install "
      "rapidjson-dev), give its source tree with -DFETCHCONTENT_SOURCE_DIR_RAPIDJSON=<dir>, or let CMake download it with "
      "-DTRM_FETCH_DEPENDENCIES=ON.")
  endif()
  message(STATUS "trm: RapidJSON ${include}")
  add_library(trm_rapidjson INTERFACE)
  target_include_directories(trm_rapidjson SYSTEM INTERFACE "${include}")
endfunction()

# A macro, so that <package>_FOUND and <package>_VERSION reach the caller.
macro(trm_find_dependency package)
  cmake_parse_arguments(trm_dep "OPTIONAL" "DEBIAN" "TARGETS" ${ARGN})
  string(TOUPPER "${package}" trm_dep_upper)
  list(GET trm_dep_TARGETS 0 trm_dep_target)
  if(NOT TARGET ${trm_dep_target})
    if(FETCHCONTENT_SOURCE_DIR_${trm_dep_upper} OR (TRM_FETCH_DEPENDENCIES AND NOT trm_dep_OPTIONAL))
      if("${package}" STREQUAL "benchmark")
        set(BENCHMARK_ENABLE_TESTING OFF)
        set(BENCHMARK_ENABLE_INSTALL OFF)
      endif()
      FetchContent_MakeAvailable(${package})
    else()
      find_package(${package} QUIET)
    endif()
  endif()
  if(TARGET ${trm_dep_target})
    message(STATUS "trm: ${package} ${${package}_VERSION}${${package}_SOURCE_DIR}")
  elseif(NOT trm_dep_OPTIONAL)
    message(FATAL_ERROR "trm needs ${package}, which was not found. Install it (on Debian and Ubuntu: apt-get install "
      "${trm_dep_DEBIAN}), give its source tree with -DFETCHCONTENT_SOURCE_DIR_${trm_dep_upper}=<dir>, or let CMake "
      "download it with -DTRM_FETCH_DEPENDENCIES=ON.")
  endif()
endmacro()
