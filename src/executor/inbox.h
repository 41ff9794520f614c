#pragma once

#include <cstdint>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "executor/request_check.h"
#include "executor/response_box.h"
#include "headrace/error.h"
#include "headrace/request.h"

namespace headrace {

/// A request on its way to the executor's thread. It has been checked.
struct ArrivedRequest {
  uint64_t id = 0;
  Request request = {};
  int64_t arrival_ns = 0;
};

/// Why something could not be done: an Error on its way to another thread.
struct Fault {
  ErrorCode code = ErrorCode::kInternal;
  std::string message = {};
};

/// A wish to change the share of the weights in fast memory, and who waits for it.
struct PercentChange {
  double percent = 0;
  std::promise<std::optional<Fault>> done = {};
};

/// What has come for the executor's thread since it last looked, each kind in order. What is asked
/// of requests holds before a change that came with them.
struct Arrivals {
  std::vector<ArrivedRequest> requests = {};
  std::vector<uint64_t> cancelled = {};
  std::vector<PercentChange> changes = {};
  bool closed = false;  // nothing more will come

  bool empty() const { return requests.empty() && cancelled.empty() && changes.empty() && !closed; }
};

/// The way in: gives requests their ids, refuses what is wrong with them and what the queue does
/// not hold (by a response in the box), and wakes the executor's thread. Thread-safe; take() is for
/// the executor's thread.
class Inbox {
 public:
  /// `box` must outlive it.
  Inbox(RequestLimits limits, std::optional<int64_t> max_queue_size, ResponseBox& box)
      : limits_(std::move(limits)), max_queue_size_(max_queue_size), box_(box) {}

  /// Ids of the requests: 1, 2, ... The calls below throw Error{kInvalidArgument} after close().
  std::vector<uint64_t> add(std::vector<Request> requests, int64_t now_ns);
  void cancel(uint64_t request_id);
  /// Returns when the change has been made; throws why it could not be.
  void change(double percent);
  void check_open() const;

  bool is_open() const;
  void close();

  /// What has come, waiting until there is something if `wait`. The requests taken count as queued
  /// until set_queued() says otherwise.
  Arrivals take(bool wait);
  /// Requests that the executor's thread has taken and that wait to be served.
  void set_queued(int64_t requests);

  const RequestLimits& limits() const { return limits_; }

 private:
  std::optional<std::string> fault(const Request& request) const;

  const RequestLimits limits_;
  const std::optional<int64_t> max_queue_size_;
  ResponseBox& box_;

  mutable Mutex mutex_;
  CondVar arrived_;
  Arrivals arrivals_ HR_GUARDED_BY(mutex_);
  uint64_t next_id_ HR_GUARDED_BY(mutex_) = 1;
  int64_t queued_ HR_GUARDED_BY(mutex_) = 0;
};

}  // namespace headrace
