#pragma once

#include <pybind11/pybind11.h>

namespace headrace::python {

/// Adds Tokenizer, Detokenizer and StopWords to the module.
void bind_text(pybind11::module_& module);

}  // namespace headrace::python
