#include <pybind11/pybind11.h>

#include "base/version.h"
#include "core/convert.h"
#include "core/engine.h"
#include "core/executor.h"
#include "core/text.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "What the package headrace is made on; its own classes are the interface.";
  module.attr("__version__") = headrace::version();
  headrace::python::register_errors();
  headrace::python::bind_executor(module);
  headrace::python::bind_text(module);
  headrace::python::bind_engine(module);
}
