#include "executor/block_copies.h"

#include <cstdint>

namespace headrace {

void copy_blocks(std::span<const KvBlockCopy> copies, const KvCache& kv, Backend& backend) {
  for (const KvBlockCopy& copy : copies) {
    backend.copy(kv.block(copy.to), kv.block(copy.from), kv.shape().block_bytes());
  }
}

}  // namespace headrace
