#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/weights.h"

namespace headrace {

/// A feed of one matrix that lies in fast memory as a whole; for measurements. rewind() before each
/// use.
class MemoryFeed : public WeightFeed {
 public:
  MemoryFeed(const std::byte* data, int64_t rows, size_t row_stride_bytes)
      : run_{.data = data, .rows = rows, .row_stride_bytes = row_stride_bytes} {}

  void rewind() { left_ = true; }
  bool next(Lease& lease) override {
    lease = left_ ? Lease(nullptr, 0, {&run_, 1}) : Lease();
    return std::exchange(left_, false);
  }

 private:
  WeightRun run_;
  bool left_ = true;
};

}  // namespace headrace
