#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "executor/session.h"
#include "tests/support/busy_processor.h"
#include "tests/support/logits_recorder.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace::testing {
namespace {

constexpr const char* kProfile =
    R"({"machine": "test", "threads": 1, "link_gbps": 50.0, "memory_gbps": 3000.0,
        "matmul_gflops": 100000.0, "free_memory_bytes": 1000000000})";

class StopsAfterOne : public GenerationObserver {
 public:
  bool on_token(size_t, int32_t) override { return false; }
};

class CudaSessionTest : public ::testing::Test {
 protected:
  SessionOptions options(const std::string& engine_dir, const char* device = "cuda") {
    const std::string profile = directory_ / "profile.json";
    std::ofstream(profile) << kProfile;
    SessionOptions options;
    options.engine_dir = engine_dir;
    options.profile_path = profile;
    options.device = device;
    options.limits.context_logits = true;
    return options;
  }

  static std::vector<GenerationRequest> prompts(size_t count, size_t length, int64_t tokens) {
    std::vector<GenerationRequest> requests(count);
    int32_t id = 7;
    for (GenerationRequest& request : requests) {
      for (size_t i = 0; i < length; ++i) request.prompt.push_back(id = (id * 31 + 11) % 1003);
      request.max_new_tokens = tokens;
      ++length;
    }
    return requests;
  }

  struct Outcome {
    std::map<size_t, std::vector<float>> logits;
    std::vector<std::vector<int32_t>> tokens;
    StreamCounters stream;
    Plan plan;
  };
  static Outcome generate(const SessionOptions& options,
                          const std::vector<GenerationRequest>& requests) {
    TestContext context(2);
    const auto session = Session::open(options, context.context);
    LogitsRecorder recorder;
    Outcome outcome;
    for (const auto& result : session->generate(requests, &recorder)) {
      outcome.tokens.push_back(result.tokens);
    }
    outcome.logits = recorder.all();
    outcome.stream = session->stats().stream;
    outcome.plan = session->plan();
    return outcome;
  }

  TemporaryDirectory directory_;
};

TEST_F(CudaSessionTest, LogitsAreTheSameAtEveryPercentageRingAndTileSize) {
  for (const int64_t canonical_rows : {0, 8}) {
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32}) {
      TinyModel shape;
      shape.dtype = dtype;
      shape.qkv_bias = true;
      shape.hidden_size = 80;  // whole vectors, so that the matrix class takes part
      shape.canonical_rows = canonical_rows;
      const std::string name = directory_ / std::string(dtype_name(dtype));
      const std::string engine = make_tiny_engine(shape, name + std::to_string(canonical_rows));
      const auto requests = prompts(3, 20, 6);
      SessionOptions all = options(engine);
      all.limits.max_sequences = 3;
      const Outcome expected = generate(all, requests);
      for (const double percent : {0.0, 0.013, 0.2, 0.5, 0.97}) {
        for (const int32_t ring : {2, 8}) {
          SessionOptions some = all;
          some.budget.percent = percent;
          some.ring_requests = ring;
          const Outcome outcome = generate(some, requests);
          EXPECT_EQ(outcome.logits, expected.logits) << percent << " ring " << ring;
          EXPECT_EQ(outcome.tokens, expected.tokens);
          EXPECT_EQ(outcome.stream.payload_bytes,
                    outcome.plan.streamed_bytes * static_cast<uint64_t>(outcome.stream.passes));
          EXPECT_GT(outcome.stream.payload_bytes, 0u);
        }
      }
    }
  }
}

// Nor do codes change a bit, nor who multiplies a row, nor how many host threads do.
TEST_F(CudaSessionTest, CodesAndHostSharesChangeNoBit) {
  for (const int64_t canonical_rows : {0, 8}) {
    for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
      TinyModel shape;
      shape.dtype = dtype;
      shape.qkv_bias = true;
      shape.dense_bias = true;
      shape.hidden_size = 1024;  // long enough for codes to pay
      shape.intermediate_size = 1032;
      shape.canonical_rows = canonical_rows;
      std::optional<Outcome> expected;
      for (const char* const codec : {"none", "e3", "e4"}) {
        if (dtype == DType::kFloat16 && codec == std::string("e4")) continue;
        shape.tile_codec = codec;
        const std::string name = std::string(dtype_name(dtype)) + codec;
        const std::string engine =
            make_tiny_engine(shape, directory_ / name + std::to_string(canonical_rows));
        for (const size_t sequences : {1, 3, 8}) {
          const auto requests = prompts(8, 12, 5);
          for (const double percent : {0.0, 0.2, 1.0}) {
            for (const double share : {0.0, 0.4, 1.0}) {
              SessionOptions some = options(engine);
              some.limits.max_sequences = static_cast<int64_t>(sequences);
              some.budget.percent = percent;
              some.ring_requests = 2;
              some.host_threads = sequences == 1 ? 1 : sequences == 3 ? 15 : 7;
              some.host_share = share;
              const Outcome outcome = generate(
                  some, {requests.begin(), requests.begin() + static_cast<int64_t>(sequences)});
              EXPECT_EQ(outcome.stream.host_bytes > 0, share > 0 && percent < 1);
              if (!expected) expected = outcome;
              EXPECT_EQ(outcome.logits.at(0), expected->logits.at(0))
                  << codec << ", " << sequences << " sequences, " << percent << ", host " << share;
            }
          }
        }
      }
    }
  }
}

