#include "stream/thread_link.h"

#include <algorithm>
#include <cerrno>

#include "base/error.h"

namespace headrace {

ThreadLink::ThreadLink(std::string description, int depth, int threads, Reader read)
    : description_(std::move(description)), depth_(depth), read_(std::move(read)) {
  HR_CHECK(0 < threads && threads <= depth);
  waiting_.reserve(static_cast<size_t>(depth));
  completed_.reserve(static_cast<size_t>(depth));
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    stop();
    for (std::thread& thread : threads_) thread.join();
    fail(ErrorCode::kIo, "[stream] cannot start {} reading threads ({}): use a smaller ring",
         threads, error.what());
  }
}

ThreadLink::~ThreadLink() {
  stop();
  for (std::thread& thread : threads_) thread.join();
}

std::string ThreadLink::description() const {
  return fmt::format("{}, {} threads", description_, threads_.size());
}

int ThreadLink::start(const Transfer& transfer) {
  {
    const std::lock_guard lock(mutex_);
    HR_CHECK(!stopped_ && in_flight_ < depth_);
    waiting_.push_back(transfer);
    ++in_flight_;
  }
  work_available_.notify_one();
  return 0;
}

size_t ThreadLink::wait(std::span<Completion> completions) {
  std::unique_lock lock(mutex_);
  completion_available_.wait(lock,
                             [&] { return !completed_.empty() || (stopped_ && in_flight_ == 0); });
  const size_t count = std::min(completions.size(), completed_.size());
  std::copy_n(completed_.begin(), count, completions.begin());
  completed_.erase(completed_.begin(), completed_.begin() + static_cast<ptrdiff_t>(count));
  in_flight_ -= static_cast<int>(count);
  return count;
}

void ThreadLink::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  work_available_.notify_all();
  completion_available_.notify_all();
}

void ThreadLink::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_available_.wait(lock, [&] { return !waiting_.empty() || stopped_; });
    if (waiting_.empty()) return;
    const Transfer transfer = waiting_.front();
    waiting_.erase(waiting_.begin());
    const bool skip = stopped_;  // nobody wants the bytes any more
    lock.unlock();
    const int error = skip ? ECANCELED : read_(transfer);
    lock.lock();
    completed_.push_back({transfer.tag, error});
    completion_available_.notify_one();
  }
}

}  // namespace headrace
