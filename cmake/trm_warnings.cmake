# trm_warnings(<target>): the warnings that trm's own code is kept clean of.
function(trm_warnings target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Wundef -Wnon-virtual-dtor -Woverloaded-virtual
    $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion>
    # g++ 12 reports uninitialised variables inside its own AVX-512 headers.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-uninitialized>
    $<$<BOOL:${TRM_WERROR}>:-Werror>)
endfunction()
