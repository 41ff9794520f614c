#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/backend.h"
#include "tests/support/error_matchers.h"

namespace headrace::testing {
namespace {

// Large blocks are mapped in granules of 64 MiB.
TEST(CudaMemory, LargeBlocksHoldWhatIsWrittenAndComeBackWhole) {
  constexpr size_t kMiB = size_t{1} << 20;
  constexpr size_t kBytes = 200 * kMiB + 1;
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  std::vector<std::byte> written(4096);
  for (size_t i = 0; i < written.size(); ++i) written[i] = static_cast<std::byte>(i * 7);
  backend->allocate(kBytes, "warming up");
  const uint64_t free_before = *backend->free_memory_bytes();
  for (int round = 0; round < 3; ++round) {
    const Buffer buffer = backend->allocate(kBytes, "test");
    EXPECT_GE(buffer.size_bytes(), kBytes);
    EXPECT_LE(*backend->free_memory_bytes(), free_before - kBytes);
    for (const size_t at : {size_t{0}, 64 * kMiB - 2048, 128 * kMiB - 1, kBytes - 4096}) {
      std::vector<std::byte> read(written.size(), std::byte{1});
      backend->download(read, buffer.data() + at);
      EXPECT_EQ(read, std::vector<std::byte>(read.size())) << "new memory is zero, at " << at;
      backend->upload(buffer.data() + at, written);
      backend->download(read, buffer.data() + at);
      EXPECT_EQ(read, written) << at;
    }
  }
  EXPECT_EQ(*backend->free_memory_bytes(), free_before);
}

TEST(CudaMemory, GrowableMemoryKeepsItsBeginningAndGivesTheRestBack) {
  constexpr size_t kMiB = size_t{1} << 20;
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  backend->allocate(kMiB, "warming up");
  const uint64_t free_before = *backend->free_memory_bytes();
  const auto taken = [&] { return free_before - *backend->free_memory_bytes(); };
  const std::vector<std::byte> written(4096, std::byte{7});
  {
    const auto memory = backend->allocate_growable(4000 * kMiB, "test");
    EXPECT_EQ(taken(), 0U) << "only addresses";
    ASSERT_TRUE(memory->resize(10 * kMiB));
    backend->upload(memory->data(), written);
    for (const size_t size : {1000 * kMiB + 1, 4000 * kMiB, 500 * kMiB + 4096, 500 * kMiB,
                              500 * kMiB + 4096}) {  // the last ones in the same granule
      ASSERT_TRUE(memory->resize(size));
      EXPECT_GE(taken(), size);
      EXPECT_LE(taken(), size + 6 * kMiB);
      EXPECT_GE(memory->taken_bytes(), size);
      std::vector<std::byte> read(written.size());
      backend->download(read, memory->data());
      EXPECT_EQ(read, written);
      backend->download(read, memory->data() + size - read.size());
      EXPECT_EQ(read, std::vector<std::byte>(read.size())) << "new memory is zero";
      backend->upload(memory->data() + size - read.size(), written);
    }
    EXPECT_FALSE(memory->resize(4100 * kMiB));
    EXPECT_FALSE(backend->allocate_growable(free_before + 4000 * kMiB, "test")
                     ->resize(free_before + 2000 * kMiB));
    EXPECT_LE(taken(), 510 * kMiB);
  }
  EXPECT_EQ(taken(), 0U);
}

TEST(CudaMemory, CopiesArriveInTheOrderOfOps) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  const Buffer buffer = backend->allocate(3 * 4096, "test");
  std::vector<std::byte> written(4096, std::byte{5});
  backend->upload(buffer.data(), written);
  backend->copy(buffer.data() + 4096, buffer.data(), 4096);
  backend->upload(buffer.data(), std::vector<std::byte>(4096, std::byte{6}));
  backend->copy(buffer.data() + 8192, buffer.data() + 4096, 4096);
  std::vector<std::byte> read(4096);
  backend->download(read, buffer.data() + 8192);
  EXPECT_EQ(read, written);
}

// More of them than staging memory holds, and rows that alone do not fit there.
TEST(CudaMemory, RowsArriveAsTheyAreWritten) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  for (const auto& [rows, row_bytes] : {std::pair<size_t, size_t>{5000, 6001}, {3, 5 << 20}}) {
    std::vector<std::byte> expected(rows * row_bytes);
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] = static_cast<std::byte>(i / row_bytes * 31 + i % row_bytes % 251);
    }
    const Buffer buffer = backend->allocate(expected.size(), "test");
    size_t written = 0;
    backend->upload_rows(buffer.data(), row_bytes, static_cast<int64_t>(rows),
                         [&](int64_t first, std::span<std::byte> to) {
                           EXPECT_EQ(static_cast<size_t>(first) * row_bytes, written);
                           EXPECT_EQ(to.size() % row_bytes, 0U);
                           std::memcpy(to.data(), expected.data() + written, to.size());
                           written += to.size();
                         });
    EXPECT_EQ(written, expected.size());
    std::vector<std::byte> read(expected.size());
    backend->download(read, buffer.data());
    EXPECT_TRUE(read == expected);
  }
}

// Short ones are copied together, unless one goes where another does: in all more than staging
// memory holds, now and then more at a time than one kernel copies.
TEST(CudaMemory, ShortUploadsArriveInTheirOrder) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  std::vector<std::byte> expected(256 << 10);
  const Buffer buffer = backend->allocate(expected.size(), "test");
  std::mt19937 random(19);
  const auto below = [&](size_t end) { return random() % end; };
  for (int i = 0; i < 4000; ++i) {
    const size_t alignment = below(4) == 0 ? 1 : 16;
    const size_t size = 1 + below(9000);
    const size_t at = below(expected.size() - size) / alignment * alignment;
    const std::vector<std::byte> bytes(size, static_cast<std::byte>(i));
    std::ranges::copy(bytes, expected.begin() + static_cast<ptrdiff_t>(at));
    if (below(8) == 0) {
      backend->upload(buffer.data() + at, bytes);
    } else {
      backend->upload_rows(buffer.data() + at, size, 1, [&](int64_t, std::span<std::byte> to) {
        std::ranges::copy(bytes, to.begin());
      });
    }
  }
  std::vector<std::byte> read(expected.size());
  backend->download(read, buffer.data());
  EXPECT_TRUE(read == expected);
}

TEST(CudaMemory, MoreThanThereIsIsAnErrorThatLeavesNothingBehind) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  const uint64_t free_before = *backend->free_memory_bytes();
  expect_error(ErrorCode::kOutOfMemory, "do not fit",
               [&] { backend->allocate(free_before + (uint64_t{1} << 30), "test"); });
  EXPECT_EQ(*backend->free_memory_bytes(), free_before);
}

}  // namespace
}  // namespace headrace::testing
