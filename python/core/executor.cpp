#include "core/executor.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <pybind11/stl.h>
#include <unistd.h>

#include "core/convert.h"
#include "core/released_gil.h"
#include "headrace/error.h"

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

/// What asking for a request that has ended is answered with: no response of its own.
constexpr std::string_view kHasEnded = "has already been processed and was terminated.";

bool tells_of_the_end(const Response& response) {
  return response.error && response.error->ends_with(kHasEnded);
}

bool tells_of_the_end(const py::tuple& response) {
  const py::object error = response[1];
  return !error.is_none() && error.cast<std::string>().ends_with(kHasEnded);
}

/// Until `take_kept()` is true: calls `take(slice)` without the GIL until it returns responses,
/// which are added to `taken`, or the deadline has passed.
template <typename TakeKept, typename Take>
void await(const Deadline& deadline, const py::object& taken, const TakeKept& take_kept,
           const Take& take) {
  const py::object append = taken.attr("append");
  for (;;) {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (take_kept()) return;
    const Milliseconds slice = deadline.slice();
    std::vector<Response> responses;
    {
      const ReleasedGil released;
      responses = take(slice);
    }
    if (responses.empty() && slice.count() > 0) continue;
    // Another thread may have taken the last response meanwhile, and put it back.
    if (!responses.empty() && tells_of_the_end(responses.front()) && take_kept()) return;
    for (Response& response : responses) append(from_response(std::move(response)));
    return;
  }
}

template <typename Stats>
py::list stats_list(const std::vector<Stats>& history) {
  py::list list;
  for (const Stats& stats : history) list.append(from_stats(stats));
  return list;
}

}  // namespace

PythonExecutor::PythonExecutor(const std::string& engine_dir, const py::object& config)
    : process_(getpid()) {
  const ExecutorOptions options = to_options(engine_dir, config);
  const ReleasedGil released;
  executor_ = std::make_unique<Executor>(options);
}

PythonExecutor::~PythonExecutor() {
  if (in_forked_child()) {
    executor_.release();  // NOLINT(bugprone-unused-return-value): its threads cannot be joined here
    return;
  }
  const ReleasedGil released;
  executor_.reset();
}

bool PythonExecutor::in_forked_child() const { return getpid() != process_; }

void PythonExecutor::check_process() const {
  if (!in_forked_child()) return;
  throw Error(ErrorCode::kInvalidArgument, "[executor] made in process " +
                                               std::to_string(process_) +
                                               ", and this is a forked child, which has none of "
                                               "its threads: make one in this process");
}

