#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "headrace/response.h"

namespace headrace {

/// Where responses wait to be taken. Within a request they keep their order. Thread-safe: any
/// number of threads may wait, for the same requests or others; each response is taken once.
class ResponseBox {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Begins a request: its responses will come. Ids increase.
  void open(uint64_t request_id);
  /// Adds responses of requests that have been opened, and moves them out of `responses`.
  void put(std::vector<Response>& responses);

  /// Takes what is ready of all requests, waiting until there is some; empty after `until`.
  /// Error{kInvalidArgument} once the box is closed.
  std::vector<Response> take_any(std::optional<TimePoint> until);
  /// The same of one request; for one that has ended, or was never opened, a response that says so.
  std::vector<Response> take(uint64_t request_id, std::optional<TimePoint> until);
  /// The same of each of several, in their order. One wait to close(): what was taken of the first
  /// is not lost when the box is closed while it waits for the second.
  std::vector<std::vector<Response>> take_each(std::span<const uint64_t> request_ids,
                                               std::optional<TimePoint> until);
  int64_t ready(std::optional<uint64_t> request_id) const;

  /// Ends it: those who wait get what is there for them, or the error; later calls throw. Returns
  /// when nobody waits any more.
  void close();

 private:
  class Waiting;
  /// By request, until its last response is taken: what is ready of it.
  using OpenRequests = std::map<uint64_t, std::vector<Response>>;

  void check_open() const HR_REQUIRES(mutex_);
  bool wait(std::optional<TimePoint> until) HR_REQUIRES(mutex_);
  void close_if_final(OpenRequests::iterator request, const Response& taken) HR_REQUIRES(mutex_);
  std::vector<Response> take_one(uint64_t request_id, std::optional<TimePoint> until)
      HR_REQUIRES(mutex_);

  mutable Mutex mutex_;
  CondVar changed_;
  OpenRequests open_ HR_GUARDED_BY(mutex_);
  std::vector<uint64_t> ready_ HR_GUARDED_BY(mutex_);  // requests of which something is ready
  int64_t ready_count_ HR_GUARDED_BY(mutex_) = 0;
  int64_t waiting_ HR_GUARDED_BY(mutex_) = 0;  // threads in a take...()
  bool closed_ HR_GUARDED_BY(mutex_) = false;
};

/// Error{kInvalidArgument}: what every call gets after Executor::shutdown().
[[noreturn]] void fail_after_shutdown();

}  // namespace headrace
