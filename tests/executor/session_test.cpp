#include "executor/session.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_matchers.h"
#include "tests/support/logits_recorder.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/test_profile.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::LogitsRecorder;
using testing::make_tiny_engine;
using testing::TemporaryDirectory;
using testing::TestContext;
using testing::TinyModel;

class SessionTest : public ::testing::Test {
 protected:
  SessionOptions options(const std::string& engine_dir) {
    SessionOptions options;
    options.engine_dir = engine_dir;
    options.profile_path = testing::write_test_profile(directory_ / "profile.json");
    return options;
  }

  static bool has_gpu() {
    try {
      make_cuda_backend(0);
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  static GenerationRequest request(std::vector<int32_t> prompt, int64_t tokens) {
    return {.prompt = std::move(prompt), .max_new_tokens = tokens, .end_ids = {}, .sampling = {}};
  }

  /// Logits of `prompt` alone, everything resident, one chunk: what all others must equal.
  std::vector<float> baseline(const std::string& engine_dir, const GenerationRequest& only) {
    TestContext context;
    SessionOptions all = options(engine_dir);
    all.limits.context_logits = true;
    LogitsRecorder recorder;
    Session::open(all, context.context)->generate(std::span(&only, 1), &recorder);
    return recorder.of(0);
  }

  TemporaryDirectory directory_;
};

const std::vector<int32_t> kPrompt = {5, 900, 17, 3, 3, 1002, 64, 0, 77, 512, 13};

TEST_F(SessionTest, LogitsAreTheSameAtEveryPercentageChunkRingAndThreadCount) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  const GenerationRequest only = request(kPrompt, 9);
  const std::vector<float> expected = baseline(engine, only);
  ASSERT_EQ(expected.size(), (kPrompt.size() + 9) * 1003);
  for (const double percent : {0.0, 0.013, 0.2, 0.5, 0.97, 1.0}) {
    for (const auto& [chunk, ring, threads] :
         {std::array{1, 2, 1}, std::array{4, 8, 2}, std::array{512, 3, 2}}) {
      TestContext context(threads);
      SessionOptions some = options(engine);
      some.budget.percent = percent;
      some.prefill_chunk = chunk;
      some.ring_requests = ring;
      some.limits.context_logits = true;
      LogitsRecorder recorder;
      const auto session = Session::open(some, context.context);
      session->generate(std::span(&only, 1), &recorder);
      EXPECT_TRUE(std::ranges::equal(recorder.of(0), expected)) << percent << " " << chunk;
      const StreamCounters& stream = session->stats().stream;
      EXPECT_EQ(stream.payload_bytes,
                session->plan().streamed_bytes * static_cast<uint64_t>(stream.passes))
          << percent;
      EXPECT_EQ(session->plan().streamed_bytes > 0, percent < 1.0);
    }
  }
}

// The embedding table too may be coded, where it is lm_head.
TEST_F(SessionTest, CodesDoNotChangeLogits) {
  for (const bool tied : {false, true}) {
    for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
      TinyModel shape;
      shape.dtype = dtype;
      shape.hidden_size = 1024;  // long enough for codes to pay
      shape.intermediate_size = 1032;
      shape.tie_word_embeddings = tied;
      const std::string name = directory_ / std::string(dtype_name(dtype)) + (tied ? "tied" : "");
      const GenerationRequest only = request(kPrompt, 4);
      const std::vector<float> expected = baseline(make_tiny_engine(shape, name), only);
      for (const char* const codec : {"auto", "e3", "e4"}) {
        if (dtype == DType::kFloat16 && codec == std::string("e4")) continue;
        shape.tile_codec = codec;
        const std::string engine = make_tiny_engine(shape, name + codec);
        for (const double percent : {0.0, 0.4, 1.0}) {
          TestContext context(2);
          SessionOptions some = options(engine);
          some.budget.percent = percent;
          some.limits.context_logits = true;
          LogitsRecorder recorder;
          const auto session = Session::open(some, context.context);
          session->generate(std::span(&only, 1), &recorder);
          EXPECT_TRUE(std::ranges::equal(recorder.of(0), expected)) << codec << " " << percent;
          const Manifest& manifest = session->engine().manifest();
          EXPECT_LT(manifest.payload_bytes(), manifest.streamable_bytes());
          EXPECT_EQ(session->stats().stream.payload_bytes > 0, percent < 1.0);
        }
      }
    }
  }
}