/// Engines of one model, raw and coded, and passes of 1 to 9 and 32 token rows, and one of 300.
class CudaHostThreadsTest : public CudaSessionTest {
 protected:
  static constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 32, 300};

  /// Its codecs, the raw one first.
  static std::vector<std::string> codecs(DType dtype) {
    if (dtype == DType::kFloat16) return {"none", "e3"};
    return {"none", "e3", "e4"};
  }

  std::string engine(const std::string& codec, int64_t canonical_rows,
                     DType dtype = DType::kBFloat16) {
    TinyModel shape;
    shape.dtype = dtype;
    shape.hidden_size = 1024;  // long enough for codes to pay
    shape.intermediate_size = 1032;
    shape.max_position_embeddings = 320;
    shape.max_batch_size = 32;
    shape.canonical_rows = canonical_rows;
    shape.tile_codec = codec;
    const std::string name = std::string(dtype_name(dtype)) + codec;
    return make_tiny_engine(shape, directory_ / name + std::to_string(canonical_rows));
  }

  /// Passes of so many rows: sequences that decode, or a prompt.
  Outcome generate_rows(SessionOptions options, int64_t rows) {
    const bool prompt = rows > 32;
    options.limits.max_sequences = prompt ? 1 : rows;
    options.prefill_chunk = 512;
    options.ring_requests = 2;
    return generate(options, prompt ? prompts(1, static_cast<size_t>(rows), 2)
                                    : prompts(static_cast<size_t>(rows), 4, 4));
  }

  Outcome expected(const std::string& raw_engine, int64_t rows) {
    SessionOptions all = options(raw_engine);
    all.host_threads = 0;
    return generate_rows(all, rows);
  }
};

TEST_F(CudaHostThreadsTest, NoRowCountAndNoThreadCountChangesABit) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    for (const int64_t canonical_rows : {0, 8}) {
      std::vector<std::string> engines;
      for (const std::string& codec : codecs(dtype)) {
        engines.push_back(engine(codec, canonical_rows, dtype));
      }
      for (const int64_t rows : kRows) {
        const Outcome alone = expected(engines[0], rows);
        for (const std::string& engine_dir : engines) {
          for (const double percent : {0.0, 0.2, 0.5}) {
            for (const int threads : {0, 1, 7, 15}) {
              SessionOptions some = options(engine_dir);
              some.budget.percent = percent;
              some.host_threads = threads;
              some.host_share = 0.5;
              const Outcome outcome = generate_rows(some, rows);
              EXPECT_EQ(outcome.logits, alone.logits) << engine_dir << " at " << percent << ", "
                                                      << rows << " rows, " << threads << " threads";
              EXPECT_EQ(outcome.tokens, alone.tokens);
              EXPECT_TRUE(outcome.stream.host_bytes > 0 || threads == 0 || rows > 8) << rows;
              EXPECT_TRUE(outcome.stream.host_bytes == 0 || threads > 0);
            }
          }
        }
      }
    }
  }
}

/// A machine whose host and link are slow enough to share the passes of a small model, so that the
/// balance sets out with shares and is corrected by what the threads really do.
constexpr const char* kSlowProfile =
    R"({"machine": "test", "threads": 1, "link_gbps": 0.05, "memory_gbps": 3000.0,
        "matmul_gflops": 100000.0, "host_threads": 7, "shared_link_gbps": 0.05, "host_rates": [
        {"tokens": 8, "codec": "raw", "gbps": 0.05}, {"tokens": 8, "codec": "e3", "gbps": 0.05},
        {"tokens": 8, "codec": "e4", "gbps": 0.05}]})";