/// Keeps shutdown() from returning while a thread of this call may ask for the GIL. Throws in a
/// forked child, and after shutdown(), before the GIL is let go.
class PythonExecutor::Call {
 public:
  explicit Call(const PythonExecutor& executor) : executor_(executor), outer_(innermost) {
    executor.check_process();
    ++executor.calls_;
    if (executor.has_ended_) {
      leave();
      executor.executor_->gpu_weights_percent();  // throws what every call throws now
    }
    innermost = this;
  }
  ~Call() {
    innermost = outer_;
    leave();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// Calls of this thread: a signal handler or a destructor may come in their middle.
  static int of_this_thread(const PythonExecutor& executor) {
    int count = 0;
    for (const Call* call = innermost; call != nullptr; call = call->outer_) {
      count += &call->executor_ == &executor ? 1 : 0;
    }
    return count;
  }

 private:
  void leave() {
    --executor_.calls_;
    executor_.calls_.notify_all();
  }

  const PythonExecutor& executor_;
  const Call* outer_;
  static thread_local const Call* innermost;
};

thread_local const PythonExecutor::Call* PythonExecutor::Call::innermost = nullptr;

template <typename Function>
auto PythonExecutor::without_gil(const Function& function) const {
  const Call call(*this);
  const ReleasedGil released;
  return function(*executor_);
}

std::vector<uint64_t> PythonExecutor::enqueue(const py::iterable& requests) {
  std::vector<Request> converted;
  for (const py::handle request : requests) {
    converted.push_back(to_request(py::reinterpret_borrow<py::object>(request)));
  }
  return without_gil([&](Executor& executor) { return executor.enqueue(std::move(converted)); });
}

void PythonExecutor::await_any(std::optional<int64_t> timeout_ms, const py::object& taken) {
  const Call call(*this);
  await(
      Deadline(timeout_ms), taken, [&] { return take_kept({}, taken); },
      [&](Milliseconds slice) { return executor_->await_responses(slice); });
}

void PythonExecutor::await_each(const std::vector<uint64_t>& ids, std::optional<int64_t> timeout_ms,
                                py::list taken) {
  const Call call(*this);
  const Deadline deadline(timeout_ms);
  for (const uint64_t id : ids) {
    py::list own;
    taken.append(own);
    await(
        deadline, own, [&] { return take_kept(id, own); },
        [&](Milliseconds slice) { return executor_->await_responses(id, slice); });
  }
}

void PythonExecutor::put_back(const py::list& responses) {
  std::map<uint64_t, std::vector<py::tuple>> back;
  for (const py::handle response : responses) {
    auto fields = py::reinterpret_borrow<py::tuple>(response);
    if (!tells_of_the_end(fields)) back[fields[0].cast<uint64_t>()].push_back(std::move(fields));
  }
  for (auto& [id, own] : back) {
    std::vector<py::tuple>& kept = kept_[id];
    kept.insert(kept.begin(), own.begin(), own.end());
  }
}

/// False if nothing of the request, or of any, has been put back.
bool PythonExecutor::take_kept(std::optional<uint64_t> id, const py::object& taken) {
  if (kept_.empty() || !can_enqueue()) return false;  // after shutdown() there is nothing
  const auto first = id ? kept_.find(*id) : kept_.begin();
  if (first == kept_.end()) return false;
  const auto last = id ? std::next(first) : kept_.end();
  for (auto own = first; own != last; ++own) {
    for (const py::tuple& response : own->second) taken.attr("append")(response);
  }
  kept_.erase(first, last);
  return true;
}

int64_t PythonExecutor::responses_ready(std::optional<uint64_t> id) const {
  int64_t kept = 0;
  for (const auto& [request, own] : kept_) {
    if (!id || *id == request) kept += static_cast<int64_t>(own.size());
  }
  return kept + without_gil([&](Executor& executor) { return executor.responses_ready(id); });
}

void PythonExecutor::cancel(uint64_t id) {
  without_gil([&](Executor& executor) { executor.cancel(id); });
}

bool PythonExecutor::can_enqueue() const { return !in_forked_child() && executor_->can_enqueue(); }

void PythonExecutor::shutdown() {
  if (in_forked_child()) return;
  const ReleasedGil released;
  executor_->shutdown();
  has_ended_ = true;
  // Whoever waits hears of it now. After this call the interpreter may end.
  const int own = Call::of_this_thread(*this);
  calls_ -= own;
  calls_.notify_all();
  for (int calls = calls_; calls > 0; calls = calls_) calls_.wait(calls);
  calls_ += own;
}

void PythonExecutor::set_gpu_weights_percent(double percent) {
  without_gil([&](Executor& executor) { executor.set_gpu_weights_percent(percent); });
}

double PythonExecutor::gpu_weights_percent() const {
  return without_gil([](Executor& executor) { return executor.gpu_weights_percent(); });
}

py::list PythonExecutor::latest_iteration_stats() {
  return stats_list(
      without_gil([](Executor& executor) { return executor.latest_iteration_stats(); }));
}

py::list PythonExecutor::latest_request_stats() {
  return stats_list(
      without_gil([](Executor& executor) { return executor.latest_request_stats(); }));
}

int64_t PythonExecutor::vocab_size() const {
  check_process();
  return executor_->vocab_size();
}

int64_t PythonExecutor::max_sequence_tokens() const {
  check_process();
  return executor_->max_sequence_tokens();
}

void bind_executor(py::module_& module) {
  py::class_<PythonExecutor>(module, "Executor")
      .def(py::init<const std::string&, const py::object&>(), py::arg("engine_dir"),
           py::arg("config"))
      .def("enqueue", &PythonExecutor::enqueue, py::arg("requests"))
      .def("await_any", &PythonExecutor::await_any, py::arg("timeout_ms"), py::arg("taken"))
      .def("await_each", &PythonExecutor::await_each, py::arg("ids"), py::arg("timeout_ms"),
           py::arg("taken"))
      .def("put_back", &PythonExecutor::put_back, py::arg("responses"))
      .def("responses_ready", &PythonExecutor::responses_ready, py::arg("id"))
      .def("cancel", &PythonExecutor::cancel, py::arg("id"))
      .def("can_enqueue", &PythonExecutor::can_enqueue)
      .def("shutdown", &PythonExecutor::shutdown)
      .def_property("gpu_weights_percent", &PythonExecutor::gpu_weights_percent,
                    &PythonExecutor::set_gpu_weights_percent)
      .def("latest_iteration_stats", &PythonExecutor::latest_iteration_stats)
      .def("latest_request_stats", &PythonExecutor::latest_request_stats)
      .def("vocab_size", &PythonExecutor::vocab_size)
      .def("max_sequence_tokens", &PythonExecutor::max_sequence_tokens)
      .def("check_process", &PythonExecutor::check_process);
}

}  // namespace headrace::python