TEST_F(SessionTest, TileSizeDoesNotChangeLogits) {
  TinyModel large;
  large.tile_bytes = 1 << 24;
  const std::string first = make_tiny_engine({}, directory_ / "small_tiles");
  const std::string second = make_tiny_engine(large, directory_ / "large_tiles");
  const GenerationRequest only = request(kPrompt, 5);
  EXPECT_EQ(baseline(first, only), baseline(second, only));
}

TEST_F(SessionTest, ARequestInABatchGetsTheLogitsItGetsAlone) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  const std::vector<GenerationRequest> batch = {request(kPrompt, 6), request({1}, 12),
                                                request({9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, 1),
                                                request({1000, 1, 1000}, 8)};
  TestContext context(2);
  SessionOptions some = options(engine);
  some.budget.percent = 0.3;
  some.prefill_chunk = 7;
  some.limits = {.max_sequences = 4, .max_sequence_tokens = 40, .context_logits = true};
  LogitsRecorder recorder;
  const auto results = Session::open(some, context.context)->generate(batch, &recorder);
  for (size_t i = 0; i < batch.size(); ++i) {
    EXPECT_EQ(results[i].tokens.size(), static_cast<size_t>(batch[i].max_new_tokens));
    EXPECT_EQ(recorder.of(i), baseline(engine, batch[i])) << i;
  }
}

TEST_F(SessionTest, PassesWithoutWantedLogitsLeaveLmHeadOut) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  TestContext context;
  SessionOptions some = options(engine);
  some.budget.percent = 0.0;
  some.prefill_chunk = 4;
  const auto session = Session::open(some, context.context);
  const GenerationRequest only = request(kPrompt, 2);  // 3 prefill passes, then 1 decode pass
  session->generate(std::span(&only, 1));
  const StreamCounters& stream = session->stats().stream;
  const uint64_t lm_head_bytes = uint64_t{1003} * 72 * 2;
  EXPECT_EQ(stream.passes, 4);
  EXPECT_EQ(stream.payload_bytes, 4 * session->plan().streamed_bytes - 2 * lm_head_bytes);
}

TEST_F(SessionTest, TheBudgetCanChangeBetweenBatches) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  const GenerationRequest only = request(kPrompt, 4);
  const std::vector<float> expected = baseline(engine, only);
  TestContext context;
  SessionOptions some = options(engine);
  some.limits.context_logits = true;
  const auto session = Session::open(some, context.context);
  for (const double percent : {0.4, 0.0, 1.0, 0.7}) {
    session->set_budget({.percent = percent, .bytes = {}});
    LogitsRecorder recorder;
    session->generate(std::span(&only, 1), &recorder);
    EXPECT_EQ(recorder.of(0), expected) << percent;
  }
}

TEST_F(SessionTest, TheAutomaticBudgetOfASmallModelIsAllOfIt) {
  TinyModel plain;
  plain.weight_streaming = false;
  for (const TinyModel& model : {TinyModel(), plain}) {
    const std::string engine =
        make_tiny_engine(model, directory_ / (model.weight_streaming ? "streaming" : "plain"));
    const GenerationRequest only = request(kPrompt, 4);
    TestContext context;
    SessionOptions some = options(engine);
    some.automatic_budget = true;
    some.limits.context_logits = true;
    const auto session = Session::open(some, context.context);
    EXPECT_EQ(session->plan().streamed_bytes, 0U);
    LogitsRecorder recorder;
    session->generate(std::span(&only, 1), &recorder);
    EXPECT_EQ(recorder.of(0), baseline(engine, only));
  }
}

TEST_F(SessionTest, ASyntheticEngineNeedsNoFolder) {
  for (const bool tied : {false, true}) {
    SessionOptions some = options("");
    some.synthetic = testing::tiny_spec({.tie_word_embeddings = tied});
    some.limits.context_logits = true;
    const GenerationRequest only = request(kPrompt, 9);
    std::vector<float> expected;
    for (const double percent : {1.0, 0.5, 0.0}) {
      TestContext context(2);
      some.budget.percent = percent;
      LogitsRecorder recorder;
      const auto session = Session::open(some, context.context);
      session->generate(std::span(&only, 1), &recorder);
      if (percent == 1.0) expected = recorder.of(0);
      EXPECT_EQ(recorder.of(0), expected) << percent;
      const StreamCounters& stream = session->stats().stream;
      EXPECT_EQ(stream.payload_bytes,
                session->plan().streamed_bytes * static_cast<uint64_t>(stream.passes));
      EXPECT_EQ(session->plan().streamed_bytes > 0, percent < 1.0);
    }
    ASSERT_EQ(expected.size(), (kPrompt.size() + 9) * 1003);
    EXPECT_TRUE(std::ranges::all_of(expected, [](float logit) { return std::isfinite(logit); }));
    EXPECT_NE(expected[0], expected[1]);
  }
}

