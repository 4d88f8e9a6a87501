# Runs cargo for one step of the build, and puts what it made where CMake expects it.
#
#   STEP        shared, static or programs
#   CARGO, PROFILE, TARGET_DIRECTORY, BUILT (where in it the profile's files are), FLAGS (with | between
#               them), VERBOSE
#   TO, and for shared: BASE, SONAME, REAL; for programs: NAMES, FEATURES
cmake_minimum_required(VERSION 3.16)

string(REPLACE "|" ";" FLAGS "${FLAGS}")
set(common --locked --profile "${PROFILE}" --target-dir "${TARGET_DIRECTORY}" ${FLAGS})
if(STEP STREQUAL "programs")
  set(command "${CARGO}" build ${common} --bins)
  if(FEATURES)
    list(APPEND command --features "${FEATURES}")
  endif()
else()
  # One kind of library at a time: with several, cargo leaves link-time optimisation out.
  if(STEP STREQUAL "shared")
    set(kind cdylib)
  else()
    set(kind staticlib)
  endif()
  set(command "${CARGO}" rustc ${common} --package qtls-ffi --lib --crate-type ${kind})
endif()

# cargo has a jobserver of its own; that of make can't be reached from here. So it gets the number alone.
if("$ENV{CARGO_BUILD_JOBS}" STREQUAL "" AND "$ENV{MAKEFLAGS}" MATCHES "(^| )-j ?([0-9]+)")
  set(ENV{CARGO_BUILD_JOBS} "${CMAKE_MATCH_2}")
endif()
unset(ENV{MAKEFLAGS})
unset(ENV{MFLAGS})
unset(ENV{MAKELEVEL})
# These have a meaning for cargo and for build scripts, and CMake's is another one.
unset(ENV{CARGO_TARGET_DIR})
unset(ENV{CARGO_BUILD_TARGET})
if("$ENV{CARGO_HOME}" STREQUAL "" AND EXISTS "${HOME_OF_CARGO}")
  set(ENV{CARGO_HOME} "${HOME_OF_CARGO}")
endif()
if("$ENV{RUSTUP_HOME}" STREQUAL "" AND EXISTS "${HOME_OF_RUSTUP}")
  set(ENV{RUSTUP_HOME} "${HOME_OF_RUSTUP}")
endif()

if(VERBOSE OR "$ENV{VERBOSE}")
  string(REPLACE ";" " " shown "${command}")
  set(jobs "")
  if(NOT "$ENV{CARGO_BUILD_JOBS}" STREQUAL "")
    set(jobs "CARGO_BUILD_JOBS=$ENV{CARGO_BUILD_JOBS} ")
  endif()
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "${jobs}${shown}")
  list(INSERT command 2 --verbose)
endif()
execute_process(COMMAND ${command} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "cargo failed; its messages are above")
endif()

# Copies, with the time of now: make compares it with that of the sources.
function(place from directory name)
  file(MAKE_DIRECTORY "${directory}")
  # Never into a file that a running program may have mapped.
  file(REMOVE "${directory}/${name}")
  execute_process(COMMAND "${CMAKE_COMMAND}" -E copy "${from}" "${directory}/${name}" RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${from} could not be copied to ${directory}/${name}")
  endif()
  file(TOUCH_NOCREATE "${directory}/${name}")
endfunction()

if(STEP STREQUAL "programs")
  foreach(name IN LISTS NAMES)
    place("${BUILT}/${name}" "${TO}" "${name}")
  endforeach()
elseif(STEP STREQUAL "shared")
  place("${BUILT}/${BASE}" "${TO}" "${REAL}")
  foreach(link "${SONAME}" "${BASE}")
    file(REMOVE "${TO}/${link}")
    execute_process(COMMAND "${CMAKE_COMMAND}" -E create_symlink "${REAL}" "${TO}/${link}" RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
      message(FATAL_ERROR "${TO}/${link} could not be made")
    endif()
  endforeach()
endif()
