#include <chrono>
#include <ctime>
#include <thread>

#include "tests/executor/executor_fixture.h"

namespace headrace {
namespace {

using testing::await_end;
using testing::ExecutorTest;

class ExecutorIdleTest : public ExecutorTest {};

/// Processor time that all threads of this process took in a second of `work`.
template <typename Work>
double busy_ms_of_a_second(const Work& work) {
  const std::clock_t before = std::clock();
  work(std::chrono::seconds(1));
  return 1000.0 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
}

TEST_F(ExecutorIdleTest, AnExecutorWithoutRequestsTakesNoProcessor) {
  ExecutorOptions some = options();
  some.threads = 2;
  some.gpu_weights_percent = 0.0;  // so that there are threads that stream
  Executor executor(some);
  EXPECT_EQ(await_end(executor, executor.enqueue(request({5, 900, 17}, 8))).error, "");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // longer than threads poll
  EXPECT_LT(busy_ms_of_a_second([](auto second) { std::this_thread::sleep_for(second); }), 10);
  // Nor does who waits for responses.
  EXPECT_LT(busy_ms_of_a_second([&](auto second) { executor.await_responses(second); }), 10);
  EXPECT_EQ(await_end(executor, executor.enqueue(request({5, 900, 17}, 8))).error, "");
}

}  // namespace
}  // namespace headrace
