#pragma once

#include <chrono>
#include <cstdint>

namespace headrace {

/// Monotonic time. An interface so that tests can move it. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Nanoseconds since an arbitrary, fixed moment.
  virtual int64_t now_ns() const = 0;
};

class SteadyClock : public Clock {
 public:
  int64_t now_ns() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace headrace