TEST_F(CudaHostThreadsTest, LiveChangesOfPercentageChangeNoBit) {
  const auto requests = prompts(3, 8, 6);
  SessionOptions some = options(engine("none", 8));
  some.limits.max_sequences = 3;
  some.host_threads = 0;
  const Outcome alone = generate(some, requests);
  some.host_threads = 7;
  std::ofstream(some.profile_path = directory_ / "slow.json") << kSlowProfile;
  for (const std::string& codec : codecs(DType::kBFloat16)) {
    some.engine_dir = engine(codec, 8);
    some.budget.percent = 0.0;
    TestContext context(2);
    const auto session = Session::open(some, context.context);
    for (const double percent : {0.0, 0.5, 0.2, 1.0, 0.0, 0.3}) {
      session->set_budget({.percent = percent});
      LogitsRecorder recorder;
      session->generate(requests, &recorder);
      EXPECT_EQ(recorder.all(), alone.logits) << codec << " at " << percent;
      EXPECT_EQ(session->stats().stream.host_bytes > 0, percent < 1) << codec << " at " << percent;
    }
  }
}

TEST_F(CudaHostThreadsTest, ThreadsThatHaveWorkedSleep) {
  SessionOptions some = options(engine("e3", 8));
  some.limits.max_sequences = 1;
  some.budget.percent = 0.0;
  some.host_threads = 7;
  some.host_share = 0.5;
  TestContext context(2);
  const auto session = Session::open(some, context.context);
  session->generate(prompts(1, 8, 6));
  EXPECT_GT(session->stats().stream.host_bytes, 0u);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // longer than threads poll
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 100);  // of all threads
}

// The second processor is the first host thread's.
TEST_F(CudaHostThreadsTest, ASlowThreadChangesNoBit) {
  const std::vector<int> processors = usable_processors();
  if (processors.size() < 2) GTEST_SKIP() << "one processor only: every thread is as slow";
  const std::string raw = engine("none", 0);
  const std::string coded = engine("e3", 0);
  for (const int64_t rows : {1, 3, 8, 9, 300}) {
    const Outcome alone = expected(raw, rows);
    const BusyProcessor busy(processors[1], 3);
    for (const int threads : {1, 7, 15}) {
      for (const std::string& engine_dir : {raw, coded}) {
        SessionOptions some = options(engine_dir);
        some.budget.percent = 0.0;
        some.host_threads = threads;
        some.host_share = 0.4;
        const Outcome outcome = generate_rows(some, rows);
        EXPECT_EQ(outcome.logits, alone.logits)
            << engine_dir << ", " << rows << " rows, " << threads << " threads";
        EXPECT_TRUE(outcome.stream.host_bytes > 0 || rows > 8) << rows;
      }
    }
  }
}

// A plain engine and engines of other tiles hold the same numbers.
TEST_F(CudaSessionTest, LogitsAreTheSameOfPlainEnginesAndOtherTiles) {
  TinyModel shape;
  shape.hidden_size = 80;
  shape.canonical_rows = 8;
  const auto requests = prompts(3, 20, 6);
  const auto outcome_of = [&](const std::string& name, double percent) {
    SessionOptions some = options(make_tiny_engine(shape, directory_ / name));
    some.limits.max_sequences = 3;
    some.budget.percent = percent;
    return generate(some, requests);
  };
  const Outcome expected = outcome_of("tiles of 16 KiB", 0.3);
  EXPECT_GT(expected.stream.payload_bytes, 0u);
  shape.tile_bytes = 4096;
  EXPECT_EQ(outcome_of("tiles of 4 KiB", 0.3).logits, expected.logits);
  shape.tile_bytes = 1 << 20;
  EXPECT_EQ(outcome_of("tiles of 1 MiB", 0.0).logits, expected.logits);
  shape.weight_streaming = false;
  EXPECT_EQ(outcome_of("plain", 1.0).logits, expected.logits);
}

// Passes of 1 to 8 token rows are one class, passes of more another: within each, a token's logits
// do not depend on the other rows.
TEST_F(CudaSessionTest, LogitsDoNotDependOnTheOtherRowsOfAPass) {
  TinyModel shape;
  shape.hidden_size = 80;
  shape.canonical_rows = 8;
  shape.max_batch_size = 16;
  const std::string engine = make_tiny_engine(shape, directory_ / "engine");
  const auto all = prompts(16, 20, 6);
  const auto first = [&](size_t count, int64_t chunk) {
    SessionOptions some = options(engine);
    some.limits.max_sequences = static_cast<int64_t>(count);
    some.prefill_chunk = chunk;
    return generate(some, {all.begin(), all.begin() + static_cast<int64_t>(count)}).logits;
  };
  const auto alone = first(1, 512);  // prompts of many rows, decode of 1
  const auto few = first(5, 512);    // and of 5
  EXPECT_EQ(few.at(0), alone.at(0));
  const auto ten = first(10, 512);  // decode of 10 rows
  const auto more = first(16, 40);  // of 16, and prompts in other chunks
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(more.at(i), ten.at(i)) << i;
}

