#pragma once

#include <cstddef>
#include <memory>

namespace headrace {

/// A reserved range of addresses whose beginning is backed by fast memory, so that what lies in it
/// grows and shrinks where it is. Used by one thread.
class GrowableMemory {
 public:
  GrowableMemory() = default;
  virtual ~GrowableMemory() = default;
  GrowableMemory(const GrowableMemory&) = delete;
  GrowableMemory& operator=(const GrowableMemory&) = delete;

  /// Where the range begins. May be null before the first resize().
  virtual std::byte* data() const = 0;
  /// Backs the first `size_bytes`: memory that is added is zeroed, what lies behind them goes back
  /// to the system. False, and nothing changed, if so much is not there or was not reserved.
  /// REQUIRES: nothing is using what goes.
  virtual bool resize(size_t size_bytes) = 0;
  /// Bytes that the system has given out for it, as far as it says: fewer than were asked for where
  /// pages are taken when they are first touched.
  virtual size_t taken_bytes() const = 0;
};

/// Host memory, up to `most_bytes`, that takes pages from the system when they are first touched;
/// empty at first. Huge pages are asked for. Error{kOutOfMemory} naming `purpose` if the addresses
/// are not there.
std::unique_ptr<GrowableMemory> reserve_host(size_t most_bytes, const char* purpose);

}  // namespace headrace
