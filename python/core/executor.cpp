#include "core/executor.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <pybind11/stl.h>

#include "core/convert.h"

namespace headrace::python {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = Executor::Milliseconds;

constexpr Milliseconds kSlice{50};  // between two looks for signals

/// When a wait ends. Waits as long as a year need no end.
class Deadline {
 public:
  explicit Deadline(std::optional<int64_t> timeout_ms) {
    constexpr int64_t kYearMs = int64_t{365} * 24 * 3600 * 1000;
    if (timeout_ms && *timeout_ms < kYearMs) end_ = Clock::now() + Milliseconds(*timeout_ms);
  }
  /// What is left of it, at most a slice; 0 after the end.
  Milliseconds slice() const {
    if (!end_) return kSlice;
    const auto left = std::chrono::ceil<Milliseconds>(*end_ - Clock::now());
    return std::clamp(left, Milliseconds(0), kSlice);
  }

 private:
  std::optional<Clock::time_point> end_;
};

/// Calls `take(slice)` without the GIL until it returns responses or the deadline has passed.
template <typename Take>
py::list await(const Deadline& deadline, const Take& take) {
  for (;;) {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    const Milliseconds slice = deadline.slice();
    std::vector<Response> responses;
    {
      const py::gil_scoped_release release;
      responses = take(slice);
    }
    if (responses.empty() && slice.count() > 0) continue;
    py::list list;
    for (Response& response : responses) list.append(from_response(std::move(response)));
    return list;
  }
}

template <typename Stats>
py::list stats_list(const std::vector<Stats>& history) {
  py::list list;
  for (const Stats& stats : history) list.append(from_stats(stats));
  return list;
}

}  // namespace

PythonExecutor::PythonExecutor(const std::string& engine_dir, const py::object& config) {
  const ExecutorOptions options = to_options(engine_dir, config);
  const py::gil_scoped_release release;
  executor_ = std::make_unique<Executor>(options);
}

PythonExecutor::~PythonExecutor() {
  const py::gil_scoped_release release;
  executor_.reset();
}

std::vector<uint64_t> PythonExecutor::enqueue(const py::iterable& requests) {
  std::vector<Request> converted;
  for (const py::handle request : requests) {
    converted.push_back(to_request(py::reinterpret_borrow<py::object>(request)));
  }
  const py::gil_scoped_release release;
  return executor_->enqueue(std::move(converted));
}

py::list PythonExecutor::await_any(std::optional<int64_t> timeout_ms) {
  return await(Deadline(timeout_ms),
               [&](Milliseconds slice) { return executor_->await_responses(slice); });
}

py::list PythonExecutor::await_each(const std::vector<uint64_t>& ids,
                                    std::optional<int64_t> timeout_ms) {
  const Deadline deadline(timeout_ms);
  py::list lists;
  for (const uint64_t id : ids) {
    lists.append(
        await(deadline, [&](Milliseconds slice) { return executor_->await_responses(id, slice); }));
  }
  return lists;
}

int64_t PythonExecutor::responses_ready(std::optional<uint64_t> id) const {
  const py::gil_scoped_release release;
  return executor_->responses_ready(id);
}

void PythonExecutor::cancel(uint64_t id) {
  const py::gil_scoped_release release;
  executor_->cancel(id);
}

bool PythonExecutor::can_enqueue() const {
  const py::gil_scoped_release release;
  return executor_->can_enqueue();
}

void PythonExecutor::shutdown() {
  const py::gil_scoped_release release;
  executor_->shutdown();
}

void PythonExecutor::set_gpu_weights_percent(double percent) {
  const py::gil_scoped_release release;
  executor_->set_gpu_weights_percent(percent);
}

double PythonExecutor::gpu_weights_percent() const {
  const py::gil_scoped_release release;
  return executor_->gpu_weights_percent();
}

py::list PythonExecutor::latest_iteration_stats() {
  std::vector<IterationStats> stats;
  {
    const py::gil_scoped_release release;
    stats = executor_->latest_iteration_stats();
  }
  return stats_list(stats);
}

py::list PythonExecutor::latest_request_stats() {
  std::vector<RequestStatsOfIteration> stats;
  {
    const py::gil_scoped_release release;
    stats = executor_->latest_request_stats();
  }
  return stats_list(stats);
}

int64_t PythonExecutor::vocab_size() const {
  const py::gil_scoped_release release;
  return executor_->vocab_size();
}

int64_t PythonExecutor::max_sequence_tokens() const {
  const py::gil_scoped_release release;
  return executor_->max_sequence_tokens();
}

void bind_executor(py::module_& module) {
  py::class_<PythonExecutor>(module, "Executor")
      .def(py::init<const std::string&, const py::object&>(), py::arg("engine_dir"),
           py::arg("config"))
      .def("enqueue", &PythonExecutor::enqueue, py::arg("requests"))
      .def("await_any", &PythonExecutor::await_any, py::arg("timeout_ms"))
      .def("await_each", &PythonExecutor::await_each, py::arg("ids"), py::arg("timeout_ms"))
      .def("responses_ready", &PythonExecutor::responses_ready, py::arg("id"))
      .def("cancel", &PythonExecutor::cancel, py::arg("id"))
      .def("can_enqueue", &PythonExecutor::can_enqueue)
      .def("shutdown", &PythonExecutor::shutdown)
      .def_property("gpu_weights_percent", &PythonExecutor::gpu_weights_percent,
                    &PythonExecutor::set_gpu_weights_percent)
      .def("latest_iteration_stats", &PythonExecutor::latest_iteration_stats)
      .def("latest_request_stats", &PythonExecutor::latest_request_stats)
      .def("vocab_size", &PythonExecutor::vocab_size)
      .def("max_sequence_tokens", &PythonExecutor::max_sequence_tokens);
}

}  // namespace headrace::python
