# Compile options that every target of ours takes.
add_library(headrace_options INTERFACE)
target_include_directories(headrace_options INTERFACE ${CMAKE_SOURCE_DIR}/src
                                                      ${CMAKE_SOURCE_DIR}/include)
# -ffp-contract=off: a product and a sum are fused only where the source says fma (docs/numerics.md).
target_compile_options(headrace_options INTERFACE -Wall -Wextra -Wconversion -Werror
                                                  -ffp-contract=off -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 (with sanitizers) and g++ 13 see overflows in the inlined copies of std::vector and memcpy
  # that are not there.
  target_compile_options(headrace_options INTERFACE -Wno-array-bounds -Wno-stringop-overflow)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(headrace_options INTERFACE -Wthread-safety)
endif()
if(HEADRACE_SANITIZE)
  target_compile_options(headrace_options INTERFACE -fsanitize=${HEADRACE_SANITIZE}
                                                    -fno-omit-frame-pointer)
  target_link_options(headrace_options INTERFACE -fsanitize=${HEADRACE_SANITIZE})
endif()
target_link_libraries(headrace_options INTERFACE fmt::fmt-header-only Threads::Threads)

# headrace_room(<room> [USES <rooms>...] [LIBS <libraries>...])
# One static library per room, named headrace_<room>, of every .cpp under src/<room>. USES lists the
# rooms whose headers it may include; scripts/check_includes.py holds the same list against the code.
function(headrace_room room)
  cmake_parse_arguments(ARG "" "" "USES;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${room}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/kernels/cuda/")  # a library of its own: HeadraceCuda.cmake
  if(NOT sources)
    add_library(headrace_${room} INTERFACE)
    set(scope INTERFACE)
  else()
    add_library(headrace_${room} STATIC ${sources})
    set(scope PUBLIC)
  endif()
  target_link_libraries(headrace_${room} ${scope} headrace_options)
  foreach(used ${ARG_USES})
    target_link_libraries(headrace_${room} ${scope} headrace_${used})
  endforeach()
  target_link_libraries(headrace_${room} ${scope} ${ARG_LIBS})
endfunction()

# headrace_room_test(<room> [USES <rooms>...]): one GoogleTest program of every
# tests/<room>/*_test.cpp, registered with ctest test by test under the label "unit".
function(headrace_room_test room)
  cmake_parse_arguments(ARG "" "" "USES;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${room}/*_test.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${room}_test ${sources})
  target_include_directories(${room}_test PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${room}_test PRIVATE headrace_options headrace_${room} headrace_test_support
                                             GTest::gtest GTest::gmock GTest::gtest_main)
  foreach(used ${ARG_USES})
    target_link_libraries(${room}_test PRIVATE headrace_${used})
  endforeach()
  target_link_libraries(${room}_test PRIVATE ${ARG_LIBS})
  set_target_properties(${room}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_dependencies(quick_tests ${room}_test)
  add_test(NAME ${room}_test COMMAND ${room}_test)
  set_tests_properties(${room}_test PROPERTIES LABELS unit)
endfunction()
