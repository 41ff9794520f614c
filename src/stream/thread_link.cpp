#include "stream/pread_link.h"

#include <algorithm>
#include <cerrno>

#include <unistd.h>

#include "base/error.h"

namespace headrace {

PreadLink::PreadLink(const std::string& path, int depth, DirectMode mode, const std::string& why)
    : file_(path, mode), depth_(depth), why_(why) {
  waiting_.reserve(static_cast<size_t>(depth));
  completed_.reserve(static_cast<size_t>(depth));
  try {
    for (int i = 0; i < depth; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    stop();
    for (std::thread& thread : threads_) thread.join();
    fail(ErrorCode::kIo, "[stream] cannot start {} reading threads ({}): use a smaller ring", depth,
         error.what());
  }
}

PreadLink::~PreadLink() {
  stop();
  for (std::thread& thread : threads_) thread.join();
}

std::string PreadLink::description() const {
  return fmt::format("pread{}, {}, {} threads", why_, file_.description(), depth_);
}

int PreadLink::start(const Transfer& transfer) {
  {
    const std::lock_guard lock(mutex_);
    HR_CHECK(!stopped_ && in_flight_ < depth_);
    waiting_.push_back(transfer);
    ++in_flight_;
  }
  work_available_.notify_one();
  return 0;
}

size_t PreadLink::wait(std::span<Completion> completions) {
  std::unique_lock lock(mutex_);
  completion_available_.wait(lock,
                             [&] { return !completed_.empty() || (stopped_ && in_flight_ == 0); });
  const size_t count = std::min(completions.size(), completed_.size());
  std::copy_n(completed_.begin(), count, completions.begin());
  completed_.erase(completed_.begin(), completed_.begin() + static_cast<ptrdiff_t>(count));
  in_flight_ -= static_cast<int>(count);
  return count;
}

void PreadLink::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  work_available_.notify_all();
  completion_available_.notify_all();
}

void PreadLink::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_available_.wait(lock, [&] { return !waiting_.empty() || stopped_; });
    if (waiting_.empty()) return;
    const Transfer transfer = waiting_.front();
    waiting_.erase(waiting_.begin());
    const bool skip = stopped_;  // nobody wants the bytes any more
    lock.unlock();
    const int error = skip ? ECANCELED : read(transfer);
    lock.lock();
    completed_.push_back({transfer.tag, error});
    completion_available_.notify_one();
  }
}

int PreadLink::read(const Transfer& transfer) const {
  ReadProgress progress{.transfer = transfer};
  while (true) {
    const std::span<std::byte> rest = progress.rest();
    const ssize_t got =
        ::pread(file_.fd(), rest.data(), rest.size(), static_cast<off_t>(progress.rest_offset()));
    switch (progress.advance(got < 0 ? -errno : got, file_)) {
      case ReadProgress::Next::kDone:
        return 0;
      case ReadProgress::Next::kFailed:
        return progress.error;
      case ReadProgress::Next::kReadOn:
        break;
    }
  }
}

}  // namespace headrace
