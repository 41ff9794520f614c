#include "core/engine.h"

#include <memory>
#include <string>
#include <utility>

#include <pybind11/stl.h>

#include "base/clock.h"
#include "base/context.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "core/callbacks.h"
#include "core/convert.h"
#include "core/released_gil.h"
#include "engine/builder.h"
#include "headrace/planner.h"

namespace headrace::python {
namespace {

/// Hands lines to a Python function. Thread-safe.
class PythonLog : public Log {
 public:
  explicit PythonLog(LogFunction function)
      : Log(LogLevel::kVerbose), function_(std::move(function)) {}

 protected:
  void write(LogLevel level, std::string_view line) override { function_(level, line); }

 private:
  LogFunction function_;
};

/// The surroundings of one call.
class Surroundings {
 public:
  Surroundings(int threads, LogFunction log)
      : log_(std::move(log)), pool_(threads == 0 ? available_processors() : threads) {}
  Context& context() { return context_; }

 private:
  SteadyClock clock_;
  PythonLog log_;
  ThreadPool pool_;
  std::unique_ptr<Progress> progress_ = make_null_progress();
  Trace trace_{clock_};
  Context context_{.fs = posix_file_system(),
                   .pool = pool_,
                   .log = log_,
                   .progress = *progress_,
                   .clock = clock_,
                   .trace = trace_};
};

std::string normalize_build_config(const std::string& json) {
  return build_config_to_json(parse_build_config(json, "BuildConfig"));
}

py::dict build(const std::string& checkpoint_dir, const std::string& output_dir,
               const std::string& config_json, const py::object& log) {
  const BuildConfig config = parse_build_config(config_json, "BuildConfig");
  const LogFunction log_function = to_log_function(log);
  BuildReport report;
  {
    const ReleasedGil released;
    Surroundings surroundings(/*threads=*/0, log_function);
    report = build_engine(checkpoint_dir, output_dir, config, surroundings.context());
  }
  using py::literals::operator""_a;
  return py::dict("matrices"_a = report.matrices, "tiles"_a = report.tiles,
                  "streamable_bytes"_a = report.streamable_bytes,
                  "payload_bytes"_a = report.payload_bytes, "codec_shares"_a = report.codec_shares,
                  "file_bytes"_a = report.file_bytes, "seconds"_a = report.seconds);
}

SessionOptions session_options(const ExecutorOptions& options, int64_t batch_size,
                               int64_t max_seq_len) {
  SessionOptions session;
  session.engine_dir = options.engine_dir;
  session.device = options.device;
  session.budget = {.percent = options.gpu_weights_percent, .bytes = {}};
  if (options.gpu_weights_bytes) {
    session.budget = {.percent = {}, .bytes = options.gpu_weights_bytes};
  }
  session.automatic_budget = options.automatic_gpu_weights;
  session.memory_limit = options.memory_limit_bytes;
  session.ring_requests = options.ring_requests;
  session.profile_path = options.profile_path;
  session.host_threads = options.host_threads;
  session.limits.max_sequences = batch_size;
  session.limits.max_sequence_tokens = max_seq_len;
  return session;
}

std::string plan(const std::string& engine_dir, const py::object& config, bool table,
                 int64_t batch_size, int64_t max_seq_len) {
  const ExecutorOptions options = to_options(engine_dir, config);
  const ReleasedGil released;
  Surroundings surroundings(options.threads, options.log);
  return app::plan_json(app::plan_sessions(session_options(options, batch_size, max_seq_len), table,
                                           surroundings.context()));
}

}  // namespace

void bind_engine(py::module_& module) {
  module.def("normalize_build_config", &normalize_build_config, py::arg("json"));
  module.def("build", &build, py::arg("checkpoint_dir"), py::arg("output_dir"),
             py::arg("config_json"), py::arg("log"));
  module.def("plan", &plan, py::arg("engine_dir"), py::arg("config"), py::arg("table"),
             py::arg("batch_size"), py::arg("max_seq_len"));
}

}  // namespace headrace::python
