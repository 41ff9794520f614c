#include "profile/measure.h"

#include <cstdlib>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "kernels/backend.h"
#include "profile/machine_name.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::TemporaryDirectory;
using testing::TestContext;

/// A tiny engine, and a cache folder of its own in place of the user's.
class MeasureTest : public ::testing::Test {
 protected:
  MeasureTest()
      : engine_(
            Engine::open(posix_file_system(), testing::make_tiny_engine({}, folder_ / "engine"))),
        backend_(make_cpu_backend(test_.pool, detect_cpu_isa())) {
    ::setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
  }
  MachineProfile load(const std::string& path = "") {
    return load_or_measure_profile(path, engine_, *backend_, {}, test_.context);
  }

  const TemporaryDirectory folder_;
  TestContext test_;
  Engine engine_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(MeasureTest, MeasuresOnceAndCaches) {
  const int64_t begin_ns = test_.clock.now_ns();
  const MachineProfile first = load();
  EXPECT_LT(test_.clock.now_ns() - begin_ns, 20e9);
  EXPECT_GT(first.link_gbps, 0);
  EXPECT_GT(first.memory_gbps, 0);
  EXPECT_GT(first.matmul_gflops, 0);
  EXPECT_THAT(first.machine, ::testing::HasSubstr(backend_->description()));
  const std::string processors = std::to_string(available_processors()) + " x ";
  EXPECT_THAT(first.machine, ::testing::StartsWith(processors));
  const std::string cache = profile_cache_path(first.machine);
  EXPECT_TRUE(cache.starts_with(folder_ / "cache"));

  // The figures that are in the cache are used, not measured again.
  EXPECT_THAT(testing::read_file(cache), ::testing::HasSubstr("link_gbps"));
  MachineProfile told = first;
  told.link_gbps = 123.25;
  write_text_file(posix_file_system(), cache, machine_profile_to_json(told));
  EXPECT_EQ(load().link_gbps, 123.25);

  // A cache that is damaged or of another machine is not.
  write_text_file(posix_file_system(), cache, "{");
  EXPECT_NE(load().link_gbps, 123.25);
  told.machine = "another";
  write_text_file(posix_file_system(), cache, machine_profile_to_json(told));
  EXPECT_NE(load().link_gbps, 123.25);
}

TEST_F(MeasureTest, ACacheThatCannotBeWrittenIsALogLine) {
  std::ofstream(folder_ / "cache") << "a file, not a folder";
  EXPECT_GT(load().link_gbps, 0);
  EXPECT_EQ(test_.log.lines_with("not cached").size(), 1u);
}

TEST_F(MeasureTest, ReadsAGivenProfile) {
  write_text_file(posix_file_system(), folder_ / "p.json",
                  R"({"link_gbps": 2.5, "memory_gbps": 30, "matmul_gflops": 50})");
  const MachineProfile profile = load(folder_ / "p.json");
  EXPECT_EQ(profile.link_gbps, 2.5);
  EXPECT_EQ(profile.memory_gbps, 30);
  EXPECT_EQ(profile.matmul_gflops, 50);
  expect_error(ErrorCode::kNotFound, "none.json", [&] { load(folder_ / "none.json"); });
}

TEST_F(MeasureTest, ReadsWholeFilesOfAnySize) {
  for (const size_t size : {size_t{0}, size_t{100}, size_t{4096}, size_t{70000}}) {
    std::ofstream(folder_ / "file") << std::string(size, 'x');
    const double gbps = measure_read_gbps(
        folder_ / "file", {}, {.depth = 3, .piece_bytes = 10000, .seconds = 0.01}, test_.context);
    EXPECT_EQ(gbps > 0, size >= 4096) << size;
  }
}

TEST_F(MeasureTest, MeasuresWhatMakesSyntheticWeightsUp) {
  engine_ = Engine::synthetic(testing::tiny_spec({}));
  const MachineProfile profile = load();
  EXPECT_GT(profile.link_gbps, 0);
  EXPECT_THAT(profile.machine, ::testing::EndsWith("disk none, synthetic weights"));
}

TEST(AvailableMemoryTest, IsWithinTheMachine) {
  std::ifstream info("/proc/meminfo");
  std::string name;
  uint64_t kilobytes = 0;
  info >> name >> kilobytes;
  ASSERT_EQ(name, "MemTotal:");
  EXPECT_GT(available_memory_bytes(), 0u);
  EXPECT_LE(available_memory_bytes(), kilobytes * 1024);
}

}  // namespace
}  // namespace headrace
