#include "stream/resident_weights.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "kernels/decode_rows.h"
#include "tests/stream/fake_link.h"
#include "tests/stream/run_pass.h"
#include "tests/support/host_backend.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::DeviceLikeBackend;
using testing::FakeLink;
using testing::MadeWeights;
using testing::make_weights;
using testing::pass_is_right;
using testing::TemporaryDirectory;
using testing::TestContext;
using testing::TinyModel;

/// Rows that end within a chunk, tiles within a page.
TinyModel coded_model(const char* codec) {
  return {.hidden_size = 300,
          .intermediate_size = 1000,
          .dtype = DType::kBFloat16,
          .tile_bytes = 40000,
          .tile_codec = codec};
}

class DecodedWeightsTest : public ::testing::Test {
 protected:
  DecodedWeightsTest()
      : raw_(open("none")),
        made_{.manifest = raw_.manifest(), .content = std::vector<std::byte>(raw_.file().size())} {
    raw_.file().read(0, made_.content);
  }
  Engine open(const char* codec) const {
    return Engine::open(posix_file_system(),
                        testing::make_tiny_engine(coded_model(codec), directory_ / codec));
  }
  static Plan plan(const Engine& engine, uint64_t budget_bytes) {
    return make_plan(engine.manifest(), {},
                     {.budget = {.percent = {}, .bytes = budget_bytes},
                      .streamed_home = Home::kHost,
                      .decode_resident = true});
  }

  bool code_is_right(const WeightRun& run, uint32_t first_matrix) {
    const MatrixInfo& matrix = made_.manifest.matrices[first_matrix + run.matrix];
    const size_t stride = made_.rows(first_matrix + run.matrix, 0, 1).size();
    std::vector<std::byte> rows(static_cast<size_t>(run.rows) * stride);  // padded with 0, as there
    decode_rows(run, matrix.dtype, matrix.k, rows.data(), stride, test_.context.pool);
    bool right = true;
    for (int64_t r = 0; r < run.rows; ++r) {
      const auto expected = made_.rows(first_matrix + run.matrix, run.row_begin + r, 1);
      const auto row = std::span(rows).subspan(static_cast<size_t>(r) * stride, stride);
      right = right && std::ranges::equal(row, expected);
    }
    return right;
  }

  const TemporaryDirectory directory_;
  const Engine raw_;
  MadeWeights made_;
  DeviceLikeBackend backend_;
  TestContext test_{2};
};

TEST_F(DecodedWeightsTest, AreTheRowsOfARawEngine) {
  for (const char* const codec : {"e3", "e4"}) {
    const Engine engine = open(codec);
    ASSERT_LT(engine.manifest().payload_bytes(), engine.manifest().streamable_bytes());
    const Plan plan = this->plan(engine, engine.manifest().streamable_bytes());
    EXPECT_EQ(plan.resident_bytes, plan.streamable_bytes);
    WeightStream stream(engine, plan, {}, backend_, test_.context);
    stream.load_resident();
    EXPECT_TRUE(pass_is_right(stream, made_, true)) << codec;
  }
}

// A budget between the sizes of code and weights: some tiles are decoded, the others are not.
TEST_F(DecodedWeightsTest, LieBesideCodedOnes) {
  const Engine engine = open("e3");
  const Manifest& manifest = engine.manifest();
  const Plan plan =
      this->plan(engine, (manifest.payload_bytes() + manifest.streamable_bytes()) / 2);
  EXPECT_TRUE(plan.requests.empty());
  EXPECT_LE(plan.resident_bytes, plan.budget_bytes);
  WeightStream stream(engine, plan, {}, backend_, test_.context);
  stream.load_resident();
  stream.begin_pass(true);
  int64_t decoded = 0;
  int64_t coded = 0;
  const std::vector<MatrixGroup> groups = manifest.groups();
  for (uint32_t g = 0; g < groups.size(); ++g) {
    WeightFeed& feed = stream.group(g);
    for (Lease lease; feed.next(lease);) {
      for (const WeightRun& run : lease.runs()) {
        if (run.codec != CodecId::kRaw) {
          coded += run.rows;
          EXPECT_TRUE(code_is_right(run, groups[g].first_matrix));
        } else {
          decoded += run.rows;
          EXPECT_TRUE(run_is_right(made_, run, groups[g].first_matrix));
        }
      }
    }
  }
  EXPECT_GT(decoded, 0);
  EXPECT_GT(coded, 0);
}

TEST_F(DecodedWeightsTest, StayCodedWhereTheBudgetHasNoRoom) {
  const Engine engine = open("e3");
  const Plan plan = this->plan(engine, engine.manifest().payload_bytes());
  EXPECT_TRUE(plan.requests.empty());
  EXPECT_TRUE(std::ranges::none_of(plan.decoded, [](bool decoded) { return decoded; }));
}

// Tiles may be larger than what is read at once.
TEST(ResidentWeightsTest, LoadsTilesOfAnySize) {
  const MadeWeights made = make_weights(
      {.layers = 1, .hidden = 256, .intermediate = 16, .vocab = 40000, .tile_rows = 40000});
  const Plan plan = make_plan(made.manifest, {}, {});
  DeviceLikeBackend backend;
  TestContext test(2);
  WeightStream stream(made.manifest, plan,
                      std::make_unique<FakeLink>(made.content, 4, FakeLink::Order::kRandom),
                      "fake file", {}, backend, test.context);
  stream.load_resident();
  EXPECT_TRUE(pass_is_right(stream, made, true));
}

}  // namespace
}  // namespace headrace
