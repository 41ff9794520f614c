#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "stream/direct_file.h"
#include "stream/link.h"

struct io_uring;

namespace headrace {

/// A link over io_uring.
class UringLink : public Link {
 public:
  /// Null if the system refuses io_uring; `refused` then holds the errno value. Other failures are
  /// Errors, as in DirectFile.
  static std::unique_ptr<UringLink> open(const std::string& path, int depth, DirectMode mode,
                                         int& refused);
  ~UringLink() override;

  std::string description() const override;
  int depth() const override { return depth_; }
  void prepare(std::span<std::byte> memory) override;
  int start(const Transfer& transfer) override;
  size_t wait(std::span<Completion> completions) override;
  void stop() override;

 private:
  UringLink(const std::string& path, int depth, DirectMode mode);
  int set_up();
  int submit_read(size_t place);
  void submit_wake_up();

  const DirectFile file_;
  const int depth_;
  std::unique_ptr<io_uring> ring_;
  bool ring_ready_ = false;
  bool file_registered_ = false;
  std::span<std::byte> registered_memory_;

  std::mutex submit_mutex_;          // guards the submission queue, in_use_
  std::vector<ReadProgress> reads_;  // by place; a place belongs to whoever has its read in hand
  std::vector<size_t> free_places_;  // guarded by submit_mutex_
  std::atomic<int> in_flight_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace headrace
