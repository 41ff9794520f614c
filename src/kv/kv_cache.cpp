#include "kv/kv_cache.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/error.h"

namespace headrace {

bool KvCache::resize(int64_t blocks) {
  HR_CHECK(blocks >= 0);
  const auto count = static_cast<size_t>(blocks);
  for (size_t i = count; i < references_.size(); ++i) HR_CHECK(references_[i] == 0);
  if (!memory_->resize(count * shape_.block_bytes())) return false;
  std::erase_if(free_, [&](int32_t block) { return block >= blocks; });
  add_free(blocks_, blocks);
  references_.resize(count);
  blocks_ = blocks;
  return true;
}

std::vector<KvBlockCopy> KvCache::vacate(int64_t blocks) {
  HR_CHECK(blocks_ - free_blocks() <= blocks);
  std::vector<KvBlockCopy> moves;
  moves.reserve(static_cast<size_t>(std::max<int64_t>(0, blocks_ - blocks)));
  std::erase_if(free_, [&](int32_t block) { return block >= blocks; });
  for (int64_t block = blocks; block < blocks_; ++block) {
    int32_t& references = references_[static_cast<size_t>(block)];
    if (references == 0) continue;
    const int32_t to = take_block();
    references_[static_cast<size_t>(to)] = std::exchange(references, 0);
    moves.push_back({.from = static_cast<int32_t>(block), .to = to});
  }
  add_free(blocks, blocks_);
  return moves;
}

/// Blocks [begin, end) go below all other free ones, the last one lowest.
void KvCache::add_free(int64_t begin, int64_t end) {
  std::vector<int32_t> added;
  for (int64_t block = end; block-- > begin;) added.push_back(static_cast<int32_t>(block));
  free_.insert(free_.begin(), added.begin(), added.end());
}

KvLayer KvCache::layer(int64_t index) const {
  HR_CHECK(index >= 0 && index < shape_.layers);
  const size_t half = static_cast<size_t>(shape_.block_elements()) * dtype_size(shape_.dtype);
  std::byte* k = memory_->data() + static_cast<size_t>(2 * index) * half;
  return {.k = k, .v = k + half, .shape = shape_};
}

std::byte* KvCache::block(int32_t index) const {
  HR_CHECK(index >= 0 && index < blocks_);
  return memory_->data() + static_cast<size_t>(index) * shape_.block_bytes();
}

bool KvCache::grow(std::vector<int32_t>& table, int64_t tokens) {
  const int64_t missing = shape_.blocks_for(tokens) - static_cast<int64_t>(table.size());
  if (missing > free_blocks()) return false;
  for (int64_t i = 0; i < missing; ++i) table.push_back(take_block());
  return true;
}

void KvCache::release(std::vector<int32_t>& table) {
  for (auto block = table.rbegin(); block != table.rend(); ++block) remove_reference(*block);
  table.clear();
}

bool KvCache::share(std::span<const int32_t> parent, int64_t tokens, std::vector<int32_t>& child,
                    std::vector<KvBlockCopy>& copies) {
  HR_CHECK(child.empty() && tokens >= 0);
  HR_CHECK(shape_.blocks_for(tokens) <= static_cast<int64_t>(parent.size()));
  const auto full = static_cast<size_t>(tokens / shape_.block_tokens);
  const bool partial = tokens % shape_.block_tokens != 0;
  if (partial && free_.empty()) return false;
  for (const int32_t block : parent.first(full)) {
    add_reference(block);
    child.push_back(block);
  }
  if (partial) {
    child.push_back(take_block());
    copies.push_back({.from = parent[full], .to = child.back()});
  }
  return true;
}

bool KvCache::reorder(std::vector<std::vector<int32_t>>& tables, std::span<const int32_t> parents,
                      int64_t tokens, std::vector<KvBlockCopy>& copies) {
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> heirs(tables.size(), kNone);  // of each old table, who takes it over
  for (size_t i = 0; i < parents.size(); ++i) {
    HR_CHECK(parents[i] >= 0 && static_cast<size_t>(parents[i]) < tables.size());
    size_t& heir = heirs[static_cast<size_t>(parents[i])];
    if (heir == kNone) heir = i;
  }
  if (!copies_fit(tables, heirs, kNone, parents.size(), tokens)) return false;
  for (size_t i = 0; i < tables.size(); ++i) {
    if (heirs[i] == kNone) release(tables[i]);
  }
  std::vector<std::vector<int32_t>> next(parents.size());
  for (size_t i = 0; i < parents.size(); ++i) {
    const auto parent = static_cast<size_t>(parents[i]);
    if (heirs[parent] != i) HR_CHECK(share(tables[parent], tokens, next[i], copies));
  }
  for (size_t i = 0; i < tables.size(); ++i) {
    if (heirs[i] != kNone) next[heirs[i]] = std::move(tables[i]);
  }
  tables = std::move(next);
  return true;
}

/// True if reorder() finds a block for each partly full one that it copies: among the free ones and
/// those of tables without heirs that nobody else holds.
bool KvCache::copies_fit(std::span<const std::vector<int32_t>> tables,
                         std::span<const size_t> heirs, size_t no_heir, size_t children,
                         int64_t tokens) const {
  if (tokens % shape_.block_tokens == 0) return true;
  const auto last = static_cast<size_t>(tokens / shape_.block_tokens);
  auto needed = static_cast<int64_t>(children);
  int64_t available = free_blocks();
  for (size_t i = 0; i < tables.size(); ++i) {
    if (heirs[i] != no_heir) {
      --needed;
    } else if (last < tables[i].size() && reference_count(tables[i][last]) == 1) {
      ++available;
    }
  }
  return needed <= available;
}

int32_t KvCache::take_block() {
  const int32_t block = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(block)] = 1;
  return block;
}

void KvCache::add_reference(int32_t block) {
  HR_CHECK(reference_count(block) > 0);
  ++references_[static_cast<size_t>(block)];
}

void KvCache::remove_reference(int32_t block) {
  HR_CHECK(reference_count(block) > 0);
  if (--references_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

int32_t KvCache::reference_count(int32_t block) const {
  HR_CHECK(block >= 0 && block < blocks_);
  return references_[static_cast<size_t>(block)];
}

}  // namespace headrace
