#pragma once

#include <pybind11/pybind11.h>

#include "headrace/executor_options.h"

namespace headrace::python {

/// Python callables as functions that any thread may call, copy and destroy without the GIL.
///
/// A logits processor is called with a headrace.LogitsStep. Its logits are an array of Python's
/// own, so that keeping it is harmless; what the callable leaves there is copied back. What it
/// raises is thrown as Error{kInvalidArgument} "[logits_processor] ValueError: ...".
LogitsProcessor to_logits_processor(pybind11::object callable);
/// The same with a list of them.
BatchedLogitsProcessor to_batched_processor(pybind11::object callable);

/// Called with the level's name ("info") and the line. What it raises is reported and dropped.
LogFunction to_log_function(pybind11::object callable);

/// "verbose", "info", "warning" or "error".
const char* log_level_name(LogLevel level);

}  // namespace headrace::python
