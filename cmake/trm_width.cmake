# Says which vector unit this project's flags allow: with the default flags of x86-64 the CPU's, chosen at run time, with others
# the compiler's, which is several times slower if the CPU has a wider one. Flags of single targets cannot be seen from here.
# Arguments: further flags.
function(trm_report_width)
  if(CMAKE_VERSION VERSION_LESS 3.25)
    return()
  endif()
  set(CMAKE_TRY_COMPILE_CONFIGURATION "${CMAKE_BUILD_TYPE}")
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(unit "")
  foreach(candidate IN ITEMS
      "that of the CPU, chosen at run time, 4 to 16 floats;defined(__x86_64__) && !defined(__SSE3__) && !(defined(TRM_DISPATCH) && !TRM_DISPATCH)"
      "AVX-512, 16 floats;defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__)"
      "AVX2, 8 floats;defined(__AVX2__) && defined(__FMA__)"
      "SSE2, 4 floats;defined(__SSE2__)")
    list(GET candidate 0 name)
    list(GET candidate 1 condition)
    try_compile(has SOURCE_FROM_CONTENT trm_width.cpp "#if !(${condition})\n#error narrower\n#endif\n"
      COMPILE_DEFINITIONS ${ARGN} NO_CACHE)
    if(has)
      set(unit "${name}")
      break()
    endif()
  endforeach()
  if(NOT unit)  # not x86: what the flags mean there is the compiler's affair
    return()
  endif()
  set(advice "")
  if(unit MATCHES "SSE2")
    set(advice ". On a CPU with AVX2 or AVX-512 this is several times slower than need be: compile with -march=native or -march=x86-64-v3")
  endif()
  message(STATUS "trm: vector unit of these flags: ${unit} per register${advice}")
endfunction()
