# Third-party libraries, all from Debian 12 / Ubuntu 24.04 packages (scripts/install-deps).
# Those that ship a static archive are linked statically, so that a binary can be carried to
# another machine; fmt ships none and is used header-only.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)

function(headrace_static_library target header archive)
  string(TOUPPER ${target} upper)
  find_path(HEADRACE_${upper}_INCLUDE ${header} REQUIRED)
  find_library(HEADRACE_${upper}_LIBRARY ${archive} REQUIRED)
  add_library(deps_${target} INTERFACE)
  target_include_directories(deps_${target} SYSTEM INTERFACE ${HEADRACE_${upper}_INCLUDE})
  target_link_libraries(deps_${target} INTERFACE ${HEADRACE_${upper}_LIBRARY})
endfunction()

headrace_static_library(pcre2 pcre2.h libpcre2-8.a)
headrace_static_library(utf8proc utf8proc.h libutf8proc.a)
headrace_static_library(uring liburing.h liburing.a)
headrace_static_library(xxhash xxhash.h libxxhash.a)
