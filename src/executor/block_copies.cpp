#include "executor/block_copies.h"

#include <cstdint>

namespace headrace {

void copy_blocks(std::span<const KvBlockCopy> copies, const KvCache& kv, Backend& backend) {
  const KvShape& shape = kv.shape();
  const size_t bytes = static_cast<size_t>(shape.block_elements()) * dtype_size(shape.dtype);
  for (const KvBlockCopy& copy : copies) {
    const size_t from = static_cast<size_t>(copy.from) * bytes;
    const size_t to = static_cast<size_t>(copy.to) * bytes;
    for (int64_t i = 0; i < shape.layers; ++i) {
      const KvLayer layer = kv.layer(i);
      backend.copy(layer.k + to, layer.k + from, bytes);
      backend.copy(layer.v + to, layer.v + from, bytes);
    }
  }
}

}  // namespace headrace
