# The library and the programs, by cargo. Make decides by the files whether cargo runs at all, so that `sudo make install`
# doesn't run it as root after `make`.

file(GLOB_RECURSE qtls_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/crates/*")
list(APPEND qtls_sources "${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml" "${CMAKE_CURRENT_SOURCE_DIR}/Cargo.lock")

# How each step is started; its own variables follow. Lists would be taken apart on the way.
string(REPLACE ";" "|" qtls_flags "${QTLS_CARGO_FLAGS}")
set(qtls_step "${CMAKE_COMMAND}"
  "-DCARGO=${QTLS_CARGO}" "-DPROFILE=${QTLS_PROFILE}" "-DBUILT=${QTLS_CARGO_TARGET_DIR}/${QTLS_PROFILE_DIRECTORY}"
  "-DTARGET_DIRECTORY=${QTLS_CARGO_TARGET_DIR}" "-DFLAGS=${qtls_flags}" "-DVERBOSE=${CMAKE_VERBOSE_MAKEFILE}"
  "-DHOME_OF_CARGO=${QTLS_CARGO_HOME}" "-DHOME_OF_RUSTUP=${QTLS_RUSTUP_HOME}")
set(qtls_script "${CMAKE_CURRENT_SOURCE_DIR}/cmake/cargo.cmake")
set(qtls_library_directory "${CMAKE_CURRENT_BINARY_DIR}/lib")
set(QTLS_INCLUDE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/include")

set(QTLS_SHARED_LIBRARIES "")
set(QTLS_STATIC_LIBRARY "")
set(qtls_libraries "")

if(BUILD_SHARED_LIBS)
  # The soname is the crate's own (crates/qtls-ffi/build.rs).
  set(qtls_base "libqtls${CMAKE_SHARED_LIBRARY_SUFFIX}")
  if(APPLE)
    set(qtls_soname "libqtls.${PROJECT_VERSION_MAJOR}.dylib")
    set(qtls_real "libqtls.${PROJECT_VERSION}.dylib")
  else()
    set(qtls_soname "${qtls_base}.${PROJECT_VERSION_MAJOR}")
    set(qtls_real "${qtls_base}.${PROJECT_VERSION}")
  endif()
  foreach(name "${qtls_real}" "${qtls_soname}" "${qtls_base}")
    list(APPEND QTLS_SHARED_LIBRARIES "${qtls_library_directory}/${name}")
  endforeach()
  add_custom_command(
    OUTPUT ${QTLS_SHARED_LIBRARIES}
    COMMAND ${qtls_step} -DSTEP=shared "-DTO=${qtls_library_directory}" "-DBASE=${qtls_base}" "-DSONAME=${qtls_soname}"
      "-DREAL=${qtls_real}" -P "${qtls_script}"
    DEPENDS ${qtls_sources} "${qtls_script}"
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    COMMENT "Building ${qtls_real} with cargo" USES_TERMINAL VERBATIM)
  list(APPEND qtls_libraries ${QTLS_SHARED_LIBRARIES})
endif()

if(BUILD_STATIC_LIBS)
  set(QTLS_STATIC_LIBRARY "${qtls_library_directory}/libqtls.a")
  set(qtls_static_script "${CMAKE_CURRENT_SOURCE_DIR}/cmake/static.cmake")
  add_custom_command(
    OUTPUT "${QTLS_STATIC_LIBRARY}"
    COMMAND ${qtls_step} -DSTEP=static -P "${qtls_script}"
    COMMAND "${CMAKE_COMMAND}" "-DFROM=${QTLS_CARGO_TARGET_DIR}/${QTLS_PROFILE_DIRECTORY}/libqtls.a" "-DTO=${QTLS_STATIC_LIBRARY}"
      "-DWORK=${CMAKE_CURRENT_BINARY_DIR}/qtls-build" "-DLD=${QTLS_LD}" "-DOBJCOPY=${CMAKE_OBJCOPY}" "-DNM=${CMAKE_NM}"
      "-DAR=${CMAKE_AR}" "-DVERBOSE=${CMAKE_VERBOSE_MAKEFILE}" "-DBUILD_TYPE=${CMAKE_BUILD_TYPE}" -P "${qtls_static_script}"
    # One cargo after the other: they would wait for each other's lock.
    DEPENDS ${qtls_sources} ${QTLS_SHARED_LIBRARIES} "${qtls_script}" "${qtls_static_script}"
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    COMMENT "Building libqtls.a with cargo" USES_TERMINAL VERBATIM)
  list(APPEND qtls_libraries "${QTLS_STATIC_LIBRARY}")
endif()

add_custom_target(qtls-library ALL DEPENDS ${qtls_libraries})

set(qtls_programs qtls-server qtls-client qtls qtls-bench qtls-version)
set(QTLS_PROGRAMS "")
foreach(program IN LISTS qtls_programs)
  list(APPEND QTLS_PROGRAMS "${CMAKE_CURRENT_BINARY_DIR}/bin/${program}")
endforeach()
# qtls-version says which commit it is of.
execute_process(COMMAND git rev-parse --git-path logs/HEAD WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  OUTPUT_VARIABLE qtls_head ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
get_filename_component(qtls_head "${qtls_head}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
if(NOT EXISTS "${qtls_head}" OR IS_DIRECTORY "${qtls_head}")
  set(qtls_head "")
endif()
set(qtls_features "")
if(NOT ENABLE_LOGGING)
  set(qtls_features "qtls-cli/without-detailed-logs")
endif()
add_custom_command(
  OUTPUT ${QTLS_PROGRAMS}
  COMMAND ${qtls_step} -DSTEP=programs "-DTO=${CMAKE_CURRENT_BINARY_DIR}/bin" "-DNAMES=${qtls_programs}"
    "-DFEATURES=${qtls_features}" -P "${qtls_script}"
  DEPENDS ${qtls_sources} ${qtls_libraries} ${qtls_head} "${qtls_script}"
  WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  COMMENT "Building the programs with cargo" USES_TERMINAL VERBATIM)
add_custom_target(qtls-programs ALL DEPENDS ${QTLS_PROGRAMS})
add_dependencies(qtls-programs qtls-library)

# What programs in C are linked with: here, and by `add_subdirectory`.
if(BUILD_SHARED_LIBS)
  list(GET QTLS_SHARED_LIBRARIES 0 qtls_real_path)
  add_library(qtls SHARED IMPORTED GLOBAL)
  set_target_properties(qtls PROPERTIES IMPORTED_LOCATION "${qtls_real_path}" IMPORTED_SONAME "${qtls_soname}")
else()
  add_library(qtls STATIC IMPORTED GLOBAL)
  set_target_properties(qtls PROPERTIES IMPORTED_LOCATION "${QTLS_STATIC_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "${QTLS_PRIVATE_LIBS}")
endif()
set_target_properties(qtls PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${QTLS_INCLUDE_DIRECTORY}")
add_dependencies(qtls qtls-library)
add_library(qtls::qtls ALIAS qtls)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# A program in C of one file. C11, and as many warnings as we hold our own header to.
function(qtls_c_program name source directory)
  add_executable(${name} "${source}")
  set_target_properties(${name} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/${directory}"
    BUILD_RPATH "${qtls_library_directory}" INSTALL_RPATH "$ORIGIN/../..")
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wpedantic)
  # POSIX is not part of C11.
  target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
  target_link_libraries(${name} PRIVATE qtls Threads::Threads)
  add_dependencies(${name} qtls-library)
endfunction()