TEST_F(SessionTest, EndIdAndObserverStopASequence) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  TestContext context;
  const auto session = Session::open(options(engine), context.context);
  GenerationRequest only = request(kPrompt, 20);
  const std::vector<int32_t> free_run = session->generate(std::span(&only, 1))[0].tokens;
  ASSERT_EQ(free_run.size(), 20U);

  const auto first = std::find(free_run.begin(), free_run.end(), free_run[3]);
  only.end_ids = {free_run[3]};
  const GenerationResult ended = session->generate(std::span(&only, 1))[0];
  EXPECT_EQ(ended.finish_reason, FinishReason::kEndId);
  EXPECT_EQ(ended.tokens, std::vector<int32_t>(free_run.begin(), first + 1));

  class StopAfterTwo : public GenerationObserver {
    bool on_token(size_t, int32_t) override { return ++count_ < 2; }
    int count_ = 0;
  } observer;
  only.end_ids = {};
  const GenerationResult stopped = session->generate(std::span(&only, 1), &observer)[0];
  EXPECT_EQ(stopped.finish_reason, FinishReason::kStopped);
  EXPECT_EQ(stopped.tokens.size(), 2U);
}

TEST_F(SessionTest, ADamagedTileEndsTheRequestBeforeAnyToken) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  TestContext context;
  SessionOptions some = options(engine);
  some.budget.percent = 0.0;
  uint64_t offset = 0;
  {
    const Engine opened = Engine::open(context.context.fs, engine);
    const Manifest& manifest = opened.manifest();
    offset = manifest.tiles[manifest.tiles.size() / 2].offset + 40;
  }
  std::fstream file(engine + "/rank0.engine", std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ 1));
  file.close();

  class NoToken : public GenerationObserver {
    bool on_token(size_t, int32_t) override {
      ADD_FAILURE() << "a token that depends on a damaged tile";
      return true;
    }
  } observer;
  const GenerationRequest only = request(kPrompt, 4);
  expect_error(ErrorCode::kCorrupt, "tile", [&] {
    Session::open(some, context.context)->generate(std::span(&only, 1), &observer);
  });
  some.budget.percent = 1.0;
  expect_error(ErrorCode::kCorrupt, "tile", [&] { Session::open(some, context.context); });
}

TEST_F(SessionTest, RequestsThatCannotBeServedAreErrors) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  TestContext context;
  const auto session = Session::open(options(engine), context.context);
  const auto refuse = [&](const GenerationRequest& bad, const std::string& part) {
    expect_error(ErrorCode::kInvalidArgument, part, [&] { session->generate(std::span(&bad, 1)); });
  };
  refuse(request({}, 4), "empty");
  refuse(request({1, 2}, 0), "new tokens");
  refuse(request({1003}, 4), "1003");
  refuse(request({-1}, 4), "-1");
  refuse(request({1, 2}, 255), "254");
  refuse(request(std::vector<int32_t>(300, 1), 1), "300");
  const std::vector<GenerationRequest> two(2, request({1}, 1));
  expect_error(ErrorCode::kInvalidArgument, "batch of 2", [&] { session->generate(two); });
  std::vector<GenerationRequest> beams(1, request({1}, 1));
  beams[0].beams.beam_width = 2;
  expect_error(ErrorCode::kInvalidArgument, "2 beams", [&] { session->generate(beams); });
}

