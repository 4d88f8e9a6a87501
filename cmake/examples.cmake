# Every example in C is built as build/examples/NAME.

file(GLOB qtls_examples CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/examples/*.c")
set(QTLS_EXAMPLES "")
foreach(source IN LISTS qtls_examples)
  get_filename_component(name "${source}" NAME_WE)
  qtls_c_program(${name} "${source}" examples)
  list(APPEND QTLS_EXAMPLES ${name})
endforeach()
