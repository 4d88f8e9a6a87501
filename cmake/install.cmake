# What is installed, and how it is removed again.

include(CMakePackageConfigHelpers)

set(qtls_made "${CMAKE_CURRENT_BINARY_DIR}/qtls-build")
set(qtls_package "${CMAKE_INSTALL_LIBDIR}/cmake/qtls")
set(qtls_pkgconfig "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
set(qtls_examples_directory "${CMAKE_INSTALL_LIBDIR}/qtls/examples")
set(qtls_bash "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
set(qtls_zsh "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
set(qtls_fish "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
set(QTLS_DOCUMENTS "${CMAKE_INSTALL_DATADIR}/doc/qtls")

# Before everything else: which directories are not there yet, so that `make uninstall` leaves none of them behind.
set(qtls_directories "${CMAKE_INSTALL_BINDIR}" "${CMAKE_INSTALL_INCLUDEDIR}/qtls" "${qtls_package}" "${qtls_pkgconfig}"
  "${CMAKE_INSTALL_MANDIR}/man1" "${CMAKE_INSTALL_MANDIR}/man8" "${qtls_bash}" "${qtls_zsh}" "${qtls_fish}"
  "${QTLS_DOCUMENTS}/configs" "${QTLS_DOCUMENTS}/examples" "${qtls_examples_directory}")
set(qtls_private_of_shared "${QTLS_PRIVATE_LIBS}")
configure_file(cmake/begin_install.cmake.in "${qtls_made}/begin_install.cmake" @ONLY)
install(SCRIPT "${qtls_made}/begin_install.cmake")

if(BUILD_SHARED_LIBS)
  install(PROGRAMS ${QTLS_SHARED_LIBRARIES} DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
if(BUILD_STATIC_LIBS)
  install(FILES "${QTLS_STATIC_LIBRARY}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
file(GLOB qtls_headers CONFIGURE_DEPENDS "${QTLS_INCLUDE_DIRECTORY}/qtls/*.h")
install(FILES ${qtls_headers} DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/qtls")
# Written by begin_install.cmake, which knows the prefix: `cmake --install --prefix` has the last word on it.
install(FILES "${qtls_made}/qtls.pc" DESTINATION "${qtls_pkgconfig}")
set(QTLS_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
set(QTLS_INCLUDEDIR "${CMAKE_INSTALL_INCLUDEDIR}")
string(REPLACE " " ";" qtls_private "${QTLS_PRIVATE_LIBS}")
configure_package_config_file(cmake/qtlsConfig.cmake.in "${qtls_made}/qtlsConfig.cmake" INSTALL_DESTINATION "${qtls_package}"
  PATH_VARS QTLS_LIBDIR QTLS_INCLUDEDIR)
write_basic_package_version_file("${qtls_made}/qtlsConfigVersion.cmake" COMPATIBILITY SameMajorVersion)
install(FILES "${qtls_made}/qtlsConfig.cmake" "${qtls_made}/qtlsConfigVersion.cmake" DESTINATION "${qtls_package}")

install(PROGRAMS ${QTLS_PROGRAMS} DESTINATION "${CMAKE_INSTALL_BINDIR}")
file(GLOB qtls_pages CONFIGURE_DEPENDS docs/man/*.1)
install(FILES ${qtls_pages} DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
file(GLOB qtls_pages CONFIGURE_DEPENDS docs/man/*.8)
install(FILES ${qtls_pages} DESTINATION "${CMAKE_INSTALL_MANDIR}/man8")
foreach(shell bash zsh fish)
  file(GLOB qtls_completions CONFIGURE_DEPENDS "deploy/completions/${shell}/*")
  install(FILES ${qtls_completions} DESTINATION "${qtls_${shell}}")
endforeach()

file(GLOB qtls_documents CONFIGURE_DEPENDS docs/*.md)
install(FILES LICENSE README.md README.ko.md CHANGELOG.md ${qtls_documents} DESTINATION "${QTLS_DOCUMENTS}")
file(GLOB qtls_configs CONFIGURE_DEPENDS configs/*.json)
install(FILES ${qtls_configs} DESTINATION "${QTLS_DOCUMENTS}/configs")
if(ENABLE_EXAMPLES AND QTLS_EXAMPLES)
  install(TARGETS ${QTLS_EXAMPLES} DESTINATION "${qtls_examples_directory}")
  install(FILES ${qtls_examples} examples/README.md DESTINATION "${QTLS_DOCUMENTS}/examples")
endif()

# In the end: what there is to remove.
install(CODE "
  if(NOT QTLS_WITHOUT_RECORD)
    foreach(file IN LISTS CMAKE_INSTALL_MANIFEST_FILES)
      file(APPEND \"${CMAKE_CURRENT_BINARY_DIR}/install_files.txt\" \"\$ENV{DESTDIR}|\${file}\\n\")
    endforeach()
  endif()")

add_custom_target(uninstall
  COMMAND "${CMAKE_COMMAND}" "-DBUILD=${CMAKE_CURRENT_BINARY_DIR}" -P "${CMAKE_CURRENT_SOURCE_DIR}/cmake/uninstall.cmake"
  COMMENT "Removing what was installed" VERBATIM)
