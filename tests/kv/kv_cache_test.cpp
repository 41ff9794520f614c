#include "kv/kv_cache.h"

#include <set>

#include <gtest/gtest.h>

namespace headrace {
namespace {

constexpr KvShape kShape{
    .layers = 3, .kv_heads = 2, .head_dim = 5, .block_tokens = 4, .dtype = DType::kFloat16};

KvCache make_cache(int64_t blocks) {
  return {kShape, blocks,
          allocate_host(static_cast<size_t>(blocks) * kShape.block_bytes(), "test")};
}

TEST(KvShapeTest, SizesFollowFromTheShape) {
  EXPECT_EQ(kShape.block_elements(), 40);
  EXPECT_EQ(kShape.block_bytes(), 40U * 2 * 2 * 3);  // elements, bytes each, K and V, layers
  EXPECT_EQ(kShape.blocks_for(0), 0);
  EXPECT_EQ(kShape.blocks_for(4), 1);
  EXPECT_EQ(kShape.blocks_for(5), 2);
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

TEST(KvCacheTest, LayersDoNotOverlap) {
  KvCache cache = make_cache(2);
  const std::byte* previous_end = cache.layer(0).k;
  const int64_t bytes = 2 * kShape.block_elements() * 2;
  for (int64_t layer = 0; layer < kShape.layers; ++layer) {
    EXPECT_EQ(cache.layer(layer).k, previous_end);
    EXPECT_EQ(cache.layer(layer).v, cache.layer(layer).k + bytes);
    previous_end = cache.layer(layer).v + bytes;
  }
  EXPECT_EQ(static_cast<size_t>(previous_end - cache.layer(0).k), cache.size_bytes());
}

}  // namespace
}  // namespace headrace
