#pragma once

#include <cstddef>
#include <span>

namespace headrace {

/// Copies from host memory into fast memory that run beside a backend's ops, one after the other. A
/// copy belongs to a slot, and slots order copies and ops against each other without the host's
/// waiting: fill, await, (ops that read), free, fill, ... Every call but wait() and synchronize()
/// only enqueues. Used by the thread that uses the backend.
class CopyQueue {
 public:
  virtual ~CopyQueue() = default;

  /// Copies `from` to `to`, after the ops that the slot's last free() closed. `from` must be pinned
  /// (Backend::pin) for the copy to run at the link's speed, and stay until it is done.
  virtual void fill(int slot, std::byte* to, std::span<const std::byte> from) = 0;
  /// Ops enqueued from now on begin after the slot's last fill().
  virtual void await(int slot) = 0;
  /// The slot's next fill() begins after all ops enqueued so far.
  virtual void free(int slot) = 0;

  /// Blocks until the slot's last fill() is done.
  virtual void wait(int slot) = 0;
  /// Blocks until every fill() is done. Error{kDevice} if a copy failed.
  virtual void synchronize() = 0;
};

}  // namespace headrace
