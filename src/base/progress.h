#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

namespace headrace {

class Clock;

/// Receives how far a long task has come. Confined to one thread at a time.
class Progress {
 public:
  virtual ~Progress() = default;
  /// Begins a task of `total` units; `unit` is "bytes" (shown as MB/GB with a rate) or a plural
  /// noun.
  virtual void start(std::string_view task, uint64_t total, std::string_view unit) = 0;
  /// Sets how many units are done. Cheap: call it as often as you like.
  virtual void update(uint64_t done) = 0;
  /// Ends the task.
  virtual void finish() = 0;
};

/// A bar that redraws itself on a terminal; otherwise a plain line every few seconds, and none for
/// tasks that end within two. Writes to standard error.
std::unique_ptr<Progress> make_progress(const Clock& clock);

/// Shows nothing.
std::unique_ptr<Progress> make_null_progress();

}  // namespace headrace
