#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "stream/link.h"

namespace headrace {

/// A link of threads, each of which fills one transfer at a time.
class ThreadLink : public Link {
 public:
  /// Fills a transfer and returns what its completion's error will be. Called by several threads at
  /// once; does not throw.
  using Reader = std::function<int(const Transfer&)>;

  /// REQUIRES: 0 < threads <= depth. Error{kIo} if the system refuses a thread.
  ThreadLink(std::string description, int depth, int threads, Reader read);
  ~ThreadLink() override;

  std::string description() const override;
  int depth() const override { return depth_; }
  int start(const Transfer& transfer) override;
  size_t wait(std::span<Completion> completions) override;
  void stop() override;

 private:
  void work();

  const std::string description_;
  const int depth_;
  const Reader read_;

  std::mutex mutex_;  // guards all below but threads_
  std::condition_variable work_available_;
  std::condition_variable completion_available_;
  std::vector<Transfer> waiting_;  // oldest first; never more than depth_, so nothing allocates
  std::vector<Completion> completed_;
  int in_flight_ = 0;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace headrace
