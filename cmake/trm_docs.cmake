# The target docs: a site of the pages beside the code and of the public headers, <build>/docs/html/index.html. Warnings are
# errors.
find_package(Doxygen 1.9.4 QUIET)
if(NOT DOXYGEN_FOUND)
  add_custom_target(docs
    COMMAND "${CMAKE_COMMAND}" -E echo "docs needs Doxygen 1.9.4 or newer (Debian and Ubuntu: apt-get install doxygen)"
    COMMAND "${CMAKE_COMMAND}" -E false)
  return()
endif()

set(DOXYGEN_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/docs")
set(DOXYGEN_PROJECT_NUMBER "${PROJECT_VERSION}")
set(DOXYGEN_PROJECT_BRIEF "${PROJECT_DESCRIPTION}")
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
set(DOXYGEN_WARN_IF_UNDOCUMENTED NO)
set(DOXYGEN_QUIET YES)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_GENERATE_TREEVIEW YES)
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_FILE_PATTERNS *.hpp *.h *.md)
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}")
set(DOXYGEN_STRIP_FROM_INC_PATH "${PROJECT_SOURCE_DIR}/include")
# The absolute path: with a relative one every README.md would claim to be the front page.
set(DOXYGEN_USE_MDFILE_AS_MAINPAGE "${PROJECT_SOURCE_DIR}/README.md")
set(DOXYGEN_EXCLUDE_SYMBOLS detail detail::* *::detail *::detail::*)
# Explicit instantiations, which have no documentation of their own.
set(DOXYGEN_EXCLUDE "${PROJECT_SOURCE_DIR}/include/trm/loss/any_loss_extern.hpp")
# trm:: without its inline namespace.
set(DOXYGEN_MACRO_EXPANSION YES)
set(DOXYGEN_EXPAND_ONLY_PREDEF YES)
set(DOXYGEN_PREDEFINED "TRM_NAMESPACE_BEGIN=namespace trm {" "TRM_NAMESPACE_END=}" TRM_INLINE=inline TRM_ALWAYS_INLINE= TRM_INLINE_LAMBDA= TRM_FLATTEN=
  TRM_EXCEPTIONS=1 TRM_C_API=)

# Pages link to files that are no pages: these are copied into the site, and the filter makes the links lead there.
set(DOXYGEN_FILTER_PATTERNS
  "*.md=${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -DSITE=${PROJECT_BINARY_DIR}/docs/html -P ${CMAKE_CURRENT_LIST_DIR}/trm_docs_links.cmake --")
file(GLOB_RECURSE trm_pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*.md" "${PROJECT_SOURCE_DIR}/cmake/*.md"
  "${PROJECT_SOURCE_DIR}/examples/*.md" "${PROJECT_SOURCE_DIR}/tests/*.md")
doxygen_add_docs(docs "${PROJECT_SOURCE_DIR}/README.md" "${PROJECT_SOURCE_DIR}/HACKING.md" "${PROJECT_SOURCE_DIR}/CHANGELOG.md"
  ${trm_pages} "${PROJECT_SOURCE_DIR}/include/trm" COMMENT "docs: ${PROJECT_BINARY_DIR}/docs/html/index.html")
add_custom_command(TARGET docs POST_BUILD VERBATIM
  COMMAND "${CMAKE_COMMAND}" -DSITE=${PROJECT_BINARY_DIR}/docs/html -P "${CMAKE_CURRENT_LIST_DIR}/trm_docs_check.cmake")
