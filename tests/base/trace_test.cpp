#include "base/trace.h"

#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ManualClock : public Clock {
 public:
  int64_t now_ns() const override { return now; }
  int64_t now = 0;
};

std::string written(const Trace& trace) {
  const testing::TemporaryDirectory folder;
  trace.write(posix_file_system(), folder / "trace.json");
  return testing::read_file(folder / "trace.json");
}

TEST(TraceTest, DisabledRecordsNothing) {
  const ManualClock clock;
  Trace trace(clock);
  {
    TraceSpan span(trace, "read", "link");
  }
  trace.record({.name = "read"});
  EXPECT_EQ(trace.recorded(), 0u);
  EXPECT_THAT(written(trace), Not(HasSubstr("read")));
}

TEST(TraceTest, WritesTimesInMicrosecondsAndArguments) {
  ManualClock clock;
  Trace trace(clock);
  trace.enable(8);
  const uint32_t track = trace.add_track("slot \"0\"");
  clock.now = 1'000'000;
  {
    TraceSpan span(trace, "pass", "stream");
    span.set_bytes(18446744073709551615u);
    clock.now = 1'002'345;
  }
  TraceEvent event{.name = "read",
                   .category = "link",
                   .track = track,
                   .begin_ns = 1'000'500,
                   .end_ns = 1'000'507};
  event.add("offset", 4096);
  event.add("bytes", 512);
  trace.record(event);
  const std::string text = written(trace);
  EXPECT_THAT(text, HasSubstr(R"("ts":0.000,"dur":2.345,"args":{"bytes":18446744073709551615}})"));
  EXPECT_THAT(text, HasSubstr(R"("ts":0.500,"dur":0.007,"args":{"offset":4096,"bytes":512}})"));
  EXPECT_THAT(text, HasSubstr(R"("args":{"name":"slot \"0\""}})"));
  EXPECT_THAT(text, HasSubstr(R"({"spans":2,"dropped_spans":0})"));
}

TEST(TraceTest, CountsWhatDoesNotFit) {
  const ManualClock clock;
  Trace trace(clock);
  trace.enable(3);
  for (int i = 0; i < 10; ++i) TraceSpan span(trace, "op", "test");
  EXPECT_EQ(trace.recorded(), 3u);
  EXPECT_EQ(trace.dropped(), 7u);
  EXPECT_THAT(written(trace), HasSubstr(R"({"spans":3,"dropped_spans":7})"));
}

TEST(TraceTest, ExtraArgumentsAreDropped) {
  TraceEvent event;
  for (uint64_t i = 0; i < kMaxTraceArgs + 2; ++i) event.add("n", i);
  EXPECT_EQ(event.args.back().value, kMaxTraceArgs - 1);
}

TEST(TraceTest, ThreadsRecordTogether) {
  const SteadyClock clock;
  Trace trace(clock);
  trace.enable(100'000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&trace] {
      trace.name_thread("worker");
      for (int i = 0; i < 1000; ++i) TraceSpan span(trace, "op", "test");
    });
  }
  written(trace);  // while others record
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(trace.recorded(), 4000u);
  EXPECT_THAT(written(trace), HasSubstr(R"({"spans":4000,"dropped_spans":0})"));
}

TEST(TraceTest, FailedWriteLeavesNothingBehind) {
  const testing::TemporaryDirectory folder;
  const ManualClock clock;
  const Trace trace(clock);
  posix_file_system().create_directories(folder / "taken");
  EXPECT_THROW(trace.write(posix_file_system(), folder / "taken"), Error);
  EXPECT_THROW(trace.write(posix_file_system(), folder / "missing/trace.json"), Error);
  EXPECT_THAT(posix_file_system().list(folder.path()), ::testing::ElementsAre("taken"));
}

}  // namespace
}  // namespace headrace
