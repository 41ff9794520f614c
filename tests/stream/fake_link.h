#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "stream/link.h"

namespace headrace::testing {

/// A link over bytes in memory that completes transfers in an order of its choice, on demand, or
/// with errors.
class FakeLink : public Link {
 public:
  enum class Order { kFirstFirst, kLastFirst, kRandom };

  FakeLink(std::span<const std::byte> content, int depth, Order order = Order::kFirstFirst)
      : content_(content), depth_(depth), order_(order) {}

  std::string description() const override { return "fake"; }
  int depth() const override { return depth_; }

  int start(const Transfer& transfer) override {
    const std::lock_guard lock(mutex_);
    started_.push_back(transfer.offset);
    if (refuse_start != 0 && started_.size() > refuse_after) return refuse_start;
    pending_.push_back(transfer);
    changed_.notify_all();
    return 0;
  }

  size_t wait(std::span<Completion> completions) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return (!pending_.empty() && allowed_ > 0) || stopped_; });
    if (pending_.empty()) return 0;
    const size_t index = choose();
    const Transfer transfer = pending_[index];
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(index));
    --allowed_;
    ++completed_;
    const int error = error_of ? error_of(transfer.offset) : 0;
    if (error == 0) copy(transfer);
    completions[0] = {transfer.tag, error};
    changed_.notify_all();
    return 1;
  }

  void stop() override {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

  /// Lets only `count` more transfers complete.
  void hold(int64_t count = 0) {
    const std::lock_guard lock(mutex_);
    allowed_ = count;
    changed_.notify_all();
  }
  void let_go() { hold(int64_t{1} << 62); }

  /// Offsets of all transfers started so far.
  std::vector<uint64_t> started() const {
    const std::lock_guard lock(mutex_);
    return started_;
  }
  size_t completed() const {
    const std::lock_guard lock(mutex_);
    return completed_;
  }

  // Set before use.
  std::function<int(uint64_t offset)> error_of;
  int refuse_start = 0;  // what start() returns after `refuse_after` transfers
  size_t refuse_after = 0;

 private:
  size_t choose() {
    if (order_ == Order::kFirstFirst) return 0;
    if (order_ == Order::kLastFirst) return pending_.size() - 1;
    return random_() % pending_.size();
  }
  void copy(const Transfer& transfer) const {
    std::ranges::fill(transfer.to, std::byte{0xa5});
    if (transfer.offset >= content_.size()) return;
    const auto source = content_.subspan(transfer.offset);
    std::memcpy(transfer.to.data(), source.data(), std::min(source.size(), transfer.to.size()));
  }

  const std::span<const std::byte> content_;
  const int depth_;
  const Order order_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Transfer> pending_;
  std::vector<uint64_t> started_;
  std::mt19937 random_{7};
  int64_t allowed_ = int64_t{1} << 62;
  size_t completed_ = 0;
  bool stopped_ = false;
};

}  // namespace headrace::testing
