#include "device/growable_memory.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace headrace {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

/// Bytes of [data, data + size_bytes) that are in memory.
size_t present_bytes(std::byte* data, size_t size_bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((size_bytes + page - 1) / page);
  EXPECT_EQ(::mincore(data, size_bytes, pages.data()), 0);
  return page * static_cast<size_t>(std::ranges::count_if(
                    pages, [](unsigned char state) { return (state & 1) != 0; }));
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

TEST(GrowableMemory, GrowsAndShrinksWhereItIs) {
  const auto memory = reserve_host(64 * kMiB, "test");
  ASSERT_TRUE(memory->resize(10000));
  std::byte* const data = memory->data();
  std::memset(data, 1, 10000);
  ASSERT_TRUE(memory->resize(64 * kMiB));
  EXPECT_EQ(memory->data(), data);
  EXPECT_EQ(std::count(data, data + 10000, std::byte{1}), 10000);
  EXPECT_TRUE(all_zero({data + 10000, 64 * kMiB - 10000}));
  EXPECT_FALSE(memory->resize(64 * kMiB + 4097));
  EXPECT_EQ(data[9999], std::byte{1});
}

TEST(GrowableMemory, GivesBackWhatItShrinksBy) {
  const auto memory = reserve_host(64 * kMiB, "test");
  ASSERT_TRUE(memory->resize(64 * kMiB));
  std::memset(memory->data(), 1, 64 * kMiB);
  const size_t before = present_bytes(memory->data(), 64 * kMiB);
  EXPECT_EQ(memory->taken_bytes(), before);
  EXPECT_GT(before, 32 * kMiB) << "the rest may be swapped";
  ASSERT_TRUE(memory->resize(kMiB));
  EXPECT_LE(present_bytes(memory->data(), 64 * kMiB), kMiB);
  EXPECT_LE(memory->taken_bytes(), kMiB);
  EXPECT_EQ(std::count(memory->data(), memory->data() + kMiB, std::byte{1}), kMiB);
}

TEST(GrowableMemory, TakesWhatIsTouched) {
  const auto memory = reserve_host(64 * kMiB, "test");
  EXPECT_EQ(memory->taken_bytes(), 0U);
  ASSERT_TRUE(memory->resize(4 * kMiB));
  EXPECT_EQ(memory->taken_bytes(), 0U);
  memory->data()[kMiB] = std::byte{1};
  EXPECT_GT(memory->taken_bytes(), 0U);
  EXPECT_LE(memory->taken_bytes(), 2 * kMiB);
}

TEST(GrowableMemory, WhatIsAddedAgainIsZero) {
  const auto memory = reserve_host(kMiB, "test");
  ASSERT_TRUE(memory->resize(20000));
  std::memset(memory->data(), 1, 20000);
  ASSERT_TRUE(memory->resize(5000));  // in the middle of a page
  ASSERT_TRUE(memory->resize(20000));
  EXPECT_EQ(std::count(memory->data(), memory->data() + 5000, std::byte{1}), 5000);
  EXPECT_TRUE(all_zero({memory->data() + 5000, 15000}));
  ASSERT_TRUE(memory->resize(0));
  ASSERT_TRUE(memory->resize(100));
  EXPECT_TRUE(all_zero({memory->data(), 100}));
}

TEST(GrowableMemoryDeathTest, WhatIsNotBackedCannotBeTouched) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto memory = reserve_host(kMiB, "test");
  ASSERT_TRUE(memory->resize(100));
  EXPECT_DEATH(memory->data()[kMiB / 2] = std::byte{1}, "");
}

}  // namespace
}  // namespace headrace
