#include "kv/kv_cache.h"

#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace headrace {
namespace {

constexpr KvShape kShape{
    .layers = 3, .kv_heads = 2, .head_dim = 5, .block_tokens = 4, .dtype = DType::kFloat16};

KvCache make_cache(int64_t blocks, int64_t most_blocks) {
  KvCache cache(kShape,
                reserve_host(static_cast<size_t>(most_blocks) * kShape.block_bytes(), "test"));
  EXPECT_TRUE(cache.resize(blocks));
  return cache;
}

KvCache make_cache(int64_t blocks) { return make_cache(blocks, blocks); }

TEST(KvShapeTest, SizesFollowFromTheShape) {
  EXPECT_EQ(kShape.block_elements(), 40);
  EXPECT_EQ(kShape.block_bytes(), 40U * 2 * 2 * 3);  // elements, bytes each, K and V, layers
  EXPECT_EQ(kShape.blocks_for(0), 0);
  EXPECT_EQ(kShape.blocks_for(4), 1);
  EXPECT_EQ(kShape.blocks_for(5), 2);
  EXPECT_EQ(kShape.blocks_for_beams(1, 9, 20), 5);
  EXPECT_EQ(kShape.blocks_for_beams(3, 9, 20), 2 + 3 * 3);
  EXPECT_EQ(kShape.blocks_for_beams(3, 9, 5), 2);
}

TEST(KvCacheTest, GrowTakesEachBlockOnceAndReleaseGivesItBack) {
  KvCache cache = make_cache(6);
  std::vector<int32_t> a;
  std::vector<int32_t> b;
  ASSERT_TRUE(cache.grow(a, 9));
  ASSERT_TRUE(cache.grow(b, 12));
  EXPECT_EQ(a.size(), 3U);
  EXPECT_EQ(cache.free_blocks(), 0);
  std::set<int32_t> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_TRUE(cache.grow(a, 12)) << "positions inside the last block need no other";
  cache.release(a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(cache.free_blocks(), 3);
}

TEST(KvCacheTest, GrowThatDoesNotFitTakesNothing) {
  KvCache cache = make_cache(2);
  std::vector<int32_t> table;
  EXPECT_FALSE(cache.grow(table, 9));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(cache.free_blocks(), 2);
}

TEST(KvCacheTest, SharedBlocksAreFreedByTheLast) {
  KvCache cache = make_cache(6);
  std::vector<int32_t> parent;
  std::vector<int32_t> child;
  std::vector<KvBlockCopy> copies;
  ASSERT_TRUE(cache.grow(parent, 10));
  ASSERT_TRUE(cache.share(parent, 10, child, copies));
  ASSERT_EQ(child.size(), 3U);
  EXPECT_EQ(child[0], parent[0]);
  EXPECT_EQ(child[1], parent[1]);
  EXPECT_NE(child[2], parent[2]) << "positions 8 and 9 are in a block that both will write";
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, parent[2]);
  EXPECT_EQ(copies[0].to, child[2]);
  EXPECT_EQ(cache.free_blocks(), 2);
  EXPECT_EQ(cache.reference_count(parent[0]), 2);
  EXPECT_EQ(cache.reference_count(parent[2]), 1);
  const int32_t first = parent[0];
  cache.release(parent);
  EXPECT_EQ(cache.free_blocks(), 3);
  EXPECT_EQ(cache.reference_count(first), 1);
  cache.release(child);
  EXPECT_EQ(cache.free_blocks(), 6);
  EXPECT_EQ(cache.reference_count(first), 0);
}

TEST(KvCacheTest, FullBlocksNeedNoCopy) {
  KvCache cache = make_cache(3);
  std::vector<int32_t> parent;
  std::vector<int32_t> child;
  std::vector<KvBlockCopy> copies;
  ASSERT_TRUE(cache.grow(parent, 12));
  ASSERT_TRUE(cache.share(parent, 8, child, copies)) << "though no block is free";
  EXPECT_EQ(child, (std::vector<int32_t>{parent[0], parent[1]}));
  EXPECT_TRUE(copies.empty());
  std::vector<int32_t> other;
  EXPECT_FALSE(cache.share(parent, 9, other, copies));
  EXPECT_TRUE(other.empty());
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(cache.reference_count(parent[0]), 2) << "what did not fit took nothing";
  ASSERT_TRUE(cache.share(parent, 0, other, copies));
  EXPECT_TRUE(other.empty());
}

TEST(KvCacheTest, ReferencesWithoutATableKeepABlock) {
  KvCache cache = make_cache(2);
  std::vector<int32_t> table;
  ASSERT_TRUE(cache.grow(table, 4));
  const int32_t block = table[0];
  cache.add_reference(block);
  cache.release(table);
  EXPECT_EQ(cache.free_blocks(), 1);
  EXPECT_EQ(cache.reference_count(block), 1);
  cache.remove_reference(block);
  EXPECT_EQ(cache.free_blocks(), 2);
  EXPECT_THROW(cache.remove_reference(block), Error);
  EXPECT_THROW(cache.add_reference(block), Error);
  EXPECT_THROW(cache.reference_count(2), Error);
}

TEST(KvCacheTest, ReorderFollowsBeams) {
  KvCache cache = make_cache(6);
  std::vector<std::vector<int32_t>> tables(1);
  std::vector<KvBlockCopy> copies;
  ASSERT_TRUE(cache.grow(tables[0], 6));
  const std::vector<int32_t> prompt = tables[0];
  ASSERT_TRUE(cache.reorder(tables, std::vector<int32_t>{0, 0, 0}, 6, copies));
  ASSERT_EQ(tables.size(), 3U);
  EXPECT_EQ(tables[0], prompt) << "the first child takes it over";
  EXPECT_EQ(copies.size(), 2U);
  EXPECT_EQ(cache.reference_count(prompt[0]), 3);
  EXPECT_EQ(cache.free_blocks(), 2);

  const std::vector<std::vector<int32_t>> before = tables;
  copies.clear();
  ASSERT_TRUE(cache.reorder(tables, std::vector<int32_t>{2, 1, 2}, 7, copies));
  EXPECT_EQ(tables[0], before[2]);
  EXPECT_EQ(tables[1], before[1]);
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, before[2][1]);
  EXPECT_EQ(copies[0].to, tables[2][1]);
  EXPECT_EQ(tables[2][0], prompt[0]);
  EXPECT_EQ(cache.free_blocks(), 2) << "the lost beam's block is somebody's";

