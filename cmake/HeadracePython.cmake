# Looks for the Python that the module headrace._core is built for (scikit-build-core's, or that of
# .venv, where `scripts/install-deps python` puts pybind11) and for pybind11. Sets
# HEADRACE_HAS_PYBIND11.
if(NOT DEFINED Python_EXECUTABLE AND EXISTS ${CMAKE_SOURCE_DIR}/.venv/bin/python3)
  set(Python_EXECUTABLE ${CMAKE_SOURCE_DIR}/.venv/bin/python3)
endif()
find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
set(HEADRACE_HAS_PYBIND11 OFF)
if(Python_Development.Module_FOUND)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_cmake
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_package(pybind11 2.13 CONFIG HINTS ${pybind11_cmake})
  set(HEADRACE_HAS_PYBIND11 ${pybind11_FOUND})
endif()
