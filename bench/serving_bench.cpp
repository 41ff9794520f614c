// More requests than the KV cache holds, all there at once: what the passes reach, and how long
// anybody waits. On a machine with a GPU: ./build/bin/serving_bench --device cuda
// (docs/performance.md has figures; link_bench says what the link alone reaches).

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "bench/stream_support.h"
#include "executor/executor_core.h"
#include "headrace/bench_presets.h"

namespace headrace::bench {
namespace {

struct Flags {
  std::string model = "llama_7b";
  std::string device = "auto";
  double percent = 0.2;
  int64_t batch = 128;
  int64_t requests = 384;
  double kv_share = 0.5;  // of what `batch` of the longest requests need
  bool preempt = false;
};

constexpr int64_t kShortestPrompt = 128;
constexpr int64_t kLongestPrompt = 384;
constexpr int64_t kFewestNew = 16;
constexpr int64_t kMostNew = 64;

Flags parse(int argc, char** argv) {
  Flags flags;
  CLI::App app("Serves more requests than the KV cache holds");
  app.add_option("-m,--model", flags.model, "a preset of `headrace bench`");
  app.add_option("--device", flags.device);
  app.add_option("--gpu_weights_percent", flags.percent);
  app.add_option("--batch", flags.batch, "sequences in a pass");
  app.add_option("--requests", flags.requests)->check(CLI::PositiveNumber);
  app.add_option("--kv_share", flags.kv_share, "of what a batch of the longest requests needs");
  app.add_flag("--preempt", flags.preempt, "MAX_UTILIZATION in place of GUARANTEED_NO_EVICT");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return flags;
}

SyntheticSpec make_spec(const Flags& flags, Log& log) {
  app::BenchPreset preset = app::find_bench_preset(flags.model, DType::kFloat16);
  preset.build.weight_streaming = true;
  preset.build.max_batch_size = flags.batch;
  preset.build.max_seq_len = kLongestPrompt + kMostNew;
  return {.name = preset.name,
          .model = preset.model,
          .build = resolve_build_config(preset.build, preset.model, log)};
}

std::vector<Request> make_requests(const Flags& flags, int64_t vocab_size) {
  std::mt19937 random(1);
  const auto draw = [&](int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random);
  };
  std::vector<Request> all;
  for (int64_t i = 0; i < flags.requests; ++i) {
    Request request;
    request.prompt.resize(static_cast<size_t>(draw(kShortestPrompt, kLongestPrompt)));
    for (int32_t& id : request.prompt) id = static_cast<int32_t>(draw(0, vocab_size - 1));
    request.max_new_tokens = draw(kFewestNew, kMostNew);
    request.streaming = true;
    all.push_back(std::move(request));
  }
  return all;
}

/// Of requests, by id: when their first tokens came.
struct FirstTokens {
  std::map<uint64_t, double> seconds;
  std::vector<uint64_t> order;
  int64_t failed = 0;
};

FirstTokens serve(ExecutorCore& core, std::vector<Request> requests, const Clock& clock) {
  const int64_t begin_ns = clock.now_ns();
  size_t left = core.enqueue(std::move(requests)).size();
  FirstTokens first;
  while (left > 0) {
    for (const Response& response : core.await_responses(std::nullopt)) {
      if (response.result.is_final) --left;
      if (response.error) {
        ++first.failed;
        continue;
      }
      const double seconds = static_cast<double>(clock.now_ns() - begin_ns) / 1e9;
      if (first.seconds.emplace(response.request_id, seconds).second) {
        first.order.push_back(response.request_id);
      }
    }
  }
  return first;
}

/// The most that later requests have come before anyone.
int64_t most_overtaken(const std::vector<uint64_t>& order) {
  int64_t most = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto before = std::span(order).first(i);
    most = std::max<int64_t>(
        most, std::ranges::count_if(before, [&](uint64_t id) { return id > order[i]; }));
  }
  return most;
}

void print_passes(const char* name, const std::vector<IterationStats>& passes) {
  if (passes.empty()) return;
  double ms = 0;
  double streamed = 0;
  double tokens = 0;
  double used = 0;
  double rows = 0;
  for (const IterationStats& pass : passes) {
    ms += pass.latency_ms;
    streamed += static_cast<double>(pass.streamed_bytes);
    tokens += static_cast<double>(pass.generated_tokens);
    rows += static_cast<double>(pass.scheduled_sequences);
    used += static_cast<double>(pass.kv_cache.used_blocks) /
            static_cast<double>(pass.kv_cache.max_blocks);
  }
  const auto count = static_cast<double>(passes.size());
  std::printf(
      "%s: %zu passes of %.0f sequences, %.1f ms, %.2f GB/s streamed, %.0f tokens/s, %.1f %% of "
      "the KV cache held\n",
      name, passes.size(), rows / count, ms / count, streamed / ms / 1e6, tokens / ms * 1e3,
      100 * used / count);
}

void run(const Flags& flags) {
  Surroundings surroundings;
  ExecutorOptions options;
  options.device = flags.device;
  options.gpu_weights_percent = flags.percent;
  options.max_batch_size = flags.batch;
  options.capacity_policy =
      flags.preempt ? CapacityPolicy::kMaxUtilization : CapacityPolicy::kGuaranteedNoEvict;
  options.kv_cache.max_tokens = static_cast<int64_t>(
      flags.kv_share * static_cast<double>(flags.batch * (kLongestPrompt + kMostNew)));
  options.iteration_stats_max = 1'000'000;
  SessionOptions session = session_options(options);
  session.synthetic = make_spec(flags, *surroundings.log);
  ExecutorCore core(options, session, surroundings.context);
  const auto requests = make_requests(flags, core.limits().vocab_size);
  serve(core, {requests.begin(), requests.begin() + 1}, surroundings.clock);  // warms up
  core.latest_iteration_stats();

  const FirstTokens first = serve(core, requests, surroundings.clock);
  if (first.seconds.empty()) fail(ErrorCode::kInternal, "[bench] every request failed");
  const std::vector<IterationStats> passes = core.latest_iteration_stats();  // maybe not the last
  std::vector<IterationStats> decoding;
  std::vector<IterationStats> waited;
  int64_t paused = 0;
  for (const IterationStats& pass : passes) {
    paused += pass.paused_sequences;
    if (pass.context_sequences == 0) decoding.push_back(pass);
    if (pass.queued_requests > 0) waited.push_back(pass);
  }
  print_passes("all", passes);
  print_passes("without prompts", decoding);
  print_passes("while requests wait", waited);
  std::vector<double> seconds;
  for (const auto& [id, time] : first.seconds) seconds.push_back(time);
  std::printf(
      "%zu requests, %ld failed, %ld preemptions; first tokens after %.2f s (median), %.2f s "
      "(last); at most %ld later ones came before anyone\n",
      requests.size(), static_cast<long>(first.failed), static_cast<long>(paused), median(seconds),
      *std::ranges::max_element(seconds), static_cast<long>(most_overtaken(first.order)));
}

}  // namespace
}  // namespace headrace::bench

int main(int argc, char** argv) {
  try {
    headrace::bench::run(headrace::bench::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
