#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/buffer.h"
#include "tensor/dtype.h"

namespace headrace {

/// Shape of a paged KV cache. A block holds `block_tokens` consecutive positions of one sequence.
struct KvShape {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t block_tokens = 64;
  DType dtype = DType::kFloat16;

  /// Elements of K (or V) in one block of one layer.
  int64_t block_elements() const { return kv_heads * head_dim * block_tokens; }
  /// Bytes of K and V of one block over all layers.
  size_t block_bytes() const {
    return static_cast<size_t>(2 * layers * block_elements()) * dtype_size(dtype);
  }
  /// Blocks that `tokens` positions need.
  int64_t blocks_for(int64_t tokens) const { return (tokens + block_tokens - 1) / block_tokens; }
};

/// One layer's K and V as kernels see them: block b begins at element b * block_elements of `k` and
/// `v`. Inside a block K is [kv_heads, head_dim, block_tokens] (a score run over consecutive
/// positions reads consecutive memory) and V is [kv_heads, block_tokens, head_dim].
struct KvLayer {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  KvShape shape;
};

/// Owns the cache's memory and hands out its blocks. Confined to one thread.
class KvCache {
 public:
  /// `memory` must hold blocks * shape.block_bytes() bytes.
  KvCache(const KvShape& shape, int64_t blocks, Buffer memory);

  const KvShape& shape() const { return shape_; }
  int64_t blocks() const { return blocks_; }
  int64_t free_blocks() const { return static_cast<int64_t>(free_.size()); }
  size_t size_bytes() const { return memory_.size_bytes(); }
  KvLayer layer(int64_t index) const;

  /// Extends `table` until it covers `tokens` positions. False, and nothing taken, if too few
  /// blocks are free.
  bool grow(std::vector<int32_t>& table, int64_t tokens);
  /// Gives all blocks of `table` back and clears it.
  void release(std::vector<int32_t>& table);

 private:
  KvShape shape_;
  int64_t blocks_ = 0;
  Buffer memory_;
  std::vector<int32_t> free_;  // a stack: the block freed last is reused first
};

}  // namespace headrace
