#include "stream/engine_link.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/buffer.h"
#include "stream/embedding_reader.h"
#include "stream/thread_link.h"
#include "tests/stream/run_pass.h"
#include "tests/support/error_matchers.h"
#include "tests/support/host_backend.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::HostBackend;
using testing::MadeWeights;
using testing::pass_is_right;
using testing::TemporaryDirectory;
using testing::TestContext;
using testing::tiny_spec;

std::vector<std::byte> read(const Engine& engine, uint64_t offset, uint64_t size) {
  std::vector<std::byte> bytes(size);
  engine.file().read(offset, bytes);
  return bytes;
}

TEST(EngineLinkTest, AnEngineOfAFileIsReadFromTheDisk) {
  const TemporaryDirectory folder;
  const Engine engine =
      Engine::open(posix_file_system(), testing::make_tiny_engine({}, folder / "engine"));
  const auto link = open_engine_link(engine, 3, 2, {.io = IoMode::kPread});
  EXPECT_THAT(link->description(), ::testing::StartsWith("pread, "));
  EXPECT_THAT(link->description(), ::testing::EndsWith(", 3 threads"));
  EXPECT_EQ(settle_stream_options(engine, {}).verify, VerifyMode::kFirst);
}

TEST(EngineLinkTest, SyntheticWeightsStreamAtEveryPercentage) {
  const Engine engine = Engine::synthetic(tiny_spec({}));
  const MadeWeights made{.manifest = engine.manifest(),
                         .content = read(engine, 0, engine.file().size())};
  for (const double percent : {0.0, 0.3, 1.0}) {
    const Plan plan = make_plan(engine.manifest(), {}, {.budget = {.percent = percent}});
    HostBackend backend;
    TestContext test(2);
    WeightStream stream(engine, plan, {}, backend, test.context);
    stream.load_resident();
    for (const bool with_logits : {true, false, true}) {
      EXPECT_TRUE(pass_is_right(stream, made, with_logits));
    }
    EXPECT_EQ(stream.counters().payload_bytes > 0, percent < 1.0);
    EXPECT_THAT(stream.description(), ::testing::StartsWith("synthetic weights, 2 threads; "));
  }
}

TEST(EngineLinkTest, SyntheticEmbeddingRowsAreThoseOfTheTable) {
  const Engine engine = Engine::synthetic(tiny_spec({}));
  const Plan plan = make_plan(engine.manifest(), {}, {});
  HostBackend backend;
  TestContext test;
  WeightStream stream(engine, plan, {}, backend, test.context);
  stream.load_resident();
  EmbeddingReader reader(engine, stream);
  const size_t row_bytes = 72 * 2;
  const std::vector<int32_t> ids = {0, 1002, 5, 5};
  std::vector<std::byte> rows(ids.size() * row_bytes);
  reader.gather(ids, rows.data());
  const EmbeddingInfo& table = engine.manifest().embedding;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::vector<std::byte> expected = read(
        engine, table.offset + static_cast<uint64_t>(ids[i]) * table.row_stride_bytes, row_bytes);
    EXPECT_EQ(std::memcmp(rows.data() + i * row_bytes, expected.data(), row_bytes), 0) << ids[i];
  }
}

TEST(EngineLinkTest, SettingsThatSyntheticWeightsCannotHonourAreErrors) {
  const Engine engine = Engine::synthetic(tiny_spec({}));
  for (const StreamOptions& options :
       {StreamOptions{.io = IoMode::kUring}, StreamOptions{.io = IoMode::kPread},
        StreamOptions{.direct = DirectMode::kOn}, StreamOptions{.direct = DirectMode::kOff}}) {
    expect_error(ErrorCode::kInvalidArgument, "--io and --direct_io",
                 [&] { open_engine_link(engine, 4, 1, options); });
  }
  expect_error(ErrorCode::kInvalidArgument, "--verify always",
               [&] { settle_stream_options(engine, {.verify = VerifyMode::kAlways}); });
  EXPECT_EQ(settle_stream_options(engine, {}).verify, VerifyMode::kNever);
}

TEST(ThreadLinkTest, GoesDeeperThanItHasThreadsAndPassesErrorsOn) {
  ThreadLink link("test", /*depth=*/6, /*threads=*/2,
                  [](const Transfer& transfer) { return transfer.tag == 4 ? EIO : 0; });
  EXPECT_EQ(link.depth(), 6);
  EXPECT_EQ(link.description(), "test, 2 threads");
  const Buffer memory = allocate_host(4096, "test");
  for (uint32_t tag = 0; tag < 6; ++tag) {
    ASSERT_EQ(link.start({.offset = 0, .to = memory.bytes(), .tag = tag}), 0);
  }
  std::array<Completion, 6> completions;
  std::array<int, 6> errors{-1, -1, -1, -1, -1, -1};
  for (size_t done = 0; done < 6;) {
    const size_t count = link.wait(completions);
    for (size_t i = 0; i < count; ++i) errors.at(completions[i].tag) = completions[i].error;
    done += count;
  }
  EXPECT_EQ(errors, (std::array{0, 0, 0, 0, EIO, 0}));
}

}  // namespace
}  // namespace headrace
