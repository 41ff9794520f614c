#include "core/callbacks.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>

#include "headrace/error.h"

namespace headrace::python {
namespace {

namespace py = pybind11;

/// Shared by the copies of a std::function, so that only the last of them needs the GIL.
using Callable = std::shared_ptr<py::object>;

Callable keep(py::object callable) {
  return {new py::object(std::move(callable)), [](py::object* object) {
            const py::gil_scoped_acquire gil;
            delete object;
          }};
}

/// A step as Python sees it, and its logits.
struct PythonStep {
  explicit PythonStep(const LogitsStep& step)
      : logits({static_cast<py::ssize_t>(step.tokens.size()),
                static_cast<py::ssize_t>(step.logits.size() / step.tokens.size())}) {
    std::ranges::copy(step.logits, logits.mutable_data());
    py::list beams;
    for (const auto& tokens : step.tokens) {
      beams.append(py::array_t<int32_t>(static_cast<py::ssize_t>(tokens.size()), tokens.data()));
    }
    object =
        py::module_::import("headrace")
            .attr("LogitsStep")(step.request_id,
                                step.client_id ? py::object(py::int_(*step.client_id)) : py::none(),
                                step.sequence_index, logits, beams);
  }
  void copy_back(const LogitsStep& step) const {
    if (static_cast<size_t>(logits.size()) != step.logits.size()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "[logits_processor] it resized the logits: change them in place");
    }
    std::copy_n(logits.data(), step.logits.size(), step.logits.begin());
  }

  py::array_t<float> logits;
  py::object object;
};

[[noreturn]] void throw_as_error(const py::error_already_set& raised) {
  const std::string type = raised.type().attr("__name__").cast<std::string>();
  throw Error(ErrorCode::kInvalidArgument,
              "[logits_processor] " + type + ": " + py::str(raised.value()).cast<std::string>());
}

}  // namespace

LogitsProcessor to_logits_processor(py::object callable) {
  return [callable = keep(std::move(callable))](const LogitsStep& step) {
    const py::gil_scoped_acquire gil;
    try {
      const PythonStep python_step(step);
      (*callable)(python_step.object);
      python_step.copy_back(step);
    } catch (const py::error_already_set& raised) {
      throw_as_error(raised);
    }
  };
}

BatchedLogitsProcessor to_batched_processor(py::object callable) {
  return [callable = keep(std::move(callable))](std::span<const LogitsStep> steps) {
    const py::gil_scoped_acquire gil;
    try {
      std::vector<PythonStep> python_steps;
      py::list objects;
      for (const LogitsStep& step : steps) {
        objects.append(python_steps.emplace_back(step).object);
      }
      (*callable)(objects);
      for (size_t i = 0; i < steps.size(); ++i) python_steps[i].copy_back(steps[i]);
    } catch (const py::error_already_set& raised) {
      throw_as_error(raised);
    }
  };
}

LogFunction to_log_function(py::object callable) {
  return [callable = keep(std::move(callable))](LogLevel level, std::string_view line) {
    const py::gil_scoped_acquire gil;
    try {
      (*callable)(log_level_name(level), line);
    } catch (py::error_already_set& raised) {
      raised.discard_as_unraisable("headrace's log function");
    }
  };
}

const char* log_level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kVerbose:
      return "verbose";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

}  // namespace headrace::python
