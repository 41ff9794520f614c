#include "executor/prefix_cache.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace headrace {
namespace {

constexpr int64_t kBlockTokens = 2;
using Ids = std::vector<int32_t>;

class PrefixCacheTest : public ::testing::Test {
 protected:
  static KvCache make_kv() {
    const KvShape shape{.layers = 1, .kv_heads = 1, .head_dim = 1, .block_tokens = kBlockTokens};
    KvCache kv(shape, reserve_host(6 * shape.block_bytes(), "test"));
    EXPECT_TRUE(kv.resize(6));
    return kv;
  }

  /// Computes `ids` and gives the blocks back; returns them.
  Ids compute(const Ids& ids) {
    Ids table;
    PrefixCache::Cursor cursor;
    prefixes_.find(ids, table, cursor);
    EXPECT_TRUE(prefixes_.make_room(kv_.shape().blocks_for(static_cast<int64_t>(ids.size())) -
                                    static_cast<int64_t>(table.size())));
    EXPECT_TRUE(kv_.grow(table, static_cast<int64_t>(ids.size())));
    prefixes_.remember(ids, static_cast<int64_t>(ids.size()), table, cursor);
    const Ids blocks = table;
    prefixes_.release(table);
    return blocks;
  }

  /// Blocks that `ids` finds; it gives them back.
  Ids found(const Ids& ids) {
    Ids table;
    PrefixCache::Cursor cursor;
    const int64_t count = prefixes_.find(ids, table, cursor);
    EXPECT_EQ(count, static_cast<int64_t>(table.size()));
    const Ids blocks = table;
    prefixes_.release(table);
    return blocks;
  }

  KvCache kv_ = make_kv();
  PrefixCache prefixes_{kv_};
};

TEST_F(PrefixCacheTest, FindsFullBlocksOfTheSameBeginning) {
  const Ids blocks = compute({1, 2, 3, 4, 5});
  EXPECT_EQ(found({1, 2, 3, 4, 9}), Ids(blocks.begin(), blocks.begin() + 2));
  EXPECT_EQ(found({1, 2, 3, 9, 9}), Ids(blocks.begin(), blocks.begin() + 1));
  EXPECT_EQ(found({9, 2, 3, 4, 5}), Ids());
  EXPECT_EQ(found({3, 4, 5}), Ids());  // the same tokens behind others
  EXPECT_EQ(found({1, 2, 3, 4}), Ids(blocks.begin(), blocks.begin() + 1));  // something is left
  EXPECT_EQ(found({1}), Ids());
}

TEST_F(PrefixCacheTest, IdleBlocksGoWhenRoomIsNeededEndsFirst) {
  compute({1, 2, 3, 4, 5});
  compute({7, 8, 9});
  EXPECT_EQ(kv_.free_blocks(), 3);
  EXPECT_EQ(prefixes_.idle(), 3);
  EXPECT_FALSE(prefixes_.make_room(7));
  EXPECT_EQ(prefixes_.idle(), 3);
  EXPECT_TRUE(prefixes_.make_room(4));
  EXPECT_EQ(found({1, 2, 3, 4, 5}).size(), 1U);  // which makes it the one used last
  EXPECT_TRUE(prefixes_.make_room(5));
  EXPECT_EQ(found({7, 8, 9}).size(), 0U);
  EXPECT_EQ(found({1, 2, 3}).size(), 1U);
  EXPECT_TRUE(prefixes_.make_room(6));
  EXPECT_EQ(found({1, 2, 3}).size(), 0U);
}

TEST_F(PrefixCacheTest, BlocksInUseStay) {
  compute({1, 2, 3});
  Ids table;
  PrefixCache::Cursor cursor;
  prefixes_.find(Ids{1, 2, 3}, table, cursor);
  EXPECT_FALSE(prefixes_.make_room(6));
  prefixes_.forget();
  EXPECT_EQ(kv_.free_blocks(), 5);
  prefixes_.release(table);
  EXPECT_EQ(kv_.free_blocks(), 6);
}

TEST_F(PrefixCacheTest, TheSameComputedTwiceIsRememberedOnce) {
  const Ids ids = {1, 2, 3, 4, 5};
  Ids tables[2];
  PrefixCache::Cursor cursors[2];
  for (Ids& table : tables) ASSERT_TRUE(kv_.grow(table, 5));
  for (int i = 0; i < 2; ++i) prefixes_.remember(ids, 5, tables[i], cursors[i]);
  const Ids first = tables[0];
  for (Ids& table : tables) prefixes_.release(table);
  EXPECT_EQ(prefixes_.idle(), 2);
  EXPECT_EQ(kv_.free_blocks(), 4);
  EXPECT_EQ(found(ids), Ids(first.begin(), first.begin() + 2));
}

TEST_F(PrefixCacheTest, FollowsBlocksThatAreMoved) {
  compute({9, 9, 9});
  compute({1, 2, 3, 4, 5});
  prefixes_.make_room(4);  // forgets the first one, so that the others lie behind a free block
  const Ids before = found({1, 2, 3, 4, 5});
  ASSERT_EQ(before.size(), 2U);
  const std::vector<KvBlockCopy> moves = kv_.vacate(2);
  ASSERT_FALSE(moves.empty());
  prefixes_.rename(moves);
  ASSERT_TRUE(kv_.resize(2));
  prefixes_.resize();
  Ids expected = before;
  for (const KvBlockCopy& move : moves) std::ranges::replace(expected, move.from, move.to);
  EXPECT_EQ(found({1, 2, 3, 4, 5}), expected);
  EXPECT_EQ(prefixes_.idle(), 2);
  ASSERT_TRUE(kv_.resize(6));
  prefixes_.resize();
  EXPECT_EQ(compute({1, 2, 3, 4, 5, 6, 7, 8, 9}).size(), 5U);
  EXPECT_EQ(found({1, 2, 3, 4, 5, 6, 7, 8, 9}).size(), 4U);
  EXPECT_TRUE(prefixes_.make_room(6));
  EXPECT_EQ(kv_.free_blocks(), 6);
}

}  // namespace
}  // namespace headrace
