# libheadrace.so, what C++ programs link: the public API (include/) and all rooms behind it. Its
# symbols are those that headrace.map names. `cmake --install` brings it with its headers, a CMake
# package (find_package(headrace)) and headrace.pc.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(source ${CMAKE_CURRENT_BINARY_DIR}/headrace_library.cpp)
file(CONFIGURE OUTPUT ${source} CONTENT "// All there is in the library comes from the rooms.\n")
set(version_script ${CMAKE_SOURCE_DIR}/cmake/headrace.map)

add_library(headrace_library SHARED ${source})
# The rooms that define the API are linked whole; of the others, what these need.
target_link_libraries(headrace_library PRIVATE headrace_compat headrace_executor headrace_api)
set_target_properties(
  headrace_library
  PROPERTIES OUTPUT_NAME headrace
             EXPORT_NAME headrace
             VERSION ${PROJECT_VERSION}
             SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
             LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
             LINK_LIBRARY_OVERRIDE "WHOLE_ARCHIVE,headrace_compat,headrace_executor,headrace_api"
             LINK_DEPENDS ${version_script})
target_link_options(headrace_library PRIVATE -Wl,--version-script=${version_script})
if(NOT HEADRACE_SANITIZE)  # Clang's runtimes are in the program alone
  target_link_options(headrace_library PRIVATE -Wl,--no-undefined)
endif()
target_include_directories(
  headrace_library INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(headrace_library INTERFACE cxx_std_20)

# The headers of include/tensorrt_llm want C++17, as its clients do.
add_library(headrace_tensorrt_llm INTERFACE)
set_target_properties(headrace_tensorrt_llm PROPERTIES EXPORT_NAME tensorrt_llm)
target_link_libraries(headrace_tensorrt_llm INTERFACE $<LINK_ONLY:headrace_library>)
target_include_directories(
  headrace_tensorrt_llm INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(headrace_tensorrt_llm INTERFACE cxx_std_17)

add_library(headrace::headrace ALIAS headrace_library)
add_library(headrace::tensorrt_llm ALIAS headrace_tensorrt_llm)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/headrace)
install(TARGETS headrace_library headrace_tensorrt_llm EXPORT headrace
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(EXPORT headrace NAMESPACE headrace:: FILE headraceTargets.cmake DESTINATION ${package})
if(TARGET headrace_cuda)  # loaded at run time, beside the library that asks for it
  set_target_properties(headrace_cuda PROPERTIES INSTALL_RPATH "$ORIGIN;/usr/local/cuda/lib64")
  install(TARGETS headrace_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

configure_package_config_file(
  ${CMAKE_SOURCE_DIR}/cmake/headraceConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/headraceConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/headraceConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/headraceConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/headraceConfigVersion.cmake DESTINATION ${package})

# The prefix of headrace.pc is found from where it lies, so that a tree can be moved.
file(RELATIVE_PATH prefix_of_pkgconfig ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
     ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_SOURCE_DIR}/cmake/headrace.pc.in ${CMAKE_CURRENT_BINARY_DIR}/headrace.pc
               @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/headrace.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
