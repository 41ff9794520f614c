#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "stream/direct_file.h"
#include "stream/link.h"

namespace headrace {

/// A link of `depth` threads, each of which reads one transfer at a time with pread().
class PreadLink : public Link {
 public:
  /// `why` goes into the description: "" or " (io_uring refused: ...)".
  PreadLink(const std::string& path, int depth, DirectMode mode, const std::string& why);
  ~PreadLink() override;

  std::string description() const override;
  int depth() const override { return depth_; }
  int start(const Transfer& transfer) override;
  size_t wait(std::span<Completion> completions) override;
  void stop() override;

 private:
  void work();
  int read(const Transfer& transfer) const;

  const DirectFile file_;
  const int depth_;
  const std::string why_;

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