  copies.clear();
  ASSERT_TRUE(cache.reorder(tables, std::vector<int32_t>{1}, 8, copies));
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(tables, (std::vector<std::vector<int32_t>>{before[1]}));
  EXPECT_EQ(cache.free_blocks(), 4);
}

TEST(KvCacheTest, ReorderThatDoesNotFitChangesNothing) {
  KvCache cache = make_cache(4);
  std::vector<std::vector<int32_t>> tables(1);
  std::vector<KvBlockCopy> copies;
  ASSERT_TRUE(cache.grow(tables[0], 6));
  const auto before = tables;
  EXPECT_FALSE(cache.reorder(tables, std::vector<int32_t>{0, 0, 0, 0}, 6, copies));
  EXPECT_EQ(tables, before);
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(cache.free_blocks(), 2);
  EXPECT_EQ(cache.reference_count(before[0][0]), 1);
  // Without a free block beams still follow one another: who is lost leaves room.
  ASSERT_TRUE(cache.reorder(tables, std::vector<int32_t>{0, 0, 0}, 6, copies));
  EXPECT_EQ(cache.free_blocks(), 0);
  ASSERT_TRUE(cache.reorder(tables, std::vector<int32_t>{1, 1, 1}, 6, copies));
  EXPECT_EQ(cache.free_blocks(), 0);
}

/// A stand-in for memory: what a sequence wrote is what it reads, through any steps and copies.
TEST(KvCacheTest, BeamsReadWhatTheirAncestorsWrote) {
  KvCache cache = make_cache(40);
  std::vector<std::vector<int32_t>> tables(1);
  std::vector<std::vector<int>> written(1);  // of each beam
  std::vector<int> memory(40 * 4, -1);
  uint32_t random = 1;
  const auto next = [&](uint32_t below) {
    return (random = random * 1664525 + 1013904223) / 65536 % below;
  };
  for (int64_t tokens = 0; tokens < 30; ++tokens) {
    for (size_t beam = 0; beam < tables.size(); ++beam) {
      ASSERT_TRUE(cache.grow(tables[beam], tokens + 1));
      const int value = static_cast<int>(1000 * beam) + static_cast<int>(tokens);
      memory[static_cast<size_t>(tables[beam].back() * 4 + tokens % 4)] = value;
      written[beam].push_back(value);
    }
    std::vector<int32_t> parents(1 + next(4));
    std::vector<std::vector<int>> inherited;
    for (int32_t& parent : parents) {
      parent = static_cast<int32_t>(next(static_cast<uint32_t>(tables.size())));
      inherited.push_back(written[static_cast<size_t>(parent)]);
    }
    std::vector<KvBlockCopy> copies;
    ASSERT_TRUE(cache.reorder(tables, parents, tokens + 1, copies));
    for (const KvBlockCopy& copy : copies) {
      std::copy_n(memory.begin() + copy.from * 4, 4, memory.begin() + copy.to * 4);
    }
    written = inherited;
    for (size_t beam = 0; beam < tables.size(); ++beam) {
      for (size_t at = 0; at < written[beam].size(); ++at) {
        ASSERT_EQ(memory[static_cast<size_t>(tables[beam][at / 4]) * 4 + at % 4],
                  written[beam][at]);
      }
    }
  }
  for (std::vector<int32_t>& table : tables) cache.release(table);
  EXPECT_EQ(cache.free_blocks(), 40);
}

