#include "kv/kv_cache.h"

#include <numeric>

#include "base/error.h"

namespace headrace {

KvCache::KvCache(const KvShape& shape, int64_t blocks, Buffer memory)
    : shape_(shape), blocks_(blocks), memory_(std::move(memory)) {
  HR_CHECK(memory_.size_bytes() >= static_cast<size_t>(blocks) * shape.block_bytes());
  free_.resize(static_cast<size_t>(blocks));
  std::iota(free_.rbegin(), free_.rend(), 0);
}

KvLayer KvCache::layer(int64_t index) const {
  HR_CHECK(index >= 0 && index < shape_.layers);
  const size_t half =
      static_cast<size_t>(blocks_ * shape_.block_elements()) * dtype_size(shape_.dtype);
  std::byte* k = memory_.data() + static_cast<size_t>(2 * index) * half;
  return {.k = k, .v = k + half, .shape = shape_};
}

bool KvCache::grow(std::vector<int32_t>& table, int64_t tokens) {
  const int64_t missing = shape_.blocks_for(tokens) - static_cast<int64_t>(table.size());
  if (missing > free_blocks()) return false;
  for (int64_t i = 0; i < missing; ++i) {
    table.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void KvCache::release(std::vector<int32_t>& table) {
  free_.insert(free_.end(), table.rbegin(), table.rend());
  table.clear();
}

}  // namespace headrace
