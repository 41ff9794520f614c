#include "executor/inbox.h"

#include <exception>
#include <utility>

#include "base/error.h"
#include "executor/active_request.h"

namespace headrace {

/// What is wrong with a request; nothing if it can be served.
std::optional<std::string> Inbox::fault(const Request& request) const {
  try {
    check_request(request, limits_);
    return std::nullopt;
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<uint64_t> Inbox::add(std::vector<Request> requests, int64_t now_ns) {
  std::vector<std::optional<std::string>> faults;
  faults.reserve(requests.size());
  for (const Request& request : requests) faults.push_back(fault(request));
  std::vector<uint64_t> ids;
  ids.reserve(requests.size());
  std::vector<Response> refused;
  {
    const MutexLock lock(mutex_);
    if (arrivals_.closed) fail_after_shutdown();
    for (size_t i = 0; i < requests.size(); ++i) {
      const uint64_t id = next_id_++;
      ids.push_back(id);
      box_.open(id);
      const int64_t waiting = queued_ + static_cast<int64_t>(arrivals_.requests.size());
      if (!faults[i] && max_queue_size_ && waiting >= *max_queue_size_) {
        faults[i] = fmt::format(
            "[executor] Maximum queue size of {} has been reached, please try again later",
            *max_queue_size_);
      }
      if (faults[i]) {
        refused.push_back(error_response(id, *faults[i]));
      } else {
        arrivals_.requests.push_back(
            {.id = id, .request = std::move(requests[i]), .arrival_ns = now_ns});
      }
    }
  }
  arrived_.notify_all();
  box_.put(refused);
  return ids;
}

void Inbox::cancel(uint64_t request_id) {
  {
    const MutexLock lock(mutex_);
    if (arrivals_.closed) fail_after_shutdown();
    arrivals_.cancelled.push_back(request_id);
  }
  arrived_.notify_all();
}

void Inbox::change(double percent) {
  std::future<std::optional<Fault>> done;
  {
    const MutexLock lock(mutex_);
    if (arrivals_.closed) fail_after_shutdown();
    arrivals_.changes.push_back({.percent = percent});
    done = arrivals_.changes.back().done.get_future();
  }
  arrived_.notify_all();
  const std::optional<Fault> fault = done.get();
  if (fault) throw Error(fault->code, fault->message);
}

void Inbox::check_open() const {
  if (!is_open()) fail_after_shutdown();
}

bool Inbox::is_open() const {
  const MutexLock lock(mutex_);
  return !arrivals_.closed;
}

void Inbox::close() {
  {
    const MutexLock lock(mutex_);
    arrivals_.closed = true;
  }
  arrived_.notify_all();
}

Arrivals Inbox::take(bool wait) {
  const MutexLock lock(mutex_);
  while (wait && arrivals_.empty()) arrived_.wait(mutex_);
  Arrivals taken = std::exchange(arrivals_, Arrivals{.closed = arrivals_.closed});
  queued_ += static_cast<int64_t>(taken.requests.size());
  return taken;
}

void Inbox::set_queued(int64_t requests) {
  const MutexLock lock(mutex_);
  queued_ = requests;
}

}  // namespace headrace
