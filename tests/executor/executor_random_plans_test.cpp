#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "executor/session.h"
#include "tests/executor/executor_fixture.h"
#include "tests/support/logits_recorder.h"
#include "tests/support/test_context.h"

namespace headrace::testing {
namespace {

constexpr int kPlans = 100;
constexpr int64_t kVocab = 499;
constexpr int64_t kLongPrompt = 300;  // the last of the pool's
constexpr int64_t kNewTokens = 2;

/// How requests are served.
struct RandomPlan {
  DType dtype = DType::kBFloat16;
  std::string codec;
  uint64_t tile_bytes = 0;
  double percent = 0;
  int32_t ring_requests = 0;
  int64_t prefill_chunk = 0;
  int threads = 1;
  int host_threads = 0;                   // where the device has memory of its own, as ...
  std::optional<double> host_share = {};  // ... has this
  std::vector<size_t> requests = {};      // of the pool

  std::string engine() const {
    return fmt::format("{} {} {}", dtype_name(dtype), codec, tile_bytes);
  }
  friend void PrintTo(const RandomPlan& plan, std::ostream* out) {
    *out << fmt::format(
        "{}: percent {}, ring {}, chunk {}, {} threads, {} host threads with {}, requests {}",
        plan.engine(), plan.percent, plan.ring_requests, plan.prefill_chunk, plan.threads,
        plan.host_threads, plan.host_share.value_or(-1), fmt::join(plan.requests, " "));
  }
};

/// Plans, a function of the seed.
class RandomPlans {
 public:
  explicit RandomPlans(uint32_t seed) : random_(seed) {}

  /// Plan `number` of many: token rows of a decode pass, and whether there is the long prompt, come
  /// in turn.
  RandomPlan draw(size_t number, size_t pool) {
    RandomPlan plan;
    if (one_of({0, 1, 2}) == 0) plan.dtype = DType::kFloat16;
    plan.codec = one_of<std::string>({"none", "e3", "e4"});
    if (plan.dtype == DType::kFloat16 && plan.codec == "e4") plan.codec = "e3";
    plan.tile_bytes = one_of<uint64_t>({4096, 16384, 1 << 17});
    plan.percent = one_of({0.0, 1.0, share(), share(), share(), share()});
    plan.ring_requests = one_of({0, 2, 3, 5, 8});
    plan.prefill_chunk = one_of({0, 5, 37, 299, 512});
    plan.threads = one_of({1, 2, 3});
    plan.host_threads = one_of({1, 7, 15});
    plan.host_share = one_of<std::optional<double>>({std::nullopt, 0.0, 0.4, 1.0});
    constexpr size_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 32, 300};
    const size_t rows = kRows[number % std::size(kRows)];
    plan.requests.resize(pool - 1);
    for (size_t i = 0; i < pool - 1; ++i) plan.requests[i] = i;
    std::ranges::shuffle(plan.requests, random_);
    plan.requests.resize(rows == 300 ? number % 4 : rows);
    if (rows == 300) plan.requests.push_back(pool - 1);
    return plan;
  }

 private:
  template <typename T>
  T one_of(std::initializer_list<T> values) {
    return *(values.begin() + random_() % values.size());
  }
  double share() { return static_cast<double>(random_() % 1001) / 1000; }

  std::mt19937 random_;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class ExecutorRandomPlans : public ::testing::Test {
 protected:
  ExecutorRandomPlans() {
    std::mt19937 random(5);
    for (size_t i = 0; i <= 32; ++i) {
      const size_t length = i == 32 ? kLongPrompt : 1 + random() % 7;
      std::vector<int32_t> prompt(length);
      for (int32_t& id : prompt) id = static_cast<int32_t>(random() % kVocab);
      pool_.push_back(
          {.prompt = prompt, .max_new_tokens = kNewTokens, .end_ids = {}, .sampling = {}});
    }
  }

  /// Rows that are long enough for codes to pay, in some matrices at least.
  const std::string& engine(const RandomPlan& plan) {
    std::string& made = engines_[plan.engine()];
    if (!made.empty()) return made;
    const bool half = plan.dtype == DType::kFloat16;
    TinyModel shape;
    shape.vocab_size = kVocab;
    shape.hidden_size = half ? 1024 : 256;
    shape.intermediate_size = half ? 60 : 600;
    shape.num_hidden_layers = half ? 1 : 2;
    shape.max_position_embeddings = kLongPrompt + kNewTokens + 5;
    shape.max_batch_size = 40;
    shape.dtype = plan.dtype;
    shape.tile_codec = plan.codec;
    shape.tile_bytes = plan.tile_bytes;
    return made = make_tiny_engine(shape, directory_ / plan.engine());
  }

  std::map<size_t, std::vector<float>> run(const RandomPlan& plan) {
    std::vector<GenerationRequest> requests;
    for (const size_t i : plan.requests) requests.push_back(pool_[i]);
    SessionOptions options;
    options.engine_dir = engine(plan);
    options.device = test_device();
    options.profile_path = write_test_profile(directory_ / "profile.json");
    options.budget.percent = plan.percent;
    options.ring_requests = plan.ring_requests;
    options.prefill_chunk = plan.prefill_chunk;
    options.host_threads = plan.host_threads;
    options.host_share = plan.host_share;
    options.limits = {.max_sequences = static_cast<int64_t>(requests.size()),
                      .context_logits = true};
    TestContext context(plan.threads);
    LogitsRecorder recorder;
    const auto session = Session::open(options, context.context);
    session->generate(requests, &recorder);
    const Manifest& manifest = session->engine().manifest();
    EXPECT_EQ(manifest.payload_bytes() < manifest.streamable_bytes(), plan.codec != "none");
    EXPECT_EQ(session->stats().stream.payload_bytes > 0, session->plan().streamed_bytes > 0);
    if (session->stats().stream.host_bytes > 0) ++shared_plans_;
    return recorder.all();
  }

  /// Raw and resident, on one thread: what all others must equal, by request of the pool.
  const std::map<size_t, std::vector<float>>& reference(DType dtype) {
    auto& logits = references_[dtype];
    if (!logits.empty()) return logits;
    RandomPlan plan{.dtype = dtype, .codec = "none", .tile_bytes = 16384, .percent = 1.0};
    for (size_t i = 0; i < pool_.size(); ++i) plan.requests.push_back(i);
    return logits = run(plan);
  }

  TemporaryDirectory directory_;
  std::vector<GenerationRequest> pool_;
  std::map<std::string, std::string> engines_;
  std::map<DType, std::map<size_t, std::vector<float>>> references_;
  int shared_plans_ = 0;
};

TEST_F(ExecutorRandomPlans, LogitsHaveTheSameBits) {
  RandomPlans random(1);
  for (size_t number = 0; number < kPlans; ++number) {
    const RandomPlan plan = random.draw(number, pool_.size());
    const auto logits = run(plan);
    ASSERT_EQ(logits.size(), plan.requests.size());
    for (const auto& [i, values] : logits) {
      const size_t request = plan.requests[i];
      const size_t rows = pool_[request].prompt.size() + kNewTokens;
      EXPECT_EQ(values.size(), rows * kVocab);
      EXPECT_TRUE(same_bits(values, reference(plan.dtype).at(request)))
          << ::testing::PrintToString(plan) << ", request " << request;
    }
  }
  if (test_device() == "cuda") {
    EXPECT_GT(shared_plans_, kPlans / 6);
  }
}

}  // namespace
}  // namespace headrace::testing
