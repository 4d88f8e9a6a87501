# What can be chosen, and what is refused because this version doesn't have it.

# An option of which it matters whether somebody chose its value or it is the default: QTLS_CHOSEN_<name>. CMake keeps only
# values; but what the command line sets has CMake's own help text, until the option gets its own below.
macro(qtls_option name help default)
  if(DEFINED CACHE{${name}})
    get_property(qtls_help CACHE ${name} PROPERTY HELPSTRING)
    if(NOT qtls_help STREQUAL "${help}")
      set(QTLS_CHOSEN_${name} TRUE CACHE INTERNAL "")
    endif()
  elseif(DEFINED ${name})
    set(QTLS_CHOSEN_${name} TRUE CACHE INTERNAL "")
  endif()
  option(${name} "${help}" ${default})
  # `option` leaves a help text alone that was there before.
  if(DEFINED CACHE{${name}})
    set_property(CACHE ${name} PROPERTY HELPSTRING "${help}")
  endif()
endmacro()

# What this version doesn't have is refused with the way out. Lines that begin with a space are not broken.
function(qtls_refuse text hint)
  message(FATAL_ERROR " ${text}\n hint: ${hint}")
endfunction()

if(CMAKE_CONFIGURATION_TYPES)
  qtls_refuse("the generator ${CMAKE_GENERATOR} builds several configurations at once, which cargo's profiles are not"
    "use -G \"Unix Makefiles\" or -G Ninja, with a build directory for each CMAKE_BUILD_TYPE")
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()
set_property(CACHE CMAKE_BUILD_TYPE PROPERTY STRINGS Release Debug RelWithDebInfo)
# The profile of cargo, and where cargo puts what it builds with it.
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(QTLS_PROFILE release)
  set(QTLS_PROFILE_DIRECTORY release)
elseif(CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(QTLS_PROFILE dev)
  set(QTLS_PROFILE_DIRECTORY debug)
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  set(QTLS_PROFILE release-with-debug-info)
  set(QTLS_PROFILE_DIRECTORY release-with-debug-info)
else()
  qtls_refuse("CMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE} is none of Release, Debug, RelWithDebInfo" "choose one of these")
endif()

qtls_option(BUILD_SHARED_LIBS "Build libqtls as a shared library" ON)
qtls_option(BUILD_STATIC_LIBS "Build libqtls as a static library" OFF)
if(NOT BUILD_SHARED_LIBS AND NOT BUILD_STATIC_LIBS)
  qtls_refuse("BUILD_SHARED_LIBS and BUILD_STATIC_LIBS are both OFF: there would be no library" "set one of them to ON")
endif()
if(BUILD_STATIC_LIBS AND NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  qtls_refuse("BUILD_STATIC_LIBS=ON: the static library is made with GNU ld and objcopy, on Linux only"
    "leave it OFF, and use the shared library")
endif()

qtls_option(ENABLE_TESTS "Build the tests in C, for make test" ON)
qtls_option(ENABLE_EXAMPLES "Build the examples in C" ON)
qtls_option(ENABLE_LOGGING "Compile detailed logs (the levels debug and trace) into the programs" ON)

qtls_option(ENABLE_HSM "Support for keys in an HSM, by PKCS#11" OFF)
if(ENABLE_HSM)
  qtls_refuse("ENABLE_HSM=ON: keys in an HSM (PKCS#11) are not in this version"
    "leave ENABLE_HSM OFF, and keep private keys in files that only the server's user can read")
endif()
set(qtls_module "/usr/lib/libCryptoki2_64.so")
if(DEFINED HSM_PKCS11_LIB AND NOT HSM_PKCS11_LIB STREQUAL qtls_module)
  message(WARNING " HSM_PKCS11_LIB=${HSM_PKCS11_LIB} has no effect: ENABLE_HSM is OFF, so nothing loads a PKCS#11 module")
endif()
set(HSM_PKCS11_LIB "${qtls_module}" CACHE FILEPATH "The PKCS#11 module that is the default with ENABLE_HSM")

qtls_option(FIPS_MODE "A build with a cryptographic module that FIPS 140-3 validated" OFF)
if(FIPS_MODE)
  qtls_refuse("FIPS_MODE=ON: the FIPS flavour is not in this version"
    "leave FIPS_MODE OFF; tls.profile \"fips\" keeps a server to approved algorithms, without a validated module")
endif()

# A binding is there if its directory says how it is built. ON by default means: if it is there.
set(QTLS_BINDINGS "")
function(qtls_binding option language directory)
  if(NOT ${option})
    set(QTLS_BINDING_${directory} "no (${option}=OFF)" PARENT_SCOPE)
  elseif(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/bindings/${directory}/CMakeLists.txt")
    set(QTLS_BINDINGS ${QTLS_BINDINGS} ${directory} PARENT_SCOPE)
    set(QTLS_BINDING_${directory} "yes" PARENT_SCOPE)
  elseif(QTLS_CHOSEN_${option})
    qtls_refuse("${option}=ON: the ${language} binding is not in this version (there is no bindings/${directory})"
      "leave ${option} out, or set it to OFF; ${language} can reach a server through qtls-client --tunnel")
  else()
    set(QTLS_BINDING_${directory} "no (not in this version)" PARENT_SCOPE)
  endif()
endfunction()
qtls_option(ENABLE_PYTHON_BINDING "Build the Python binding, if it is there" ON)
qtls_option(ENABLE_GO_BINDING "Build the Go binding, if it is there" ON)
qtls_option(ENABLE_NODEJS_BINDING "Build the Node.js binding, if it is there" ON)
qtls_binding(ENABLE_PYTHON_BINDING Python python)
qtls_binding(ENABLE_GO_BINDING Go go)
qtls_binding(ENABLE_NODEJS_BINDING Node.js nodejs)

set(QTLS_CARGO_TARGET_DIR "${CMAKE_CURRENT_BINARY_DIR}/cargo" CACHE PATH "Where cargo builds; may be shared by build directories")
set(QTLS_CARGO_FLAGS "" CACHE STRING "Further arguments for cargo, separated by semicolons, such as --offline")
