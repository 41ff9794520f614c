#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <xxhash.h>

#include "base/error.h"

namespace headrace {

/// The finalizer of splitmix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
/// Generators, 2014).
constexpr uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

/// XXH3-64 of bytes that come in pieces. For this room's sources only.
class StreamingHash {
 public:
  StreamingHash() : state_(XXH3_createState()) {
    HR_CHECK(state_ != nullptr && XXH3_64bits_reset(state_.get()) == XXH_OK);
  }
  void update(std::span<const std::byte> bytes) {
    HR_CHECK(XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()) == XXH_OK);
  }
  uint64_t digest() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Deleter {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Deleter> state_;
};

}  // namespace headrace
