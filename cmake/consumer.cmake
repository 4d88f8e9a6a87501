# Installs into a directory of its own, and builds programs with what is there: by pkg-config, and by find_package.
#
#   BUILD, WORK, SOURCE, LIBRARY_DIRECTORY, VERSION, CC, GENERATOR, SHARED, STATIC
cmake_minimum_required(VERSION 3.16)

function(run variable)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE error
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nfailed with ${status}:\n${error}${out}")
  endif()
  set(${variable} "${out}" PARENT_SCOPE)
endfunction()

function(check what text)
  if(NOT text STREQUAL expected)
    message(FATAL_ERROR "${what} printed ${text}\ninstead of ${expected}")
  endif()
  message(STATUS "${what}: ${text}")
endfunction()

# A path with a space: what is installed has to be found in it.
set(prefix "${WORK}/a prefix")
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")

unset(ENV{DESTDIR})
# Without a record: this installation is none of those that `make uninstall` is about.
execute_process(COMMAND "${CMAKE_COMMAND}" "-DCMAKE_INSTALL_PREFIX=${prefix}" -DQTLS_WITHOUT_RECORD=ON
  -P "${BUILD}/cmake_install.cmake" RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE out)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the installation failed:\n${out}")
endif()

if(IS_ABSOLUTE "${LIBRARY_DIRECTORY}")
  message(FATAL_ERROR "CMAKE_INSTALL_LIBDIR is absolute: ${LIBRARY_DIRECTORY}\nhint: make it relative to the prefix for this test")
endif()
set(libraries "${prefix}/${LIBRARY_DIRECTORY}")
run(groups "${prefix}/bin/qtls-version" --json)
string(REGEX MATCHALL "\"name\":\"[A-Za-z0-9]+\"" names "${groups}")
set(expected "${VERSION}")
foreach(name IN LISTS names)
  string(REGEX REPLACE "\"name\":\"(.*)\"" " \\1" name "${name}")
  string(APPEND expected "${name}")
endforeach()

# The shell splits what pkg-config prints, as it is meant to.
find_program(pkg_config NAMES pkg-config pkgconf)
if(NOT pkg_config)
  message(FATAL_ERROR "there is no pkg-config\nhint: scripts/install-deps.sh build")
endif()
set(ENV{PKG_CONFIG_PATH} "${libraries}/pkgconfig")
run(version "${pkg_config}" --modversion qtls)
if(NOT version STREQUAL VERSION)
  message(FATAL_ERROR "pkg-config --modversion qtls printed ${version} instead of ${VERSION}")
endif()
set(compile "eval \"'${CC}' -o '${WORK}/by pkg-config' '${SOURCE}/consumer.c' $('${pkg_config}' --cflags --libs qtls)\"")
run(out sh -ec "${compile}")
set(ENV{LD_LIBRARY_PATH} "${libraries}")
run(out "${WORK}/by pkg-config")
check("built by pkg-config" "${out}")
if(STATIC)
  # The archive by its name: `-static` would want a static C library.
  set(compile "eval \"'${CC}' -o '${WORK}/static' '${SOURCE}/consumer.c' $('${pkg_config}' --static --cflags --libs qtls | sed 's/-lqtls/-l:libqtls.a/')\"")
  run(out sh -ec "${compile}")
  set(ENV{LD_LIBRARY_PATH} "")
  run(out "${WORK}/static")
  check("built by pkg-config --static" "${out}")
endif()

set(ENV{LD_LIBRARY_PATH} "")
# The tests may run below `make`, whose jobserver is not for this.
unset(ENV{MAKEFLAGS})
unset(ENV{MAKELEVEL})
file(MAKE_DIRECTORY "${WORK}/by find_package")
execute_process(COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_C_COMPILER=${CC}" "${SOURCE}"
  WORKING_DIRECTORY "${WORK}/by find_package" RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE out)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "find_package(qtls) failed:\n${out}")
endif()
run(out "${CMAKE_COMMAND}" --build "${WORK}/by find_package")
run(out "${WORK}/by find_package/consumer")
check("built by find_package" "${out}")
if(STATIC)
  run(out "${WORK}/by find_package/consumer-static")
  check("built by find_package, static" "${out}")
endif()