TEST_F(SessionTest, PrefixesAreReusedInABatchAndByTheNextOne) {
  TinyModel model;
  model.tokens_per_block = 4;
  const std::string engine = make_tiny_engine(model, directory_ / "engine");
  const std::vector<GenerationRequest> requests(2, request(kPrompt, 9));
  const auto generate_twice = [&](bool reuse) {
    TestContext context;
    SessionOptions some = options(engine);
    some.limits.max_sequences = 2;
    some.prefill_chunk = 11;  // the second prompt comes when the first has been computed
    some.limits.reuse_prefixes = reuse;
    const auto session = Session::open(some, context.context);
    std::vector<int64_t> rows;
    std::vector<std::vector<int32_t>> tokens;
    for (int batch = 0; batch < 2; ++batch) {
      for (const GenerationResult& result : session->generate(requests)) {
        tokens.push_back(result.tokens);
      }
      rows.push_back(session->reused_blocks());
    }
    return std::pair(tokens, rows);
  };
  const auto [tokens, none] = generate_twice(false);
  const auto [same_tokens, blocks] = generate_twice(true);
  EXPECT_EQ(same_tokens, tokens);
  EXPECT_EQ(none, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(blocks, (std::vector<int64_t>{2, 6}));  // 2 whole blocks of 11 tokens
}

TEST_F(SessionTest, SequencesWaitWhereTheShareOfMemoryHoldsFewer) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  std::vector<GenerationRequest> requests;
  for (int32_t i = 0; i < 4; ++i) requests.push_back(request({i, 2, 3}, 9));
  TestContext context;
  SessionOptions some = options(engine);
  some.limits.max_sequences = 4;
  some.limits.max_sequence_tokens = 12;  // a block each
  const auto all = Session::open(some, context.context);
  const MemoryReport memory = all->memory();
  const uint64_t one = memory.kv_bytes / 4;
  some.limits.kv_memory_fraction = 0.5;
  some.memory_limit = memory.total_bytes() - memory.kv_bytes + 3 * one;
  const auto fewer = Session::open(some, context.context);
  EXPECT_LT(fewer->memory().kv_bytes, 2 * one);
  const auto tokens = [&](Session& session) {
    std::vector<std::vector<int32_t>> found;
    for (const GenerationResult& result : session.generate(requests)) {
      found.push_back(result.tokens);
    }
    return found;
  };
  EXPECT_EQ(tokens(*fewer), tokens(*all));
  EXPECT_EQ(all->stats().prefill_passes, 1);
  const GenerationStats& stats = fewer->stats();
  EXPECT_EQ(stats.prefill_passes, 4);  // between passes that decode
  EXPECT_EQ(stats.prefill_tokens, 4);
  EXPECT_EQ(stats.generated_tokens, 36);
  EXPECT_EQ(stats.decode_passes, 32);
}

TEST_F(SessionTest, SettingsThatCannotBeHonouredAreErrors) {
  const std::string engine = make_tiny_engine({}, directory_ / "engine");
  TestContext context;
  const auto refuse = [&](const std::string& part, ErrorCode code, auto change) {
    SessionOptions bad = options(engine);
    change(bad);
    expect_error(code, part, [&] { Session::open(bad, context.context); });
  };
  const ErrorCode invalid = ErrorCode::kInvalidArgument;
  for (const double percent : {-0.1, 1.1, std::nan("")}) {
    refuse("0.0 and 1.0", invalid, [&](SessionOptions& o) { o.budget.percent = percent; });
  }
  refuse("batch of 0", invalid, [](SessionOptions& o) { o.limits.max_sequences = 0; });
  refuse("max_batch_size 8", invalid, [](SessionOptions& o) { o.limits.max_sequences = 9; });
  refuse("--max_beam_width is 4", invalid, [](SessionOptions& o) { o.limits.max_beam_width = 5; });
  refuse("max_seq_len 256", invalid, [](SessionOptions& o) { o.limits.max_sequence_tokens = 257; });
  refuse("chunk", invalid, [](SessionOptions& o) { o.prefill_chunk = -1; });
  if (!has_gpu()) refuse("CUDA", ErrorCode::kDevice, [](SessionOptions& o) { o.device = "cuda"; });
  refuse("tpu", invalid, [](SessionOptions& o) { o.device = "tpu"; });
}

TEST_F(SessionTest, AnEngineWithoutWeightStreamingTakesNoPercentage) {
  TinyModel plain;
  plain.weight_streaming = false;
  const std::string engine = make_tiny_engine(plain, directory_ / "engine");
  TestContext context;
  SessionOptions some = options(engine);
  EXPECT_NO_THROW(Session::open(some, context.context));
  some.budget.percent = 0.5;
  expect_error(ErrorCode::kInvalidArgument,
               "Engine built without weight streaming. Cannot set gpu_weights_percent to a value "
               "other than 1.",
               [&] { Session::open(some, context.context); });
}

}  // namespace
}  // namespace headrace
