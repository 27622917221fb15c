# cmake -DINCLUDE_DIR=<dir> -DOUTPUT=<file> -DVERSION=<version> "-DHEADERS=<header>;..." -P trm_single_header.cmake
#
# Writes <header>s and every header of trm that they include into one file: each once, at the place where it is included first.
# Other headers stay includes. Headers are named as in #include <...>, relative to INCLUDE_DIR.
cmake_minimum_required(VERSION 3.25)

set(conditional "\n[ \t]*#[ \t]*if")
set(end_of_conditional "\n[ \t]*#[ \t]*endif")
set(own_include "\n[ \t]*#[ \t]*include[ \t]*(<trm/[^>\n]+>|\"[^\"\n]+\")[^\n]*")

# append(<header> <depth>): depth is the number of #if that are open where the header is included.
function(append header depth)
  get_property(seen GLOBAL PROPERTY "depth of ${header}")
  if("${seen}" STREQUAL "0")
    return()
  elseif(NOT "${seen}" STREQUAL "")
    # Its only copy would be gone wherever the condition does not hold.
    message(FATAL_ERROR "${header} is included first under a condition, then again: one copy cannot serve both")
  endif()
  set_property(GLOBAL PROPERTY "depth of ${header}" "${depth}")

  if(NOT EXISTS "${INCLUDE_DIR}/${header}")
    message(FATAL_ERROR "${INCLUDE_DIR}/${header} does not exist")
  endif()
  file(READ "${INCLUDE_DIR}/${header}" rest)
  string(REGEX REPLACE "^// SPDX[^\n]*\n" "" rest "${rest}")
  string(PREPEND rest "\n")
  string(REPLACE "\n#pragma once\n" "\n" rest "${rest}")
  file(APPEND "${OUTPUT}" "\n// ${header}\n")
  cmake_path(GET header PARENT_PATH here)
  while(rest MATCHES "${own_include}")
    set(line "${CMAKE_MATCH_0}")
    set(named "${CMAKE_MATCH_1}")
    string(REGEX REPLACE "^[<\"](.*)[>\"]$" "\\1" included "${named}")
    if(named MATCHES "^\"" AND EXISTS "${INCLUDE_DIR}/${here}/${included}")
      cmake_path(APPEND here "${included}" OUTPUT_VARIABLE included)
      cmake_path(NORMAL_PATH included)
    endif()
    string(FIND "${rest}" "${line}" at)
    string(SUBSTRING "${rest}" 0 ${at} before)
    string(LENGTH "${line}" length)
    math(EXPR at "${at} + ${length}")
    string(SUBSTRING "${rest}" ${at} -1 rest)
    file(APPEND "${OUTPUT}" "${before}\n")
    string(REGEX MATCHALL "${conditional}" opened "${before}")
    string(REGEX MATCHALL "${end_of_conditional}" closed "${before}")
    list(LENGTH opened opened)
    list(LENGTH closed closed)
    math(EXPR depth "${depth} + ${opened} - ${closed}")
    append("${included}" ${depth})
  endwhile()
  file(APPEND "${OUTPUT}" "${rest}")
endfunction()

file(WRITE "${OUTPUT}" "// SPDX-License-Identifier: Apache-2.0
// trm ${VERSION} in one header, written by cmake/trm_single_header.cmake. Do not edit.
#pragma once
#if defined(TRM_VERSION)
#error \"trm is included already, as separate headers or from another copy of this one\"
#endif
")
foreach(header IN LISTS HEADERS)
  append("${header}" 0)
endforeach()
file(APPEND "${OUTPUT}" "\n#define TRM_SINGLE_HEADER 1\n")

file(READ "${OUTPUT}" text)
if(text MATCHES "${own_include}")
  message(FATAL_ERROR "left over: ${CMAKE_MATCH_0}")
endif()
