#include "headrace/executor.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/context.h"
#include "base/error.h"
#include "base/file.h"
#include "base/function_log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "executor/executor_core.h"

namespace headrace {
namespace {

int thread_count(int asked) {
  constexpr int kMost = 1024;  // as --threads
  if (asked >= 0 && asked <= kMost) return asked == 0 ? available_processors() : asked;
  fail(ErrorCode::kInvalidArgument, "[executor] threads {}: use 1 to {}, or 0 for all processors",
       asked, kMost);
}

void check_engine_dir(const ExecutorOptions& options) {
  const std::string config = join_path(options.engine_dir, "config.json");
  if (posix_file_system().exists(config)) return;
  fail(ErrorCode::kNotFound,
       "[executor] File does not exist: {}: engine_dir is a folder that `headrace build` made",
       config);
}

}  // namespace

/// The surroundings of a core.
class Executor::Impl {
 public:
  explicit Impl(const ExecutorOptions& options)
      : log_(options.log),
        pool_(thread_count(options.threads)),
        context_{.fs = posix_file_system(),
                 .pool = pool_,
                 .log = log_,
                 .progress = *progress_,
                 .clock = clock_,
                 .trace = trace_},
        core(options, session_options(options), context_) {}

 private:
  SteadyClock clock_;
  Trace trace_{clock_};
  FunctionLog log_;
  ThreadPool pool_;
  std::unique_ptr<Progress> progress_ = make_null_progress();
  Context context_;

 public:
  ExecutorCore core;
};

Executor::Executor(const ExecutorOptions& options) {
  check_engine_dir(options);
  impl_ = std::make_unique<Impl>(options);
}
Executor::~Executor() = default;

uint64_t Executor::enqueue(Request request) {
  std::vector<Request> one;
  one.push_back(std::move(request));
  return impl_->core.enqueue(std::move(one)).front();
}

std::vector<uint64_t> Executor::enqueue(std::vector<Request> requests) {
  return impl_->core.enqueue(std::move(requests));
}

std::vector<Response> Executor::await_responses(std::optional<Milliseconds> timeout) {
  return impl_->core.await_responses(timeout);
}

std::vector<Response> Executor::await_responses(uint64_t request_id,
                                                std::optional<Milliseconds> timeout) {
  return impl_->core.await_responses(request_id, timeout);
}

std::vector<std::vector<Response>> Executor::await_responses(std::span<const uint64_t> request_ids,
                                                             std::optional<Milliseconds> timeout) {
  return impl_->core.await_responses(request_ids, timeout);
}

int64_t Executor::responses_ready(std::optional<uint64_t> request_id) const {
  return impl_->core.responses_ready(request_id);
}

void Executor::cancel(uint64_t request_id) { impl_->core.cancel(request_id); }
bool Executor::can_enqueue() const { return impl_->core.can_enqueue(); }
void Executor::shutdown() { impl_->core.shutdown(); }

void Executor::set_gpu_weights_percent(double percent) {
  impl_->core.set_gpu_weights_percent(percent);
}

double Executor::gpu_weights_percent() const { return impl_->core.gpu_weights_percent(); }

std::vector<IterationStats> Executor::latest_iteration_stats() {
  return impl_->core.latest_iteration_stats();
}

std::vector<RequestStatsOfIteration> Executor::latest_request_stats() {
  return impl_->core.latest_request_stats();
}

int64_t Executor::vocab_size() const { return impl_->core.limits().vocab_size; }

int64_t Executor::max_sequence_tokens() const {
  const PromptLimits& limits = impl_->core.limits();
  return std::min(limits.max_sequence_tokens, limits.kv_positions() + 1);
}

}  // namespace headrace
