#include "executor/response_box.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace headrace {
namespace {

Response terminated(uint64_t request_id) {
  return {
      .request_id = request_id,
      .error = fmt::format("ReqId {} has already been processed and was terminated.", request_id),
      .result = {.is_final = true, .is_sequence_final = true}};
}

}  // namespace

/// Counts a thread that is inside. Made and destroyed while the mutex is held.
class ResponseBox::Waiting {
 public:
  explicit Waiting(ResponseBox& box) HR_REQUIRES(box.mutex_) : box_(box) { ++box_.waiting_; }
  ~Waiting() {
    if (--box_.waiting_ == 0 && box_.closed_) box_.changed_.notify_all();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  ResponseBox& box_;
};

void fail_after_shutdown() {
  fail(ErrorCode::kInvalidArgument, "[executor] Shutdown called: make another executor");
}

void ResponseBox::open(uint64_t request_id) {
  const MutexLock lock(mutex_);
  open_.emplace_hint(open_.end(), request_id, std::vector<Response>());
}

void ResponseBox::put(std::vector<Response>& responses) {
  if (responses.empty()) return;
  {
    const MutexLock lock(mutex_);
    ready_count_ += static_cast<int64_t>(responses.size());
    for (Response& response : responses) {
      std::vector<Response>& own = open_.at(response.request_id);
      if (own.empty()) ready_.push_back(response.request_id);
      own.push_back(std::move(response));
    }
  }
  responses.clear();
  changed_.notify_all();
}

std::vector<Response> ResponseBox::take_any(std::optional<TimePoint> until) {
  const MutexLock lock(mutex_);
  check_open();
  const Waiting inside(*this);
  while (ready_.empty()) {
    check_open();
    if (!wait(until)) return {};
  }
  std::vector<Response> taken;
  taken.reserve(static_cast<size_t>(ready_count_));
  for (const uint64_t id : ready_) {
    const auto own = open_.find(id);
    taken.insert(taken.end(), std::make_move_iterator(own->second.begin()),
                 std::make_move_iterator(own->second.end()));
    own->second.clear();  // its memory is for the next
    close_if_final(own, taken.back());
  }
  ready_.clear();
  ready_count_ = 0;
  return taken;
}

std::vector<Response> ResponseBox::take(uint64_t request_id, std::optional<TimePoint> until) {
  const MutexLock lock(mutex_);
  check_open();
  const Waiting inside(*this);
  return take_one(request_id, until);
}

std::vector<std::vector<Response>> ResponseBox::take_each(std::span<const uint64_t> request_ids,
                                                          std::optional<TimePoint> until) {
  const MutexLock lock(mutex_);
  check_open();
  const Waiting inside(*this);
  std::vector<std::vector<Response>> all;
  all.reserve(request_ids.size());
  for (const uint64_t id : request_ids) all.push_back(take_one(id, until));
  return all;
}

std::vector<Response> ResponseBox::take_one(uint64_t request_id, std::optional<TimePoint> until) {
  while (true) {
    const auto own = open_.find(request_id);
    if (own == open_.end()) return {terminated(request_id)};
    if (!own->second.empty()) break;
    check_open();
    if (!wait(until)) return {};
  }
  ready_.erase(std::find(ready_.begin(), ready_.end(), request_id));
  const auto own = open_.find(request_id);
  std::vector<Response> taken = std::exchange(own->second, {});
  ready_count_ -= static_cast<int64_t>(taken.size());
  close_if_final(own, taken.back());
  return taken;
}

int64_t ResponseBox::ready(std::optional<uint64_t> request_id) const {
  const MutexLock lock(mutex_);
  check_open();
  if (!request_id) return ready_count_;
  const auto found = open_.find(*request_id);
  return found == open_.end() ? 0 : static_cast<int64_t>(found->second.size());
}

void ResponseBox::close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
  while (waiting_ > 0) changed_.wait(mutex_);
}

void ResponseBox::check_open() const {
  if (closed_) fail_after_shutdown();
}

/// False if `until` has passed.
bool ResponseBox::wait(std::optional<TimePoint> until) {
  if (until) return changed_.wait_until(mutex_, *until);
  changed_.wait(mutex_);
  return true;
}

/// Forgets a request whose last response has been taken.
void ResponseBox::close_if_final(OpenRequests::iterator request, const Response& taken) {
  if (!taken.result.is_final) return;
  open_.erase(request);
  changed_.notify_all();  // others who wait for it will get nothing more
}

}  // namespace headrace
