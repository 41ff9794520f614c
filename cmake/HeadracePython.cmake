# Settles HEADRACE_PYTHON. Looks for the Python that the module headrace._core is built for
# (scikit-build-core's, or that of .venv, where `scripts/install-deps python` puts pybind11), for its
# headers and for pybind11.
if(HEADRACE_PYTHON STREQUAL "AUTO" AND HEADRACE_SANITIZE)
  set(HEADRACE_PYTHON OFF)  # a plain interpreter cannot load such a module
endif()
if(HEADRACE_PYTHON)
  if(NOT DEFINED Python_EXECUTABLE AND EXISTS ${CMAKE_SOURCE_DIR}/.venv/bin/python3)
    set(Python_EXECUTABLE ${CMAKE_SOURCE_DIR}/.venv/bin/python3)
  endif()
  find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
  set(found OFF)
  if(Python_Interpreter_FOUND AND Python_Development.Module_FOUND)
    execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
                    OUTPUT_VARIABLE pybind11_cmake OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    find_package(pybind11 2.13 CONFIG QUIET HINTS ${pybind11_cmake})
    set(found ${pybind11_FOUND})
  endif()
  if(HEADRACE_PYTHON STREQUAL "AUTO")
    set(HEADRACE_PYTHON ${found})
  elseif(NOT found)
    message(FATAL_ERROR "The Python module needs Python's headers and pybind11: run "
                        "scripts/install-deps python, or give -DHEADRACE_PYTHON=OFF")
  endif()
endif()
