#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "device/growable_memory.h"
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
  /// Elements from K (or V) of a layer in one block to that in the next.
  int64_t block_stride() const { return 2 * layers * block_elements(); }
  /// Bytes of K and V of one block over all layers.
  size_t block_bytes() const { return static_cast<size_t>(block_stride()) * dtype_size(dtype); }
  /// Blocks that `tokens` positions need.
  int64_t blocks_for(int64_t tokens) const { return (tokens + block_tokens - 1) / block_tokens; }
  /// Blocks that `beams` sequences of `tokens` positions need at most when they share the full
  /// blocks of their first `shared_tokens`.
  int64_t blocks_for_beams(int64_t beams, int64_t shared_tokens, int64_t tokens) const {
    const int64_t each = blocks_for(tokens);
    const int64_t shared = std::min(each, shared_tokens / block_tokens);
    return shared + beams * (each - shared);
  }
};

/// One layer's K and V as kernels see them: block b begins at element b * shape.block_stride() of
/// `k` and `v`. Inside a block K is [kv_heads, head_dim, block_tokens] (a score run over
/// consecutive positions reads consecutive memory) and V is [kv_heads, block_tokens, head_dim]. The
/// cache is [blocks, layers, K and V, ...]: all of a block lies together, so that blocks can come
/// and go.
struct KvLayer {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  KvShape shape;
};

/// A block whose K and V of all layers are to be copied to another.
struct KvBlockCopy {
  int32_t from = 0;
  int32_t to = 0;
};

/// Owns the cache's memory and hands out its blocks. A block is free, or it has references: one of
/// each table that names it, and those of add_reference(). It may be written while it has one, so
/// that sharing ends at the last full block. The number of blocks can change. Confined to one
/// thread.
class KvCache {
 public:
  /// No blocks; those that resize() adds come from `memory`, which is empty.
  KvCache(const KvShape& shape, std::unique_ptr<GrowableMemory> memory)
      : shape_(shape), memory_(std::move(memory)) {}

  const KvShape& shape() const { return shape_; }
  int64_t blocks() const { return blocks_; }
  int64_t free_blocks() const { return static_cast<int64_t>(free_.size()); }
  size_t size_bytes() const { return static_cast<size_t>(blocks_) * shape_.block_bytes(); }
  /// GrowableMemory::taken_bytes().
  size_t taken_bytes() const { return memory_->taken_bytes(); }
  KvLayer layer(int64_t index) const;
  /// Where a block begins; shape().block_bytes() of it.
  std::byte* block(int32_t index) const;

  /// Extends `table` until it covers `tokens` positions. False, and nothing taken, if too few
  /// blocks are free.
  bool grow(std::vector<int32_t>& table, int64_t tokens);
  /// Gives up the references of `table` and clears it; blocks that have no other become free.
  void release(std::vector<int32_t>& table);

  /// Makes `child`, which must be empty, cover the first `tokens` positions of `parent`: full
  /// blocks are shared, a last one that is partly full gets a block of its own, and a copy is added
  /// to `copies`, for the caller to make before either sequence goes on. False, and nothing
  /// changed, if no block is free for that. O(blocks of `child`).
  bool share(std::span<const int32_t> parent, int64_t tokens, std::vector<int32_t>& child,
             std::vector<KvBlockCopy>& copies);

  /// Makes `tables` follow a step of beam search: table i becomes that of old table parents[i], of
  /// which `tokens` positions are filled. One child of a table takes it over as it is, others share
  /// it; tables without children are released. Copies are added to `copies` as by share(); no
  /// source of one is a target of another, so that their order does not matter. False, and nothing
  /// changed, if too few blocks are free, which cannot be unless there are more tables afterwards.
  /// O(blocks of all tables).
  bool reorder(std::vector<std::vector<int32_t>>& tables, std::span<const int32_t> parents,
               int64_t tokens, std::vector<KvBlockCopy>& copies);

  /// Adds blocks, or takes away those from `blocks` on, all of which must be free: their memory
  /// goes back to the system. False, and nothing changed, if the memory is not there. O(blocks).
  bool resize(int64_t blocks);
  /// Frees the blocks from `blocks` on: what they hold gets the numbers of free ones before them.
  /// The caller makes the copies that are returned, none of which reads what another wrote, and
  /// renames blocks wherever it keeps their numbers. REQUIRES: no more than `blocks` are held.
  /// O(blocks).
  std::vector<KvBlockCopy> vacate(int64_t blocks);

  /// Keeps `block`, which must not be free, from becoming free until a remove_reference() more: for
  /// whoever remembers blocks without a table, such as a prefix cache. O(1).
  void add_reference(int32_t block);
  /// Gives one reference up. The last one frees the block. O(1).
  void remove_reference(int32_t block);
  /// 0: the block is free.
  int32_t reference_count(int32_t block) const;

 private:
  int32_t take_block();
  void add_free(int64_t begin, int64_t end);
  bool copies_fit(std::span<const std::vector<int32_t>> tables, std::span<const size_t> heirs,
                  size_t no_heir, size_t children, int64_t tokens) const;

  KvShape shape_;
  int64_t blocks_ = 0;
  std::unique_ptr<GrowableMemory> memory_;
  std::vector<int32_t> free_;        // a stack: the block freed last is reused first
  std::vector<int32_t> references_;  // of each block
};

}  // namespace headrace