// The rows of a pass make its class, not those of them that give logits; nor does the way that
// attention takes the rows: one of each sequence, or many.
TEST_F(CudaSessionTest, TheRowsOfAPassMakeItsClass) {
  for (const int64_t head_size : {20, 64, 128}) {
    TinyModel shape;
    shape.hidden_size = 80;
    shape.head_size = head_size;
    shape.canonical_rows = 8;
    shape.max_batch_size = 16;
    const std::string engine = make_tiny_engine(shape, directory_ / std::to_string(head_size));
    const auto all = prompts(12, 20, 2);
    const auto first = [&](size_t count, int64_t chunk) {
      SessionOptions some = options(engine);
      some.limits.max_sequences = static_cast<int64_t>(count);
      some.limits.context_logits = false;
      some.prefill_chunk = chunk;
      return generate(some, {all.begin(), all.begin() + static_cast<int64_t>(count)}).logits;
    };
    const auto many = first(12, 512);  // logits of twelve rows of a pass of many
    const auto alone = first(1, 512);  // of one row
    const auto vocabulary = static_cast<std::ptrdiff_t>(shape.vocab_size);
    EXPECT_TRUE(
        std::equal(alone.at(0).begin(), alone.at(0).begin() + vocabulary, many.at(0).begin()));
    const auto one_by_one = first(12, 12);  // a row of each in a pass
    for (size_t i = 0; i < 9; ++i) EXPECT_EQ(one_by_one.at(i), many.at(i)) << head_size << " " << i;
  }
}

// The canonical order is the CPU backend's too: with it everywhere, the devices agree by bits.
TEST_F(CudaSessionTest, CanonicalLogitsAreThoseOfTheCpu) {
  TinyModel shape;
  shape.mlp_bias = true;
  shape.tie_word_embeddings = true;
  shape.canonical_rows = 0;
  const std::string engine = make_tiny_engine(shape, directory_ / "engine");
  const auto requests = prompts(2, 30, 8);
  SessionOptions gpu = options(engine);
  gpu.limits.max_sequences = 2;
  gpu.budget.percent = 0.3;
  SessionOptions cpu = options(engine, "cpu");
  cpu.limits.max_sequences = 2;
  EXPECT_EQ(generate(gpu, requests).logits, generate(cpu, requests).logits);
}

// Decode with head sizes that have a kernel of their own, which rotates and stores on its way; a
// context of several splits, sequences that share heads, one and two token rows a pass and more.
TEST_F(CudaSessionTest, FusedDecodeHasTheBitsOfTheCpu) {
  for (const int64_t head_size : {64, 128}) {
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
      TinyModel shape;
      shape.head_size = head_size;
      shape.hidden_size = 64;
      shape.dtype = dtype;
      shape.max_position_embeddings = 640;
      shape.tokens_per_block = 64;
      const std::string name = std::to_string(head_size) + std::string(dtype_name(dtype));
      const std::string engine = make_tiny_engine(shape, directory_ / name);
      for (const size_t count : {1, 2, 4}) {
        const auto requests = prompts(count, 252, 10);
        SessionOptions gpu = options(engine);
        gpu.limits.max_sequences = static_cast<int64_t>(count);
        gpu.limits.context_logits = false;
        SessionOptions cpu = gpu;
        cpu.device = "cpu";
        EXPECT_EQ(generate(gpu, requests).logits, generate(cpu, requests).logits) << name;
      }
      const auto long_ones = prompts(1, 600, 4);
      SessionOptions gpu = options(engine);
      gpu.limits.context_logits = false;
      SessionOptions cpu = gpu;
      cpu.device = "cpu";
      EXPECT_EQ(generate(gpu, long_ones).logits, generate(cpu, long_ones).logits) << name;
    }
  }
}

