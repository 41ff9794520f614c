#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "executor/executor_core.h"
#include "tests/executor/executor_fixture.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::collect;
using testing::CollectedRequest;
using testing::ExecutorTest;
using testing::test_device;
using testing::TestContext;

/// The real file system, whose weight files cannot be read while `broken`. Thread-safe.
class BreakableFileSystem : public FileSystem {
 public:
  std::unique_ptr<RandomAccessFile> open(const std::string& path) override {
    return std::make_unique<File>(real_.open(path), broken);
  }
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    return real_.create(path);
  }
  bool exists(const std::string& path) override { return real_.exists(path); }
  bool is_directory(const std::string& path) override { return real_.is_directory(path); }
  std::vector<std::string> list(const std::string& path) override { return real_.list(path); }
  void create_directories(const std::string& path) override { real_.create_directories(path); }
  void rename(const std::string& from, const std::string& to) override { real_.rename(from, to); }
  void remove(const std::string& path) override { real_.remove(path); }
  void sync_directory(const std::string& path) override { real_.sync_directory(path); }

  std::atomic<bool> broken = false;

 private:
  class File : public RandomAccessFile {
   public:
    File(std::unique_ptr<RandomAccessFile> real, const std::atomic<bool>& broken)
        : real_(std::move(real)), broken_(broken) {}
    const std::string& path() const override { return real_->path(); }
    uint64_t size() const override { return real_->size(); }
    void read(uint64_t offset, std::span<std::byte> out) const override {
      if (broken_) fail(ErrorCode::kIo, "[test] the disk is gone");
      real_->read(offset, out);
    }
    void will_need(uint64_t offset, uint64_t length) const override {
      real_->will_need(offset, length);
    }

   private:
    std::unique_ptr<RandomAccessFile> real_;
    const std::atomic<bool>& broken_;
  };

  FileSystem& real_ = posix_file_system();
};

class ExecutorFailureTest : public ExecutorTest {
 protected:
  static CollectedRequest serve(ExecutorCore& core, const Request& request) {
    const uint64_t id = core.enqueue({request}).front();
    CollectedRequest all;
    while (!all.final) {
      for (const Response& response : core.await_responses(id, std::nullopt)) {
        collect(response, all);
      }
    }
    return all;
  }
};

TEST_F(ExecutorFailureTest, AFailureOfTheEnginesFileEndsThePassAndTheExecutorGoesOn) {
  if (test_device() != "cpu") GTEST_SKIP() << "beside a device the file is read at loading alone";
  BreakableFileSystem fs;
  TestContext test(1, fs);
  const ExecutorOptions some = options();
  SessionOptions session = session_options(some);
  session.budget.percent = 0.3;
  ExecutorCore core(some, session, test.context);
  const CollectedRequest good = serve(core, request({1, 2, 3}, 4));
  EXPECT_EQ(good.error, "");
  fs.broken = true;  // embedding rows are read by every pass
  EXPECT_NE(serve(core, request({4, 5, 6}, 4)).error.find("the disk is gone"), std::string::npos);
  EXPECT_NE(serve(core, request({7}, 4)).error, "");
  EXPECT_EQ(test.log.lines_with("the disk is gone").empty(), false);
  fs.broken = false;
  EXPECT_EQ(serve(core, request({1, 2, 3}, 4)).sequences, good.sequences);
  core.set_gpu_weights_percent(0.0);
  EXPECT_EQ(serve(core, request({1, 2, 3}, 4)).sequences, good.sequences);
}

// Nor can the old weights be loaded again at first.
TEST_F(ExecutorFailureTest, APercentageThatCannotBeLoadedLeavesTheKvCacheAsItWas) {
  TestContext test;
  ExecutorOptions some = options();
  limit_memory(some, 4);
  some.gpu_weights_percent = 0.0;
  ExecutorCore core(some, session_options(some), test.context);
  const CollectedRequest good = serve(core, request({1, 2, 3}, 4));
  const std::string file = engine_ + "/rank0.engine";
  std::filesystem::rename(file, file + ".away");
  EXPECT_THROW(core.set_gpu_weights_percent(1.0), Error);
  std::filesystem::rename(file + ".away", file);
  EXPECT_EQ(serve(core, request({1, 2, 3}, 4)).sequences, good.sequences);
  EXPECT_EQ(core.gpu_weights_percent(), 0.0);
  core.set_gpu_weights_percent(1.0);
  EXPECT_EQ(serve(core, request({1, 2, 3}, 4)).sequences, good.sequences);
  core.set_gpu_weights_percent(1.0);
  const std::vector<IterationStats> passes = core.latest_iteration_stats();
  ASSERT_EQ(passes.size(), 12U);
  EXPECT_GT(passes[0].kv_cache.max_blocks, 4);
  EXPECT_EQ(passes[4].kv_cache.max_blocks, passes[0].kv_cache.max_blocks);
  EXPECT_EQ(passes[8].kv_cache.max_blocks, 4);
}

TEST_F(ExecutorFailureTest, AnEngineThatCannotBeOpenedIsTheConstructorsError) {
  TestContext test;
  const ExecutorOptions some = options();
  SessionOptions session = session_options(some);
  session.engine_dir = "/no/such/engine";
  EXPECT_THROW(ExecutorCore(some, session, test.context), Error);
}

}  // namespace
}  // namespace headrace
