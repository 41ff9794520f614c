#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>
#include <sys/types.h>

#include "headrace/executor.h"

namespace headrace::python {

/// headrace::Executor for Python: objects become requests, responses become tuples. Calls let go
/// of the GIL, because the executor's thread may need it for a logits processor or the log, and
/// calls that wait look for signals, so that Ctrl-C ends them. Thread-safe, with the GIL held. When
/// shutdown() returns, all other calls have.
///
/// A forked child has the object, but not its threads: there every call but can_enqueue() and
/// shutdown(), which do nothing, throws Error{kInvalidArgument}, and what it owns is left to the
/// system.
class PythonExecutor {
 public:
  PythonExecutor(const std::string& engine_dir, const pybind11::object& config);
  ~PythonExecutor();

  std::vector<uint64_t> enqueue(const pybind11::iterable& requests);
  /// Adds what comes of any request to `taken`, where it stays whatever interrupts the call.
  /// `timeout_ms` empty: as long as it takes.
  void await_any(std::optional<int64_t> timeout_ms, const pybind11::object& taken);
  /// The same of each of these, a list for each in their order; `timeout_ms` is for all of them
  /// together.
  void await_each(const std::vector<uint64_t>& ids, std::optional<int64_t> timeout_ms,
                  pybind11::list taken);
  /// Takes responses back that nobody has seen: they come again, before any others of their
  /// request.
  void put_back(const pybind11::list& responses);
  int64_t responses_ready(std::optional<uint64_t> id) const;
  void cancel(uint64_t id);
  bool can_enqueue() const;
  void shutdown();
  void set_gpu_weights_percent(double percent);
  double gpu_weights_percent() const;
  pybind11::list latest_iteration_stats();
  pybind11::list latest_request_stats();
  int64_t vocab_size() const;
  int64_t max_sequence_tokens() const;
  /// Throws in a forked child.
  void check_process() const;

 private:
  class Call;

  bool in_forked_child() const;
  /// What function(executor) returns.
  template <typename Function>
  auto without_gil(const Function& function) const;
  bool take_kept(std::optional<uint64_t> id, const pybind11::object& taken);

  pid_t process_;
  std::unique_ptr<Executor> executor_;
  mutable std::atomic<int> calls_{0};
  std::atomic<bool> has_ended_{false};
  std::map<uint64_t, std::vector<pybind11::tuple>> kept_;  // put back, by request
};

/// Adds the class to the module.
void bind_executor(pybind11::module_& module);

}  // namespace headrace::python
