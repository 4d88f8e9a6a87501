# `make test`: quick tests of what was built here. The tests of Q-TLS as a whole are those of `make test` in the sources.

# Every program in tests/c runs without arguments, and ends with 0; with 77, if what it needs isn't there.
file(GLOB qtls_tests CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/tests/c/*.c")
foreach(source IN LISTS qtls_tests)
  get_filename_component(name "${source}" NAME_WE)
  qtls_c_program(test-${name} "${source}" tests)
  add_test(NAME ${name} COMMAND test-${name})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()

foreach(program IN LISTS QTLS_PROGRAMS)
  get_filename_component(name "${program}" NAME)
  add_test(NAME ${name} COMMAND "${program}" --version)
  string(REPLACE "." "\\." qtls_pattern "${PROJECT_VERSION}")
  set_tests_properties(${name} PROPERTIES PASS_REGULAR_EXPRESSION "^${name} ${qtls_pattern}\n$")
endforeach()

# An installation, and programs that are built with what is in it.
add_test(NAME consumer COMMAND "${CMAKE_COMMAND}" "-DBUILD=${CMAKE_CURRENT_BINARY_DIR}" "-DWORK=${CMAKE_CURRENT_BINARY_DIR}/Testing/consumer"
  "-DSOURCE=${CMAKE_CURRENT_SOURCE_DIR}/tests/c/consumer" "-DLIBRARY_DIRECTORY=${CMAKE_INSTALL_LIBDIR}"
  "-DVERSION=${PROJECT_VERSION}" "-DCC=${CMAKE_C_COMPILER}" "-DGENERATOR=${CMAKE_GENERATOR}" "-DSHARED=${BUILD_SHARED_LIBS}"
  "-DSTATIC=${BUILD_STATIC_LIBS}" -P "${CMAKE_CURRENT_SOURCE_DIR}/cmake/consumer.cmake")
set_tests_properties(consumer PROPERTIES TIMEOUT 300)
