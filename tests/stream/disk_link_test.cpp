#include "stream/disk_link.h"

#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/buffer.h"
#include "stream/direct_file.h"
#include "tests/stream/run_pass.h"
#include "tests/support/error_matchers.h"
#include "tests/support/host_backend.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::expect_error;
using ::testing::HasSubstr;
using testing::HostBackend;
using testing::MadeWeights;
using testing::make_weights;
using testing::pass_is_right;
using testing::TemporaryDirectory;
using testing::TestContext;

/// Payload of lm_head that a plan streams.
uint64_t head_bytes(const Manifest& manifest, const Plan& plan) {
  uint64_t bytes = 0;
  const MatrixInfo& head = manifest.matrices.back();
  for (uint32_t t = head.first_tile; t < head.first_tile + head.tile_count; ++t) {
    if (plan.homes[t] != Home::kDevice) bytes += manifest.tiles[t].raw_bytes;
  }
  return bytes;
}

/// Every way to read. A way that this machine refuses must say so.
class DiskLinkTest : public ::testing::TestWithParam<StreamOptions> {
 protected:
  /// Null where the machine refuses what the options force.
  std::unique_ptr<Link> open(const std::string& path, int depth) {
    try {
      return open_disk_link(path, depth, GetParam());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_TRUE(GetParam().io == IoMode::kUring || GetParam().direct == DirectMode::kOn);
      EXPECT_THAT(error.what(), HasSubstr("refuses"));
      return nullptr;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(
    Ways, DiskLinkTest,
    ::testing::Values(StreamOptions{}, StreamOptions{.io = IoMode::kUring},
                      StreamOptions{.io = IoMode::kPread},
                      StreamOptions{.io = IoMode::kUring, .direct = DirectMode::kOff},
                      StreamOptions{.io = IoMode::kPread, .direct = DirectMode::kOff},
                      StreamOptions{.io = IoMode::kPread, .direct = DirectMode::kOn}));

TEST_P(DiskLinkTest, StreamsAFilesBytes) {
  const TemporaryDirectory folder;
  const MadeWeights made = make_weights({.layers = 3});
  made.write(folder / "weights");
  for (const int32_t ring : {2, 5, 8}) {
    for (const double percent : {0.0, 0.3, 1.0}) {
      const Plan plan = make_plan(
          made.manifest, {},
          {.budget = {.percent = percent}, .request_bytes = 16384, .ring_requests = ring});
      HostBackend backend;
      TestContext test;
      auto link = open(folder / "weights", 8);
      if (link == nullptr) return;
      WeightStream stream(made.manifest, plan, std::move(link), "weights", GetParam(), backend,
                          test.context);
      stream.load_resident();
      for (const bool with_logits : {true, false, true}) {
        EXPECT_TRUE(pass_is_right(stream, made, with_logits));
      }
      EXPECT_EQ(stream.counters().payload_bytes,
                3 * plan.streamed_bytes - head_bytes(made.manifest, plan));
    }
  }
}

TEST_P(DiskLinkTest, ReadsAFileThatEndsInsideAPage) {
  const TemporaryDirectory folder;
  MadeWeights made = make_weights({.layers = 1});
  const TileInfo& last = made.manifest.tiles.back();
  made.content.resize(last.offset + last.stored_bytes);
  ASSERT_NE(made.content.size() % 4096, 0u);
  made.write(folder / "weights");
  const Plan plan = make_plan(made.manifest, {}, {.budget = {.percent = 0.0}, .ring_requests = 8});
  HostBackend backend;
  TestContext test;
  auto link = open(folder / "weights", 8);
  if (link == nullptr) return;
  WeightStream stream(made.manifest, plan, std::move(link), "weights", GetParam(), backend,
                      test.context);
  stream.load_resident();
  EXPECT_TRUE(pass_is_right(stream, made, true));
}

TEST_P(DiskLinkTest, AFileThatShrankEndsInENODATA) {
  const TemporaryDirectory folder;
  make_weights({}).write(folder / "weights");
  auto link = open(folder / "weights", 2);
  if (link == nullptr) return;
  std::filesystem::resize_file(folder / "weights", 8192);
  const Buffer memory = allocate_host(32768, "test");
  ASSERT_EQ(link->start({.offset = 4096, .to = memory.bytes().first(16384), .tag = 3}), 0);
  std::array<Completion, 4> completions;
  ASSERT_EQ(link->wait(completions), 1u);
  EXPECT_EQ(completions[0].tag, 3u);
  EXPECT_EQ(completions[0].error, ENODATA);
  link->stop();
  EXPECT_EQ(link->wait(completions), 0u);
}

TEST_P(DiskLinkTest, StopWakesWaitAndDrains) {
  const TemporaryDirectory folder;
  make_weights({}).write(folder / "weights");
  for (const uint32_t in_flight : {0u, 1u, 4u}) {
    auto link = open(folder / "weights", 4);
    if (link == nullptr) return;
    const Buffer memory = allocate_host(4 * 4096, "test");
    link->prepare(memory.bytes());
    size_t completed = 0;
    std::thread waiter([&] {
      std::array<Completion, 2> completions;
      while (const size_t count = link->wait(completions)) completed += count;
    });
    for (uint32_t i = 0; i < in_flight; ++i) {
      ASSERT_EQ(
          link->start({.offset = i * 4096, .to = memory.bytes().subspan(i * 4096, 4096), .tag = i}),
          0);
    }
    link->stop();
    waiter.join();
    EXPECT_EQ(completed, in_flight);
  }
}

TEST(DiskLinkOpenTest, SaysHowItReads) {
  const TemporaryDirectory folder;
  make_weights({}).write(folder / "weights");
  EXPECT_EQ(
      open_disk_link(folder / "weights", 3, {.io = IoMode::kPread, .direct = DirectMode::kOff})
          ->description(),
      "pread, buffered, 3 threads");
  expect_error(ErrorCode::kNotFound, "No such file",
               [&] { open_disk_link(folder / "none", 3, {}); });
}

// procfs has no O_DIRECT: a file system that refuses it, on every Linux.
TEST(DirectFileTest, FallsBackToBufferedReadsAndSaysWhy) {
  const DirectFile file("/proc/self/status", DirectMode::kAuto);
  EXPECT_FALSE(file.direct());
  EXPECT_EQ(file.description(), "buffered (O_DIRECT refused: Invalid argument)");
  expect_error(ErrorCode::kInvalidArgument, "use --direct_io auto or off",
               [] { DirectFile forced("/proc/self/status", DirectMode::kOn); });
}

class ReadProgressTest : public ::testing::Test {
 protected:
  ReadProgressTest() {
    make_weights({}).write(folder_ / "weights");
    file_.emplace(folder_ / "weights", DirectMode::kAuto);
    progress_.transfer = {.offset = 4096, .to = memory_.bytes()};
  }
  using Next = ReadProgress::Next;
  const TemporaryDirectory folder_;
  const Buffer memory_ = allocate_host(16384, "test");
  std::optional<DirectFile> file_;
  ReadProgress progress_;
};

TEST_F(ReadProgressTest, ReadsOnFromAWholePage) {
  EXPECT_EQ(progress_.advance(5000, *file_), Next::kReadOn);
  EXPECT_EQ(progress_.rest_offset(), file_->direct() ? 8192u : 9096u);
  EXPECT_EQ(progress_.advance(static_cast<int64_t>(progress_.rest().size()), *file_), Next::kDone);
}

TEST_F(ReadProgressTest, TriesAgainWhenInterruptedButNotForever) {
  EXPECT_EQ(progress_.advance(-EINTR, *file_), Next::kReadOn);
  EXPECT_EQ(progress_.rest_offset(), 4096u);
  EXPECT_EQ(progress_.advance(-EIO, *file_), Next::kFailed);
  EXPECT_EQ(progress_.error, EIO);
  progress_.stalls = 0;
  int tries = 0;
  while (progress_.advance(-EAGAIN, *file_) == Next::kReadOn && tries < 1'000'000) ++tries;
  EXPECT_LT(tries, 1'000'000);
  EXPECT_EQ(progress_.error, EAGAIN);
}

TEST_F(ReadProgressTest, TheEndOfTheFileIsTheEnd) {
  progress_.transfer.offset = file_->size() - 4096;
  EXPECT_EQ(progress_.advance(4096, *file_), Next::kDone);
  progress_ = {.transfer = {.offset = 4096, .to = memory_.bytes()}};
  EXPECT_EQ(progress_.advance(0, *file_), Next::kFailed);
  EXPECT_EQ(progress_.error, ENODATA);
}

}  // namespace
}  // namespace headrace