TEST(KvCacheTest, BlocksAndLayersDoNotOverlap) {
  KvCache cache = make_cache(2);
  const std::byte* previous_end = cache.block(0);
  const int64_t bytes = kShape.block_elements() * 2;
  for (int32_t block = 0; block < 2; ++block) {
    EXPECT_EQ(cache.block(block), previous_end);
    for (int64_t layer = 0; layer < kShape.layers; ++layer) {
      const KvLayer parts = cache.layer(layer);
      const int64_t skipped = block * parts.shape.block_stride() * 2;
      EXPECT_EQ(parts.k + skipped, previous_end);
      EXPECT_EQ(parts.v + skipped, parts.k + skipped + bytes);
      previous_end = parts.v + skipped + bytes;
    }
  }
  EXPECT_EQ(static_cast<size_t>(previous_end - cache.block(0)), cache.size_bytes());
}

std::vector<int32_t> sorted(std::vector<int32_t> blocks) {
  std::ranges::sort(blocks);
  return blocks;
}

TEST(KvCacheTest, ResizeAddsAndTakesFreeBlocks) {
  KvCache cache = make_cache(2, 6);
  std::vector<int32_t> table;
  ASSERT_TRUE(cache.grow(table, 8));
  ASSERT_TRUE(cache.resize(5));
  EXPECT_EQ(cache.blocks(), 5);
  EXPECT_EQ(cache.free_blocks(), 3);
  EXPECT_EQ(cache.size_bytes(), 5 * kShape.block_bytes());
  ASSERT_TRUE(cache.grow(table, 20));
  EXPECT_EQ(sorted(table), (std::vector<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_THROW(cache.resize(4), Error) << "a block that is held";
  cache.release(table);
  ASSERT_TRUE(cache.resize(1));
  EXPECT_EQ(cache.free_blocks(), 1);
  EXPECT_FALSE(cache.grow(table, 5));
  EXPECT_TRUE(cache.grow(table, 4));
  EXPECT_EQ(table, (std::vector<int32_t>{0}));
}

TEST(KvCacheTest, ResizeBeyondTheMemoryChangesNothing) {
  KvCache cache = make_cache(2);
  EXPECT_FALSE(cache.resize(1000));
  EXPECT_EQ(cache.blocks(), 2);
  EXPECT_EQ(cache.free_blocks(), 2);
}

TEST(KvCacheTest, VacateMovesWhatIsHeldWithItsReferences) {
  KvCache cache = make_cache(6);
  std::vector<int32_t> first;
  std::vector<int32_t> second;
  std::vector<int32_t> child;
  std::vector<KvBlockCopy> none;
  ASSERT_TRUE(cache.grow(first, 12));
  ASSERT_TRUE(cache.grow(second, 12));
  ASSERT_TRUE(cache.share(second, 12, child, none));  // 3, 4 and 5
  cache.release(first);
  ASSERT_TRUE(cache.grow(first, 4));
  const int32_t kept = first[0];

  const std::vector<KvBlockCopy> moves = cache.vacate(4);
  ASSERT_EQ(moves.size(), 2U);
  std::set<int32_t> targets;
  for (const KvBlockCopy& move : moves) {
    EXPECT_TRUE(move.from == 4 || move.from == 5);
    EXPECT_TRUE(targets.insert(move.to).second);
    EXPECT_TRUE(move.to >= 0 && move.to < 4 && move.to != 3 && move.to != kept);
    EXPECT_EQ(cache.reference_count(move.from), 0);
    EXPECT_EQ(cache.reference_count(move.to), 2);
    for (auto* table : {&second, &child}) std::ranges::replace(*table, move.from, move.to);
  }
  EXPECT_EQ(cache.reference_count(3), 2);
  EXPECT_EQ(cache.reference_count(kept), 1);
  EXPECT_EQ(cache.free_blocks(), 2);
  ASSERT_TRUE(cache.resize(4));
  EXPECT_EQ(cache.free_blocks(), 0);
  for (auto* table : {&first, &second, &child}) cache.release(*table);
  EXPECT_EQ(cache.free_blocks(), 4);
}

TEST(KvCacheTest, VacateRefusesToLoseWhatIsHeld) {
  KvCache cache = make_cache(3);
  std::vector<int32_t> table;
  ASSERT_TRUE(cache.grow(table, 8));
  EXPECT_THROW(cache.vacate(1), Error);
  EXPECT_EQ(cache.vacate(2).size(), 0U);
}

}  // namespace
}  // namespace headrace
