# install: headers, share/cmake/trm (find_package), share/pkgconfig. All of it is relocatable and, but for trm::c, has no
# architecture.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(trm_cmake_dir "${CMAKE_INSTALL_DATADIR}/cmake/trm")

install(TARGETS trm EXPORT trmTargets
  FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILE_SET interop DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT trmTargets NAMESPACE trm:: DESTINATION "${trm_cmake_dir}")
if(TARGET trm_c)  # what has an architecture: apart, for the component c
  install(TARGETS trm_c EXPORT trmCTargets LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT trmCTargets NAMESPACE trm:: DESTINATION "${trm_cmake_dir}")
endif()

configure_file("${CMAKE_CURRENT_LIST_DIR}/trmConfig.cmake.in" "${PROJECT_BINARY_DIR}/trmConfig.cmake" @ONLY)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/trmConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/trmConfig.cmake" "${PROJECT_BINARY_DIR}/trmConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/trm_width.cmake" DESTINATION "${trm_cmake_dir}")

cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR
  BASE_DIRECTORY "${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig" OUTPUT_VARIABLE trm_pc_includedir)
configure_file("${CMAKE_CURRENT_LIST_DIR}/trm.pc.in" "${PROJECT_BINARY_DIR}/trm.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/trm.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
if(TARGET trm_c)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR
    BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" OUTPUT_VARIABLE trm_pc_includedir)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_LIBDIR
    BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" OUTPUT_VARIABLE trm_pc_libdir)
  configure_file("${CMAKE_CURRENT_LIST_DIR}/trm_c.pc.in" "${PROJECT_BINARY_DIR}/trm_c.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/trm_c.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
