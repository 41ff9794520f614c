#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/context.h"
#include "executor/inbox.h"
#include "executor/response_box.h"
#include "executor/session.h"
#include "executor/stats_history.h"
#include "headrace/executor.h"

namespace headrace {

/// What headrace::Executor does (include/headrace/executor.h has the contract), in surroundings
/// that the caller chooses: a thread that opens a session and serves what the inbox brings.
/// Thread-safe.
class ExecutorCore {
 public:
  using Milliseconds = Executor::Milliseconds;

  /// `context` must outlive it and be left to it.
  ExecutorCore(ExecutorOptions options, const SessionOptions& session, Context& context);
  ~ExecutorCore() { shutdown(); }
  ExecutorCore(const ExecutorCore&) = delete;
  ExecutorCore& operator=(const ExecutorCore&) = delete;

  std::vector<uint64_t> enqueue(std::vector<Request> requests);
  std::vector<Response> await_responses(std::optional<Milliseconds> timeout);
  std::vector<Response> await_responses(uint64_t request_id, std::optional<Milliseconds> timeout);
  std::vector<std::vector<Response>> await_responses(std::span<const uint64_t> request_ids,
                                                     std::optional<Milliseconds> timeout);
  int64_t responses_ready(std::optional<uint64_t> id) const { return responses_.ready(id); }
  void cancel(uint64_t request_id) { inbox_->cancel(request_id); }
  bool can_enqueue() const { return inbox_->is_open(); }
  void shutdown();
  void set_gpu_weights_percent(double percent);
  double gpu_weights_percent() const;
  std::vector<IterationStats> latest_iteration_stats();
  std::vector<RequestStatsOfIteration> latest_request_stats();
  /// With the largest KV cache that may be.
  const PromptLimits& limits() const { return inbox_->limits().prompt; }

 private:
  void run(const SessionOptions& session, std::promise<std::optional<Fault>>& opened);
  void serve(Session& session);
  void check_may_wait(const char* call) const;

  const ExecutorOptions options_;
  Context& context_;
  ResponseBox responses_;
  StatsHistory<IterationStats> iterations_;
  StatsHistory<RequestStatsOfIteration> requests_;
  std::unique_ptr<Inbox> inbox_;  // made by the thread, before the constructor returns
  std::atomic<double> percent_ = 0;
  std::once_flag shut_down_;
  std::thread::id thread_id_;  // set by the thread, before the constructor returns
  std::thread thread_;
};

/// The session that an executor with these options opens. Error{kInvalidArgument} naming an option
/// that cannot be.
SessionOptions session_options(const ExecutorOptions& options);

}  // namespace headrace