// Contexts of one split and of several in one pass, and one that grows past the splits that run
// beside the product before (attention_decode_early.cu).
TEST_F(CudaSessionTest, DecodeOfUnequalContextsHasTheBitsOfTheCpu) {
  const auto expect_bits_of_cpu = [&](const std::string& engine,
                                      const std::vector<GenerationRequest>& requests) {
    SessionOptions gpu = options(engine);
    gpu.limits.max_sequences = static_cast<int64_t>(requests.size());
    gpu.limits.context_logits = false;
    SessionOptions cpu = gpu;
    cpu.device = "cpu";
    EXPECT_EQ(generate(gpu, requests).logits, generate(cpu, requests).logits);
  };
  std::vector<GenerationRequest> unequal;
  for (const size_t length : {size_t{1}, size_t{255}, size_t{600}}) {
    unequal.push_back(prompts(1, length, 4).front());
  }
  for (const int64_t head_size : {64, 128}) {
    TinyModel shape;
    shape.head_size = head_size;
    shape.hidden_size = 64;
    shape.num_hidden_layers = 2;
    shape.max_position_embeddings = 2100;
    shape.tokens_per_block = 64;
    const std::string engine = make_tiny_engine(shape, directory_ / std::to_string(head_size));
    expect_bits_of_cpu(engine, unequal);
    expect_bits_of_cpu(engine, prompts(1, 2044, 8));
  }
}

// So many heads and sequences that a block takes several splits.
TEST_F(CudaSessionTest, FusedDecodeOfManyHasTheBitsOfTheCpu) {
  TinyModel shape;
  shape.num_attention_heads = 64;
  shape.num_key_value_heads = 8;
  shape.head_size = 64;
  shape.hidden_size = 64;
  shape.num_hidden_layers = 1;
  shape.max_position_embeddings = 640;
  shape.max_batch_size = 40;
  shape.tokens_per_block = 32;
  const std::string engine = make_tiny_engine(shape, directory_ / "engine");
  const auto requests = prompts(40, 255, 3);
  SessionOptions gpu = options(engine);
  gpu.limits.max_sequences = 40;
  gpu.limits.context_logits = false;
  SessionOptions cpu = gpu;
  cpu.device = "cpu";
  EXPECT_EQ(generate(gpu, requests).logits, generate(cpu, requests).logits);
}

// Greedy, top_k with and without top_p, and what the device leaves to the host.
TEST_F(CudaSessionTest, TheDeviceChoosesTheSameTokensAsTheHost) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  auto requests = prompts(4, 9, 12);
  SessionOptions some = options(engine);
  some.limits.max_sequences = 4;
  some.budget.percent = 0.2;
  const auto compare = [&] {
    some.limits.context_logits = true;
    const Outcome by_host = generate(some, requests);
    some.limits.context_logits = false;
    TestContext context(2);
    const auto session = Session::open(some, context.context);
    const auto results = session->generate(requests);
    for (size_t i = 0; i < results.size(); ++i) EXPECT_EQ(results[i].tokens, by_host.tokens[i]);
  };
  compare();
  requests[1].sampling = {.temperature = 1.5f, .top_k = 40, .random_seed = 3};
  requests[2].sampling = {.temperature = 2.0f, .top_k = 128, .top_p = 0.9f, .random_seed = 4};
  compare();
  requests[3].sampling = {.temperature = 2.0f, .top_k = 0, .top_p = 0.9f, .random_seed = 5};
  compare();
}

/// Bytes of memory that this process holds, and of it what is pinned.
uint64_t held_host_bytes() {
  uint64_t kilobytes = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) kilobytes = std::stoull(line.substr(6));
  }
  return kilobytes * 1024;
}

TEST_F(CudaSessionTest, ChangesOfPercentageLeaveNoMemoryBehind) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  const auto requests = prompts(2, 9, 3);
  const auto observer = make_cuda_backend(0);
  std::vector<std::vector<int32_t>> tokens;
  uint64_t free_before = 0;
  uint64_t host_before = 0;
  for (int round = 0; round < 200; ++round) {
    if (round == 20) {
      free_before = *observer->free_memory_bytes();
      host_before = held_host_bytes();
    }
    SessionOptions some = options(engine);
    some.limits.max_sequences = 2;
    some.limits.context_logits = false;
    some.budget.percent = (round % 11) / 10.0;
    TestContext context(2);
    const auto session = Session::open(some, context.context);
    StopsAfterOne stops;
    session->generate(requests, round % 2 == 0 ? nullptr : &stops);  // or is cancelled
    session->set_budget({.percent = (round % 7) / 7.0});
    for (const auto& result : session->generate(requests)) {
      if (round == 0) tokens.push_back(result.tokens);
      EXPECT_TRUE(std::ranges::find(tokens, result.tokens) != tokens.end());
    }
  }
  EXPECT_EQ(*observer->free_memory_bytes(), free_before);
  EXPECT_LT(held_host_bytes(), host_before + (4 << 20));  // 180 sessions pin more
}

}  // namespace
}  // namespace headrace::testing
