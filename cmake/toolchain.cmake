# cargo, and what it needs.

set(qtls_home "$ENV{CARGO_HOME}")
if(NOT qtls_home)
  set(qtls_home "$ENV{HOME}/.cargo")
endif()
find_program(QTLS_CARGO cargo HINTS "${qtls_home}/bin" DOC "cargo, of Rust")
if(NOT QTLS_CARGO)
  qtls_refuse("there is no cargo, which Q-TLS is compiled with"
    "scripts/install-deps.sh build installs it; or install Rust ${qtls_rust} or later from https://rustup.rs, or name it: -DQTLS_CARGO=/path/to/cargo")
endif()
execute_process(COMMAND "${QTLS_CARGO}" --version WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  OUTPUT_VARIABLE qtls_cargo_version ERROR_VARIABLE qtls_error RESULT_VARIABLE qtls_status)
string(STRIP "${qtls_error}" qtls_error)
if(qtls_error)
  set(qtls_error " (${qtls_error})")
endif()
if(NOT qtls_status EQUAL 0 OR NOT qtls_cargo_version MATCHES "^cargo ([0-9.]+)")
  qtls_refuse("${QTLS_CARGO} --version failed: ${qtls_status}${qtls_error}" "check with: ${QTLS_CARGO} --version")
endif()
set(qtls_cargo_version "${CMAKE_MATCH_1}")
if(qtls_cargo_version VERSION_LESS qtls_rust)
  qtls_refuse("${QTLS_CARGO} is of Rust ${qtls_cargo_version}, and Q-TLS needs ${qtls_rust} or later"
    "rustup update; or scripts/install-deps.sh build")
endif()

# `sudo make install` has another home, where rustup knows no toolchain.
set(QTLS_CARGO_HOME "${qtls_home}" CACHE INTERNAL "")
set(qtls_rustup "$ENV{RUSTUP_HOME}")
if(NOT qtls_rustup)
  set(qtls_rustup "$ENV{HOME}/.rustup")
endif()
set(QTLS_RUSTUP_HOME "${qtls_rustup}" CACHE INTERNAL "")

if(BUILD_STATIC_LIBS)
  find_program(QTLS_LD NAMES ld.bfd ld DOC "GNU ld, for the static library")
  foreach(tool QTLS_LD CMAKE_OBJCOPY CMAKE_NM CMAKE_AR)
    if(NOT ${tool})
      qtls_refuse("BUILD_STATIC_LIBS=ON needs ld, objcopy, nm and ar of GNU binutils" "install binutils, or leave it OFF")
    endif()
  endforeach()
  # What the standard library of Rust needs of the system; cargo doesn't tell, rustc does.
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/qtls-build/nothing.rs" "")
  get_filename_component(qtls_cargo_directory "${QTLS_CARGO}" DIRECTORY)
  find_program(QTLS_RUSTC rustc HINTS "${qtls_cargo_directory}" DOC "rustc, of Rust")
  execute_process(
    COMMAND "${QTLS_RUSTC}" --crate-type staticlib --print native-static-libs
      -o "${CMAKE_CURRENT_BINARY_DIR}/qtls-build/nothing.a" "${CMAKE_CURRENT_BINARY_DIR}/qtls-build/nothing.rs"
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" OUTPUT_VARIABLE qtls_out ERROR_VARIABLE qtls_out RESULT_VARIABLE qtls_status)
  if(NOT qtls_status EQUAL 0 OR NOT qtls_out MATCHES "native-static-libs: ([^\n]*)")
    qtls_refuse("rustc doesn't tell what a static library needs:\n${qtls_out}" "check the installation of Rust, or leave BUILD_STATIC_LIBS OFF")
  endif()
  string(STRIP "${CMAKE_MATCH_1}" QTLS_PRIVATE_LIBS)
endif()
