#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace headrace {

/// Bytes that are to arrive in fast memory: [offset, offset + to.size()) of what the link carries.
/// Offset, size and address are multiples of 4096.
struct Transfer {
  uint64_t offset = 0;
  std::span<std::byte> to;
  uint32_t tag = 0;  // comes back with the completion; unique among transfers in flight
};

/// The end of a transfer. `error` is 0 or an errno value; ENODATA means that the source ended
/// before the transfer's first missing byte.
struct Completion {
  uint32_t tag = 0;
  int error = 0;
};

/// What moves tiles from their home into fast memory. start() and stop() are called by one thread,
/// wait() by one thread, which may be another.
class Link {
 public:
  virtual ~Link() = default;

  /// One line for reports: "io_uring, O_DIRECT, 8 deep".
  virtual std::string description() const = 0;
  /// Transfers that may be in flight at once.
  virtual int depth() const = 0;

  /// Says that transfers will go to this memory again and again, so that it can be prepared once.
  /// May do nothing. The memory outlives the link. Call before the first start().
  virtual void prepare(std::span<std::byte> /*memory*/) {}

  /// Queues a transfer; never waits for it. Returns 0, or an errno value if it could not be queued:
  /// no completion follows then. REQUIRES: fewer than depth() in flight.
  virtual int start(const Transfer& transfer) = 0;

  /// Blocks until at least one transfer has completed and stores as many completions as there are
  /// and fit; returns their number. Returns 0 only after stop(), once nothing is in flight any
  /// more.
  virtual size_t wait(std::span<Completion> completions) = 0;

  /// Ends the link: no start() after it. Wakes wait().
  virtual void stop() = 0;
};

}  // namespace headrace
