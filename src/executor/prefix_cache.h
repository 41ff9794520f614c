#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/kv_cache.h"

namespace headrace {

/// Remembers the full blocks of KV cache that sequences have computed, so that others which begin
/// with the same tokens take them over. A block is known by its tokens and the entry before it,
/// compared one by one: a hash only says where to look. Blocks that no table holds any more are
/// idle: they stay until room is needed, and then go least recently used first, the ends of
/// prefixes before their beginnings. Confined to one thread.
class PrefixCache {
 public:
  /// How far a sequence's blocks are known here.
  struct Cursor {
    uint64_t entry = 0;  // the last one on its way; 0: the beginning
    int64_t blocks = 0;
  };

  /// `kv` must outlive it. Tables that find() has been called for are given back by release().
  explicit PrefixCache(KvCache& kv);
  ~PrefixCache() { forget(); }
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  /// Fills `table`, which is empty, with the known blocks that `ids` begins with, but for the last
  /// token: a sequence has something to compute. Returns how many.
  int64_t find(std::span<const int32_t> ids, std::vector<int32_t>& table, Cursor& cursor);
  /// Adds the full blocks among the first `computed` positions of a sequence.
  void remember(std::span<const int32_t> ids, int64_t computed, std::span<const int32_t> table,
                Cursor& cursor);
  /// KvCache::release() for tables that may hold remembered blocks.
  void release(std::vector<int32_t>& table);
  /// Forgets idle blocks until so many are free; false, and nothing forgotten, if there are not
  /// enough.
  bool make_room(int64_t blocks);
  /// After KvCache::vacate(): blocks have other numbers.
  void rename(std::span<const KvBlockCopy> moves);
  /// After KvCache::resize().
  void resize();
  /// Forgets everything. Tables keep their blocks.
  void forget();

  /// Blocks that make_room() can free.
  int64_t idle() const { return static_cast<int64_t>(idle_.size()); }

 private:
  struct Entry {
    uint64_t id = 0;
    uint64_t before = 0;
    int32_t block = 0;
    std::vector<int32_t> tokens;
    std::list<uint64_t>::iterator idle_at;  // in idle_, if no table holds the block
  };

  std::span<const int32_t> tokens_of(std::span<const int32_t> ids, int64_t block) const;
  uint64_t key(uint64_t before, std::span<const int32_t> tokens) const;
  bool is_idle(int32_t block) const { return kv_.reference_count(block) == 1; }
  void forget_first_idle();

  KvCache& kv_;
  const size_t block_tokens_;
  std::unordered_map<uint64_t, Entry> entries_;  // by key()
  std::vector<uint64_t> key_of_block_;           // kNoKey: not remembered
  std::list<uint64_t> idle_;                     // keys, least recently used first
  uint64_t last_id_ = 0;
};

}  // namespace headrace
