#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "headrace/executor.h"

namespace headrace::python {

namespace py = pybind11;

/// Token ids of a NumPy array of any integer type, or of anything that becomes one. `place` begins
/// the message of the TypeError (not integers) or ValueError (not one row, not an int32).
std::vector<int32_t> to_tokens(const py::object& ids, const char* place);

/// Reads the attributes of a headrace.Request. TypeError naming the field that has another type.
Request to_request(const py::object& request);

/// Reads the attributes of a headrace.ExecutorConfig.
ExecutorOptions to_options(const std::string& engine_dir, const py::object& config);

/// The fields of headrace.Response and its Result, in their order. Logits become arrays that own
/// what the response held.
py::tuple from_response(Response&& response);

py::dict from_stats(const IterationStats& stats);
py::dict from_stats(const RequestStatsOfIteration& stats);

/// Raises what the library throws as Python's own exceptions, with the same message.
void register_errors();

}  // namespace headrace::python
