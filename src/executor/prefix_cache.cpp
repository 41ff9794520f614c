#include "executor/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace headrace {
namespace {

constexpr uint64_t kNoKey = 0;

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

PrefixCache::PrefixCache(KvCache& kv)
    : kv_(kv), block_tokens_(static_cast<size_t>(kv.shape().block_tokens)) {
  resize();
}

void PrefixCache::resize() { key_of_block_.resize(static_cast<size_t>(kv_.blocks()), kNoKey); }

void PrefixCache::rename(std::span<const KvBlockCopy> moves) {
  for (const KvBlockCopy& move : moves) {
    uint64_t& key = key_of_block_[static_cast<size_t>(move.from)];
    if (key != kNoKey) entries_.at(key).block = move.to;
    key_of_block_[static_cast<size_t>(move.to)] = std::exchange(key, kNoKey);
  }
}

std::span<const int32_t> PrefixCache::tokens_of(std::span<const int32_t> ids, int64_t block) const {
  return ids.subspan(static_cast<size_t>(block) * block_tokens_, block_tokens_);
}

uint64_t PrefixCache::key(uint64_t before, std::span<const int32_t> tokens) const {
  uint64_t hash = mix(before + 1);
  for (const int32_t token : tokens) hash = mix(hash + static_cast<uint32_t>(token));
  return std::max<uint64_t>(hash, kNoKey + 1);
}

int64_t PrefixCache::find(std::span<const int32_t> ids, std::vector<int32_t>& table,
                          Cursor& cursor) {
  HR_CHECK(table.empty());
  cursor = {};
  const auto most = static_cast<int64_t>((ids.size() - 1) / block_tokens_);
  while (cursor.blocks < most) {
    const std::span<const int32_t> tokens = tokens_of(ids, cursor.blocks);
    const auto found = entries_.find(key(cursor.entry, tokens));
    if (found == entries_.end()) break;
    const Entry& entry = found->second;
    if (entry.before != cursor.entry || !std::ranges::equal(entry.tokens, tokens)) break;
    if (is_idle(entry.block)) idle_.erase(entry.idle_at);
    kv_.add_reference(entry.block);
    table.push_back(entry.block);
    cursor = {.entry = entry.id, .blocks = cursor.blocks + 1};
  }
  return cursor.blocks;
}

void PrefixCache::remember(std::span<const int32_t> ids, int64_t computed,
                           std::span<const int32_t> table, Cursor& cursor) {
  const auto full = computed / static_cast<int64_t>(block_tokens_);
  for (; cursor.blocks < full; ++cursor.blocks) {
    const std::span<const int32_t> tokens = tokens_of(ids, cursor.blocks);
    const int32_t block = table[static_cast<size_t>(cursor.blocks)];
    const uint64_t key = this->key(cursor.entry, tokens);
    const auto [place, added] = entries_.try_emplace(key);
    Entry& entry = place->second;
    if (added) {
      entry = {.id = ++last_id_,
               .before = cursor.entry,
               .block = block,
               .tokens = {tokens.begin(), tokens.end()},
               .idle_at = {}};
      key_of_block_[static_cast<size_t>(block)] = key;
      kv_.add_reference(block);
    } else if (entry.before != cursor.entry || !std::ranges::equal(entry.tokens, tokens)) {
      return;  // another prefix has the same hash: this one stays unknown
    }
    cursor.entry = entry.id;
  }
}

/// The last blocks become idle first, and are forgotten first.
void PrefixCache::release(std::vector<int32_t>& table) {
  for (auto block = table.rbegin(); block != table.rend(); ++block) {
    kv_.remove_reference(*block);
    const uint64_t key = key_of_block_[static_cast<size_t>(*block)];
    if (key == kNoKey || !is_idle(*block)) continue;
    entries_.at(key).idle_at = idle_.insert(idle_.end(), key);
  }
  table.clear();
}

bool PrefixCache::make_room(int64_t blocks) {
  if (kv_.free_blocks() + idle() < blocks) return false;
  while (kv_.free_blocks() < blocks) forget_first_idle();
  return true;
}

void PrefixCache::forget_first_idle() {
  const auto found = entries_.find(idle_.front());
  idle_.pop_front();
  key_of_block_[static_cast<size_t>(found->second.block)] = kNoKey;
  kv_.remove_reference(found->second.block);
  entries_.erase(found);
}

void PrefixCache::forget() {
  for (const auto& [key, entry] : entries_) kv_.remove_reference(entry.block);
  std::ranges::fill(key_of_block_, kNoKey);
  entries_.clear();
  idle_.clear();
}

}  // namespace headrace
