// What the executor adds to a pass, the model's time left out: ./build-dev/bin/executor_bench
// Scheduling is next_pass() alone. Serving is a whole iteration of the executor's thread: planning,
// packing, choosing tokens (greedy, of a vocabulary so small that it hardly counts), and
// making and handing over responses and stats; in processor time of that thread, which does not
// count what other programs take from it.

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "executor/serving.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/test_profile.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

constexpr int64_t kTokens = 500;  // of each request
constexpr double kSecondsPerMs = 1e-3;

testing::TinyModel smallest_model(int64_t batch) {
  testing::TinyModel model;
  model.vocab_size = 8;
  model.hidden_size = 32;
  model.num_hidden_layers = 1;
  model.num_attention_heads = 1;
  model.num_key_value_heads = 1;
  model.head_size = 32;
  model.intermediate_size = 32;
  model.max_position_embeddings = kTokens + 64;
  model.max_batch_size = batch;
  return model;
}

void bench_scheduling(benchmark::State& state) {
  const int64_t batch = state.range(0);
  const KvShape shape{.layers = 1, .kv_heads = 1, .head_dim = 1};
  const int64_t blocks = batch * shape.blocks_for(kTokens + 64);
  KvCache kv(shape, reserve_host(static_cast<size_t>(blocks) * shape.block_bytes(), "kv"));
  kv.resize(blocks);
  SchedulerLimits limits{.max_rows = 512, .max_logit_rows = batch, .max_sequences = batch};
  if (state.range(1) != 0) limits.policy = CapacityPolicy::kMaxUtilization;
  Scheduler scheduler(limits, kv);
  std::vector<std::unique_ptr<Sequence>> sequences;
  uint64_t arrival = 0;
  for (int64_t i = 0; i < 4 * batch; ++i) {  // most of them wait
    sequences.push_back(std::make_unique<Sequence>(SequenceOptions{
        .prompt = std::vector<int32_t>(32, 1), .max_new_tokens = kTokens, .arrival = ++arrival}));
    scheduler.add(*sequences.back());
  }
  for (auto _ : state) {
    for (const PassRows& rows : scheduler.next_pass()) {
      Sequence& sequence = *rows.sequence;
      scheduler.computed(rows);
      if (sequence.cached < sequence.known()) continue;
      sequence.ids.push_back(1);
      if (sequence.generated() < kTokens) continue;
      scheduler.remove(sequence);
      sequence.ids.resize(32);
      scheduler.add(sequence);
    }
  }
}
BENCHMARK(bench_scheduling)->ArgNames({"batch", "preempting"})->ArgsProduct({{64}, {0, 1}});

/// Processor time of the calling thread.
class ThreadClock : public Clock {
 public:
  int64_t now_ns() const override {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1'000'000'000 + now.tv_nsec;
  }
};

/// A Serving on made-up weights that always has `batch` requests.
class BusyServing {
 public:
  BusyServing(int64_t batch, bool streaming)
      : streaming_(streaming), session_(Session::open(session_options(batch), context_)) {
    for (int64_t i = 0; i < batch; ++i) add();
    while (step() > 0) {  // until all prompts have been computed
    }
  }

  /// Seconds of an iteration that were not the model's.
  double timed_step() {
    const int64_t begin_ns = clock_.now_ns();
    serving_.step();
    const double seconds = static_cast<double>(clock_.now_ns() - begin_ns) * 1e-9;
    const IterationStats stats = iterations_.take().back();
    for (const Response& response : responses_.take_any(std::chrono::steady_clock::now())) {
      if (response.result.is_final) add();
    }
    return seconds - (stats.latency_ms - stats.scheduling_ms) * kSecondsPerMs;
  }

 private:
  SessionOptions session_options(int64_t batch) {
    SessionOptions options;
    options.synthetic = testing::tiny_spec(smallest_model(batch));
    options.device = "cpu";
    options.limits.max_sequences = batch;
    options.profile_path = testing::write_test_profile(directory_ / "profile.json");
    return options;
  }

  void add() {
    responses_.open(++last_id_);
    serving_.add(
        {.id = last_id_,
         .request = {.prompt = {1, 2, 3}, .max_new_tokens = kTokens, .streaming = streaming_},
         .arrival_ns = 0});
  }

  int64_t step() {
    serving_.step();
    return iterations_.take().back().context_sequences;
  }

  const bool streaming_;
  testing::TemporaryDirectory directory_;
  testing::TestContext test_;
  ThreadClock clock_;
  Context context_{.fs = posix_file_system(),
                   .pool = test_.pool,
                   .log = test_.log,
                   .progress = *test_.progress,
                   .clock = clock_,
                   .trace = test_.trace};
  ExecutorOptions options_;
  ResponseBox responses_;
  StatsHistory<IterationStats> iterations_{1000};
  StatsHistory<RequestStatsOfIteration> requests_{0};
  std::unique_ptr<Session> session_;
  Serving serving_{options_,
                   *session_,
                   {.responses = responses_, .iterations = iterations_, .requests = requests_},
                   context_};
  uint64_t last_id_ = 0;
};

void bench_serving(benchmark::State& state) {
  BusyServing serving(state.range(0), state.range(1) != 0);
  for (auto _ : state) state.SetIterationTime(serving.timed_step());
}
BENCHMARK(bench_serving)
    ->ArgNames({"batch", "streaming"})
    ->ArgsProduct({{1, 64}, {0, 1}})
    ->UseManualTime();

}  // namespace
}  // namespace headrace

BENCHMARK_MAIN();
