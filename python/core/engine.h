#pragma once

#include <pybind11/pybind11.h>

namespace headrace::python {

/// Adds what builds and plans engines to the module: JSON goes in and out, the classes are
/// Python's.
void bind_engine(pybind11::module_& module);

}  // namespace headrace::python
